//! JSON Pointers (RFC 6901), and the edits that plugins make with them.
//!
//! Edits of any number of plugins compose into one result: every `set`, then every `mask`, then every `remove`,
//! so that no order of files can bring back what one of them removed.

use std::{borrow::Cow, cmp::Ordering, fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

const MAX_CHARS: usize = 512;
const MAX_DEPTH: usize = 32;

/// JSON Pointer to a value below the root.
///
/// Its text is canonical: two pointers lead to the same place only if they are equal.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct Pointer(Arc<str>);

impl TryFrom<String> for Pointer {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::parse(text)
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.0.as_ref().into()
    }
}

impl Pointer {
    pub(crate) fn parse(text: String) -> Result<Self, String> {
        let bytes = text.as_bytes();
        let is_torn = |at: usize| bytes[at] == b'~' && !matches!(bytes.get(at + 1), Some(b'0' | b'1'));
        let why = if bytes.first() != Some(&b'/') {
            "must start with \"/\""
        } else if bytes.len() > MAX_CHARS {
            "is longer than 512 bytes"
        } else if bytes.iter().filter(|byte| **byte == b'/').count() > MAX_DEPTH {
            "is deeper than 32 levels"
        } else if (0..bytes.len()).any(is_torn) {
            "has a \"~\" that is followed by neither 0 nor 1"
        } else {
            return Ok(Self(text.into()));
        };
        let shown: String = text.chars().take(60).collect();
        Err(format!("the JSON Pointer {shown:?} {why}"))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns true if this leads to `ancestor` or to something inside of it.
    pub(crate) fn is_within(&self, ancestor: &str) -> bool {
        is_within(&self.0, ancestor)
    }

    /// Returns true if this leads to a value that only the host writes.
    pub(crate) fn is_reserved(&self) -> bool {
        ["/seq", "/epoch", "/lead/id", "/lead/rev"].iter().any(|reserved| self.is_within(reserved))
    }

    fn tokens(&self) -> impl Iterator<Item = Cow<'_, str>> {
        self.0.split('/').skip(1).map(unescape)
    }

    fn parent_and_key(&self) -> (&str, Cow<'_, str>) {
        let (parent, key) = self.0.rsplit_once('/').expect("a pointer starts with a slash");
        (parent, unescape(key))
    }

    /// Removes the value; does nothing where there is none.
    pub(crate) fn remove(&self, root: &mut Value) {
        let (parent, key) = self.parent_and_key();
        match find_mut(root, parent) {
            Some(Value::Object(members)) => drop(members.shift_remove(key.as_ref())),
            Some(Value::Array(items)) => {
                if let Some(index) = index(&key).filter(|index| *index < items.len()) {
                    items.remove(index);
                }
            }
            _ => {}
        }
    }

    fn replace(&self, root: &mut Value, value: Value) {
        if let Some(place) = find_mut(root, &self.0) {
            *place = value;
        }
    }

    fn set(&self, root: &mut Value, value: Value) {
        let (parent, key) = self.parent_and_key();
        match find_mut(root, parent) {
            Some(Value::Object(members)) => drop(members.insert(key.into_owned(), value)),
            Some(Value::Array(items)) => {
                if let Some(item) = index(&key).and_then(|index| items.get_mut(index)) {
                    *item = value;
                }
            }
            _ => {}
        }
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

pub(crate) fn is_within(pointer: &str, ancestor: &str) -> bool {
    pointer.strip_prefix(ancestor).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Finds the value at a valid pointer, as `Value::pointer` does, but without allocating two strings per token.
pub(crate) fn find<'v>(root: &'v Value, pointer: &str) -> Option<&'v Value> {
    pointer.split('/').skip(1).map(unescape).try_fold(root, |at, token| match at {
        Value::Object(members) => members.get(token.as_ref()),
        Value::Array(items) => items.get(index(&token)?),
        _ => None,
    })
}

fn find_mut<'v>(root: &'v mut Value, pointer: &str) -> Option<&'v mut Value> {
    pointer.split('/').skip(1).map(unescape).try_fold(root, |at, token| match at {
        Value::Object(members) => members.get_mut(token.as_ref()),
        Value::Array(items) => items.get_mut(index(&token)?),
        _ => None,
    })
}

fn unescape(token: &str) -> Cow<'_, str> {
    if token.contains('~') { token.replace("~1", "/").replace("~0", "~").into() } else { token.into() }
}

fn index(token: &str) -> Option<usize> {
    let canonical = token == "0" || !token.starts_with(['0', '+']);
    canonical.then(|| token.parse().ok()).flatten()
}

/// Edit of a payload.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edit {
    /// Replaces the value, or adds a missing member to an existing object.
    Set(Pointer, Value),
    /// Replaces the value with a text.
    Mask(Pointer, String),
    Remove(Pointer),
}

impl Edit {
    pub(crate) fn pointer(&self) -> &Pointer {
        match self {
            Self::Set(pointer, _) | Self::Mask(pointer, _) | Self::Remove(pointer) => pointer,
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Set(..) => 0,
            Self::Mask(..) => 1,
            Self::Remove(..) => 2,
        }
    }
}

/// Sorts edits into the order in which they are applied. Equal sets of removals become equal lists.
pub(crate) fn order(edits: &mut Vec<Edit>) {
    edits.sort_by(|left, right| {
        left.rank().cmp(&right.rank()).then_with(|| match (left, right) {
            // The last item of an array is removed first, or the items behind it would move to another index.
            (Edit::Remove(left), Edit::Remove(right)) => backwards(left, right),
            _ => Ordering::Equal,
        })
    });
    // Removing an item twice would remove its neighbour.
    edits.dedup_by(|left, right| left == right && matches!(left, Edit::Remove(_)));
}

fn backwards(left: &Pointer, right: &Pointer) -> Ordering {
    for (left, right) in left.tokens().zip(right.tokens()) {
        let order = match (index(&left), index(&right)) {
            (Some(left), Some(right)) => right.cmp(&left),
            (Some(_), None) => Ordering::Greater,
            (None, Some(_)) => Ordering::Less,
            (None, None) => right.cmp(&left),
        };
        if order.is_ne() {
            return order;
        }
    }
    right.tokens().count().cmp(&left.tokens().count())
}

/// Applies ordered edits.
pub(crate) fn apply(root: &mut Value, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Set(pointer, value) => pointer.set(root, value.clone()),
            Edit::Mask(pointer, text) => pointer.replace(root, Value::String(text.clone())),
            Edit::Remove(pointer) => pointer.remove(root),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text.into()).expect("valid")
    }

    fn applied(mut root: Value, mut edits: Vec<Edit>) -> Value {
        order(&mut edits);
        apply(&mut root, &edits);
        root
    }

    #[test]
    fn pointers_follow_rfc_6901() {
        for text in ["", "a", "a/b", "/a~", "/a~2", &"/a".repeat(33), &format!("/{}", "a".repeat(600))] {
            assert!(Pointer::parse(text.into()).is_err(), "{text}");
        }
        let mut root = json!({"a/b": {"~": 1}, "": 2});
        pointer("/a~1b/~0").remove(&mut root);
        pointer("/").remove(&mut root);
        assert_eq!(root, json!({"a/b": {}}));
    }

    #[test]
    fn pointers_resolve_like_serde_json() {
        let mut root = json!({"a": {"b/c": [1, {"~": 2}], "": 3, "0": 4}, "n": null});
        let pointers = ["", "/a", "/a/b~1c", "/a/b~1c/1/~0", "/a/b~1c/01", "/a/b~1c/+1", "/a/b~1c/7", "/a/b~1c/-"];
        for text in pointers.into_iter().chain(["/a/", "/a/0", "/n", "/n/x", "/x", "/a/b"]) {
            assert_eq!(find(&root, text), root.pointer(text), "{text}");
            assert_eq!(find_mut(&mut root.clone(), text), root.pointer_mut(text), "{text}");
        }
    }

    #[test]
    fn an_edit_of_a_missing_path_does_nothing_except_set_of_a_new_member() {
        let edits = vec![
            Edit::Remove(pointer("/a/b/c")),
            Edit::Remove(pointer("/list/7")),
            Edit::Mask(pointer("/b"), "x".into()),
            Edit::Set(pointer("/c/d"), json!(1)),
            Edit::Set(pointer("/list/-"), json!(1)),
            Edit::Set(pointer("/list/01"), json!(1)),
            Edit::Set(pointer("/new"), json!(1)),
        ];
        assert_eq!(applied(json!({"a": 1, "list": [1, 2]}), edits), json!({"a": 1, "list": [1, 2], "new": 1}));
    }

    #[test]
    fn edits_apply_as_set_then_mask_then_remove_in_any_order() {
        let mut edits = vec![
            Edit::Remove(pointer("/lead/email")),
            Edit::Mask(pointer("/lead/phone"), "***".into()),
            Edit::Set(pointer("/lead/phone"), json!("+1")),
            Edit::Set(pointer("/lead/email"), json!("a@b.c")),
        ];
        for _ in 0..2 {
            let shaped = applied(json!({"lead": {"email": "x", "phone": "y"}}), edits.clone());
            assert_eq!(shaped, json!({"lead": {"phone": "***"}}));
            edits.reverse();
        }
    }

    #[test]
    fn removals_use_original_indices_and_apply_once() {
        let remove = |text: &str| Edit::Remove(pointer(text));
        let list: Vec<u32> = (0..12).collect();
        let shaped =
            applied(json!({ "l": list }), vec![remove("/l/2"), remove("/l/10"), remove("/l/2"), remove("/l/3")]);
        assert_eq!(shaped, json!({"l": [0, 1, 4, 5, 6, 7, 8, 9, 11]}));
    }
}
