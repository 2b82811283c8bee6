//! The one task that sends to a socket: what waits in its outbox and, when it is behind, the log.
//!
//! It feeds socketioxide's own queue, which loses what does not fit; so it waits there for room, and
//! whatever comes in the meantime waits in the outbox or, beyond that, in the log.

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

use super::{
    client::{Client, Missed, Output},
    fanout::Registry,
    flow::{Flow, Meter, Parting},
    handler::{Followed, ack, may_follow},
    handshake::caller_address,
    hangup::hang_up,
    kept::{Kept, Rooms},
    presence::Presence,
    returns::LONGEST,
    session::{self, Over},
};
use crate::{
    app::App,
    delivery::{
        RightsChange,
        holds::Holds,
        replay::{Line, Replay},
        shape::{Message, Recalled, Shaper},
        sight::CurrentLead,
    },
    domain::{id::LeadId, room::Room, user::User},
    store,
};

/// Lines that are read from the log at once.
const BATCH: u32 = 32;
/// How long a client that is sent away may take for what waits for it.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often other tasks get their turn while many packets are sent.
const YIELD_EVERY: u32 = 8;

/// What every writer needs.
pub(super) struct Source {
    pub(super) app: App,
    pub(super) registry: Arc<Registry>,
    pub(super) kept: Kept,
    /// Of sockets of which it is not clear whether they were lost: for those alone that say where they were in the log.
    pub(super) kept_for_resumed: Kept,
    pub(super) presence: Arc<Presence>,
    pub(super) replay: Arc<Replay>,
    pub(super) shaper: Arc<Shaper>,
    pub(super) holds: Arc<Holds>,
    pub(super) stall_timeout: Duration,
    /// How many leads one socket may follow.
    pub(super) max_subscriptions: usize,
}

impl Source {
    /// Forgets a socket that is gone. What it followed goes to its successor, where that is here already.
    pub(super) fn part(&self, client: &Client, parting: Parting, successor: Option<Arc<Client>>) {
        if parting == Parting::Lost && successor.is_none() {
            return self.lose(client);
        }
        let parting = if successor.is_some() { Parting::Unclear } else { parting };
        client.go(parting);
        let session = client.lease().and_then(|lease| lease.session);
        // The successor may be lost before it follows anything.
        let keep = |rooms: &Rooms| {
            if let Some(session) = session.filter(|_| parting == Parting::Unclear) {
                self.kept_for_resumed.keep(session, rooms.clone(), 1, self.max_subscriptions);
            }
        };
        if let Some(rooms) = self.registry.remove(client, keep) {
            self.presence.left(client, &rooms);
            if let Some(successor) = successor {
                tokio::spawn(async move { successor.inherit(rooms).await });
            }
        }
    }

    /// Forgets a socket that was lost; its lead rooms wait for the next one of its session.
    pub(super) fn lose(&self, client: &Client) {
        let session = client.lease().and_then(|lease| lease.session);
        let keep = |rooms: &Rooms| {
            if let Some(session) = session {
                self.kept.keep(session, rooms.clone(), 1, self.max_subscriptions);
            }
        };
        if let Some(rooms) = self.registry.remove(client, keep) {
            self.presence.lost(client, &rooms);
        }
    }

    /// The event that says: events were left out, fetch again.
    pub(super) fn reset_event(&self, seq: u64) -> Message {
        counter!("leadwire_sockets_reset_total").increment(1);
        Message::new("sync:reset", &json!({"seq": seq, "epoch": self.replay.epoch()}))
    }
}

pub(super) struct Writer {
    client: Arc<Client>,
    socket: Arc<Socket>,
    source: Arc<Source>,
    /// None where the listener does not tell what it sends.
    meter: Option<Meter>,
    /// What the lines that are being sent tell of, as it is now.
    leads: HashMap<LeadId, Arc<CurrentLead>>,
    sent: u32,
    packets: Counter,
    bytes: Counter,
}

/// The socket is gone.
struct Closed;

/// Some lines that were missed.
struct Batch {
    lines: Vec<Arc<Line>>,
    /// No other line up to here was.
    upto: u64,
}

impl Writer {
    pub(super) fn new(client: Arc<Client>, socket: Arc<Socket>, source: Arc<Source>) -> Self {
        let flow = socket.req_parts().extensions.get::<Arc<Flow>>().cloned();
        let (packets, bytes) = (counter!("leadwire_packets_sent_total"), counter!("leadwire_sent_bytes_total"));
        Self { client, socket, source, meter: flow.map(Meter::new), leads: HashMap::new(), sent: 0, packets, bytes }
    }

    /// Sends the greetings and then whatever comes, until the socket is closed, or may not stay.
    pub(super) async fn run(mut self, greetings: Vec<Message>) {
        let (client, socket, source) = (self.client.clone(), self.socket.clone(), self.source.clone());
        let flow = socket.req_parts().extensions.get::<Arc<Flow>>().cloned();
        let dismissed = async {
            client.dismissed().await;
            let owes = || client.has_output() || flow.as_ref().is_some_and(|flow| flow.owes());
            let _ = timeout(FAREWELL, async {
                while owes() {
                    sleep(Duration::from_millis(10)).await;
                }
            })
            .await;
        };
        let stalled = async {
            match &flow {
                Some(flow) => flow.stalled(source.stall_timeout).await,
                None => pending().await,
            }
        };
        let over = session::over(&client, || source.app.now());
        let sending = async {
            if !self.learn_rights().await? {
                warn!(user = %client.user().id, "hung up on a client whose rights the log no longer tells");
                cut(&socket, "rights_unknown");
                source.lose(&client);
                return Err(Closed);
            }
            for greeting in greetings {
                self.send(&Output::Event(greeting)).await?;
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
            Err::<(), Closed>(Closed) = sending => return debug!("a socket was closed while it was sent to"),
            over = over => match over {
                Over::Expired => ("token_expired", "its token has expired"),
                Over::SessionEnded => ("session_ended", "its session has ended"),
            },
            () = stalled => ("stalled", "it reads nothing"),
            () = client.flooding().cancelled() => ("flooding", "it sends far more than it may"),
            () = dismissed => ("draining", "the server stops"),
        };
        let (reason, why) = why;
        info!(user = %client.user().id, socket = %socket.id, client = caller_address(&socket), "hung up on a client: {why}");
        cut(&socket, reason);
        source.lose(&client);
    }

    /// Applies what changed the user's rights between the handshake and the entry into the registry; false when the
    /// log is no longer kept that far back.
    async fn learn_rights(&mut self) -> Result<bool, Closed> {
        let source = self.source.clone();
        let (mut seq, position) = (self.client.learned(), source.registry.position());
        while seq < position {
            let lines = self.read(seq).await?;
            if lines.first().is_none_or(|line| line.event.seq != seq + 1) {
                return Ok(false);
            }
            for line in lines {
                seq = line.event.seq;
                if let Some(change) = RightsChange::of(&line.event) {
                    source.registry.apply_to(&self.client, seq, &change);
                }
                if let Some(whom) = line.event.resets() {
                    source.registry.reset_one(&self.client, seq, &whom, Instant::now());
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

    /// Reads on in the log: some lines, or to the end of what was handed out, from where the client is live.
    async fn catch_up(&mut self, cursor: u64) -> Result<(), Closed> {
        let source = self.source.clone();
        // Never further than the tail: what it has not applied may change this client's rights. Nor past a reset line
        // that the tail, which notes them before it goes on, has noted.
        let position = source.registry.position();
        let position = position.min(self.client.upto());
        if cursor >= position {
            if let Some(acks) = self.client.synced() {
                self.send(&Output::Event(Message::new("sync:done", &json!({"seq": cursor})))).await?;
                return self.acknowledge(acks, &json!({"ok": true, "recovered": true, "seq": cursor})).await;
            }
            if self.client.go_live(|| source.registry.position()) && self.client.take_fallen() {
                counter!("leadwire_sockets_caught_up_total").increment(1);
            }
            return Ok(());
        }
        let lines = self.read(cursor).await?;
        if lines.first().is_none_or(|line| line.event.seq != cursor + 1) {
            return self.reset().await;
        }
        let lines: Vec<_> = lines.into_iter().take_while(|line| line.event.seq <= position).collect();
        let wanted = lines.iter().filter(|line| self.client.wants(&line.event).is_some());
        self.look_up(wanted.filter_map(|line| line.lead_in_content()).collect()).await?;
        for line in &lines {
            if let Some(whom) = line.event.resets() {
                // The tail, which is at this line, says when; this only keeps what is newer from going ahead.
                source.registry.reset_one(&self.client, line.event.seq, &whom, Instant::now() + LONGEST);
            }
            self.replay(line).await?;
            self.flush().await?;
        }
        self.leads.clear();
        Ok(())
    }

    /// Sends what the client asks for of what went by before it listened.
    async fn make_up_for(&mut self, missed: &Missed) -> Result<(), Closed> {
        let mut cursor = missed.since;
        let is_past_reset = missed.upto > self.client.upto();
        if cursor > missed.upto || is_past_reset || cursor < self.source.registry.reset_line(&self.client) {
            return self.reset().await;
        }
        // Of a lead that is out of sight, nothing is looked up, as of one that does not exist.
        while cursor < missed.upto && !self.client.is_unjudged(missed) {
            let Some(batch) = self.read_missed(missed, cursor).await? else { return self.reset().await };
            let upto = missed.upto;
            let lines: Vec<_> = batch.lines.into_iter().take_while(|line| line.event.seq <= upto).collect();
            let wanted = lines.iter().filter(|line| self.client.wants_missed(&line.event, missed).is_some());
            self.look_up(wanted.filter_map(|line| line.lead_in_content()).collect()).await?;
            for line in &lines {
                if !self.offer(line, |client| client.wants_missed(&line.event, missed)).await? {
                    return Ok(());
                }
                self.flush().await?;
            }
            self.leads.clear();
            cursor = batch.upto;
        }
        self.client.was_sent_missed();
        Ok(())
    }

    async fn acknowledge(&mut self, acks: Vec<i64>, body: &serde_json::Value) -> Result<(), Closed> {
        for id in acks {
            self.send(&ack(id, body)).await?;
        }
        Ok(())
    }

    /// Some of the missed lines that follow `seq`; nothing when the log is no longer kept that far back.
    async fn read_missed(&mut self, missed: &Missed, seq: u64) -> Result<Option<Batch>, Closed> {
        let Some(lead) = missed.lead() else {
            let lines = self.read(seq).await?;
            let is_next = lines.first().is_some_and(|line| line.event.seq == seq + 1);
            let upto = lines.last().map_or(seq, |line| line.event.seq);
            return Ok(is_next.then_some(Batch { lines, upto }));
        };
        loop {
            match self.source.replay.about_lead(lead, seq, BATCH).await {
                Ok(lines) => return Ok(lines.map(Batch::of_lead)),
                Err(error) => self.wait_for_log(&error).await?,
            }
        }
    }

    /// Some lines that follow `seq`; waits for a failing database.
    async fn read(&mut self, seq: u64) -> Result<Vec<Arc<Line>>, Closed> {
        loop {
            match self.source.replay.after(seq, BATCH).await {
                Ok(lines) => return Ok(lines),
                Err(error) => self.wait_for_log(&error).await?,
            }
        }
    }

    async fn wait_for_log(&mut self, error: &store::Error) -> Result<(), Closed> {
        error!("cannot read the log for a socket, trying again: {error}");
        self.pause(Duration::from_secs(1), false).await
    }

    /// Reads leads as they are now; waits for a failing database.
    async fn look_up(&mut self, mut leads: Vec<LeadId>) -> Result<(), Closed> {
        leads.sort_unstable();
        leads.dedup();
        loop {
            match self.source.replay.sights().of(&leads).await {
                Ok(current) => {
                    self.leads.extend(current);
                    return Ok(());
                }
                Err(error) => self.wait_for_log(&error).await?,
            }
        }
    }

    /// The lead that a line tells of as it is now, where that matters; read again if something happened to it.
    async fn current(&mut self, line: &Line) -> Result<Option<Arc<CurrentLead>>, Closed> {
        let Some(id) = line.lead_in_content() else { return Ok(None) };
        if !self.leads.get(&id).is_some_and(|lead| lead.is_fresh()) {
            self.look_up(vec![id]).await?;
        }
        Ok(self.leads.get(&id).cloned())
    }

    /// Asks plugins about a room that the client listens to, now that the user may see its lead. What it is sent
    /// there follows `since`.
    async fn judge(&mut self, room: Room, since: u64) -> Result<(), Closed> {
        let source = self.source.clone();
        let refusal = match may_follow(&source, &self.client.user(), &room).await {
            Ok(Followed::Unseen | Followed::Withheld) => return Ok(()),
            Ok(Followed::Judged) => {
                if let Some(lead) = room.lead().filter(|_| self.client.judge(&room, since)) {
                    source.presence.enter(&self.client, lead);
                    source.presence.welcome(&self.client, lead);
                }
                return Ok(());
            }
            // It may do so later; until then, nothing is sent there.
            Err(refusal) if !refusal.is_forbidden() => return Ok(()),
            Err(refusal) => refusal,
        };
        source.registry.leave(&self.client, &room);
        if let Some(lead) = room.lead() {
            source.presence.leave(&self.client, lead);
        }
        let Room::Lead(lead_id) = &room else { return Ok(()) };
        let mut error = refusal.event(Some("lead:subscribe"));
        error["leadId"] = json!(lead_id);
        self.send(&Output::Event(Message::new("error", &error))).await
    }

    async fn replay(&mut self, line: &Line) -> Result<(), Closed> {
        if let Some(room) = self.client.awaits(&line.event) {
            let slices = self.source.shaper.slices(line, &[self.client.user().role]);
            let user = self.client.user();
            if slices.iter().any(|(_, slice)| slice.includes(&user)) {
                self.judge(room, line.event.seq - 1).await?;
            }
        }
        if self.offer(line, |client| client.wants(&line.event)).await? {
            self.client.advance(line.event.seq);
        }
        Ok(())
    }

    /// Sends a line if the client wants it; false when the client was told to fetch again instead.
    async fn offer(&mut self, line: &Line, wants: impl Fn(&Client) -> Option<Arc<User>>) -> Result<bool, Closed> {
        let mut held = None;
        while let Some(user) = wants(&self.client) {
            let current = self.current(line).await?;
            match self.source.shaper.recall(line, &user, current.as_deref()) {
                Recalled::Held(unavailable) => {
                    let plugin = &unavailable.plugin;
                    if self.source.holds.is_grace_over(user.role) {
                        let Some(lead) = line.event.lead_id else {
                            warn!(%plugin, event.seq = line.event.seq, "gave up waiting for {plugin}: a socket must fetch again");
                            self.reset().await?;
                            return Ok(false);
                        };
                        if let Err(error) = self.source.holds.hold(user.role, lead, line.event.seq, &unavailable).await
                        {
                            self.wait_for_log(&error).await?;
                        }
                        continue;
                    }
                    self.wait_for_plugins(held.get_or_insert_with(Held::new)).await?;
                    if self.client.reset_due().is_some_and(|due| due <= Instant::now()) {
                        self.reset().await?;
                        return Ok(false);
                    }
                }
                Recalled::Sent(message) => {
                    self.send(&Output::Event(message)).await?;
                    counter!("leadwire_events_delivered_total", "how" => "replayed").increment(1);
                    break;
                }
                Recalled::Nothing => break,
            }
        }
        Ok(true)
    }

    /// Waits before a failing plugin is asked again; replies go out meanwhile.
    async fn wait_for_plugins(&mut self, held: &mut Held) -> Result<(), Closed> {
        let mut changed = self.source.app.plugins().changed();
        let mut withheld = self.source.holds.changed();
        let wait = held.next_pause();
        select! {
            result = self.pause(wait, true) => result,
            _ = changed.changed() => Ok(()),
            _ = withheld.changed() => Ok(()),
        }
    }

    /// Sends what is put into the outbox, for as long as `span`; or until a reset is due, if that is to end it.
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

    /// Tells the client to fetch everything again, and goes on from where the log is now.
    async fn reset(&mut self) -> Result<(), Closed> {
        let seq = self.client.reset_seq(self.source.registry.position());
        self.send(&Output::Event(self.source.reset_event(seq))).await?;
        let body = json!({"ok": true, "recovered": false, "seq": seq, "epoch": self.source.replay.epoch()});
        let acks = self.client.skip_to(seq);
        // What the user sees may be other leads than before.
        for room in self.client.unjudged() {
            self.judge(room, seq).await?;
        }
        self.acknowledge(acks, &body).await
    }

    /// Hands a packet to socketioxide once its queue has room to spare.
    async fn send(&mut self, output: &Output) -> Result<(), Closed> {
        // The queue may still be full: of what the engine itself has put there, or because nobody counts.
        const MIN_WAIT: Duration = Duration::from_millis(5);
        const MAX_WAIT: Duration = Duration::from_millis(100);
        if let Some(meter) = &mut self.meter {
            meter.room().await;
            meter.note(output.encoded_bytes(), self.socket.transport_type() == TransportType::Websocket);
        }
        let mut wait = MIN_WAIT;
        while let Err(error) = self.try_send(output) {
            match error {
                SendError::Socket(SocketError::InternalChannelFull) => {
                    sleep(wait).await;
                    wait = (wait * 2).min(MAX_WAIT);
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

    fn try_send(&self, output: &Output) -> Result<(), SendError> {
        match output {
            Output::Event(message) => SocketRef::from(self.socket.clone()).emit(&*message.name, &*message.body),
            Output::Ack(id, body) => {
                // An `AckSender` is spent by sending, also where the queue was full; so each try makes its own.
                let mut nothing = Value::Str("[]".into(), None);
                let Ok(ack) = AckSender::from_message_parts(&self.socket, &mut nothing, &Some(*id));
                ack.send(&**body)
            }
        }
    }
}

/// Waits for a moment, if there is one.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => pending().await,
    }
}

/// Hangs up on a client, which is counted.
fn cut(socket: &Socket, reason: &'static str) {
    counter!("leadwire_sockets_cut_total", "reason" => reason).increment(1);
    hang_up(socket);
}

impl Batch {
    /// What was read of a lead's own lines: all that there are, unless the batch is full.
    fn of_lead(lines: Vec<Arc<Line>>) -> Self {
        let is_full = lines.len() >= BATCH as usize;
        let upto = lines.last().filter(|_| is_full).map_or(u64::MAX, |line| line.event.seq);
        Self { lines, upto }
    }
}

/// How long to wait for the next question about an event that is held back.
struct Held {
    pause: Duration,
}

impl Held {
    fn new() -> Self {
        Self { pause: Duration::from_millis(125) }
    }

    fn next_pause(&mut self) -> Duration {
        self.pause = (self.pause * 2).min(Duration::from_secs(4));
        self.pause
    }
}
