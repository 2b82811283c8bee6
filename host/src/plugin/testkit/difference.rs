//! Comparison of an answer with what a test case expects of it.
//!
//! Values are compared member by member, so that each [`Difference`] names the exact place.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CaseHook {
    Init,
    Authorize,
    Before,
    Enrich,
    Filter,
    After,
}

impl CaseHook {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Authorize => "authorize",
            Self::Before => "before",
            Self::Enrich => "enrich",
            Self::Filter => "filter",
            Self::After => "after",
        }
    }

    /// Keys of an answer of the hook.
    pub(crate) fn keys(self) -> &'static [&'static str] {
        match self {
            Self::Init => &["fails", "hides"],
            Self::Authorize => &["fails", "decision", "reason"],
            Self::Before => &["fails", "ruling", "edits", "input", "values", "gone", "code", "message", "field"],
            Self::Enrich => &["fails", "edits", "payload", "values", "gone"],
            Self::Filter => &["fails", "audience", "edits", "payload", "values", "gone"],
            Self::After => &["fails", "effects", "state"],
        }
    }
}

/// Result of one case.
#[derive(Clone, Debug, Serialize)]
pub struct CaseResult {
    pub file: String,
    pub name: String,
    pub ok: bool,
    pub differences: Vec<Difference>,
}

/// Place where the answer is not the expected one; a side that is absent has no value there at all.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    pub at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
}

/// Returns the answer that it amounts to when a plugin is not asked.
pub(crate) fn unasked(hook: CaseHook) -> Value {
    match hook {
        CaseHook::Init => json!({}),
        CaseHook::Authorize => json!({"decision": "allow"}),
        CaseHook::Before => json!({"ruling": "accept"}),
        CaseHook::Enrich => json!({"edits": []}),
        CaseHook::Filter => json!({"audience": "everyone", "edits": []}),
        CaseHook::After => json!({"effects": [], "state": null}),
    }
}

pub(crate) fn compare(
    hook: CaseHook,
    expect: &Map<String, Value>,
    answer: &Value,
    at: &str,
) -> Result<Vec<Difference>, String> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    let answer = answer.as_object().unwrap_or(&NONE);
    let failed = answer.get("fails").and_then(Value::as_str);
    if let Some(key) = expect.keys().find(|key| !hook.keys().contains(&key.as_str())) {
        let keys = hook.keys().join(", ");
        return Err(format!("expect.{key}: {} answers with nothing of that name; it has {keys}", hook.as_str()));
    }
    let place = |rest: &str| if at.is_empty() { rest.to_owned() } else { format!("{at} {rest}") };
    let mut differences = Vec::new();
    match (expect.get("fails"), failed) {
        (None, None) => {}
        (Some(Value::String(part)), Some(why)) if why.contains(part.as_str()) => {}
        (expected, found) => {
            let found = found.map(Value::from);
            return Ok(vec![Difference { at: place("fails"), expected: expected.cloned(), found }]);
        }
    }
    let body = ["payload", "input"].into_iter().find_map(|name| answer.get(name));
    for (key, expected) in expect.iter().filter(|(key, _)| *key != "fails") {
        match key.as_str() {
            "values" => {
                let values = expected.as_object().ok_or("expect.values: expected an object of JSON Pointers")?;
                for (pointer, expected) in values {
                    let found = body.and_then(|body| body.pointer(pointer));
                    diff(&place(pointer), Some(expected), found, &mut differences);
                }
            }
            "gone" => {
                let pointers: Vec<String> = serde_json::from_value(expected.clone())
                    .map_err(|_| "expect.gone: expected a list of JSON Pointers")?;
                for pointer in pointers {
                    let found = body.and_then(|body| body.pointer(&pointer));
                    diff(&place(&pointer), None, found, &mut differences);
                }
            }
            key => diff(&place(key), Some(expected), answer.get(key), &mut differences),
        }
    }
    Ok(differences)
}

/// Collects every place where two values differ, as deep as both have members.
fn diff(at: &str, expected: Option<&Value>, found: Option<&Value>, differences: &mut Vec<Difference>) {
    match (expected, found) {
        (Some(Value::Object(expected)), Some(Value::Object(found))) => {
            let extra = found.keys().filter(|key| !expected.contains_key(*key));
            for key in expected.keys().chain(extra) {
                let token = key.replace('~', "~0").replace('/', "~1");
                diff(&format!("{at}/{token}"), expected.get(key), found.get(key), differences);
            }
        }
        (Some(Value::Array(expected)), Some(Value::Array(found))) => {
            for index in 0..expected.len().max(found.len()) {
                diff(&format!("{at}/{index}"), expected.get(index), found.get(index), differences);
            }
        }
        (expected, found) if expected == found => {}
        (expected, found) => {
            differences.push(Difference { at: at.into(), expected: expected.cloned(), found: found.cloned() });
        }
    }
}

/// Returns the first place where two answers differ.
pub(crate) fn first_difference(left: &Value, right: &Value) -> Option<String> {
    let mut differences = Vec::new();
    diff("", Some(left), Some(right), &mut differences);
    differences.into_iter().next().map(|difference| difference.at)
}
