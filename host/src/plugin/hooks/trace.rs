//! Trace of one event: who decided what, in the order of the decisions.
//!
//! `hooks::shape` reports to an [`Observer`] as it goes along. Live events are shaped with `()`, which ignores it all.

use serde::Serialize;
use serde_json::Value;

use crate::{
    domain::{audience::Audience, counter::Generation, plugin_name::PluginName, role::Role},
    plugin::{
        active::{
            plugin::Plugin,
            set::{Set, SetMember},
        },
        contract::{
            answer::{Hidden, Unavailable, Verdict},
            pointer::{Edit, apply},
        },
        hooks::implied::{Implied, gone},
    },
};

/// Decision of one plugin, or of the server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "camelCase")]
pub enum TraceStep {
    Plugin(PluginStep),
    /// The server itself decided, because of what filters may hide.
    #[serde(rename_all = "camelCase")]
    Server {
        reason: &'static str,
        /// Places that were removed from `changes`, or from the payload.
        removed: Vec<String>,
        /// Set when nobody of the role gets the event for that reason.
        withheld: bool,
    },
}

/// Answer of one plugin.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStep {
    pub plugin: PluginName,
    pub version: String,
    /// Generation in which it was loaded; `None` if its file was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<Generation>,
    pub hash: String,
    pub hook: &'static str,
    #[serde(flatten)]
    pub said: Said,
    /// Set when it asked for the time or for random numbers, so that its answer may have been different then.
    pub may_differ: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Said {
    /// `enrich`: the edits for everyone.
    Edits { edits: Vec<Edited> },
    /// `filter`: who of the role gets it, and the edits for them.
    Verdict {
        audience: Audience,
        /// Reason why nobody gets it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        edits: Vec<Edited>,
    },
    /// No answer: the plugin failed, or its file was missing.
    Nothing {
        fault: String,
        /// True if the event is held back for it, false if it goes on without the plugin.
        held: bool,
    },
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "edit", rename_all = "lowercase")]
pub enum Edited {
    Set { pointer: String, value: Value },
    Mask { pointer: String, text: String },
    Remove { pointer: String },
}

/// Receiver of decisions, as they are made.
pub(crate) trait Observer {
    fn enriched(&mut self, _: &Plugin, _: &[Edit]) {}
    fn filtered(&mut self, _: &Plugin, _: &Verdict) {}
    /// Reports that a plugin gave no answer; `held` if that holds the event back for the roles that were asked about.
    fn failed(&mut self, _: &SetMember, _hook: &'static str, _: &Unavailable, _held: bool) {}
    /// Reports that nobody of the role gets the event, because it discloses a field that may be hidden from the role.
    fn withheld(&mut self, _: Role) {}
    /// Reports edits that are applied; `base` is the payload before those of filters.
    fn edited(&mut self, _base: &Value, _: &[Edit], _: &Hidden, _: &Implied) {}
}

impl Observer for () {}

/// Observer that records everything, for one role.
pub(crate) struct Trace {
    pub(crate) steps: Vec<TraceStep>,
    /// Number of calls of each plugin, at its last report, that had asked for the time or for random numbers.
    looks: Vec<(PluginName, u64)>,
}

impl Trace {
    pub(crate) fn of(set: &Set) -> Self {
        let looks = set.members().iter().filter_map(|member| match member {
            SetMember::Working(working) => Some((working.plugin.name().to_owned(), working.plugin.looks_at_clock())),
            SetMember::Absent(_) => None,
        });
        Self { steps: Vec::new(), looks: looks.collect() }
    }

    fn add(&mut self, plugin: &Plugin, hook: &'static str, said: Said) {
        let looks = plugin.looks_at_clock();
        let before = self.looks.iter_mut().find(|(name, _)| name == plugin.name());
        let may_differ = before.is_some_and(|(_, before)| std::mem::replace(before, looks) != looks);
        self.steps.push(TraceStep::Plugin(PluginStep {
            plugin: plugin.name().clone(),
            version: plugin.manifest.version.to_string(),
            generation: Some(plugin.generation),
            hash: plugin.hash.clone(),
            hook,
            said,
            may_differ,
        }));
    }
}

impl Observer for Trace {
    fn enriched(&mut self, plugin: &Plugin, edits: &[Edit]) {
        self.add(plugin, "enrich", Said::Edits { edits: edits.iter().map(Edited::from).collect() });
    }

    fn filtered(&mut self, plugin: &Plugin, verdict: &Verdict) {
        let said = Said::Verdict {
            audience: verdict.audience.clone(),
            reason: verdict.reason.clone(),
            edits: verdict.edits.iter().map(Edited::from).collect(),
        };
        self.add(plugin, "filter", said);
    }

    fn failed(&mut self, member: &SetMember, hook: &'static str, unavailable: &Unavailable, held: bool) {
        let said = Said::Nothing { fault: unavailable.reason.clone(), held };
        match member {
            SetMember::Working(working) => self.add(&working.plugin, hook, said),
            SetMember::Absent(absent) => self.steps.push(TraceStep::Plugin(PluginStep {
                plugin: unavailable.plugin.clone(),
                version: absent.record.version.clone(),
                generation: None,
                hash: absent.record.hash.clone(),
                hook,
                said,
                may_differ: false,
            })),
        }
    }

    fn withheld(&mut self, _: Role) {
        let reason = "it discloses a change of a field that is hidden from the role";
        self.steps.push(TraceStep::Server { reason, removed: Vec::new(), withheld: true });
    }

    fn edited(&mut self, base: &Value, edits: &[Edit], hidden: &Hidden, implied: &Implied) {
        let mut edited = base.clone();
        apply(&mut edited, edits);
        let before = implied.places(&edited);
        implied.conceal(&mut edited, hidden);
        let removed = gone(before, &implied.places(&edited));
        if !removed.is_empty() {
            let reason = "they disclose fields that are hidden from the role";
            self.steps.push(TraceStep::Server { reason, removed, withheld: false });
        }
    }
}

impl From<&Edit> for Edited {
    fn from(edit: &Edit) -> Self {
        let pointer = edit.pointer().to_string();
        match edit {
            Edit::Set(_, value) => Self::Set { pointer, value: value.clone() },
            Edit::Mask(_, text) => Self::Mask { pointer, text: text.clone() },
            Edit::Remove(_) => Self::Remove { pointer },
        }
    }
}
