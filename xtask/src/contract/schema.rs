//! Comparison of two schemas: what a client may send must stay accepted, what it receives must stay as documented.

use std::{collections::BTreeSet, fmt::Display};

use serde_json::{Map, Value};

use super::{
    bounds,
    change::{Change, Documents, by_name},
    rules::{self, Rule},
    shape::{Alternative, accepts, alternatives, list, members, of_type, type_of, types},
};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Sent by clients.
    Request,
    /// Sent by the server.
    Answer,
    /// Sent by the server, perhaps as an error; clients expect values of `code` that they do not know.
    ErrorAnswer,
}

/// Comparison of the schemas at one place of the documents.
pub struct SchemaComparison<'a> {
    pub documents: Documents<'a>,
    pub direction: Direction,
    pub place: String,
}

/// Pairs of objects or arrays that have been compared. Each is compared once per place: a schema can contain itself, and
/// schemas that refer to each other have too many paths to follow them all.
type Seen = Vec<(Alternative, Alternative)>;

impl SchemaComparison<'_> {
    pub fn schemas(&self, old: &Value, new: &Value) -> Vec<Change> {
        self.at("$", old, new, &mut Seen::new())
    }

    fn at(&self, path: &str, old: &Value, new: &Value, seen: &mut Seen) -> Vec<Change> {
        let nothing = Value::Bool(false);
        if *old == nothing || (!self.is_request() && *new == nothing) {
            return Vec::new();
        }

        let old = alternatives(self.documents.old, old);
        let new = alternatives(self.documents.new, new);
        let mut changes = self.types(path, &old, &new);
        changes.extend(self.enums(path, &old, &new));
        changes.extend(self.bounds(path, &old, &new));
        for kind in ["object", "array"] {
            changes.extend(self.union(path, &of_type(&old, &[kind]), &of_type(&new, &[kind]), seen));
        }
        changes
    }

    fn types(&self, path: &str, old: &[Alternative], new: &[Alternative]) -> Vec<Change> {
        let old: BTreeSet<_> = old.iter().flat_map(types).collect();
        let new: BTreeSet<_> = new.iter().flat_map(types).collect();
        let names = |of: &BTreeSet<&str>, without: &BTreeSet<&str>| {
            let names: Vec<_> = of.difference(without).copied().collect();
            (!names.is_empty()).then(|| names.join(", "))
        };
        let added = names(&new, &old);
        let removed = names(&old, &new);

        let mut changes = Vec::new();
        if self.is_request() {
            changes.extend(removed.map(|removed| {
                self.breaking(&rules::REQUEST_TYPE_NARROWED, path, format!("no longer accepts {removed}"))
            }));
            changes.extend(added.map(|added| self.additive(path, format!("also accepts {added}"))));
        } else {
            let change = |added| self.breaking(&rules::ANSWER_TYPE_CHANGED, path, format!("can now be {added}"));
            changes.extend(added.map(change));
        }
        changes
    }

    /// Compares the listed values per type, so that `["NEW", null]` and `["NEW"]` differ in their types only.
    fn enums(&self, path: &str, old: &[Alternative], new: &[Alternative]) -> Vec<Change> {
        let mut changes = Vec::new();
        for kind in ["string", "integer", "number", "boolean"] {
            let (old, new) = (of_type(old, &[kind]), of_type(new, &[kind]));
            if !old.is_empty() && !new.is_empty() {
                changes.extend(self.values(path, &Values::of(&old, kind), &Values::of(&new, kind)));
            }
        }
        changes
    }

    fn values(&self, path: &str, old: &Values<'_>, new: &Values<'_>) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.is_request() && old.open && !new.open {
            let text = "only the listed values are accepted now";
            changes.push(self.breaking(&rules::REQUEST_ENUM_NARROWED, path, text));
        }
        let is_opened = !self.is_request() && !self.is_error_code(path) && new.open && !old.open;
        if is_opened {
            changes.push(self.breaking(&rules::ANSWER_ENUM_OPENED, path, "values that are not listed can now occur"));
        }

        // The server still accepts a value that is no longer listed because any is accepted.
        let any_is_new = new.open && new.listed.is_empty() && (self.is_request() || is_opened);
        for value in old.listed.iter().filter(|value| !any_is_new && !new.listed.contains(value)) {
            changes.push(self.value_removed(path, value));
        }
        let any_was_old = old.open && old.listed.is_empty();
        for value in new.listed.iter().filter(|value| !any_was_old && !old.listed.contains(value)) {
            changes.push(self.value_added(path, value, old.open || new.open));
        }
        changes
    }

    fn value_removed(&self, path: &str, value: impl Display) -> Change {
        let rule = match self.direction {
            Direction::Request => &rules::REQUEST_ENUM_NARROWED,
            _ if self.is_error_code(path) => &rules::ANSWER_ERROR_CODE_REMOVED,
            Direction::Answer | Direction::ErrorAnswer => &rules::ANSWER_ENUM_VALUE_REMOVED,
        };
        self.breaking(rule, path, format!("value {value} removed"))
    }

    fn value_added(&self, path: &str, value: impl Display, is_open: bool) -> Change {
        let text = format!("new value {value}");
        if is_open || self.is_request() || self.is_error_code(path) {
            self.additive(path, text)
        } else {
            self.breaking(&rules::ANSWER_ENUM_VALUE_ADDED, path, text)
        }
    }

    fn bounds(&self, path: &str, old: &[Alternative], new: &[Alternative]) -> Vec<Change> {
        if self.is_request() {
            let narrowed = bounds::narrowed(old, new).into_iter();
            return narrowed.map(|(_, text)| self.breaking(&rules::REQUEST_BOUNDS_NARROWED, path, text)).collect();
        }
        // A format is like a type to clients that parse it; the other bounds of an answer are free to change.
        let widened = bounds::narrowed(new, old).into_iter().filter(|(keyword, _)| *keyword == "format");
        widened.map(|_| self.breaking(&rules::ANSWER_TYPE_CHANGED, path, "format changed or removed")).collect()
    }

    /// Compares alternatives that have the same value of the discriminator; without one, those that differ least.
    fn union(&self, path: &str, old: &[&Alternative], new: &[&Alternative], seen: &mut Seen) -> Vec<Change> {
        if old.is_empty() || new.is_empty() {
            return Vec::new();
        }
        let name = discriminator(old, new);
        let value_of =
            |schema: &Alternative| name.and_then(|name| only_value(property(schema, name)?)).map(ToString::to_string);
        let values: BTreeSet<Option<String>> = old.iter().chain(new).map(|schema| value_of(schema)).collect();

        let mut changes = Vec::new();
        for value in values {
            let of_value = |schema: &&&Alternative| value_of(schema) == value;
            let old: Vec<_> = old.iter().filter(of_value).collect();
            let new: Vec<_> = new.iter().filter(of_value).collect();
            let path_of_value = format!("{path}.{}", name.unwrap_or_default());
            match &value {
                Some(value) if new.is_empty() => changes.push(self.value_removed(&path_of_value, value)),
                Some(value) if old.is_empty() => changes.push(self.value_added(&path_of_value, value, false)),
                _ => {}
            }

            for before in &old {
                changes.extend(self.least(path, new.iter().map(|after| (**before, **after)), seen));
            }
            for after in new.iter().filter(|_| new.len() > 1 && !self.is_request()) {
                changes.extend(self.least(path, old.iter().map(|before| (**before, **after)), seen));
            }
        }
        changes
    }

    /// Changes of the candidate that has the fewest.
    fn least<'a>(
        &self,
        path: &str,
        candidates: impl Iterator<Item = (&'a Alternative, &'a Alternative)>,
        seen: &mut Seen,
    ) -> Vec<Change> {
        let start = seen.len();
        let compared = candidates.map(|(old, new)| (self.parts(path, old, new, seen), seen.split_off(start)));
        let breaking = |changes: &[Change]| changes.iter().filter(|change| change.rule.is_some()).count();
        let least = compared.min_by_key(|(changes, _)| (breaking(changes), changes.len()));
        let (changes, pairs) = least.unwrap_or_default();
        seen.extend(pairs);
        changes
    }

    /// Compares the members and items of two objects or arrays.
    fn parts(&self, path: &str, old: &Alternative, new: &Alternative, seen: &mut Seen) -> Vec<Change> {
        if seen.iter().any(|(before, after)| before == old && after == new) {
            return Vec::new();
        }
        seen.push((old.clone(), new.clone()));
        let mut changes = Vec::new();
        if accepts(old, "object") && accepts(new, "object") {
            changes.extend(self.members(path, old, new, seen));
        }
        if accepts(old, "array") && accepts(new, "array") {
            changes.extend(self.items(path, old, new, seen));
        }
        changes
    }

    fn members(&self, path: &str, old: &Alternative, new: &Alternative, seen: &mut Seen) -> Vec<Change> {
        let was_required = keyword(old, "required");
        let is_required = keyword(new, "required");
        let path_of = |name: &str| format!("{path}.{name}");
        let place = |name: &str| format!("{}, `{path}.{name}`", self.place);
        let rule = if self.is_request() { &rules::REQUEST_MEMBER_REMOVED } else { &rules::ANSWER_MEMBER_REMOVED };
        let mut changes = by_name(properties(old), properties(new), ("member", rule), place, |name, old, new| {
            self.at(&path_of(name), old, new, seen)
        });

        let (from, to) = if self.is_request() { (was_required, is_required) } else { (is_required, was_required) };
        for name in to.iter().filter(|name| !from.contains(name)).filter_map(Value::as_str) {
            if self.is_request() {
                let text = "member is now required";
                changes.push(self.breaking(&rules::REQUEST_MEMBER_REQUIRED, &path_of(name), text));
            } else if property(new, name).is_some() {
                let text = "member can now be absent";
                changes.push(self.breaking(&rules::ANSWER_MEMBER_OPTIONAL, &path_of(name), text));
            }
        }

        let before = other_members(old);
        let after = other_members(new);
        if self.is_request() && before != false && after == false {
            changes.push(self.breaking(&rules::REQUEST_MEMBERS_CLOSED, path, "no longer accepts other members"));
        } else {
            changes.extend(self.at(&path_of("*"), &before, &after, seen));
        }
        changes
    }

    fn items(&self, path: &str, old: &Alternative, new: &Alternative, seen: &mut Seen) -> Vec<Change> {
        let length = |schema: &Alternative| keyword(schema, "prefixItems").len();
        let mut changes = Vec::new();
        for index in 0..length(old).max(length(new)) {
            changes.extend(self.at(&format!("{path}[{index}]"), &item(old, index), &item(new, index), seen));
        }
        changes.extend(self.at(&format!("{path}[]"), &item(old, usize::MAX), &item(new, usize::MAX), seen));
        changes
    }

    fn is_request(&self) -> bool {
        self.direction == Direction::Request
    }

    fn is_error_code(&self, path: &str) -> bool {
        self.direction == Direction::ErrorAnswer && path.ends_with(".code")
    }

    fn breaking(&self, rule: &'static Rule, path: &str, text: impl Into<String>) -> Change {
        Change::breaking(rule, format!("{}, `{path}`", self.place), text)
    }

    fn additive(&self, path: &str, text: impl Into<String>) -> Change {
        Change::additive(format!("{}, `{path}`", self.place), text)
    }
}

/// Values of one type that a schema accepts.
struct Values<'a> {
    listed: Vec<&'a Value>,
    /// Values that are not listed are accepted too; always so without an enum.
    open: bool,
}

impl<'a> Values<'a> {
    fn of(schemas: &[&'a Alternative], kind: &str) -> Self {
        let enums = schemas.iter().flat_map(|schema| keyword(schema, "enum"));
        let listed = enums.filter(|value| type_of(value) == kind).collect();
        Self { listed, open: schemas.iter().any(|schema| !schema.contains_key("enum")) }
    }
}

/// Member that tells the alternatives of a union apart: it has one value in each, but not the same in all.
fn discriminator<'a>(old: &[&'a Alternative], new: &[&'a Alternative]) -> Option<&'a str> {
    if old.len() == 1 && new.len() == 1 {
        return None;
    }
    let mut names = properties(old.first()?).keys();
    let distinguishes = |name: &&String| {
        let values = old.iter().chain(new).map(|schema| only_value(property(schema, name)?));
        let values: Option<Vec<_>> = values.collect();
        values.is_some_and(|values| values.iter().any(|value| *value != values[0]))
    };
    names.find(distinguishes).map(String::as_str)
}

fn only_value(schema: &Value) -> Option<&Value> {
    match list(&schema["enum"]) {
        [only] => Some(only),
        _ => schema.get("const"),
    }
}

/// Items of a keyword whose value is an array.
fn keyword<'a>(schema: &'a Alternative, name: &str) -> &'a [Value] {
    schema.get(name).map_or(&[], list)
}

fn properties(schema: &Alternative) -> &Map<String, Value> {
    schema.get("properties").map_or(members(&Value::Null), members)
}

fn property<'a>(schema: &'a Alternative, name: &str) -> Option<&'a Value> {
    properties(schema).get(name)
}

/// Schema of the members that are not listed.
fn other_members(schema: &Alternative) -> Value {
    let keywords = ["additionalProperties", "unevaluatedProperties"];
    keywords.into_iter().find_map(|keyword| schema.get(keyword)).cloned().unwrap_or(Value::Bool(true))
}

/// Schema of the item at `index`.
fn item(schema: &Alternative, index: usize) -> Value {
    let listed = keyword(schema, "prefixItems").get(index);
    listed.or_else(|| schema.get("items")).cloned().unwrap_or(Value::Bool(true))
}
