//! Changes between two documents, and the comparison of things that have a name.

use std::{collections::BTreeSet, fmt};

use serde_json::{Map, Value};

use super::rules::Rule;

/// The released document and the current one.
#[derive(Clone, Copy)]
pub struct Documents<'a> {
    pub old: &'a Value,
    pub new: &'a Value,
}

/// One difference between two documents.
#[derive(Debug, PartialEq, Eq)]
pub struct Change {
    place: String,
    text: String,
    /// The rule that the change breaks; `None` for an additive change.
    pub rule: Option<&'static Rule>,
}

impl Change {
    pub fn breaking(rule: &'static Rule, place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into(), rule: Some(rule) }
    }

    pub fn additive(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into(), rule: None }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, text, rule } = self;
        match rule {
            Some(rule) => write!(f, "breaking: {place}: {text} [{}]", rule.id),
            None => write!(f, "additive: {place}: {text}"),
        }
    }
}

/// Compares by name: a name that is gone breaks the rule, a new one is additive, `both` compares the others.
pub fn by_name(
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    (noun, removed): (&str, &'static Rule),
    place: impl Fn(&str) -> String,
    mut both: impl FnMut(&str, &Value, &Value) -> Vec<Change>,
) -> Vec<Change> {
    let names: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let compare = |name: &String| match (old.get(name), new.get(name)) {
        (Some(before), Some(after)) => both(name, before, after),
        (Some(_), None) => vec![Change::breaking(removed, place(name), format!("{noun} removed"))],
        _ => vec![Change::additive(place(name), format!("new {noun}"))],
    };
    names.into_iter().flat_map(compare).collect()
}
