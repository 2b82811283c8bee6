//! Bounds of a schema's values: the keywords that limit lengths, numbers, patterns and formats.

use serde_json::Value;

use super::shape::{Alternative, of_type};

/// Types, and the keywords that limit their values.
const KEYWORDS: [(&[&str], &[&str]); 5] = [
    (&["string"], &["minLength", "maxLength", "pattern"]),
    (&["string", "integer", "number"], &["format"]),
    (&["integer", "number"], &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"]),
    (&["array"], &["minItems", "maxItems", "uniqueItems"]),
    (&["object"], &["minProperties", "maxProperties"]),
];

/// Keywords by which `to` accepts fewer values of a type than `from`, with a description.
pub fn narrowed(from: &[Alternative], to: &[Alternative]) -> Vec<(&'static str, String)> {
    let mut narrowed = Vec::new();
    for (kinds, keywords) in KEYWORDS {
        // An enum has values instead of bounds.
        let bounded = |schemas| -> Vec<&Alternative> {
            of_type(schemas, kinds).into_iter().filter(|schema| !schema.contains_key("enum")).collect()
        };
        let (from, to) = (bounded(from), bounded(to));
        if !from.is_empty() && !to.is_empty() {
            narrowed.extend(keywords.iter().filter_map(|keyword| Some((*keyword, narrowed_by(keyword, &from, &to)?))));
        }
    }
    narrowed
}

fn narrowed_by(keyword: &str, from: &[&Alternative], to: &[&Alternative]) -> Option<String> {
    let to = limits(keyword, to)?;
    let text = |limits: &[&Value]| limits.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ");
    let Some(from) = limits(keyword, from) else { return Some(format!("{keyword} is now {}", text(&to))) };

    // The loosest alternative counts.
    let lowest = |limits: &[&Value]| limits.iter().filter_map(|limit| limit.as_f64()).reduce(f64::min);
    let highest = |limits: &[&Value]| limits.iter().filter_map(|limit| limit.as_f64()).reduce(f64::max);
    let is_narrower = match keyword {
        "pattern" | "format" | "multipleOf" | "uniqueItems" => from.iter().any(|limit| !to.contains(limit)),
        _ if keyword.starts_with("min") || keyword == "exclusiveMinimum" => lowest(&to) > lowest(&from),
        _ => highest(&to) < highest(&from),
    };
    is_narrower.then(|| format!("{keyword} was {} and is now {}", text(&from), text(&to)))
}

/// Limits that the keyword sets; `None` if an alternative has no limit.
fn limits<'a>(keyword: &str, schemas: &[&'a Alternative]) -> Option<Vec<&'a Value>> {
    let is_length = matches!(keyword, "minLength" | "minItems" | "minProperties");
    let limit = |schema: &&'a Alternative| {
        schema.get(keyword).filter(|limit| **limit != false && !(is_length && limit.as_f64() == Some(0.0)))
    };
    schemas.iter().map(limit).collect()
}
