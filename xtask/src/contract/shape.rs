//! Alternatives of a JSON schema: the schema without `$ref`, `allOf`, `anyOf` and `oneOf`.

use std::{collections::BTreeSet, sync::LazyLock};

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

/// Schema of plain keywords; `const` has become an `enum`.
pub type Alternative = Map<String, Value>;

const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// Follows `$ref` to its target.
pub fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    // A limit, because references can form a cycle.
    for _ in 0..32 {
        let Some(reference) = value.get("$ref").and_then(Value::as_str) else { break };
        value = target(document, reference).unwrap_or(&Value::Null);
    }
    value
}

fn target<'a>(document: &'a Value, reference: &str) -> Option<&'a Value> {
    document.pointer(reference.strip_prefix('#')?)
}

/// Fails on the first `$ref` that leads nowhere, or out of the document.
pub fn check_references(document: &Value, value: &Value) -> Result<()> {
    match value {
        Value::Object(members) => {
            if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
                target(document, reference).with_context(|| format!("$ref {reference:?} leads nowhere"))?;
            }
            members.values().try_for_each(|member| check_references(document, member))
        }
        Value::Array(items) => items.iter().try_for_each(|item| check_references(document, item)),
        _ => Ok(()),
    }
}

/// Alternatives of a schema: a value is valid if one of them accepts it.
pub fn alternatives(document: &Value, schema: &Value) -> Vec<Alternative> {
    expand(document, schema, &mut Vec::new())
}

fn expand<'a>(document: &'a Value, schema: &'a Value, references: &mut Vec<&'a str>) -> Vec<Alternative> {
    let Value::Object(schema) = schema else {
        return if schema == &Value::Bool(false) { Vec::new() } else { vec![Alternative::new()] };
    };

    let mut own = schema.clone();
    own.retain(|keyword, _| !matches!(keyword.as_str(), "$ref" | "allOf" | "anyOf" | "oneOf"));
    if let Some(value) = own.remove("const") {
        own.insert("enum".into(), json!([value]));
    }
    let mut all = vec![own];

    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        if references.contains(&reference) {
            // A union that contains itself accepts nothing more by that.
            return Vec::new();
        }
        references.push(reference);
        if let Some(target) = target(document, reference) {
            all = product(&all, &expand(document, target, references));
        }
        references.pop();
    }
    for (keyword, parts) in schema {
        match keyword.as_str() {
            "allOf" => {
                for part in list(parts) {
                    all = product(&all, &expand(document, part, references));
                }
            }
            "anyOf" | "oneOf" => {
                let union: Vec<_> = list(parts).iter().flat_map(|part| expand(document, part, references)).collect();
                all = product(&all, &union);
            }
            _ => {}
        }
    }
    all
}

fn product(left: &[Alternative], right: &[Alternative]) -> Vec<Alternative> {
    left.iter().flat_map(|left| right.iter().filter_map(move |right| merge(left, right))).collect()
}

/// Schema that accepts what both accept; `None` if they have no type in common.
fn merge(left: &Alternative, right: &Alternative) -> Option<Alternative> {
    let mut merged = left.clone();
    for (keyword, value) in right {
        let Some(other) = merged.get_mut(keyword) else {
            merged.insert(keyword.clone(), value.clone());
            continue;
        };
        match (keyword.as_str(), &mut *other, value) {
            ("properties", Value::Object(members), Value::Object(more)) => {
                for (name, schema) in more {
                    let both = members.get(name).map_or_else(|| schema.clone(), |member| both(member, schema));
                    members.insert(name.clone(), both);
                }
            }
            ("required", Value::Array(names), Value::Array(more)) => names.extend(more.iter().cloned()),
            ("enum", Value::Array(values), Value::Array(more)) => values.retain(|value| more.contains(value)),
            ("items" | "additionalProperties", ..) => *other = both(other, value),
            _ => *other = value.clone(),
        }
    }

    let shared: Vec<_> = types(left).intersection(&types(right)).copied().collect();
    if shared.is_empty() {
        return None;
    }
    if left.contains_key("type") || right.contains_key("type") {
        merged.insert("type".into(), json!(shared));
    }
    Some(merged)
}

/// `allOf` of two schemas; flat and without duplicates, so that a recursive schema has finitely many.
fn both(left: &Value, right: &Value) -> Value {
    let mut parts: Vec<&Value> = Vec::new();
    for schema in [left, right] {
        let nested = schema.as_object().filter(|schema| schema.len() == 1).and_then(|schema| schema.get("allOf"));
        for part in nested.map_or(std::slice::from_ref(schema), |nested| list(nested)) {
            if !parts.contains(&part) {
                parts.push(part);
            }
        }
    }
    if let [only] = parts[..] { only.clone() } else { json!({ "allOf": parts }) }
}

/// Types that a schema accepts; `number` includes `integer`.
pub fn types(schema: &Alternative) -> BTreeSet<&'static str> {
    let declared = match schema.get("type") {
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(name)) => vec![name.as_str()],
        _ => TYPES.to_vec(),
    };
    let listed = schema.get("enum").map(|values| list(values).iter().map(type_of).collect::<Vec<_>>());
    let accepts = |name: &str| declared.contains(&name) || (name == "integer" && declared.contains(&"number"));
    let is_listed = |name| listed.as_ref().is_none_or(|listed| listed.contains(&name));
    TYPES.into_iter().filter(|name| accepts(name) && is_listed(name)).collect()
}

pub fn accepts(schema: &Alternative, kind: &str) -> bool {
    types(schema).contains(kind)
}

/// Alternatives that accept one of the types.
pub fn of_type<'a>(schemas: &'a [Alternative], kinds: &[&str]) -> Vec<&'a Alternative> {
    schemas.iter().filter(|schema| kinds.iter().any(|kind| accepts(schema, kind))).collect()
}

pub fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Items of an array; none of another value.
pub fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Members of an object; none of another value.
pub fn members(value: &Value) -> &Map<String, Value> {
    static NONE: LazyLock<Map<String, Value>> = LazyLock::new(Map::new);
    value.as_object().unwrap_or(&NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_merges_its_parts() {
        let base = json!({"type": ["object", "null"], "properties": {"a": {"type": "string"}}, "required": ["a"]});
        let document = json!({ "Base": base });
        let schema = json!({"allOf": [{"$ref": "#/Base"}, {"properties": {"a": {"maxLength": 3}}}], "type": "object"});
        let both = json!({"allOf": [{"type": "string"}, {"maxLength": 3}]});
        let merged = json!({"type": ["object"], "properties": {"a": both}, "required": ["a"]});
        assert_eq!(Value::from(alternatives(&document, &schema)), json!([merged]));
    }

    #[test]
    fn a_union_that_contains_itself_ends() {
        let document = json!({"A": {"anyOf": [{"$ref": "#/A"}, {"type": "null"}]}});
        let found = alternatives(&document, &json!({"$ref": "#/A"}));
        assert_eq!(found.iter().flat_map(types).collect::<Vec<_>>(), ["null"]);
    }
}
