//! Answers of plugins, checked: the decision, ruling or verdict of one hook, and what all plugins together answer.
//!
//! Also [`Hidden`]: the pointers that filters may hide from a role.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::{
    domain::{audience::Audience, plugin_name::PluginName, role::Role},
    plugin::contract::{
        pointer::{self, Edit, Pointer, is_within},
        refusal::Refusal,
    },
};

/// Answer of all plugins together about a command.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    Accepted,
    /// The command runs with another input; `by` is the plugin that changed it last.
    Amended {
        input: Map<String, Value>,
        by: PluginName,
    },
    Refused(Refusal),
}

/// Answer of one plugin about a command, checked by itself.
pub(crate) enum Answered {
    Accept,
    Amend(Vec<Edit>),
    Refuse(Refusal),
}

/// Decision of an `authorize` hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// The reason reaches the client word for word.
    Deny(String),
}

/// Error of a plugin that must be asked and gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("plugin {plugin} is not answering: {reason}")]
pub struct Unavailable {
    pub plugin: PluginName,
    pub reason: String,
}

/// Shaped payload for one role.
#[derive(Clone, Debug, PartialEq)]
pub enum Shaped {
    /// Roles whose edits are equal share one payload. For the audience `Nobody` it is null.
    Sent { payload: Arc<Value>, audience: Audience },
    /// A filter gave no verdict: nobody of the role may get the payload yet. The other filters allow this audience.
    Held { plugin: PluginName, reason: String, audience: Audience },
}

impl From<Unavailable> for Shaped {
    fn from(Unavailable { plugin, reason }: Unavailable) -> Self {
        Self::Held { plugin, reason, audience: Audience::Everyone }
    }
}

/// JSON Pointers that filters may hide from one role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hidden {
    pointers: Vec<pointer::Pointer>,
}

impl Hidden {
    pub(crate) fn new(mut pointers: Vec<pointer::Pointer>) -> Self {
        pointers.sort();
        pointers.dedup();
        Self { pointers }
    }

    pub fn is_empty(&self) -> bool {
        self.pointers.is_empty()
    }

    /// Returns true if the value at `pointer` may be hidden: it or something above it is listed.
    pub fn covers(&self, pointer: &str) -> bool {
        self.pointers.iter().any(|hidden| is_within(pointer, hidden.as_str()))
    }

    /// Returns true if a part of the value at `pointer` may be hidden.
    pub(crate) fn covers_part(&self, pointer: &str) -> bool {
        self.pointers.iter().any(|hidden| hidden.as_str() != pointer && hidden.is_within(pointer))
    }

    /// Returns true if a list of changes may not name this field of a lead.
    pub(crate) fn covers_change(&self, field: &str) -> bool {
        let is_it = |hidden: &str| hidden == "/lead" || hidden.strip_prefix("/lead/") == Some(field);
        self.pointers.iter().any(|hidden| is_it(hidden.as_str()))
    }

    /// Removes from `value`, which is located at `pointer`, everything that may be hidden below it.
    ///
    /// Use it where a part of a lead is shown outside of a payload, as in its history.
    pub fn prune(&self, pointer: &str, value: &mut Value) {
        let below = self.pointers.iter().filter(|hidden| hidden.as_str() != pointer && hidden.is_within(pointer));
        let inside = below.filter_map(|hidden| pointer::Pointer::parse(hidden.as_str()[pointer.len()..].into()).ok());
        let mut removals = inside.map(Edit::Remove).collect();
        pointer::order(&mut removals);
        pointer::apply(value, &removals);
    }
}

/// Verdict of a filter about one role.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub role: Role,
    pub audience: Audience,
    /// Reason why nobody gets it, for operators.
    pub reason: Option<String>,
    pub edits: Vec<Edit>,
}

/// Pointers that a filter may hide, per role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Hides([Vec<Pointer>; 4]);

impl Hides {
    pub(crate) fn of(&self, role: Role) -> &[Pointer] {
        &self.0[role as usize]
    }

    pub(crate) fn insert(&mut self, role: Role, pointer: Pointer) {
        let pointers = &mut self.0[role as usize];
        if !pointers.contains(&pointer) {
            pointers.push(pointer);
        }
    }
}
