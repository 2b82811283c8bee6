//! What a hook is asked about: an event, or a user who wants in.

use serde_json::{Map, Value};

use crate::view::{Activity, Lead, User};

/// Something that is about to leave for clients: an event such as `lead:updated`, or an item of
/// an answer, which goes by the name `lead:read` or `activity:read`.
///
/// It holds what the plugin declared in [`Manifest::fields`](crate::Manifest::fields) and nothing else.
///
/// ```
/// use leadwire_plugin_sdk::{Event, json};
///
/// let event = Event::from_fields(
///     "lead:updated",
///     [("/lead/status", json!("WON")), ("/context/lead/custom/region", json!("north"))],
/// );
/// assert_eq!(event.name(), "lead:updated");
/// assert_eq!(event.lead().and_then(|lead| lead.status()), Some("WON"));
/// assert_eq!(event.context_lead().and_then(|lead| lead.custom("region")), Some(&json!("north")));
/// assert!(event.context_before().is_none());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    name: String,
    seen: Seen,
}

impl Event {
    /// An event of which these fields are known; the payload's by their pointers, the rest below `/context`.
    pub fn from_fields<'a>(name: impl Into<String>, fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self { name: name.into(), seen: Seen::new(None, fields) }
    }

    pub(crate) fn new<'a>(
        name: String,
        payload: Option<Value>,
        fields: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Self {
        Self { name, seen: Seen::new(payload, fields) }
    }

    /// Its name, such as `lead:updated`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whatever was declared at, above or below this JSON Pointer.
    ///
    /// Above: with `/lead` declared, `/lead/email` finds the e-mail address. Below: with `/lead/email`
    /// declared, `/lead` finds an object with just that member.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.seen.get(pointer)
    }

    /// The text at a pointer; `None` if something else stands there.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.get(pointer)?.as_str()
    }

    /// The lead in the payload, if the payload bears one.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/lead").map(Lead)
    }

    /// The activity in the payload, if the payload bears one.
    pub fn activity(&self) -> Option<Activity<'_>> {
        self.seen.object("/activity").map(Activity)
    }

    /// The lead that the event is about, whatever the payload bears; declare `/context/lead/…` for it.
    pub fn context_lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/lead").map(Lead)
    }

    /// The same lead before the event, where the event changed it; declare `/context/before/…` for it.
    pub fn context_before(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/before").map(Lead)
    }
}

/// The user who wants to connect or to subscribe, for [`Authorize`](crate::Authorize).
///
/// ```
/// use leadwire_plugin_sdk::{Subject, json};
///
/// let who = Subject::from_fields("u1", "SALES", [("/context/user/email", json!("ann@example.com"))]);
/// assert_eq!((who.user_id(), who.role()), ("u1", "SALES"));
/// assert_eq!(who.user().email(), Some("ann@example.com"));
/// assert!(who.lead().is_none());
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    user_id: String,
    role: String,
    seen: Seen,
}

impl Subject {
    /// A user of whom these fields are known, all below `/context`.
    pub fn from_fields<'a>(
        user_id: impl Into<String>,
        role: impl Into<String>,
        fields: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Self {
        Self { user_id: user_id.into(), role: role.into(), seen: Seen::new(None, fields) }
    }

    /// The user's id; need not be declared.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// The user's role; need not be declared.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Whatever was declared at, above or below this JSON Pointer; see [`Event::get`].
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.seen.get(pointer)
    }

    /// What was declared of the user, below `/context/user`.
    pub fn user(&self) -> User<'_> {
        User(self.seen.object("/context/user").unwrap_or(&Value::Null))
    }

    /// What was declared of the lead whose room is asked for, below `/context/lead`. `None` if it is another kind
    /// of room, or if there is no such lead.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/lead").map(Lead)
    }
}

/// The declared fields, put back where their pointers say.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen(Value);

impl Seen {
    pub(crate) fn new<'a>(payload: Option<Value>, fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let mut root = payload.filter(Value::is_object).unwrap_or_else(|| Value::Object(Map::new()));
        for (pointer, value) in fields {
            place(&mut root, pointer, value);
        }
        Self(root)
    }

    pub(crate) fn get(&self, pointer: &str) -> Option<&Value> {
        self.0.pointer(pointer)
    }

    pub(crate) fn object(&self, pointer: &str) -> Option<&Value> {
        self.get(pointer).filter(|value| value.is_object())
    }
}

/// Puts `value` at `pointer`, with objects for whatever is missing on the way.
fn place(mut at: &mut Value, pointer: &str, value: Value) {
    for token in pointer.split('/').skip(1) {
        if let Some(index) = at.as_array().map(|items| token.parse().ok().filter(|&index: &usize| index < items.len()))
        {
            let Some(index) = index else { return };
            at = &mut at[index];
            continue;
        }
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        at = &mut at[token.replace("~1", "/").replace("~0", "~").as_str()];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_declared_field_is_found_from_above_and_from_below() {
        let event = Event::from_fields("lead:read", [("/lead/a~1b/c", json!({"d": 1})), ("/lead/e", json!(2))]);
        assert_eq!(event.get("/lead/a~1b/c/d"), Some(&json!(1)));
        assert_eq!(event.get("/lead"), Some(&json!({"a/b": {"c": {"d": 1}}, "e": 2})));
        assert_eq!(event.get("/lead/f"), None);
    }

    #[test]
    fn a_field_that_overlaps_another_does_not_lose_it() {
        let fields =
            [("/lead", json!({"id": "1", "tags": ["a"]})), ("/lead/email", json!("x")), ("/lead/tags/0", json!("b"))];
        let event = Event::from_fields("lead:read", fields);
        assert_eq!(event.get("/lead"), Some(&json!({"id": "1", "tags": ["b"], "email": "x"})));
    }
}
