//! The document that `GET /api/asyncapi.json` serves.

use serde_json::{Map, Value, json};

use crate::{
    domain::event_name::EventName,
    transport::{
        http::schema::{about::CONTRACT, crm, operator, shape::ObjectShape},
        socket::schema::{
            incoming::{ClientEvent, EPOCH, TOKEN},
            outgoing::{ServerEvent, describe, refused_ack},
        },
    },
};

const ABOUT: &str = "Events over Socket.IO (protocol 5), in namespace `/`. Each message is one event with one JSON \
    object; an acknowledgement is the reply. Expect events, members and values of enums that you do not know.";

/// Name of the one channel.
const CHANNEL: &str = "main";

/// Key of a message: colons are not allowed there.
fn key(event: &str) -> String {
    event.replace(':', ".")
}

fn reference(path: &str) -> Value {
    json!({ "$ref": path })
}

fn of_channel(key: &str) -> Value {
    reference(&format!("#/channels/{CHANNEL}/messages/{key}"))
}

/// Builds the text of the document, as it is served and committed.
pub(crate) fn text() -> String {
    let (mut messages, mut operations) = (Map::new(), Map::new());
    let channel = reference(&format!("#/channels/{CHANNEL}"));
    let refused = "refused";
    messages.insert(refused.into(), json!({"title": "Refusal of an event", "payload": refused_ack()}));

    for event in ClientEvent::ALL {
        let (name, key) = (event.as_str(), key(event.as_str()));
        let ack = format!("{key}.ack");
        let about = event.about();
        messages.insert(key.clone(), json!({"name": name, "summary": about, "payload": event.payload()}));
        messages.insert(ack.clone(), json!({"title": format!("Acknowledgement of {name}"), "payload": event.ack()}));
        let reply = json!({"channel": channel, "messages": [of_channel(&ack), of_channel(refused)]});
        let operation = json!({
            "action": "receive", "channel": channel, "summary": about, "messages": [of_channel(&key)], "reply": reply,
        });
        operations.insert(format!("receive.{key}"), operation);
    }
    for event in EventName::ALL {
        let Some(ServerEvent { about, audience, is_logged, payload }) = describe(*event) else { continue };
        let (name, key) = (event.as_str(), key(event.as_str()));
        messages.insert(key.clone(), json!({"name": name, "summary": about, "payload": payload.schema()}));
        let operation = json!({
            "action": "send", "channel": channel, "summary": about, "messages": [of_channel(&key)],
            "x-leadwire-audience": audience, "x-leadwire-logged": is_logged,
        });
        operations.insert(format!("send.{key}"), operation);
    }

    let shared = crm::components().into_iter().chain(operator::components());
    let schemas: Map<String, Value> =
        shared.map(|(name, schema)| (name.to_owned(), json!(schema))).filter(|(name, _)| is_used(name)).collect();
    let keys = messages.keys().map(|key| (key.clone(), reference(&format!("#/components/messages/{key}"))));
    let of_channel: Map<String, Value> = keys.collect();
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Leadwire",
            "version": format!("{CONTRACT}.0"),
            "description": ABOUT,
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/json",
        "servers": {
            "leadwire": {"host": "localhost:3001", "pathname": "/socket.io", "protocol": "socket.io"},
        },
        "channels": {
            CHANNEL: {
                "address": "/",
                "description": "Namespace of every event. The `auth` of the handshake is `x-leadwire-handshake`.",
                "messages": of_channel,
                "x-leadwire-handshake": handshake().schema(),
            },
        },
        "operations": operations,
        "components": {"messages": messages, "schemas": schemas},
    });
    let mut text = serde_json::to_string_pretty(&document).expect("the document is plain JSON");
    text.push('\n');
    text
}

/// `auth` of the handshake.
fn handshake() -> ObjectShape {
    use crate::transport::http::schema::{member::parameter, shape};
    let position = shape::whole().description(Some("Last `seq` that the client has seen; what came later is sent."));
    ObjectShape::new("Credentials, and where to resume.")
        .maybe(TOKEN.name, shape::text().description(Some("Access token; the header `Authorization` will do, too.")))
        .maybe("since", position)
        .maybe(EPOCH.name, parameter(&EPOCH))
}

/// True for the shared schemas that events refer to.
fn is_used(name: &str) -> bool {
    ["LeadStatus", "Lead", "LeadPatch", "ActivityType", "Activity", "Role", "Person", "Actor", "FieldError"]
        .contains(&name)
}
