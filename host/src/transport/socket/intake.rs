//! Intake of a socket's events: the rate limit, and the bounded inbound queue. An event that comes too early or does
//! not fit is refused; a client that is refused again and again is cut.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use socketioxide::{adapter::LocalAdapter, handler::MessageHandler, socket::Socket};
use tokio::sync::mpsc::{self, error::TrySendError};

use crate::{
    delivery::line::Message,
    domain::event_name::EventName,
    transport::{
        limits::{self, Pace},
        record,
        socket::{
            client::Client,
            error::SocketError,
            inbox::{Inbox, IncomingEvent, MAX_ECHO_CHARS, SubscriptionHeir},
            packet::OutgoingPacket,
            settings::SocketConfig,
        },
    },
};

/// Time to wait before a retry after the inbound queue was full.
const QUEUE_WAIT: Duration = Duration::from_secs(1);

/// Sending end of the inbound queue: takes every event of a socket, and refuses what does not fit.
pub(crate) struct Intake {
    queue: mpsc::Sender<IncomingEvent>,
    queued_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    pace: Pace,
    client: Arc<Client>,
}

pub(crate) fn queue(client: Arc<Client>, settings: &SocketConfig, limits: &limits::LimitsConfig) -> (Intake, Inbox) {
    let (sender, receiver) = mpsc::channel(settings.inbound_packets);
    let queued_bytes = Arc::new(AtomicUsize::new(0));
    let max_bytes = settings.inbound_bytes;
    client.set_subscription_heir(SubscriptionHeir { queue: sender.clone(), queued_bytes: queued_bytes.clone() });
    let intake =
        Intake { queue: sender, queued_bytes: queued_bytes.clone(), max_bytes, pace: Pace::new(limits), client };
    (intake, Inbox { queue: receiver, queued_bytes })
}

impl MessageHandler<LocalAdapter, Self> for Intake {
    fn call(&self, _: Arc<Socket>, data: socketioxide_core::Value, ack: Option<i64>) {
        if self.client.flooding().is_cancelled() {
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
        if let Err(packet) = self.push(packet) {
            let message = "too many packets are queued: send packets more slowly";
            self.refuse(&packet, &SocketError::rate_limited("queue", message, QUEUE_WAIT));
        }
    }
}

impl Intake {
    /// Refuses an event that is not even looked at; a client that is refused again and again is cut.
    fn refuse(&self, packet: &IncomingEvent, refusal: &SocketError) {
        // A client that floods the server and reads nothing gets no answers.
        for output in refused(refusal, packet.name().as_deref(), packet.ack) {
            self.client.try_reply(&output);
        }
        if self.pace.refuse(Instant::now()) {
            self.client.flooding().cancel();
        }
    }

    fn push(&self, packet: IncomingEvent) -> Result<(), IncomingEvent> {
        let bytes = packet.json.len();
        let queued = self.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        // A packet that alone is over the limit still goes through an empty queue.
        let fits = queued == 0 || queued + bytes <= self.max_bytes;
        let pushed = if fits { self.queue.try_send(packet).map_err(TrySendError::into_inner) } else { Err(packet) };
        if pushed.is_err() {
            self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        pushed
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
