//! Comparison of two AsyncAPI 3.0 documents, which describe the socket from the server's view: it receives what clients
//! emit, and sends events and acks (`reply`).

use serde_json::{Map, Value};

use super::{
    change::{Change, Documents, by_name},
    openapi::security,
    rules,
    schema::{Direction, SchemaComparison},
    shape::{list, members, resolve},
};

pub fn compare(documents: Documents<'_>) -> Vec<Change> {
    let Documents { old, new } = documents;
    let mut changes = Vec::new();
    for (name, before) in members(&old["servers"]) {
        let after = resolve(new, &new["servers"][name]);
        changes.extend(security(&resolve(old, before)["security"], &after["security"], &format!("server `{name}`")));
    }

    let removed = ("operation", &rules::OPERATION_REMOVED);
    let place = |name: &str| format!("operation `{name}`");
    let operations = (members(&old["operations"]), members(&new["operations"]));
    changes.extend(by_name(operations.0, operations.1, removed, place, |name, before, after| {
        operation(documents, &place(name), resolve(old, before), resolve(new, after))
    }));
    changes
}

fn operation(documents: Documents<'_>, place: &str, old: &Value, new: &Value) -> Vec<Change> {
    let address = |document, operation: &Value| resolve(document, &operation["channel"])["address"].clone();
    if old["action"] != new["action"] || address(documents.old, old) != address(documents.new, new) {
        return vec![Change::breaking(&rules::OPERATION_REMOVED, place, "action or channel changed")];
    }

    let (direction, reply) = if old["action"] == "receive" {
        (Direction::Request, Direction::ErrorAnswer)
    } else {
        (Direction::Answer, Direction::Request)
    };
    let mut changes = security(&old["security"], &new["security"], place);
    changes.extend(messages(documents, direction, &format!("{place}, event"), old, new));

    let replies = (resolve(documents.old, &old["reply"]), resolve(documents.new, &new["reply"]));
    changes.extend(messages(documents, reply, &format!("{place}, reply"), replies.0, replies.1));
    changes
}

/// Compares the messages of two operations or replies.
fn messages(documents: Documents<'_>, direction: Direction, place: &str, old: &Value, new: &Value) -> Vec<Change> {
    let old = messages_of(documents.old, old);
    let new = messages_of(documents.new, new);
    let place = |name: &str| format!("{place} `{name}`");
    by_name(&old, &new, ("message", &rules::EVENT_REMOVED), place, |name, old, new| {
        let is_error = direction == Direction::Answer && name == "error";
        let direction = if is_error { Direction::ErrorAnswer } else { direction };
        SchemaComparison { documents, direction, place: place(name) }.schemas(&payload(old), &payload(new))
    })
}

/// Messages by name: those that the operation or reply lists, otherwise all of its channel.
fn messages_of(document: &Value, holder: &Value) -> Map<String, Value> {
    let key = |message: &Value| {
        let key = message["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()).unwrap_or_default();
        key.replace("~1", "/").replace("~0", "~")
    };
    let of_channel = members(&resolve(document, &holder["channel"])["messages"]);
    let messages: Map<_, _> = match holder.get("messages") {
        Some(listed) => list(listed).iter().map(|message| (key(message), message.clone())).collect(),
        None => of_channel.clone(),
    };

    let mut by_name = Map::new();
    for (key, message) in messages {
        let message = resolve(document, &message).clone();
        let name = message["name"].as_str().filter(|name| !by_name.contains_key(*name)).map(str::to_owned);
        by_name.insert(name.unwrap_or(key), message);
    }
    by_name
}

fn payload(message: &Value) -> Value {
    let payload = message.get("payload").unwrap_or(&Value::Bool(true));
    // A schema whose format is named is one level deeper.
    payload.get("schemaFormat").map_or(payload, |_| &payload["schema"]).clone()
}
