//! Table of the breaking changes, each with the examples that are its tests, and of edits that break nothing.

use std::fmt::{self, Write};

/// One kind of breaking change.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    pub id: &'static str,
    sentence: &'static str,
    /// Edits that break this rule and no other.
    examples: &'static [Edit],
}

/// Edit of one part of a document, before and after as JSON.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    part: Part,
    before: &'static str,
    after: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// `paths` of the OpenAPI document.
    Paths,
    /// One operation of the OpenAPI document.
    Operation,
    /// Schema of a request body.
    Request,
    /// Schema of the body of a 200 response.
    Answer,
    /// Schema of the body of a 409 response.
    Error,
    /// Messages by name that clients emit.
    Emitted,
    /// Messages by name that the server sends.
    Event,
    /// Messages by name of an ack.
    Ack,
}

const fn edit(part: Part, before: &'static str, after: &'static str) -> Edit {
    Edit { part, before, after }
}

macro_rules! rules {
    ($($name:ident $id:literal $sentence:literal [$($part:ident: $before:literal => $after:literal,)*])*) => {
        $(pub static $name: Rule =
            Rule { id: $id, sentence: $sentence, examples: &[$(edit(Part::$part, $before, $after)),*] };)*

        static RULES: &[&Rule] = &[$(&$name),*];
    };
}

rules! {
    OPERATION_REMOVED "operation-removed" "An operation is removed, or has another action or channel." [
        Paths: r#"{"/api/me": {"get": {}, "delete": {}}}"# => r#"{"/api/me": {"get": {}}}"#,
    ]
    PARAMETER_REMOVED "parameter-removed" "A query, path, cookie or header parameter is removed." [
        Operation: r#"{"parameters": [{"in": "query", "name": "status"}]}"# => r#"{"parameters": []}"#,
    ]
    PARAMETER_REQUIRED "parameter-required" "A parameter becomes required, or a new one is required." [
        Operation: r#"{"parameters": []}"# => r#"{"parameters": [{"in": "query", "name": "team", "required": true}]}"#,
        Operation: r#"{"parameters": [{"in": "header", "name": "If-Match"}]}"#
            => r#"{"parameters": [{"in": "header", "name": "if-match", "required": true}]}"#,
    ]
    SECURITY_ADDED "security-added" "A client needs a credential or a scope that it did not need." [
        Operation: r#"{"security": [{}]}"# => r#"{"security": [{"session": []}]}"#,
        Operation: r#"{"security": [{"token": []}]}"# => r#"{"security": [{"token": ["admin"]}]}"#,
    ]
    REQUEST_BODY_REQUIRED "request-body-required" "A request needs a body that was optional." [
        Operation: r#"{"requestBody": {"content": {}}}"# => r#"{"requestBody": {"content": {}, "required": true}}"#,
    ]
    REQUEST_MEDIA_TYPE_REMOVED "request-media-type-removed" "A media type of a request is removed." [
        Operation: r#"{"requestBody": {"content": {"text/csv": {}, "application/json": {}}}}"#
            => r#"{"requestBody": {"content": {"application/json": {}}}}"#,
    ]
    REQUEST_MEMBER_REMOVED "request-member-removed" "A member of what clients send is removed." [
        Request: r#"{"properties": {"note": {"type": "string"}}}"# => r#"{"properties": {}}"#,
        Emitted: r#"{"lead:open": {"payload": {"properties": {"id": {}}}}}"# => r#"{"lead:open": {"payload": {}}}"#,
    ]
    REQUEST_MEMBER_REQUIRED "request-member-required" "A member becomes required, or a new one is required." [
        Request: r#"{"properties": {"title": {}}}"# => r#"{"properties": {"title": {}}, "required": ["title"]}"#,
        Request: r#"{"type": "object"}"#
            => r#"{"allOf": [{"type": "object"}, {"properties": {"title": {}}, "required": ["title"]}]}"#,
    ]
    REQUEST_MEMBERS_CLOSED "request-members-closed" "Members that are not listed were allowed and are refused." [
        Request: r#"{"type": "object"}"# => r#"{"type": "object", "additionalProperties": false}"#,
    ]
    REQUEST_TYPE_NARROWED "request-type-narrowed" "A type that was accepted is refused." [
        Request: r#"{"type": ["string", "null"]}"# => r#"{"type": "string"}"#,
        Request: r#"{"anyOf": [{"type": "integer"}, {"type": "string"}]}"# => r#"{"type": "integer"}"#,
        Request: r#"{"items": {"type": "number"}}"# => r#"{"items": {"type": "integer"}}"#,
    ]
    REQUEST_ENUM_NARROWED "request-enum-narrowed" "A value is removed, or an enum is introduced or closed." [
        Request: r#"{"enum": ["NEW", "WON"]}"# => r#"{"enum": ["NEW"]}"#,
        Request: r#"{"type": "string"}"# => r#"{"type": "string", "enum": ["NEW"]}"#,
        Request: r#"{"anyOf": [{"type": "string", "enum": ["NEW"]}, {"type": "string"}]}"#
            => r#"{"type": "string", "enum": ["NEW"]}"#,
    ]
    REQUEST_BOUNDS_NARROWED "request-bounds-narrowed"
        "A bound is tighter or new, or a pattern or format is new or another." [
        Request: r#"{"type": "string", "minLength": 1}"# => r#"{"type": "string", "minLength": 2}"#,
        Request: r#"{"type": "string", "maxLength": 80}"# => r#"{"type": "string", "maxLength": 40}"#,
        Request: r#"{"type": "integer"}"# => r#"{"type": "integer", "minimum": 0}"#,
        Request: r#"{"type": "number", "maximum": 10}"# => r#"{"type": "number", "maximum": 9.5}"#,
        Request: r#"{"type": "string"}"# => r#"{"type": "string", "pattern": "^[a-z]*$"}"#,
        Request: r#"{"type": "string", "format": "date-time"}"# => r#"{"type": "string", "format": "date"}"#,
        Request: r#"{"type": "array"}"# => r#"{"type": "array", "minItems": 1}"#,
        Request: r#"{"type": "array", "maxItems": 9}"# => r#"{"type": "array", "maxItems": 8}"#,
    ]
    ANSWER_STATUS_REMOVED "answer-status-removed" "A documented status is removed." [
        Operation: r#"{"responses": {"200": {}, "404": {}}}"# => r#"{"responses": {"200": {}}}"#,
    ]
    ANSWER_SUCCESS_ADDED "answer-success-added" "An operation can succeed with a new 2xx status." [
        Operation: r#"{"responses": {"200": {}}}"# => r#"{"responses": {"200": {}, "202": {}}}"#,
    ]
    ANSWER_ERROR_CODE_REMOVED "answer-error-code-removed" "A documented error code is removed." [
        Error: r#"{"properties": {"code": {"anyOf": [{"enum": ["stale", "taken"]}, {"type": "string"}]}}}"#
            => r#"{"properties": {"code": {"anyOf": [{"enum": ["stale"]}, {"type": "string"}]}}}"#,
        Ack: r#"{"ack": {"payload": {"properties": {"code": {"enum": ["stale", "taken"]}}}}}"#
            => r#"{"ack": {"payload": {"properties": {"code": {"enum": ["stale"]}}}}}"#,
    ]
    ANSWER_HEADER_REMOVED "answer-header-removed" "A response header is removed." [
        Operation: r#"{"responses": {"200": {"headers": {"ETag": {}}}}}"# => r#"{"responses": {"200": {}}}"#,
    ]
    ANSWER_MEDIA_TYPE_REMOVED "answer-media-type-removed" "A media type of a response is removed." [
        Operation: r#"{"responses": {"200": {"content": {"text/csv": {}}}}}"# => r#"{"responses": {"200": {}}}"#,
    ]
    ANSWER_MEMBER_REMOVED "answer-member-removed" "A member of what the server sends is removed." [
        Answer: r#"{"items": {"properties": {"id": {}, "note": {}}}}"# => r#"{"items": {"properties": {"id": {}}}}"#,
        Event: r#"{"lead:updated": {"payload": {"properties": {"id": {}}}}}"# => r#"{"lead:updated": {}}"#,
    ]
    ANSWER_MEMBER_OPTIONAL "answer-member-optional" "A member or header that was always sent can be absent." [
        Answer: r#"{"properties": {"id": {}}, "required": ["id"]}"# => r#"{"properties": {"id": {}}}"#,
        Operation: r#"{"responses": {"200": {"headers": {"ETag": {"required": true}}}}}"#
            => r#"{"responses": {"200": {"headers": {"ETag": {}}}}}"#,
    ]
    ANSWER_TYPE_CHANGED "answer-type-changed" "A value can have a type or format that it never had." [
        Answer: r#"{"type": "string"}"# => r#"{"type": ["string", "null"]}"#,
        Answer: r#"{"type": "integer"}"# => r#"{"type": "string"}"#,
        Answer: r#"{"type": "string", "format": "date-time"}"# => r#"{"type": "string", "format": "date"}"#,
    ]
    ANSWER_ENUM_VALUE_REMOVED "answer-enum-value-removed" "A documented value is removed." [
        Answer: r#"{"enum": ["NEW", "WON"]}"# => r#"{"enum": ["NEW"]}"#,
        Answer: r#"{"oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}}]}"#
            => r#"{"properties": {"kind": {"const": "a"}}}"#,
    ]
    ANSWER_ENUM_VALUE_ADDED "answer-enum-value-added" "A closed enum has a new value." [
        Answer: r#"{"enum": ["NEW"]}"# => r#"{"enum": ["NEW", "WON"]}"#,
        Answer: r#"{"properties": {"kind": {"const": "a"}}}"#
            => r#"{"oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}}]}"#,
    ]
    ANSWER_ENUM_OPENED "answer-enum-opened" "A closed enum becomes open." [
        Answer: r#"{"properties": {"ok": {"const": true}}}"# => r#"{"properties": {"ok": {"type": "boolean"}}}"#,
        Answer: r#"{"type": "string", "enum": ["NEW"]}"#
            => r#"{"anyOf": [{"type": "string", "enum": ["NEW"]}, {"type": "string"}]}"#,
        Answer: r#"{"type": "string", "enum": ["NEW"]}"# => r#"{"type": "string"}"#,
    ]
    EVENT_REMOVED "event-removed" "A message is removed: one that clients emit, an event or an ack." [
        Event: r#"{"lead:updated": {}, "lead:deleted": {}}"# => r#"{"lead:updated": {}}"#,
        Emitted: r#"{"lead:open": {}, "lead:close": {}}"# => r#"{"lead:open": {}}"#,
        Ack: r#"{"ok": {}, "failed": {}}"# => r#"{"ok": {}}"#,
    ]
}

macro_rules! edits {
    ($($part:ident: $before:literal => $after:literal,)*) => { &[$(edit(Part::$part, $before, $after)),*] };
}

/// Edits that break no rule.
static ALLOWED: &[Edit] = edits![
    Paths: r#"{}"# => r#"{"/api/me": {"get": {"parameters": [{"in": "query", "name": "a", "required": true}]}}}"#,
    Operation: r#"{}"# => r#"{"parameters": [{"in": "query", "name": "team"}]}"#,
    Operation: r#"{"security": [{"session": []}]}"# => r#"{"security": [{"session": []}, {"token": []}]}"#,
    Operation: r#"{"responses": {"200": {}}}"# => r#"{"responses": {"200": {"headers": {"ETag": {}}}, "409": {}}}"#,
    Operation: r#"{"responses": {"200": {}}}"# => r#"{"responses": {"200": {"content": {"text/csv": {}}}}}"#,
    Request: r#"{"properties": {}, "required": []}"# => r#"{"properties": {"note": {"type": "string"}}}"#,
    Request: r#"{"properties": {"id": {}}, "required": ["id"]}"# => r#"{"properties": {"id": {}}}"#,
    Request: r#"{"type": "string"}"# => r#"{"type": ["string", "null"]}"#,
    Request: r#"{"type": "integer"}"# => r#"{"type": "number"}"#,
    Request: r#"{"enum": ["NEW"]}"# => r#"{"enum": ["NEW", "WON"]}"#,
    Request: r#"{"type": "string", "enum": ["NEW"]}"# => r#"{"type": "string"}"#,
    Request: r#"{"type": "string", "minLength": 2, "format": "uuid"}"# => r#"{"type": "string", "minLength": 0}"#,
    Request: r#"{"type": "string", "pattern": "a"}"#
        => r#"{"anyOf": [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}]}"#,
    Request: r#"{"additionalProperties": false}"# => r#"{"additionalProperties": true}"#,
    Answer: r#"{"properties": {"id": {}}}"# => r#"{"properties": {"id": {}, "note": {}}, "required": ["id"]}"#,
    Answer: r#"{"type": ["string", "null"], "maxLength": 9}"# => r#"{"type": "string"}"#,
    Answer: r#"{"anyOf": [{"type": "string", "enum": ["NEW"]}, {"type": "string"}]}"#
        => r#"{"anyOf": [{"type": "string", "enum": ["NEW", "WON"]}, {"type": "string"}]}"#,
    Answer: r#"{"anyOf": [{"type": "string", "enum": ["NEW"]}, {"type": "string"}]}"#
        => r#"{"type": "string", "enum": ["NEW"]}"#,
    Answer: r#"{"anyOf": [{"properties": {"a": {"type": "null"}}}, {"properties": {"b": {"type": "null"}}}]}"#
        => r#"{"oneOf": [{"properties": {"b": {"type": "null"}}}, {"properties": {"a": {"type": "null"}}}]}"#,
    Answer: r#"{"oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"type": "string"}}}]}"#
        => r#"{"oneOf": [{"properties": {"kind": {"const": "a"}}}, {"properties": {"kind": {"const": "b"}}},
            {"properties": {"kind": {"type": "string"}}}]}"#,
    Error: r#"{"properties": {"code": {"enum": ["stale"]}}}"# => r#"{"properties": {"code": {"enum": ["stale", "b"]}}}"#,
    Emitted: r#"{"lead:open": {}}"# => r#"{"lead:open": {}, "lead:close": {"payload": {"required": ["id"]}}}"#,
    Event: r#"{"error": {"payload": {"properties": {"code": {"enum": ["stale"]}}}}}"#
        => r#"{"error": {"payload": {"properties": {"code": {"enum": ["stale", "taken"]}}}}, "lead:updated": {}}"#,
];

/// Text of `cargo xtask contract rules`.
pub fn listing() -> String {
    let mut text = String::from("Breaking changes:\n");
    for Rule { id, sentence, examples } in RULES {
        let _ = write!(text, "\n{id}\n  {sentence}\n");
        examples.iter().for_each(|example| text.push_str(&example.to_string()));
    }
    text.push_str("\nThese edits, and those like them, break nothing:\n\n");
    ALLOWED.iter().for_each(|edit| text.push_str(&edit.to_string()));
    text
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { part, before, after } = self;
        let part = format!("{part:?}").to_lowercase();
        writeln!(f, "    {part:<10}{before}\n           -> {after}")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::contract::compare;

    fn document(part: Part, text: &str) -> Value {
        let value: Value = serde_json::from_str(text).expect("an example is JSON");
        let openapi = |paths| json!({"openapi": "3.1.0", "paths": paths});
        let operation = |operation| openapi(json!({"/api/leads/{id}": {"patch": operation}}));
        let content = |schema| json!({"application/json": {"schema": schema}});
        let asyncapi = |action: &str, messages, replies| {
            json!({
                "asyncapi": "3.0.0",
                "channels": {"socket": {"messages": messages}, "ack": {"messages": replies}},
                "operations": {"op": {
                    "action": action,
                    "channel": {"$ref": "#/channels/socket"},
                    "reply": {"channel": {"$ref": "#/channels/ack"}},
                }},
            })
        };
        match part {
            Part::Paths => openapi(value),
            Part::Operation => operation(value),
            Part::Request => operation(json!({"requestBody": {"content": content(value)}})),
            Part::Answer => operation(json!({"responses": {"200": {"content": content(value)}}})),
            Part::Error => operation(json!({"responses": {"409": {"content": content(value)}}})),
            Part::Emitted => asyncapi("receive", value, json!({})),
            Part::Event => asyncapi("send", value, json!({})),
            Part::Ack => asyncapi("receive", json!({}), value),
        }
    }

    /// Ids of the rules that an edit breaks.
    fn broken(edit: &Edit) -> Vec<&'static str> {
        let changes = compare(&document(edit.part, edit.before), &document(edit.part, edit.after));
        changes.iter().filter_map(|change| Some(change.rule?.id)).collect()
    }

    #[test]
    fn every_example_breaks_its_rule_and_no_other() {
        for rule in RULES {
            assert!(!rule.examples.is_empty(), "{} has no example", rule.id);
            for example in rule.examples {
                assert_eq!(broken(example), [rule.id], "{example}");
            }
        }
    }

    #[test]
    fn allowed_edits_break_nothing() {
        for edit in ALLOWED {
            assert_eq!(broken(edit), [""; 0], "{edit}");
        }
    }

    #[test]
    fn a_document_breaks_nothing_against_itself() {
        for edit in RULES.iter().flat_map(|rule| rule.examples).chain(ALLOWED) {
            for text in [edit.before, edit.after] {
                let document = document(edit.part, text);
                assert_eq!(compare(&document, &document), [], "{text}");
            }
        }
    }
}
