//! Writer: the task that sends to a socket what waits in its send queue and, when it is behind, the log.
//!
//! It ends when there is nothing left to send on the short way. On the long way it stays, and feeds socketioxide's own
//! queue, which loses what does not fit; so it waits there for room (backpressure), and whatever comes in the meantime
//! waits in the send queue or, beyond that, in the log.

mod log;

use std::{collections::HashMap, future::pending, sync::Arc, time::Duration};

use metrics::counter;
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
use tracing::{debug, error, warn};

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
            conn::sessions::EngineSession,
            context::SocketContext,
            packet::{OutgoingPacket, ack},
            schema::incoming::ClientEvent,
        },
        tcp::{
            connection::ConnectionHandle,
            gate::{FramesSent, GateShut},
        },
    },
};

/// Longest time that a client that is sent away may take for what waits for it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(1);
/// Reason for which clients are cut when the server stops.
pub(crate) const DRAINING: &str = "draining";
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
    engine_session: Option<Arc<EngineSession>>,
    /// Connection on which frames are written past socketioxide, once that is possible.
    short_way: Option<ConnectionHandle>,
    /// Leads of the lines that are being sent, as they are now.
    leads: HashMap<LeadId, Arc<CurrentLead>>,
    sent: u32,
}

/// Reason why a writer has to stop.
pub(crate) enum WorkEnd {
    /// The socket is gone.
    Closed,
    /// The client is to be cut: the reason for the metrics, and in words.
    Cut(&'static str, &'static str),
}

impl Writer {
    pub(crate) fn new(client: Arc<Client>, socket: Arc<Socket>, shared: Arc<SocketContext>) -> Self {
        let engine_session = client.engine_session();
        Self { client, socket, shared, engine_session, short_way: None, leads: HashMap::new(), sent: 0 }
    }

    /// Sends the greetings, for a client that connects, and then whatever there is to send, until there is nothing or
    /// the socket is closed.
    pub(crate) async fn run(mut self, greetings: Option<Vec<Message>>) {
        let (client, shared) = (self.client.clone(), self.shared.clone());
        let engine_session = self.engine_session.clone();
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
        let ended = select! {
            () = client.closed().cancelled() => return,
            ended = self.work(greetings) => ended,
            () = stalled => Err(WorkEnd::Cut("stalled", "it stopped reading")),
            () = dismissed => Err(WorkEnd::Cut(DRAINING, "server shutting down")),
        };
        match ended {
            Ok(()) => {}
            Err(WorkEnd::Closed) => debug!("socket closed while sending"),
            Err(WorkEnd::Cut(reason, why)) => client.start(|tasks, client| tasks.cut(&client, reason, why)),
        }
    }

    async fn work(&mut self, greetings: Option<Vec<Message>>) -> Result<(), WorkEnd> {
        if let Some(greetings) = greetings {
            if !self.learn_rights().await? {
                warn!(user = %self.client.user().id, "the log no longer has the rights changes of a client");
                return Err(WorkEnd::Cut("rights_unknown", "the log no longer has its rights changes"));
            }
            for greeting in greetings {
                self.send(&OutgoingPacket::Event(greeting)).await?;
            }
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
                None if self.client.retire_writer() => return Ok(()),
                None => select! {
                    () = self.client.woken() => {}
                    () = until(due) => {}
                    () = self.upgraded() => {}
                },
            }
        }
    }

    /// Applies what changed the user's rights between the handshake and the entry into the registry; false if the log
    /// is no longer kept that far back.
    async fn learn_rights(&mut self) -> Result<bool, WorkEnd> {
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

    /// Sends what waits in the send queue.
    async fn flush(&mut self) -> Result<(), WorkEnd> {
        loop {
            let Some(connection) = self.short_way().await else {
                let Some(output) = self.client.pop() else { return Ok(()) };
                self.send_long(&output).await?;
                continue;
            };
            // The queue is for this way from now on: it is taken in turn with what is sent at once.
            self.client.go_short(&connection);
            if self.client.flush_short() {
                return Ok(());
            }
            self.ready(&connection).await?;
        }
    }

    async fn acknowledge(&mut self, acks: Vec<i64>, body: &serde_json::Value) -> Result<(), WorkEnd> {
        for id in acks {
            record::ack(ClientEvent::SyncSince.as_str(), body);
            self.send(&ack(id, body)).await?;
        }
        Ok(())
    }

    /// Sends a line if the client wants it; false if the client was told to fetch again instead.
    async fn offer(&mut self, line: &LogLine, wants: impl Fn(&Client) -> Option<Arc<User>>) -> Result<bool, WorkEnd> {
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
    async fn wait_for_plugins(&mut self, held: &mut Backoff) -> Result<(), WorkEnd> {
        let mut changed = self.shared.app.plugins().changed();
        let mut withheld = self.shared.holds.changed();
        select! {
            result = self.pause(held.next(), true) => result,
            _ = changed.changed() => Ok(()),
            _ = withheld.changed() => Ok(()),
        }
    }

    /// Sends what is put into the send queue, for as long as `span`; or until a reset is due, if `ends_with_reset`.
    async fn pause(&mut self, span: Duration, ends_with_reset: bool) -> Result<(), WorkEnd> {
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
    async fn reset(&mut self) -> Result<(), WorkEnd> {
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

    async fn send(&mut self, output: &OutgoingPacket) -> Result<(), WorkEnd> {
        while let Some(connection) = self.short_way().await {
            match connection.gate().send(&[&output.frame()]) {
                Ok(FramesSent { frames: 0, .. }) => self.ready(&connection).await?,
                Ok(_) => {
                    output.count();
                    self.breathe().await;
                    return Ok(());
                }
                Err(GateShut) => self.short_way = None,
            }
        }
        self.send_long(output).await
    }

    /// Returns the connection on which the next packet may go past socketioxide. A WebSocket is waited for until it has
    /// sent what socketioxide was handed before; without one, everything goes the long way.
    async fn short_way(&mut self) -> Option<ConnectionHandle> {
        if let Some(connection) = self.short_way.as_ref().filter(|connection| !connection.gate().is_shut()) {
            return Some(connection.clone());
        }
        let engine_session = self.engine_session.clone()?;
        while self.socket.transport_type() == TransportType::Websocket {
            let sent = engine_session.sent();
            engine_session.open_web_socket()?;
            if let Some(connection) = engine_session.short_way(self.client.connects()) {
                self.short_way = Some(connection.clone());
                return Some(connection);
            }
            engine_session.more_sent(sent).await;
        }
        None
    }

    /// Waits until a client that polls has gone over to a WebSocket.
    async fn upgraded(&self) {
        /// Time between two looks while the upgrade is under way, of which the engine reports nothing.
        const LOOK: Duration = Duration::from_millis(100);
        let Some(engine_session) = self.engine_session.as_ref().filter(|_| self.short_way.is_none()) else {
            return pending().await;
        };
        loop {
            let asked = engine_session.polled.notified();
            match engine_session.open_web_socket() {
                Some(_) if self.socket.transport_type() == TransportType::Websocket => return,
                Some(_) => sleep(LOOK).await,
                None => asked.await,
            }
        }
    }

    /// Waits until the connection takes a frame.
    ///
    /// # Errors
    /// When the client takes nothing for too long.
    async fn ready(&self, connection: &ConnectionHandle) -> Result<(), WorkEnd> {
        let limit = self.shared.stall_timeout;
        let mut seen = connection.gate().sent();
        loop {
            match timeout(limit, connection.gate().ready()).await {
                // What is shut goes on the long way.
                Ok(Ok(()) | Err(GateShut)) => return Ok(()),
                Err(_) if connection.gate().sent() == seen => {
                    return Err(WorkEnd::Cut("stalled", "it stopped reading"));
                }
                Err(_) => seen = connection.gate().sent(),
            }
        }
    }

    /// Hands a packet to socketioxide once its queue has room to spare.
    async fn send_long(&mut self, output: &OutgoingPacket) -> Result<(), WorkEnd> {
        // The queue may still be full: of the engine's own packets, or because nobody counts.
        const MIN_WAIT: Duration = Duration::from_millis(5);
        const MAX_WAIT: Duration = Duration::from_millis(100);
        if let Some(engine_session) = &self.engine_session {
            engine_session.room().await;
        }
        let mut waits = Backoff::new(MIN_WAIT, MAX_WAIT);
        while let Err(error) = self.try_send(output) {
            match error {
                SendError::Socket(SocketError::InternalChannelFull) => {
                    sleep(waits.next()).await;
                }
                SendError::Socket(SocketError::Closed) => return Err(WorkEnd::Closed),
                SendError::Serialize(error) => {
                    error!("a packet cannot be encoded: {error}");
                    return Ok(());
                }
            }
        }
        // Not before: what was not handed over never leaves.
        if let Some(engine_session) = &self.engine_session {
            engine_session.note_handed(output.encoded_bytes());
        }
        output.count();
        self.breathe().await;
        Ok(())
    }

    /// Lets other tasks have their turn, now and then.
    async fn breathe(&mut self) {
        self.sent = self.sent.wrapping_add(1);
        if self.sent.is_multiple_of(YIELD_EVERY) {
            yield_now().await;
        }
    }

    fn try_send(&self, output: &OutgoingPacket) -> Result<(), SendError> {
        match output {
            OutgoingPacket::Event(message) => {
                SocketRef::from(self.socket.clone()).emit(message.name(), &**message.raw_body())
            }
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
