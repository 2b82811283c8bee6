//! What a hook answers: edits, audiences, decisions.

use serde_json::Value;

use crate::bindings::{authorizes::exports::leadwire::plugin::authorize as wit_authorize, filters};
use filters::{exports::leadwire::plugin::filter as wit, leadwire::plugin::types as wit_types};

/// A change to a payload, at a JSON Pointer (RFC 6901) into it.
///
/// Whatever the order in which plugins make them, sets come first, then masks, then removals. An edit whose
/// pointer leads nowhere does nothing, except that [`Edit::set`] adds a missing member to an object that is there.
///
/// ```
/// use leadwire_plugin_sdk::{Edit, json, testing};
///
/// let edits = [Edit::mask("/lead/email", "hidden"), Edit::remove("/lead/phone"), Edit::set("/lead/score", 80)];
/// let payload = json!({"lead": {"email": "a@b.example", "phone": "1"}});
/// assert_eq!(testing::edited(payload, &edits), json!({"lead": {"email": "hidden", "score": 80}}));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Takes the value away.
    Remove {
        /// Where.
        pointer: String,
    },
    /// Puts a text in its place.
    Mask {
        /// Where.
        pointer: String,
        /// What clients see instead.
        text: String,
    },
    /// Replaces or adds the value.
    Set {
        /// Where.
        pointer: String,
        /// What clients see.
        value: Value,
    },
}

impl Edit {
    /// Takes the value at `pointer` away.
    pub fn remove(pointer: impl Into<String>) -> Self {
        Self::Remove { pointer: pointer.into() }
    }

    /// Replaces the value at `pointer` with a text.
    pub fn mask(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Mask { pointer: pointer.into(), text: text.into() }
    }

    /// Replaces the value at `pointer`, or adds it.
    pub fn set(pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Set { pointer: pointer.into(), value: value.into() }
    }

    /// Where it changes something.
    pub fn pointer(&self) -> &str {
        match self {
            Self::Remove { pointer } | Self::Mask { pointer, .. } | Self::Set { pointer, .. } => pointer,
        }
    }
}

/// Who of a role gets an event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// All who would get it without this plugin.
    #[default]
    Everyone,
    /// No one, for a reason that operators are told.
    Nobody(String),
    /// Of those who would get it, only the users with these ids.
    Only(Vec<String>),
}

/// What a filter says of an event for one role: who gets it, and with which edits.
///
/// ```
/// use leadwire_plugin_sdk::{Audience, Edit, Verdict};
///
/// let verdict = Verdict::only(["u1", "u2"]).remove("/lead/phone").mask("/lead/email", "hidden");
/// assert_eq!(verdict.audience, Audience::Only(vec!["u1".into(), "u2".into()]));
/// assert_eq!(verdict.edits, [Edit::remove("/lead/phone"), Edit::mask("/lead/email", "hidden")]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Who gets it.
    pub audience: Audience,
    /// What they get of it.
    pub edits: Vec<Edit>,
}

impl Verdict {
    /// All of the role get it.
    pub fn everyone() -> Self {
        Self::default()
    }

    /// None of the role gets it; operators are told the reason.
    pub fn nobody(reason: impl Into<String>) -> Self {
        Self { audience: Audience::Nobody(reason.into()), edits: Vec::new() }
    }

    /// Of the role, only the users with these ids get it.
    pub fn only(users: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { audience: Audience::Only(users.into_iter().map(Into::into).collect()), edits: Vec::new() }
    }

    /// Takes the value at `pointer` away.
    pub fn remove(self, pointer: impl Into<String>) -> Self {
        self.edit(Edit::remove(pointer))
    }

    /// Replaces the value at `pointer` with a text.
    pub fn mask(self, pointer: impl Into<String>, text: impl Into<String>) -> Self {
        self.edit(Edit::mask(pointer, text))
    }

    /// Replaces the value at `pointer`, or adds it.
    pub fn set(self, pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        self.edit(Edit::set(pointer, value))
    }

    /// Adds an edit.
    pub fn edit(mut self, edit: Edit) -> Self {
        self.edits.push(edit);
        self
    }

    /// Adds edits.
    pub fn edits(mut self, edits: impl IntoIterator<Item = Edit>) -> Self {
        self.edits.extend(edits);
        self
    }
}

/// What a filter may hide, by role. The host refuses sorts and searches on it, and leaves it out of histories.
///
/// Every pointer that the filter edits must be listed, or stand below one that is: another edit is a fault.
///
/// ```
/// use leadwire_plugin_sdk::Hides;
///
/// let hides = Hides::nothing().from("VIEWER", ["/lead/email", "/lead/owner"]);
/// assert!(hides.covers("VIEWER", "/lead/owner/email"));
/// assert!(!hides.covers("SALES", "/lead/email"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hides(Vec<(String, Vec<String>)>);

impl Hides {
    /// Nothing: the filter narrows audiences, or is not one that edits.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Besides, these pointers from this role.
    pub fn from(mut self, role: impl Into<String>, pointers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.push((role.into(), pointers.into_iter().map(Into::into).collect()));
        self
    }

    /// Whether the role's value at `pointer` is listed, or something above it is.
    pub fn covers(&self, role: &str, pointer: &str) -> bool {
        let within = |listed: &String| {
            pointer.strip_prefix(listed.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        self.0.iter().filter(|(of, _)| of == role).any(|(_, pointers)| pointers.iter().any(within))
    }
}

/// Whether a user may connect, or subscribe.
///
/// ```
/// use leadwire_plugin_sdk::Decision;
///
/// assert_eq!(Decision::deny("closed on Sundays"), Decision::Deny("closed on Sundays".into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Yes, as far as this plugin is concerned.
    #[default]
    Allow,
    /// No; the client is told the reason word for word.
    Deny(String),
}

impl Decision {
    /// No, for a reason that the client is told word for word.
    pub fn deny(reason: impl Into<String>) -> Self {
        Self::Deny(reason.into())
    }
}

impl From<Edit> for wit_types::Edit {
    fn from(edit: Edit) -> Self {
        match edit {
            Edit::Remove { pointer } => Self::Remove(pointer),
            Edit::Mask { pointer, text } => Self::Mask(wit_types::Masking { pointer, text }),
            Edit::Set { pointer, value } => Self::Set(wit_types::Setting { pointer, json: value.to_string() }),
        }
    }
}

impl Verdict {
    pub(crate) fn for_role(self, role: String) -> wit::Verdict {
        let audience = match self.audience {
            Audience::Everyone => wit::Audience::Everyone,
            Audience::Nobody(reason) => wit::Audience::Nobody(reason),
            Audience::Only(users) => wit::Audience::Only(users),
        };
        wit::Verdict { role, audience, edits: self.edits.into_iter().map(Into::into).collect() }
    }
}

impl From<Hides> for Vec<wit::Hidden> {
    fn from(hides: Hides) -> Self {
        hides.0.into_iter().map(|(role, pointers)| wit::Hidden { role, pointers }).collect()
    }
}

impl From<Decision> for wit_authorize::Decision {
    fn from(decision: Decision) -> Self {
        match decision {
            Decision::Allow => Self::Allow,
            Decision::Deny(reason) => Self::Deny(reason),
        }
    }
}
