//! Log lines as delivery handles them: an event, the slice of it that each role gets, and the encoded message that
//! sockets are sent.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
    time::Instant,
};

use bytes::Bytes;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    domain::{
        audience::Audience,
        counter::Generation,
        event::{Event, size_in_memory},
        id::LeadId,
        role::Role,
        user::User,
    },
    plugin::Unavailable,
};

/// Line of the log, with the slices that were shaped of it.
pub struct LogLine {
    pub event: Event,
    pub(crate) shapes: Mutex<Shapes>,
    pub(crate) weight: u64,
}

impl LogLine {
    pub fn new(event: Event) -> Self {
        // The event itself, and about as much again for each of two encoded forms.
        let weight = 1024 + 3 * (size_in_memory(&event.payload) + size_in_memory(&event.context));
        Self { event, shapes: Mutex::default(), weight }
    }

    /// Returns the lead of which the line has more content than its id.
    pub fn lead_in_content(&self) -> Option<LeadId> {
        self.event.content().and(self.event.lead_id)
    }
}

/// Message to send, encoded once for all its recipients: the WebSocket frame that it is on the wire. Clones share it.
#[derive(Clone, Debug)]
pub struct Message(Arc<EncodedMessage>);

#[derive(Debug)]
struct EncodedMessage {
    frame: Bytes,
    /// Places of the name and of the body in the frame.
    name: Range<usize>,
    body: Range<usize>,
    /// The body again, for those who do not send frames.
    raw: OnceLock<Arc<RawValue>>,
}

impl Message {
    /// Encodes an event of that name. Names of events need no escapes.
    pub fn new(name: &str, body: &impl Serialize) -> Self {
        let body = serde_json::to_string(body).expect("payloads are plain JSON with string keys");
        let frame = text_frame(&["42[\"", name, "\",", &body, "]"]);
        let body = frame.len() - 1 - body.len()..frame.len() - 1;
        let name = body.start - "\",".len() - name.len()..body.start - "\",".len();
        Self(Arc::new(EncodedMessage { frame, name, body, raw: OnceLock::new() }))
    }

    pub fn name(&self) -> &str {
        self.text(&self.0.name)
    }

    pub fn body(&self) -> &str {
        self.text(&self.0.body)
    }

    /// Returns the body as a value to be encoded as it is.
    pub fn raw_body(&self) -> &Arc<RawValue> {
        let encode = || RawValue::from_string(self.body().into()).expect("the body was encoded as JSON").into();
        self.0.raw.get_or_init(encode)
    }

    /// Returns the WebSocket frame.
    pub fn frame(&self) -> &Bytes {
        &self.0.frame
    }

    /// Returns the length of name and body.
    pub fn bytes(&self) -> usize {
        self.0.name.len() + self.0.body.len()
    }

    /// Returns the length of the Engine.IO packet: `42["name",{…}]`.
    pub fn packet_bytes(&self) -> usize {
        "42[\"\",]".len() + self.bytes()
    }

    fn text(&self, place: &Range<usize>) -> &str {
        std::str::from_utf8(&self.0.frame[place.clone()]).expect("it was encoded from text")
    }
}

/// Returns the WebSocket frame of a text, as a server sends it: whole and without a mask (RFC 6455, section 5.2).
pub fn text_frame(parts: &[&str]) -> Bytes {
    const TEXT: u8 = 0x81;
    let payload: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(payload + 10);
    frame.push(TEXT);
    match payload {
        0..126 => frame.push(payload as u8),
        126..0x1_0000 => {
            frame.push(126);
            frame.extend_from_slice(&(payload as u16).to_be_bytes());
        }
        _ => {
            frame.push(127);
            frame.extend_from_slice(&(payload as u64).to_be_bytes());
        }
    }
    parts.iter().for_each(|part| frame.extend_from_slice(part.as_bytes()));
    frame.into()
}

/// Line that is being handed out, with what each role gets of it.
pub struct DeliveredLine {
    pub line: Arc<LogLine>,
    pub slices: Vec<(Role, Arc<Slice>)>,
}

/// Part of a line that one role gets.
#[derive(Debug)]
pub enum Slice {
    Sent {
        message: Message,
        audience: Audience,
        revoked: Option<Revoked>,
    },
    /// Held back because a plugin gave no verdict: nobody of the role gets the line, nor any later one, until the
    /// plugin gives one or there is a hold.
    Held(Unavailable),
    /// Withheld by a hold: nobody of the role gets what is about the lead; each has to fetch again once the hold is
    /// released.
    Withheld,
}

/// Notice for users to whom a change made a lead invisible; they get it in place of the change.
#[derive(Debug)]
pub struct Revoked {
    pub(crate) message: Message,
    pub(crate) saw_it: Audience,
}

impl Slice {
    /// Returns what a user of the role gets; `None` if the line is not for them.
    pub fn message_for(&self, user: &User) -> Option<&Message> {
        let Self::Sent { message, audience, revoked } = self else { return None };
        if audience.includes(user.id) {
            return Some(message);
        }
        revoked.as_ref().filter(|revoked| revoked.saw_it.includes(user.id)).map(|revoked| &revoked.message)
    }

    /// Returns true if a user of the role gets the line itself.
    pub fn includes(&self, user: &User) -> bool {
        matches!(self, Self::Sent { audience, .. } if audience.includes(user.id))
    }
}

/// Part of a replayed line that a user gets.
#[derive(Debug)]
pub enum Recalled {
    Sent(Message),
    Nothing,
    /// A plugin gave no verdict on the line, or on who sees its lead now.
    Held(Unavailable),
}

/// Slices that were shaped of a line, per role, for one generation of plugins.
#[derive(Default)]
pub(crate) struct Shapes {
    pub(crate) generation: Generation,
    pub(crate) slices: Vec<(Role, Arc<Slice>, Instant)>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_message_is_the_frame_of_its_packet_and_knows_its_name_and_body_in_it() {
        for length in [0, 90, 125, 126, 200, 65_000, 70_000] {
            let body = json!({"note": "x".repeat(length)});
            let message = Message::new("lead:updated", &body);
            let packet = format!("42[\"lead:updated\",{body}]");
            let head = match packet.len() {
                0..126 => 2,
                126..0x1_0000 => 4,
                _ => 10,
            };
            assert_eq!(&message.frame()[head..], packet.as_bytes());
            assert_eq!(message.frame()[0], 0x81);
            assert_eq!(message.name(), "lead:updated");
            assert_eq!(message.body(), body.to_string());
            assert_eq!(message.raw_body().get(), body.to_string());
        }
    }
}
