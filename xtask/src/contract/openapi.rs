//! Comparison of two OpenAPI 3.1 documents: operations, parameters, bodies, responses and security.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::{
    change::{Change, Documents, by_name},
    rules,
    schema::{Direction, SchemaComparison},
    shape::{list, members, resolve},
};

const METHODS: [&str; 8] = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];

pub fn compare(documents: Documents<'_>) -> Vec<Change> {
    let removed = ("operation", &rules::OPERATION_REMOVED);
    let place = |name: &str| format!("operation `{name}`");
    by_name(&operations(documents.old), &operations(documents.new), removed, place, |name, old, new| {
        let operation = OperationComparison { documents, place: place(name) };
        let mut changes = security(&old["security"], &new["security"], &operation.place);
        changes.extend(operation.parameters(members(&old["parameters"]), members(&new["parameters"])));
        changes.extend(operation.request_body(&old["requestBody"], &new["requestBody"]));
        changes.extend(operation.responses(members(&old["responses"]), members(&new["responses"])));
        changes
    })
}

/// Operations by method and path, with what the path and the document add to them; parameters by place and name.
fn operations(document: &Value) -> Map<String, Value> {
    let mut operations = Map::new();
    for (path, item) in members(&document["paths"]) {
        let item = resolve(document, item);
        for method in METHODS.into_iter().filter(|method| item.get(method).is_some()) {
            let operation = &item[method];
            let parameters = list(&item["parameters"]).iter().chain(list(&operation["parameters"]));
            let parameters = parameters.map(|parameter| {
                let parameter = resolve(document, parameter);
                (parameter_name(parameter), parameter.clone())
            });
            let body = json!({
                "security": operation.get("security").unwrap_or(&document["security"]),
                "parameters": Value::from_iter(parameters),
                "requestBody": resolve(document, &operation["requestBody"]),
                "responses": operation["responses"],
            });
            operations.insert(format!("{} {path}", method.to_uppercase()), body);
        }
    }
    operations
}

fn parameter_name(parameter: &Value) -> String {
    let name = parameter["name"].as_str().unwrap_or_default();
    match parameter["in"].as_str().unwrap_or_default() {
        "header" => format!("header parameter `{}`", name.to_lowercase()),
        place => format!("{place} parameter `{name}`"),
    }
}

struct OperationComparison<'a> {
    documents: Documents<'a>,
    place: String,
}

impl OperationComparison<'_> {
    fn parameters(&self, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Change> {
        let removed = ("parameter", &rules::PARAMETER_REMOVED);
        let place = |name: &str| format!("{}, {name}", self.place);
        let mut changes =
            by_name(old, new, removed, place, |name, old, new| self.schemas(Direction::Request, place(name), old, new));
        for (name, _) in new.iter().filter(|(name, new)| is_required(new) && !old.get(*name).is_some_and(is_required)) {
            changes.push(Change::breaking(&rules::PARAMETER_REQUIRED, place(name), "parameter is now required"));
        }
        changes
    }

    fn request_body(&self, old: &Value, new: &Value) -> Vec<Change> {
        let place = format!("{}, request body", self.place);
        let mut changes = self.content(Direction::Request, &place, old, new);
        if is_required(new) && !is_required(old) {
            changes.push(Change::breaking(&rules::REQUEST_BODY_REQUIRED, place, "request body is now required"));
        }
        changes
    }

    fn responses(&self, old: &Map<String, Value>, new: &Map<String, Value>) -> Vec<Change> {
        let place = |status: &str| format!("{}, response {status}", self.place);
        let removed = ("status", &rules::ANSWER_STATUS_REMOVED);
        let mut changes = by_name(old, new, removed, place, |status, old, new| {
            let old = resolve(self.documents.old, old);
            let new = resolve(self.documents.new, new);
            let is_error = !status.starts_with(['1', '2', '3']);
            let direction = if is_error { Direction::ErrorAnswer } else { Direction::Answer };
            let mut changes = self.content(direction, &place(status), old, new);
            changes.extend(self.headers(&place(status), old, new));
            changes
        });
        for status in new.keys().filter(|status| status.starts_with('2') && !old.contains_key(*status)) {
            changes.push(Change::breaking(&rules::ANSWER_SUCCESS_ADDED, place(status), "new success status"));
        }
        changes
    }

    /// Compares the media types of a request or response.
    fn content(&self, direction: Direction, place: &str, old: &Value, new: &Value) -> Vec<Change> {
        let removed = match direction {
            Direction::Request => &rules::REQUEST_MEDIA_TYPE_REMOVED,
            Direction::Answer | Direction::ErrorAnswer => &rules::ANSWER_MEDIA_TYPE_REMOVED,
        };
        let place_of = |name: &str| format!("{place}, media type `{name}`");
        let contents = (members(&old["content"]), members(&new["content"]));
        by_name(contents.0, contents.1, ("media type", removed), place_of, |name, old, new| {
            let place = if name == "application/json" { place.to_owned() } else { place_of(name) };
            self.schemas(direction, place, old, new)
        })
    }

    fn headers(&self, place: &str, old: &Value, new: &Value) -> Vec<Change> {
        let by_lower_name = |response: &Value| -> Map<String, Value> {
            let headers = members(&response["headers"]).iter();
            headers.map(|(name, header)| (name.to_lowercase(), header.clone())).collect()
        };
        let place = |name: &str| format!("{place}, header `{name}`");
        let removed = ("header", &rules::ANSWER_HEADER_REMOVED);
        by_name(&by_lower_name(old), &by_lower_name(new), removed, place, |name, old, new| {
            let old = resolve(self.documents.old, old);
            let new = resolve(self.documents.new, new);
            let mut changes = self.schemas(Direction::Answer, place(name), old, new);
            if is_required(old) && !is_required(new) {
                changes.push(Change::breaking(&rules::ANSWER_MEMBER_OPTIONAL, place(name), "header can now be absent"));
            }
            changes
        })
    }

    /// Compares the schemas of two parameters, headers or media types.
    fn schemas(&self, direction: Direction, place: String, old: &Value, new: &Value) -> Vec<Change> {
        // A parameter or header has either a schema or one media type.
        let schema = |holder: &Value| {
            let content = members(&holder["content"]).values().next().unwrap_or(holder);
            content.get("schema").cloned().unwrap_or(Value::Bool(true))
        };
        SchemaComparison { documents: self.documents, direction, place }.schemas(&schema(old), &schema(new))
    }
}

fn is_required(holder: &Value) -> bool {
    holder["required"] == true
}

/// Compares two lists of security requirements, of which a client meets any one.
pub fn security(old: &Value, new: &Value, place: &str) -> Vec<Change> {
    let new = requirements(new);
    let is_enough = |before: &BTreeSet<String>| new.iter().any(|after| after.is_subset(before));
    if requirements(old).iter().all(is_enough) {
        return Vec::new();
    }
    vec![Change::breaking(&rules::SECURITY_ADDED, place, "security requirement added")]
}

/// Schemes and scopes of each alternative; one empty alternative if there is no requirement.
fn requirements(security: &Value) -> Vec<BTreeSet<String>> {
    let needs = |requirement: &Value| {
        let schemes = members(requirement).iter().flat_map(|(scheme, scopes)| {
            // AsyncAPI refers to a scheme, so that `scopes` is the reference.
            let scopes = list(scopes).iter().chain(scopes.as_str().map(|_| scopes));
            scopes.map(move |scope| format!("{scheme} {scope}")).chain([scheme.clone()])
        });
        schemes.collect()
    };
    match list(security) {
        [] => vec![BTreeSet::new()],
        alternatives => alternatives.iter().map(needs).collect(),
    }
}
