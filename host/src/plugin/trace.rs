//! Who decided what about one event, in the order in which it was decided.
//!
//! `pipeline` tells an [`Observer`] as it goes along. Live events are shaped with `()`, which does not listen.

use serde::Serialize;
use serde_json::Value;

use super::{
    bindings::Verdict,
    implied::{Implied, gone},
    loaded::Plugin,
    pipeline::{Hidden, Unavailable},
    pointer::{Edit, apply},
    set::{Member, Set},
};
use crate::domain::{event::Audience, role::Role};

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "by", rename_all = "camelCase")]
pub enum Step {
    Plugin(PluginStep),
    /// The server itself, because of what filters may hide.
    #[serde(rename_all = "camelCase")]
    Server {
        reason: &'static str,
        /// Left out of `changes`, or of the payload.
        removed: Vec<String>,
        /// Whether nobody of the role gets the event for it.
        withheld: bool,
    },
}

/// What one plugin said.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStep {
    pub plugin: String,
    pub version: String,
    /// The generation in which it was loaded; none if its file was missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    pub hash: String,
    pub hook: &'static str,
    #[serde(flatten)]
    pub said: Said,
    /// It asked for the time or for random numbers, so that it may have said something else then.
    pub may_differ: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Said {
    /// `enrich`: what is edited for everyone.
    Edits { edits: Vec<Edited> },
    /// `filter`: who of the role gets it, and what is edited for them.
    Verdict {
        audience: Audience,
        /// Why nobody gets it.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
        edits: Vec<Edited>,
    },
    /// Nothing: it failed, or its file was missing.
    Nothing {
        fault: String,
        /// Whether the event is held back for it, or goes on without the plugin.
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

/// Is told what is decided, as it is decided.
pub(super) trait Observer {
    fn enriched(&mut self, _: &Plugin, _: &[Edit]) {}
    fn filtered(&mut self, _: &Plugin, _: &Verdict) {}
    /// No answer of a plugin; `held` for the roles that were asked about.
    fn failed(&mut self, _: &Member, _hook: &'static str, _: &Unavailable, _held: bool) {}
    /// Nobody of the role gets what tells of a field that may be hidden from it.
    fn withheld(&mut self, _: Role) {}
    /// The edits are made: `base` is the payload before those of filters.
    fn edited(&mut self, _base: &Value, _: &[Edit], _: &Hidden, _: &Implied) {}
}

impl Observer for () {}

/// Takes everything down, for one role.
pub(super) struct Trace {
    pub(super) steps: Vec<Step>,
    /// How often each plugin had looked at the clock when it was last heard of.
    looks: Vec<(String, u64)>,
}

impl Trace {
    pub(super) fn of(set: &Set) -> Self {
        let looks = set.members().iter().filter_map(|member| match member {
            Member::Working(working) => Some((working.plugin.name().to_owned(), working.plugin.looks_at_clock())),
            Member::Absent(_) => None,
        });
        Self { steps: Vec::new(), looks: looks.collect() }
    }

    fn add(&mut self, plugin: &Plugin, hook: &'static str, said: Said) {
        let looks = plugin.looks_at_clock();
        let before = self.looks.iter_mut().find(|(name, _)| name == plugin.name());
        let may_differ = before.is_some_and(|(_, before)| std::mem::replace(before, looks) != looks);
        self.steps.push(Step::Plugin(PluginStep {
            plugin: plugin.name().into(),
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

    fn failed(&mut self, member: &Member, hook: &'static str, unavailable: &Unavailable, held: bool) {
        let said = Said::Nothing { fault: unavailable.reason.clone(), held };
        match member {
            Member::Working(working) => self.add(&working.plugin, hook, said),
            Member::Absent(absent) => self.steps.push(Step::Plugin(PluginStep {
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
        let reason = "it tells of a change of a field that is hidden from the role";
        self.steps.push(Step::Server { reason, removed: Vec::new(), withheld: true });
    }

    fn edited(&mut self, base: &Value, edits: &[Edit], hidden: &Hidden, implied: &Implied) {
        let mut edited = base.clone();
        apply(&mut edited, edits);
        let before = implied.places(&edited);
        implied.conceal(&mut edited, hidden);
        let removed = gone(before, &implied.places(&edited));
        if !removed.is_empty() {
            let reason = "they speak of fields that are hidden from the role";
            self.steps.push(Step::Server { reason, removed, withheld: false });
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
