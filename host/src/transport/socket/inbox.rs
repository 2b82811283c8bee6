//! Inbox of a socket: the bounded queue of what it sent and was not answered yet, and the parsing of the events in it.
//! A socket also gets the subscriptions of a lost one by way of this queue.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde_json::{Map, Value, json};

use crate::{
    domain::{counter::Seq, room::Room},
    transport::{
        event_names::STAND_IN,
        socket::{error::SocketError, settings::SocketConfig},
    },
};

/// One event as it came in: a JSON array of its name and its arguments.
pub(crate) struct IncomingEvent {
    pub(crate) json: Box<str>,
    pub(crate) has_attachments: bool,
    pub(crate) ack: Option<i64>,
}

/// Queue of incoming events. A task answers them while there are any.
pub(crate) struct Inbox {
    state: Mutex<InboxState>,
    max_packets: usize,
    max_bytes: usize,
}

struct InboxState {
    queue: VecDeque<IncomingEvent>,
    bytes: usize,
    /// Set while a task answers the events, and before the first may be answered.
    is_busy: bool,
}

/// Longest part of an unknown event's name that is echoed.
pub(crate) const MAX_ECHO_CHARS: usize = 100;

impl Inbox {
    /// Creates an inbox that is busy until [`Inbox::next`] finds it empty.
    pub(crate) fn new(settings: &SocketConfig) -> Self {
        let state = InboxState { queue: VecDeque::new(), bytes: 0, is_busy: true };
        Self { state: Mutex::new(state), max_packets: settings.inbound_packets, max_bytes: settings.inbound_bytes }
    }

    /// Puts an event into the queue; returns true if a task has to be started to answer it.
    ///
    /// # Errors
    /// The event, if it does not fit.
    pub(crate) fn push(&self, packet: IncomingEvent) -> Result<bool, IncomingEvent> {
        let mut state = self.state.lock();
        // A packet that alone is over the limit still goes through an empty queue.
        let fits = state.bytes + packet.json.len() <= self.max_bytes && state.queue.len() < self.max_packets;
        if !fits && !state.queue.is_empty() {
            return Err(packet);
        }
        state.bytes += packet.json.len();
        state.queue.push_back(packet);
        Ok(!std::mem::replace(&mut state.is_busy, true))
    }

    /// Has the client follow these rooms of leads as if it had asked to, with what went by after `since`. Returns true
    /// if a task has to be started for that.
    pub(crate) fn follow(&self, rooms: &[Room], since: Seq) -> bool {
        let mut state = self.state.lock();
        for room in rooms {
            let Room::Lead(lead) = room else { continue };
            let json = json!(["lead:subscribe", {"leadId": lead, "since": since}]).to_string().into_boxed_str();
            state.bytes += json.len();
            state.queue.push_back(IncomingEvent { json, has_attachments: false, ack: None });
        }
        !state.queue.is_empty() && !std::mem::replace(&mut state.is_busy, true)
    }

    /// Takes the next event; if there is none, the task that asks has to end.
    pub(crate) fn next(&self) -> Option<IncomingEvent> {
        let mut state = self.state.lock();
        let packet = state.queue.pop_front();
        match &packet {
            Some(packet) => state.bytes -= packet.json.len(),
            None => {
                state.is_busy = false;
                // Most sockets hardly ever send anything.
                state.queue = VecDeque::new();
            }
        }
        packet
    }

    /// Returns true while events are being answered.
    pub(crate) fn is_busy(&self) -> bool {
        self.state.lock().is_busy
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
