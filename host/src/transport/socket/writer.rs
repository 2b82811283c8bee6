//! Writer: the one task that sends to a socket what waits in its send queue and, when it is behind, the log.
//!
//! It feeds socketioxide's own queue, which loses what does not fit; so it waits there for room (backpressure), and
//! whatever comes in the meantime waits in the send queue or, beyond that, in the log.

mod log;

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use metrics::{Counter, counter};
use serde_json::json;
use socketioxide::{
    SendError, SocketError, TransportType,
    extract::{AckSender, SocketRef},
    handler::message::FromMessageParts,
    socket::Socket,
};
use socketioxide_core::Value;
use tokio::{
    select,
    task::yield_now,
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use crate::{
    backoff::Backoff,
    delivery::{
        RightsChange,
        current_leads::CurrentLead,
        line::{LogLine, Message, Recalled},
    },
    domain::{id::LeadId, user::User},
    transport::{
        record,
        socket::{
            client::Client,
            conn::{backpressure::SendWindow, close_transport::close_transport, sessions::EngineSession},
            context::{SocketContext, caller_address},
            packet::{OutgoingPacket, ack},
            schema::incoming::ClientEvent,
            session::{expiry, lease::Over},
        },
    },
};

/// Longest time that a client that is sent away may take for what waits for it.
const FAREWELL: Duration = Duration::from_secs(1);
/// Number of packets after which other tasks get their turn.
const YIELD_EVERY: u32 = 8;
/// Pauses between two questions about an event that is held back.
const MIN_HELD_PAUSE: Duration = Duration::from_millis(250);
const MAX_HELD_PAUSE: Duration = Duration::from_secs(4);

pub(crate) struct Writer {
    client: Arc<Client>,
    socket: Arc<Socket>,
    shared: Arc<SocketContext>,
    /// `None` if the listener does not report what it sends.
    meter: Option<SendWindow>,
    /// Leads of the lines that are being sent, as they are now.
    leads: HashMap<LeadId, Arc<CurrentLead>>,
    sent: u32,
    packets: Counter,
    bytes: Counter,
}

/// Error: the socket is gone.
pub(crate) struct Closed;

impl Writer {
    pub(crate) fn new(client: Arc<Client>, socket: Arc<Socket>, shared: Arc<SocketContext>) -> Self {
        let engine_session = socket.req_parts().extensions.get::<Arc<EngineSession>>().cloned();
        let (packets, bytes) = (counter!("leadwire_packets_sent_total"), counter!("leadwire_sent_bytes_total"));
        Self {
            client,
            socket,
            shared,
            meter: engine_session.map(SendWindow::new),
            leads: HashMap::new(),
            sent: 0,
            packets,
            bytes,
        }
    }

    /// Sends the greetings and then whatever comes, until the socket is closed, or may not stay.
    pub(crate) async fn run(mut self, greetings: Vec<Message>) {
        let (client, socket, shared) = (self.client.clone(), self.socket.clone(), self.shared.clone());
        let engine_session = socket.req_parts().extensions.get::<Arc<EngineSession>>().cloned();
        let dismissed = async {
            client.dismissed().await;
            let owes =
                || client.has_output() || engine_session.as_ref().is_some_and(|engine_session| engine_session.owes());
            let _ = timeout(FAREWELL, async {
                while owes() {
                    sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        };
        let stalled = async {
            match &engine_session {
                Some(engine_session) => engine_session.stalled(shared.stall_timeout).await,
                None => pending().await,
            }
        };
        let over = expiry::over(&client, || shared.app.now());
        let sending = async {
            if !self.learn_rights().await? {
                warn!(user = %client.user().id, "disconnected a client: the log no longer has its rights changes");
                cut(&socket, "rights_unknown");
                shared.lose(&client);
                return Err(Closed);
            }
            for greeting in greetings {
                self.send(&OutgoingPacket::Event(greeting)).await?;
            }
            loop {
                self.flush().await?;
                if self.client.is_unanswered() {
                    self.client.woken().await;
                    continue;
                }
                let due = self.client.reset_due();
                if due.is_some_and(|due| due <= Instant::now()) {
                    self.reset().await?;
                    continue;
                }
                if let Some(missed) = self.client.next_missed() {
                    self.make_up_for(&missed).await?;
                    continue;
                }
                match self.client.behind() {
                    Some(cursor) => self.catch_up(cursor).await?,
                    None => select! {
                        () = self.client.woken() => {}
                        () = until(due) => {}
                    },
                }
            }
        };
        let why = select! {
            () = client.closed().cancelled() => return,
            Err::<(), Closed>(Closed) = sending => return debug!("socket closed while sending"),
            over = over => match over {
                Over::Expired => ("token_expired", "its token has expired"),
                Over::SessionEnded => ("session_ended", "its session has ended"),
            },
            () = stalled => ("stalled", "it stopped reading"),
            () = client.flooding().cancelled() => ("flooding", "it far exceeds its packet limit"),
            () = dismissed => ("draining", "server shutting down"),
        };
        let (reason, why) = why;
        info!(user = %client.user().id, socket = %socket.id, client = caller_address(&socket), "disconnected a client: {why}");
        cut(&socket, reason);
        shared.lose(&client);
    }

    /// Applies what changed the user's rights between the handshake and the entry into the registry; false if the log
    /// is no longer kept that far back.
    async fn learn_rights(&mut self) -> Result<bool, Closed> {
        let shared = self.shared.clone();
        let (mut seq, position) = (self.client.learned(), shared.registry.position());
        while seq < position {
            let lines = self.read(seq).await?;
            if lines.first().is_none_or(|line| line.event.seq != seq.next()) {
                return Ok(false);
            }
            for line in lines {
                seq = line.event.seq;
                if let Some(change) = RightsChange::of(&line.event) {
                    shared.registry.apply_to(&self.client, seq, &change);
                }
                if let Some(whom) = line.event.resets() {
                    shared.registry.reset_one(&self.client, seq, &whom, Instant::now());
                }
            }
        }
        Ok(true)
    }

    async fn flush(&mut self) -> Result<(), Closed> {
        while let Some(output) = self.client.pop() {
            self.send(&output).await?;
        }
        Ok(())
    }

    async fn acknowledge(&mut self, acks: Vec<i64>, body: &serde_json::Value) -> Result<(), Closed> {
        for id in acks {
            record::ack(ClientEvent::SyncSince.as_str(), body);
            self.send(&ack(id, body)).await?;
        }
        Ok(())
    }

    /// Sends a line if the client wants it; false if the client was told to fetch again instead.
    async fn offer(&mut self, line: &LogLine, wants: impl Fn(&Client) -> Option<Arc<User>>) -> Result<bool, Closed> {
        let mut held = None;
        while let Some(user) = wants(&self.client) {
            let current = self.current(line).await?;
            match self.shared.shaper.recall(line, &user, current.as_deref()) {
                Recalled::Held(unavailable) => {
                    let plugin = &unavailable.plugin;
                    if self.shared.holds.is_grace_over(user.role) {
                        let Some(lead) = line.event.lead_id else {
                            warn!(%plugin, event.seq = line.event.seq.0, "timed out waiting for {plugin}, sending sync:reset to a socket");
                            self.reset().await?;
                            return Ok(false);
                        };
                        if let Err(error) = self.shared.holds.hold(user.role, lead, line.event.seq, &unavailable).await
                        {
                            self.wait_for_log(&error).await?;
                        }
                        continue;
                    }
                    self.wait_for_plugins(held.get_or_insert_with(|| Backoff::new(MIN_HELD_PAUSE, MAX_HELD_PAUSE)))
                        .await?;
                    if self.client.reset_due().is_some_and(|due| due <= Instant::now()) {
                        self.reset().await?;
                        return Ok(false);
                    }
                }
                Recalled::Sent(message) => {
                    self.send(&OutgoingPacket::Event(message)).await?;
                    counter!("leadwire_events_delivered_total", "how" => "replayed").increment(1);
                    break;
                }
                Recalled::Nothing => break,
            }
        }
        Ok(true)
    }

    /// Waits before a failing plugin is asked again; replies are sent meanwhile.
    async fn wait_for_plugins(&mut self, held: &mut Backoff) -> Result<(), Closed> {
        let mut changed = self.shared.app.plugins().changed();
        let mut withheld = self.shared.holds.changed();
        select! {
            result = self.pause(held.next(), true) => result,
            _ = changed.changed() => Ok(()),
            _ = withheld.changed() => Ok(()),
        }
    }

    /// Sends what is put into the send queue, for as long as `span`; or until a reset is due, if `ends_with_reset`.
    async fn pause(&mut self, span: Duration, ends_with_reset: bool) -> Result<(), Closed> {
        let client = self.client.clone();
        let end = Instant::now() + span;
        loop {
            self.flush().await?;
            let due = client.reset_due().filter(|_| ends_with_reset);
            if due.is_some_and(|due| due <= Instant::now()) {
                return Ok(());
            }
            select! {
                () = sleep_until(end) => return Ok(()),
                () = until(due) => return Ok(()),
                () = client.woken() => {}
            }
        }
    }

    /// Tells the client to fetch everything again (`sync:reset`), and goes on from where the log is now.
    async fn reset(&mut self) -> Result<(), Closed> {
        let seq = self.client.reset_seq(self.shared.registry.position());
        self.send(&OutgoingPacket::Event(self.shared.reset_event(seq))).await?;
        let body = json!({"ok": true, "recovered": false, "seq": seq, "epoch": self.shared.replay.epoch()});
        let acks = self.client.skip_to(seq);
        // The user may see other leads than before.
        for room in self.client.unjudged() {
            self.judge(room, seq).await?;
        }
        self.acknowledge(acks, &body).await
    }

    /// Hands a packet to socketioxide once its queue has room to spare.
    async fn send(&mut self, output: &OutgoingPacket) -> Result<(), Closed> {
        walk_step!("send");
        if let OutgoingPacket::Event(message) = output {
            record::event(&message.name, message.body.get());
        }
        // The queue may still be full: of the engine's own packets, or because nobody counts.
        const MIN_WAIT: Duration = Duration::from_millis(5);
        const MAX_WAIT: Duration = Duration::from_millis(100);
        if let Some(meter) = &mut self.meter {
            meter.room().await;
            meter.note(output.encoded_bytes(), self.socket.transport_type() == TransportType::Websocket);
        }
        let mut waits = Backoff::new(MIN_WAIT, MAX_WAIT);
        while let Err(error) = self.try_send(output) {
            match error {
                SendError::Socket(SocketError::InternalChannelFull) => {
                    sleep(waits.next()).await;
                }
                SendError::Socket(SocketError::Closed) => return Err(Closed),
                SendError::Serialize(error) => {
                    error!("a packet cannot be encoded: {error}");
                    break;
                }
            }
        }
        self.packets.increment(1);
        self.bytes.increment(output.encoded_bytes() as u64);
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(YIELD_EVERY) {
            yield_now().await;
        }
        Ok(())
    }

    fn try_send(&self, output: &OutgoingPacket) -> Result<(), SendError> {
        match output {
            OutgoingPacket::Event(message) => SocketRef::from(self.socket.clone()).emit(&*message.name, &*message.body),
            OutgoingPacket::Ack(id, body) => {
                // An `AckSender` is used up by sending, even if the queue was full; so each attempt makes its own.
                let mut nothing = Value::Str("[]".into(), None);
                let Ok(ack) = AckSender::from_message_parts(&self.socket, &mut nothing, &Some(*id));
                ack.send(&**body)
            }
        }
    }
}

/// Waits for a moment; for ever if there is none.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Closes the transport of a client, and counts that in the metrics.
fn cut(socket: &Socket, reason: &'static str) {
    counter!("leadwire_sockets_cut_total", "reason" => reason).increment(1);
    close_transport(socket);
}
