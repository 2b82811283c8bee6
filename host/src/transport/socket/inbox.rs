//! Inbox of a socket: the receiving end of its inbound queue, and the parsing of the events in it. A socket also gets
//! the subscriptions of a lost one by way of this queue.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::{Map, Value, json};
use tokio::sync::mpsc;

use crate::{
    domain::{counter::Seq, room::Room},
    transport::{event_names::STAND_IN, socket::error::SocketError},
};

/// One event as it came in: a JSON array of its name and its arguments.
pub(crate) struct IncomingEvent {
    pub(crate) json: Box<str>,
    pub(crate) has_attachments: bool,
    pub(crate) ack: Option<i64>,
}

/// Receiving end of the inbound queue.
pub(crate) struct Inbox {
    pub(crate) queue: mpsc::Receiver<IncomingEvent>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
}

/// Longest part of an unknown event's name that is echoed.
pub(crate) const MAX_ECHO_CHARS: usize = 100;

/// Heir of a lost socket of the same login: puts that socket's subscriptions into a client's inbound queue.
pub(crate) struct SubscriptionHeir {
    pub(crate) queue: mpsc::Sender<IncomingEvent>,
    pub(crate) queued_bytes: Arc<AtomicUsize>,
}

impl SubscriptionHeir {
    /// Has the client follow these rooms of leads as if it had asked to, with what went by after `since`.
    pub(crate) async fn follow(&self, rooms: Vec<Room>, since: Seq) {
        for room in rooms {
            let Room::Lead(lead) = room else { continue };
            let json = json!(["lead:subscribe", {"leadId": lead, "since": since}]).to_string().into_boxed_str();
            self.queued_bytes.fetch_add(json.len(), Ordering::Relaxed);
            if self.queue.send(IncomingEvent { json, has_attachments: false, ack: None }).await.is_err() {
                return;
            }
        }
    }
}

impl IncomingEvent {
    /// Returns the event's name alone, for an answer that is not worth reading the rest.
    pub(crate) fn name(&self) -> Option<String> {
        let rest = self.json.trim_start().strip_prefix('[')?;
        match serde_json::Deserializer::from_str(rest).into_iter().next()?.ok()? {
            Value::String(name) if name == STAND_IN => None,
            name => name_of(&name),
        }
    }

    /// Returns the event's name and its first argument.
    pub(crate) fn parse(&self) -> Result<(String, Option<Value>), SocketError> {
        if self.has_attachments {
            return Err(SocketError::malformed("binary attachments are not accepted"));
        }
        let unreadable = |_| SocketError::malformed("the packet is not a JSON array of a name and its arguments");
        let mut parts = serde_json::from_str::<Vec<Value>>(&self.json).map_err(unreadable)?.into_iter();
        let name = match parts.next() {
            Some(Value::String(name)) if name == STAND_IN => parts.next(),
            name => name,
        };
        let Some(name) = name.as_ref().and_then(name_of) else {
            return Err(SocketError::malformed("the packet has no event name: expected a string or a number"));
        };
        Ok((name, parts.next()))
    }
}

/// Returns an event's name, which may be a number as well.
fn name_of(name: &Value) -> Option<String> {
    match name {
        Value::String(name) => Some(name.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Returns the members of the payload; none if it is not an object.
pub(crate) fn members(payload: Option<Value>) -> Map<String, Value> {
    match payload {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}
