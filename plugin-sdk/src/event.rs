//! Questions to hooks: an event, or a user who wants to connect or subscribe.

use std::{borrow::Cow, cell::OnceCell};

use serde_json::{Map, Value};

use crate::view::{Activity, Lead, User};

/// Event that is about to be sent to clients, such as `lead:updated`, or an item of a response, with the name
/// `lead:read` or `activity:read`.
///
/// It contains the fields that the plugin declared in [`Manifest::fields`](crate::Manifest::fields) and nothing else.
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
    /// Creates an event with these known fields: those of the payload by their pointers, the others below `/context`.
    pub fn from_fields<'a>(name: impl Into<String>, fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self { name: name.into(), seen: Seen::of(fields) }
    }

    pub(crate) fn new(name: String, payload: Option<Value>, fields: Fields) -> Self {
        Self { name, seen: Seen::new(payload, fields) }
    }

    /// Name of the event, such as `lead:updated`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Value that was declared at, above or below this JSON Pointer.
    ///
    /// Above: with `/lead` declared, `/lead/email` finds the e-mail address. Below: with `/lead/email` declared,
    /// `/lead` finds an object with only that member.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.seen.get(pointer)
    }

    /// Text at a pointer; `None` if the value is not a text.
    pub fn text(&self, pointer: &str) -> Option<&str> {
        self.get(pointer)?.as_str()
    }

    /// Lead in the payload, if there is one.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/lead").map(Lead)
    }

    /// Activity in the payload, if there is one.
    pub fn activity(&self) -> Option<Activity<'_>> {
        self.seen.object("/activity").map(Activity)
    }

    /// Lead that the event is about, whether or not the payload contains it; declare `/context/lead/…` for it.
    pub fn context_lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/lead").map(Lead)
    }

    /// The same lead before the event, if the event changed it; declare `/context/before/…` for it.
    pub fn context_before(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/before").map(Lead)
    }
}

/// User who wants to connect or to subscribe, for [`Authorize`](crate::Authorize).
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
    /// Creates a user with these known fields, all below `/context`.
    pub fn from_fields<'a>(
        user_id: impl Into<String>,
        role: impl Into<String>,
        fields: impl IntoIterator<Item = (&'a str, Value)>,
    ) -> Self {
        Self { user_id: user_id.into(), role: role.into(), seen: Seen::of(fields) }
    }

    pub(crate) fn new(user_id: String, role: String, fields: Fields) -> Self {
        Self { user_id, role, seen: Seen::new(None, fields) }
    }

    /// Id of the user; need not be declared.
    pub fn user_id(&self) -> &str {
        &self.user_id
    }

    /// Role of the user; need not be declared.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// Value that was declared at, above or below this JSON Pointer; see [`Event::get`].
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.seen.get(pointer)
    }

    /// Declared fields of the user, below `/context/user`.
    pub fn user(&self) -> User<'_> {
        User(self.seen.object("/context/user").unwrap_or(&Value::Null))
    }

    /// Declared fields of the lead whose room is requested, below `/context/lead`. `None` if it is another kind of
    /// room, or if the lead does not exist.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.seen.object("/context/lead").map(Lead)
    }
}

/// Values by their pointers. The manifest's pointers are borrowed, because a call must not copy them.
pub(crate) type Fields = Vec<(Cow<'static, str>, Value)>;

pub(crate) fn owned<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Fields {
    fields.into_iter().map(|(pointer, value)| (pointer.to_owned().into(), value)).collect()
}

/// Declared fields, accessible as a tree.
///
/// Most hooks read a field by the pointer that they declared. So the fields are kept as they were passed, and converted
/// to a tree only when a hook reads above a declared pointer.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    payload: Option<Value>,
    fields: Fields,
    tree: OnceCell<Value>,
}

impl Seen {
    pub(crate) fn of<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        Self::new(None, owned(fields))
    }

    pub(crate) fn new(payload: Option<Value>, fields: Fields) -> Self {
        Self { payload: payload.filter(Value::is_object), fields, tree: OnceCell::new() }
    }

    pub(crate) fn get(&self, pointer: &str) -> Option<&Value> {
        match self.passed(pointer) {
            Passed::Alone(value, "") => Some(value),
            Passed::Alone(value, rest) => find(value, rest),
            Passed::Nothing => None,
            Passed::Parts => find(self.tree(), pointer),
        }
    }

    /// Data that was passed for the place that a pointer leads to.
    fn passed<'p>(&self, pointer: &'p str) -> Passed<'_, 'p> {
        if self.payload.is_some() {
            return Passed::Parts;
        }
        let mut passed = Passed::Nothing;
        for (at, value) in &self.fields {
            passed = match (below(pointer, at), passed) {
                (Some(rest), Passed::Nothing) => Passed::Alone(value, rest),
                (None, passed) if below(at, pointer).is_none() => passed,
                _ => return Passed::Parts,
            };
        }
        passed
    }

    fn tree(&self) -> &Value {
        self.tree.get_or_init(|| {
            let mut root = self.payload.clone().unwrap_or_else(|| Value::Object(Map::new()));
            self.fields.iter().for_each(|(pointer, value)| place(&mut root, pointer, value.clone()));
            root
        })
    }

    pub(crate) fn object(&self, pointer: &str) -> Option<&Value> {
        self.get(pointer).filter(|value| value.is_object())
    }
}

impl PartialEq for Seen {
    fn eq(&self, other: &Self) -> bool {
        self.tree() == other.tree()
    }
}

enum Passed<'v, 'p> {
    Nothing,
    /// One field contains it, at the rest of the pointer.
    Alone(&'v Value, &'p str),
    /// Several fields contain parts of it, or the payload does.
    Parts,
}

/// Rest of `pointer` inside the place that `ancestor` leads to.
fn below<'p>(pointer: &'p str, ancestor: &str) -> Option<&'p str> {
    // This one byte rules out most pointers.
    let ends = pointer.as_bytes().get(ancestor.len()).is_none_or(|next| *next == b'/');
    if ends { pointer.strip_prefix(ancestor) } else { None }
}

/// Value at a pointer, like `Value::pointer`, but without two allocations per token.
fn find<'v>(root: &'v Value, pointer: &str) -> Option<&'v Value> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    pointer.split('/').skip(1).map(unescape).try_fold(root, |at, token| match at {
        Value::Object(members) => members.get(token.as_ref()),
        Value::Array(items) => items.get(index(&token)?),
        _ => None,
    })
}

/// Same as `find`, mutable.
pub(crate) fn find_mut<'v>(root: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    if !pointer.is_empty() && !pointer.starts_with('/') {
        return None;
    }
    pointer.split('/').skip(1).map(unescape).try_fold(root, |at, token| match at {
        Value::Object(members) => members.get_mut(token.as_ref()),
        Value::Array(items) => items.get_mut(index(&token)?),
        _ => None,
    })
}

fn index(token: &str) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with(['0', '+']);
    canonical.then(|| token.parse().ok()).flatten()
}

pub(crate) fn unescape(token: &str) -> Cow<'_, str> {
    if token.contains('~') { token.replace("~1", "/").replace("~0", "~").into() } else { token.into() }
}

/// Puts `value` at `pointer`, and creates missing objects on the way.
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
        at = &mut at[unescape(token).as_ref()];
    }
    *at = value;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_declared_field_is_found_by_parent_and_child_pointers() {
        let event = Event::from_fields("lead:read", [("/lead/a~1b/c", json!({"d": 1})), ("/lead/e", json!(2))]);
        assert_eq!(event.get("/lead/a~1b/c/d"), Some(&json!(1)));
        assert_eq!(event.get("/lead"), Some(&json!({"a/b": {"c": {"d": 1}}, "e": 2})));
        assert_eq!(event.get("/lead/f"), None);
    }

    #[test]
    fn direct_and_tree_lookups_of_a_field_agree() {
        let fields = [
            ("/lead/email", json!("x")),
            ("/lead/owner", json!({"id": "u", "teams": ["a", {"b": 1}]})),
            ("/list/0", json!(7)),
            ("/tags", json!(["a", "b"])),
            ("/tags/1", json!("c")),
            ("/a~1b", Value::Null),
            ("/lea", json!(1)),
        ];
        let seen = Seen::of(fields);
        let pointers =
            ["", "/", "lead", "/lead", "/lead/", "/lead/email", "/lead/email/x", "/lead/emails", "/lead/owner"];
        let deeper = ["/lead/owner/teams/1/b", "/lead/owner/teams/01", "/lead/owner/teams/+1", "/lead/owner/teams/9"];
        let others = ["/list", "/list/0", "/tags", "/tags/0", "/tags/1", "/a~1b", "/a", "/lea", "/le", "/x/y"];
        for pointer in pointers.into_iter().chain(deeper).chain(others) {
            assert_eq!(seen.get(pointer), seen.tree().pointer(pointer), "{pointer}");
        }
        let payload = json!({"lead": {"email": "y", "title": "t"}});
        let whole = Seen::new(Some(payload), owned([("/lead/email", json!("x"))]));
        assert_eq!(whole.get("/lead"), Some(&json!({"email": "x", "title": "t"})));
        assert_eq!(whole, Seen::of([("/lead/title", json!("t")), ("/lead/email", json!("x"))]));
    }

    #[test]
    fn overlapping_fields_are_merged() {
        let fields =
            [("/lead", json!({"id": "1", "tags": ["a"]})), ("/lead/email", json!("x")), ("/lead/tags/0", json!("b"))];
        let event = Event::from_fields("lead:read", fields);
        assert_eq!(event.get("/lead"), Some(&json!({"id": "1", "tags": ["b"], "email": "x"})));
    }
}
