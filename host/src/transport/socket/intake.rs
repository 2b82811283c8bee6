//! Intake of a socket's events: the rate limit, and the bounded inbound queue. An event that comes too early or does
//! not fit is refused; a client that is refused again and again is cut.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use socketioxide::{adapter::LocalAdapter, handler::MessageHandler, socket::Socket};

use crate::{
    delivery::line::Message,
    domain::event_name::EventName,
    transport::{
        limits::{self, Pace},
        record,
        socket::{
            client::{Client, ClientTasks},
            error::SocketError,
            inbox::{Inbox, IncomingEvent, MAX_ECHO_CHARS},
            packet::OutgoingPacket,
            settings::SocketConfig,
        },
    },
};

/// Time to wait before a retry after the inbound queue was full.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// Handler of every event of a socket: puts it into the inbox, or refuses it.
pub(crate) struct Intake {
    inbox: Arc<Inbox>,
    pace: Pace,
    client: Arc<Client>,
}

impl MessageHandler<LocalAdapter, Self> for Intake {
    fn call(&self, _: Arc<Socket>, data: socketioxide_core::Value, ack: Option<i64>) {
        if self.client.is_flooding() {
            return;
        }
        let (json, has_attachments) = match data {
            // Copied, because a slice would keep the whole buffer that it was read into.
            socketioxide_core::Value::Str(text, attachments) => (text.as_str().into(), attachments.is_some()),
            socketioxide_core::Value::Bytes(_) => (Box::default(), true),
        };
        let packet = IncomingEvent { json, has_attachments, ack };
        if let Err(wait) = self.pace.take() {
            let message = "event rate limit exceeded: send events more slowly";
            return self.refuse(&packet, &SocketError::rate_limited("events", message, wait));
        }
        match self.inbox.push(packet) {
            Ok(true) => self.client.start(ClientTasks::start_commands),
            Ok(false) => {}
            Err(packet) => {
                let message = "too many packets are queued: send packets more slowly";
                self.refuse(&packet, &SocketError::rate_limited("queue", message, QUEUE_WAIT));
            }
        }
    }
}

impl Intake {
    pub(crate) fn new(client: Arc<Client>, settings: &SocketConfig, limits: &limits::LimitsConfig) -> Self {
        let inbox = Arc::new(Inbox::new(settings));
        client.set_inbox(inbox.clone());
        Self { inbox, pace: Pace::new(limits), client }
    }

    /// Refuses an event that is not even looked at; a client that is refused again and again is cut.
    fn refuse(&self, packet: &IncomingEvent, refusal: &SocketError) {
        // A client that floods the server and reads nothing gets no answers.
        for output in refused(refusal, packet.name().as_deref(), packet.ack) {
            self.client.try_reply(&output);
        }
        if self.pace.refuse(Instant::now()) {
            self.client.cut_flooding();
        }
    }
}

pub(crate) fn refused(refusal: &SocketError, name: Option<&str>, ack: Option<i64>) -> Vec<OutgoingPacket> {
    let name = name.map(|name| name.chars().take(MAX_ECHO_CHARS).collect::<String>());
    let event = OutgoingPacket::Event(Message::new(EventName::Error.as_str(), &refusal.event(name.as_deref())));
    if ack.is_some() {
        record::ack("refused", &refusal.ack());
    }
    [event].into_iter().chain(ack.map(|id| crate::transport::socket::packet::ack(id, &refusal.ack()))).collect()
}
