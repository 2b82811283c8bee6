//! Outgoing packets of a socket: events and acknowledgements with their encoded lengths, and the outcome of offering
//! an event to a client.

use std::sync::Arc;

use serde_json::{Value, value::to_raw_value};

use crate::delivery::line::Message;

pub(crate) struct QueueLimits {
    pub(crate) packets: usize,
    pub(crate) bytes: usize,
}

/// One packet to be sent.
#[derive(Clone, Debug)]
pub(crate) enum OutgoingPacket {
    Event(Message),
    Ack(i64, Arc<serde_json::value::RawValue>),
}

/// Outcome of offering an event to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    Taken,
    /// The event is not for the client, or the client reads the log anyway.
    Nothing,
    /// The client fell behind: its send queue is full.
    Full,
    /// The client fell behind: a failing plugin holds the event back.
    Held,
    /// The client fell behind: the user now sees a lead that it listens to, and plugins have to be asked if it may.
    Unjudged,
}

impl OutgoingPacket {
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Event(message) => message.bytes(),
            Self::Ack(_, body) => body.get().len(),
        }
    }

    /// Returns the length of the Engine.IO packet: `42["name",{…}]` or `437[{…}]`.
    pub(crate) fn encoded_bytes(&self) -> usize {
        match self {
            Self::Event(message) => "42[\"\",]".len() + message.bytes(),
            Self::Ack(id, body) => "43[]".len() + id.to_string().len() + body.get().len(),
        }
    }
}

pub(crate) fn ack(id: i64, body: &Value) -> OutgoingPacket {
    OutgoingPacket::Ack(id, to_raw_value(body).expect("payloads are plain JSON with string keys").into())
}
