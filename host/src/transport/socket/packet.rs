//! Outgoing packets of a socket: events and acknowledgements as they are encoded, and the reasons why a client falls
//! behind.

use std::sync::Arc;

use bytes::Bytes;
use metrics::counter;
use serde_json::{Value, value::to_raw_value};

use crate::{
    delivery::line::{Message, text_frame},
    transport::record,
};

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

/// Reason why a client fell behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fall {
    /// It could not take the event: nothing more fits where it waits.
    Full,
    /// A failing plugin holds the event back.
    Held,
    /// The user now sees a lead that the client listens to, and plugins have to be asked if it may.
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
            Self::Event(message) => message.packet_bytes(),
            Self::Ack(id, body) => "43[]".len() + id.to_string().len() + body.get().len(),
        }
    }

    /// Returns the WebSocket frame.
    pub(crate) fn frame(&self) -> Bytes {
        match self {
            Self::Event(message) => message.frame().clone(),
            Self::Ack(id, body) => text_frame(&["43", &id.to_string(), "[", body.get(), "]"]),
        }
    }

    /// Counts a packet that is sent.
    pub(crate) fn count(&self) {
        if let Self::Event(message) = self {
            record::event(message);
        }
        count_sent(1, self.encoded_bytes() as u64);
    }
}

/// Counts packets that are sent, in the metrics.
pub(crate) fn count_sent(packets: u64, bytes: u64) {
    counter!("leadwire_packets_sent_total").increment(packets);
    counter!("leadwire_sent_bytes_total").increment(bytes);
}

pub(crate) fn ack(id: i64, body: &Value) -> OutgoingPacket {
    OutgoingPacket::Ack(id, to_raw_value(body).expect("payloads are plain JSON with string keys").into())
}
