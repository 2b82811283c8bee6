//! Answers of hooks: edits, audiences and decisions.

use serde_json::Value;

use crate::{
    bindings::{authorizes::exports::leadwire::plugin::authorize as wit_authorize, filters},
    pointer::check_pointer,
};
use filters::{exports::leadwire::plugin::filter_lines as wit, leadwire::plugin::types as wit_types};

/// Maximum length of the text of a mask, same as in the host.
const MAX_TEXT: usize = 4096;

/// Change of a payload, at a JSON Pointer (RFC 6901) into it.
///
/// Whatever the order in which plugins request them, sets are applied first, then masks, then removals. An edit whose
/// pointer leads nowhere does nothing, except that [`Edit::set`] adds a missing member to an existing object.
///
/// A pointer that the host would refuse turns the hook's answer into an error that says what to write; with
/// [`pointer!`](crate::pointer) it does not compile. [`check`](Edit::check) reports it in advance.
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
    /// Removes the value.
    Remove {
        /// Pointer to the value.
        pointer: String,
    },
    /// Replaces the value with a text.
    Mask {
        /// Pointer to the value.
        pointer: String,
        /// Text that clients see instead.
        text: String,
    },
    /// Replaces or adds the value.
    Set {
        /// Pointer to the value.
        pointer: String,
        /// Value that clients see.
        value: Value,
    },
}

impl Edit {
    /// Removes the value at `pointer`.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Edit;
    /// assert_eq!(Edit::remove("/lead/phone").pointer(), "/lead/phone");
    /// ```
    pub fn remove(pointer: impl Into<String>) -> Self {
        Self::Remove { pointer: pointer.into() }
    }

    /// Replaces the value at `pointer` with a text.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Edit;
    /// assert_eq!(Edit::mask("/lead/phone", "hidden").pointer(), "/lead/phone");
    /// ```
    pub fn mask(pointer: impl Into<String>, text: impl Into<String>) -> Self {
        Self::Mask { pointer: pointer.into(), text: text.into() }
    }

    /// Replaces the value at `pointer`, or adds it.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Edit;
    /// assert_eq!(Edit::set("/lead/score", 80).pointer(), "/lead/score");
    /// ```
    pub fn set(pointer: impl Into<String>, value: impl Into<Value>) -> Self {
        Self::Set { pointer: pointer.into(), value: value.into() }
    }

    /// Checks that the host would accept the edit.
    ///
    /// # Errors
    ///
    /// When the pointer is invalid, or leads to a value that only the server writes, or the text of a mask is too long.
    /// The text gives the reason.
    ///
    /// ```
    /// use leadwire_plugin_sdk::Edit;
    ///
    /// assert_eq!(Edit::remove("/lead/phone").check(), Ok(()));
    /// assert_eq!(Edit::remove("phone").check().unwrap_err(), "the JSON Pointer \"phone\" must start with \"/\": write \"/phone\"");
    /// assert_eq!(Edit::set("/seq", 7).check().unwrap_err(), "/seq is written by the server alone");
    /// ```
    pub fn check(&self) -> Result<(), String> {
        let pointer = self.pointer();
        check_pointer(pointer)?;
        match self {
            Self::Mask { text, .. } if text.len() > MAX_TEXT => {
                Err(format!("the text of the mask at {pointer} has {} bytes; {MAX_TEXT} are allowed", text.len()))
            }
            _ => Ok(()),
        }
    }

    /// Pointer to the value that the edit changes.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Edit;
    /// assert_eq!(Edit::remove("/lead/phone").pointer(), "/lead/phone");
    /// ```
    pub fn pointer(&self) -> &str {
        match self {
            Self::Remove { pointer } | Self::Mask { pointer, .. } | Self::Set { pointer, .. } => pointer,
        }
    }
}

/// Users of a role who get an event.
///
/// ```
/// use leadwire_plugin_sdk::{Audience, Verdict};
///
/// assert_eq!(Verdict::everyone().audience, Audience::Everyone);
/// assert_eq!(Verdict::nobody("it is a draft").audience, Audience::Nobody("it is a draft".into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Audience {
    /// All who would get it without this plugin.
    #[default]
    Everyone,
    /// Nobody; the reason is for operators.
    Nobody(String),
    /// Of those who would get it, only the users with these ids.
    Only(Vec<String>),
}

/// Verdict of a filter on an event for one role: who gets it, and with which edits.
///
/// ```
/// use leadwire_plugin_sdk::{Audience, Edit, Verdict};
///
/// let ann = "01980000-0000-7000-8000-0000000000aa";
/// let verdict = Verdict::only([ann]).remove("/lead/phone").mask("/lead/email", "hidden");
/// assert_eq!(verdict.audience, Audience::Only(vec![ann.into()]));
/// assert_eq!(verdict.edits, [Edit::remove("/lead/phone"), Edit::mask("/lead/email", "hidden")]);
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Users who get it.
    pub audience: Audience,
    /// Edits for these users.
    pub edits: Vec<Edit>,
}

impl Verdict {
    /// All users of the role get it.
    pub fn everyone() -> Self {
        Self::default()
    }

    /// Nobody of the role gets it; the reason is for operators.
    pub fn nobody(reason: impl Into<String>) -> Self {
        Self { audience: Audience::Nobody(reason.into()), edits: Vec::new() }
    }

    /// Only the users of the role with these ids get it.
    pub fn only(users: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { audience: Audience::Only(users.into_iter().map(Into::into).collect()), edits: Vec::new() }
    }

    /// Removes the value at `pointer`.
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

    /// Checks that the host would accept the verdict. It does not check [`Hides`]: the host does, and so does
    /// [`testing::filtered`](crate::testing::filtered).
    ///
    /// # Errors
    ///
    /// When an edit is invalid, as for [`Edit::check`], or the audience contains anything but ids of users. The text
    /// gives the reason.
    ///
    /// ```
    /// use leadwire_plugin_sdk::Verdict;
    ///
    /// let error = Verdict::only(["ann@example.com"]).check().unwrap_err();
    /// assert_eq!(error, "an audience contains \"ann@example.com\": expected a user id, such as the value of /lead/owner/id");
    /// assert!(Verdict::everyone().remove("").check().is_err());
    /// ```
    pub fn check(&self) -> Result<(), String> {
        self.edits.iter().try_for_each(Edit::check)?;
        let Audience::Only(users) = &self.audience else { return Ok(()) };
        match users.iter().find(|user| !is_id(user)) {
            None => Ok(()),
            Some(user) => {
                let shown: String = user.chars().take(60).collect();
                Err(format!("an audience contains {shown:?}: expected a user id, such as the value of /lead/owner/id"))
            }
        }
    }

    /// Adds edits.
    pub fn edits(mut self, edits: impl IntoIterator<Item = Edit>) -> Self {
        self.edits.extend(edits);
        self
    }
}

/// Fields that a filter may hide, by role. The host refuses sorts and searches by them, and omits them from histories.
///
/// Every pointer that the filter edits must be listed, or be below a listed one: any other edit is a fault.
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
    /// Hides nothing: the filter only narrows audiences, or does not edit.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds pointers that are hidden from this role.
    pub fn from(mut self, role: impl Into<String>, pointers: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.0.push((role.into(), pointers.into_iter().map(Into::into).collect()));
        self
    }

    /// Checks that the host would accept it. The host refuses a plugin that lists an invalid pointer.
    ///
    /// # Errors
    ///
    /// When a pointer is invalid, as for [`Edit::check`]. The text gives the reason.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Hides;
    /// let error = Hides::nothing().from("VIEWER", ["lead/phone"]).check().unwrap_err();
    /// assert_eq!(error, "hides: the JSON Pointer \"lead/phone\" must start with \"/\": write \"/lead/phone\"");
    /// ```
    pub fn check(&self) -> Result<(), String> {
        let mut pointers = self.0.iter().flat_map(|(_, pointers)| pointers);
        pointers.try_for_each(|pointer| check_pointer(pointer).map_err(|why| format!("hides: {why}")))
    }

    /// True if the role's value at `pointer` is listed, or something above it is.
    pub fn covers(&self, role: &str, pointer: &str) -> bool {
        let is_listed = |listed: &String| within(pointer, listed);
        self.0.iter().filter(|(of, _)| of == role).any(|(_, pointers)| pointers.iter().any(is_listed))
    }
}

/// True if the text looks like a UUID: 32 hexadecimal digits, with hyphens at the usual positions or without.
fn is_id(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.len() {
        32 => hex(text),
        36 => text.split('-').map(|part| if hex(part) { part.len() } else { 0 }).eq([8, 4, 4, 4, 12]),
        _ => false,
    }
}

/// True if a pointer leads to `ancestor` or to something inside it.
fn within(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Decision on whether a user may connect or subscribe.
///
/// ```
/// use leadwire_plugin_sdk::Decision;
///
/// assert_eq!(Decision::deny("closed on Sundays"), Decision::Deny("closed on Sundays".into()));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, as far as this plugin is concerned.
    #[default]
    Allow,
    /// Denied; the client gets the reason verbatim.
    Deny(String),
}

impl Decision {
    /// Denies for a reason that the client gets verbatim.
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

impl From<Verdict> for wit::Verdict {
    fn from(verdict: Verdict) -> Self {
        let audience = match verdict.audience {
            Audience::Everyone => wit::Audience::Everyone,
            Audience::Nobody(reason) => wit::Audience::Nobody(reason),
            Audience::Only(users) => wit::Audience::Only(users),
        };
        Self { audience, edits: verdict.edits.into_iter().map(Into::into).collect() }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_audience_accepts_only_user_ids() {
        let id = "01980000-0000-7000-8000-0000000000AA";
        assert_eq!(Verdict::only([id, "01980000000070008000000000000000"]).check(), Ok(()));
        assert_eq!(Verdict::only(Vec::<String>::new()).check(), Ok(()), "that is nobody");
        for user in ["", "ann", "ann@example.com", "01980000-0000-7000-8000-0000000000a", &id.replace('7', "g")] {
            assert!(Verdict::only([id, user]).check().is_err_and(|why| why.contains(&format!("{user:?}"))), "{user}");
        }
        assert!(!is_id("01980000-00007-000-8000-0000000000aa"));
    }

    #[test]
    fn a_verdict_with_an_invalid_edit_is_invalid() {
        let verdict = Verdict::nobody("no").remove("/lead/phone").set("/epoch", 1);
        assert_eq!(verdict.check(), Err("/epoch is written by the server alone".into()));
        let verdict = Verdict::everyone().mask("/lead/phone", "x".repeat(MAX_TEXT + 1));
        assert!(verdict.check().is_err_and(|why| why.contains("/lead/phone has 4097 bytes")));
    }
}
