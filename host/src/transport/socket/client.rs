//! One connected socket, as delivery sees it: its user, its rooms, and what waits to be sent.
//!
//! A client is *live* while it takes every event as it is handed out. When it cannot take one, or a failing plugin
//! holds an event back, it is *behind*: nothing is pushed any more, and its [`Writer`] reads the log from its cursor on
//! until it has caught up. While a `sync:reset` is owed, it *waits* at the reset line: after a newer event, it would
//! resume from past that line.
//!
//! A live client on a WebSocket needs no task: what it is sent is written at once (`queue.rs`). Its tasks run while
//! there is something to do for them ([`ClientTasks`]).
//!
//! [`Writer`]: super::writer::Writer

mod rooms;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    delivery::RightsChange,
    domain::{
        counter::Seq,
        event::Event,
        id::{LeadId, UserId},
        role::Role,
        room::Room,
        user::User,
    },
    transport::{
        limits::SlotGuard,
        socket::{
            conn::sessions::{DisconnectKind, EngineSession},
            inbox::Inbox,
            packet::{OutgoingPacket, QueueLimits},
            session::{lease::Lease, resume::Rooms},
            settings::SocketConfig,
        },
        tcp::connection::ConnectionHandle,
    },
};

pub(crate) struct Client {
    id: u64,
    pub(crate) state: Mutex<ClientState>,
    pub(crate) limits: QueueLimits,
    /// Notified when there is something to do for the writer.
    pub(crate) wake: Notify,
    /// Notified when something left the send queue.
    pub(crate) room: Notify,
    dismissed: Notify,
    is_flooding: AtomicBool,
    /// Number of the handshake, among those of its Engine.IO session that were accepted.
    connects: OnceLock<u64>,
    pub(crate) closed: CancellationToken,
    engine_session: OnceLock<Weak<EngineSession>>,
    inbox: OnceLock<Arc<Inbox>>,
    tasks: OnceLock<Box<dyn ClientTasks>>,
    this: Weak<Client>,
}

/// Port to the tasks of a client. Each runs only while there is something to do for it. The client may be locked while
/// one is started.
pub(crate) trait ClientTasks: Send + Sync {
    /// Runs a writer until there is nothing to write.
    fn start_writer(&self, client: Arc<Client>);

    /// Answers what is in the inbox.
    fn start_commands(&self, client: Arc<Client>);

    /// Judges the lease, which is another or over.
    fn judge_lease(&self, client: Arc<Client>);

    /// Closes the transport of the client, which counts as lost: `reason` for the metrics, `why` for the log.
    fn cut(&self, client: &Client, reason: &'static str, why: &'static str);
}

pub(crate) struct ClientState {
    pub(crate) user: Arc<User>,
    lease: Lease,
    /// Rooms, each with the seq after which the client listens to it.
    pub(crate) rooms: Rooms,
    /// Rooms among them of leads that the user did not see yet. Nothing is sent there before plugins were asked.
    pub(crate) unjudged: HashSet<Room>,
    /// Rooms that the client listens to from an older line on than it did at first, each with the line up to which that
    /// was made up for. The cursor may be behind.
    pub(crate) made_up: HashMap<Room, Seq>,
    /// Ranges that the client asks for, of what went by before it listened (catch-up).
    pub(crate) missed: VecDeque<CatchUpRange>,
    /// Set when the client asked for what it missed and the acknowledgement is not in the send queue yet.
    pub(crate) is_unanswered: bool,
    /// Acks to be sent, after a `sync:done`, once the client has caught up; `None` if it did not ask for that.
    pub(crate) syncing: Option<Vec<i64>>,
    /// Cursor: every line up to here was taken, or was not for this client.
    pub(crate) cursor: Seq,
    /// Newest line about the user's rights that is in `user` and `has_ended`.
    pub(crate) learned: Seq,
    /// Newest line that changed what the user may see.
    pub(crate) rights: Seq,
    /// Line up to which reset lines are settled: by the handshake, or by a reset that was sent.
    pub(crate) settled: Seq,
    /// The same for lines about the user's own rights, which every read follows at once.
    pub(crate) settled_own: Seq,
    pub(crate) owed: Option<OwedReset>,
    pub(crate) is_live: bool,
    /// Set when the client was live and could not take an event.
    pub(crate) fell_behind: bool,
    pub(crate) has_ended: bool,
    /// Way in which the client disconnected, if it was not simply lost.
    parting: DisconnectKind,
    /// Time at which another socket of its session last connected.
    sibling_at: Option<Instant>,
    /// Time at which such a socket connected that resumed where it was in the log, and that socket.
    successor: Option<(Instant, Weak<Client>)>,
    /// Rooms that lost sockets of its session have left it.
    inherited: HashSet<Room>,
    /// Seq from which it resumed, if it said where it was in the log.
    back_from: Option<Seq>,
    pub(crate) is_closed: bool,
    /// Connection on which what is sent is written at once; `None` while everything goes through socketioxide.
    pub(crate) short_way: Option<ConnectionHandle>,
    pub(crate) outbox: VecDeque<OutgoingPacket>,
    pub(crate) outbox_bytes: usize,
    /// Set while a writer runs, and before the first does.
    pub(crate) has_writer: bool,
    /// Set when the client is to be sent away.
    pub(crate) is_dismissed: bool,
    /// Counts the client among the sockets of its user until it is closed.
    place: Option<SlotGuard<UserId>>,
}

/// Catch-up range: lines of some rooms that a client asks for, which follow `since`, up to where it began to listen.
#[derive(Clone, Debug)]
pub(crate) struct CatchUpRange {
    pub(crate) since: Seq,
    pub(crate) upto: Seq,
    pub(crate) rooms: HashSet<Room>,
    pub(crate) is_under_way: bool,
}

impl CatchUpRange {
    /// Returns the lead, if only the lines of one lead are asked for.
    pub(crate) fn lead(&self) -> Option<LeadId> {
        let mut rooms = self.rooms.iter();
        match (rooms.next(), rooms.next()) {
            (Some(Room::Lead(lead)), None) => lead.parse().ok(),
            _ => None,
        }
    }
}

/// `sync:reset` that is to be sent because of a line of the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OwedReset {
    /// Oldest line that it is for: the client waits there.
    pub(crate) first: Seq,
    /// Newest line that it is for.
    pub(crate) line: Seq,
    pub(crate) due: Instant,
    /// Line that is to be sent before: the one about the client's own new rights.
    pub(crate) after: Seq,
    /// Set when something for the user alone went by, which is in no list: the log is read on after the reset.
    pub(crate) reads_on: bool,
}

impl OwedReset {
    /// Returns the last line that may be sent ahead of it.
    pub(crate) fn upto(&self) -> Seq {
        if self.reads_on { self.line } else { self.first }
    }
}

impl Client {
    /// Creates a client that has everything up to `cursor`, and whose user is as of that line. It starts behind, so
    /// that nothing is pushed before its writer runs.
    pub(crate) fn new(user: User, lease: Lease, cursor: Seq, settings: &SocketConfig) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let state = ClientState {
            user: Arc::new(user),
            lease,
            rooms: Rooms::new(),
            unjudged: HashSet::new(),
            made_up: HashMap::new(),
            missed: VecDeque::new(),
            is_unanswered: false,
            syncing: None,
            cursor,
            learned: cursor,
            rights: Seq::START,
            settled: cursor,
            settled_own: cursor,
            owed: None,
            is_live: false,
            fell_behind: false,
            has_ended: false,
            parting: DisconnectKind::Lost,
            sibling_at: None,
            successor: None,
            inherited: HashSet::new(),
            back_from: None,
            is_closed: false,
            short_way: None,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            has_writer: true,
            is_dismissed: false,
            place: None,
        };
        Arc::new_cyclic(|this| Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(state),
            limits: QueueLimits { packets: settings.outbox_packets, bytes: settings.outbox_bytes },
            wake: Notify::new(),
            room: Notify::new(),
            dismissed: Notify::new(),
            is_flooding: AtomicBool::new(false),
            connects: OnceLock::new(),
            closed: CancellationToken::new(),
            engine_session: OnceLock::new(),
            inbox: OnceLock::new(),
            tasks: OnceLock::new(),
            this: this.clone(),
        })
    }

    /// Sets the port to its tasks; until then, nothing is started.
    pub(crate) fn set_tasks(&self, tasks: impl ClientTasks + 'static) {
        let _ = self.tasks.set(Box::new(tasks));
    }

    /// Starts one of its tasks.
    pub(crate) fn start(&self, start: impl FnOnce(&(dyn ClientTasks + 'static), Arc<Self>)) {
        if let (Some(tasks), Some(client)) = (self.tasks.get(), self.this.upgrade()) {
            start(&**tasks, client);
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// Returns the user as of the last line of the log that was applied.
    pub(crate) fn user(&self) -> Arc<User> {
        self.state.lock().user.clone()
    }

    /// Returns true if its session is over; nothing of the log is sent to it any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.state.lock().has_ended
    }

    /// Returns the lease, as long as its session lasts.
    pub(crate) fn lease(&self) -> Option<Lease> {
        let state = self.state.lock();
        (!state.has_ended).then_some(state.lease)
    }

    pub(crate) fn renew(&self, lease: Lease) {
        self.state.lock().lease = lease;
        self.start(ClientTasks::judge_lease);
    }

    /// Ends the socket's session, as a line of the log would.
    pub(crate) fn end(&self) {
        self.state.lock().has_ended = true;
        self.start(ClientTasks::judge_lease);
    }

    /// Records how the client disconnects, before it is closed.
    pub(crate) fn go(&self, parting: DisconnectKind) {
        self.state.lock().parting = parting;
    }

    pub(crate) fn parting(&self) -> DisconnectKind {
        self.state.lock().parting
    }

    /// Records that another socket of the same session connected.
    pub(crate) fn note_sibling(&self, sibling: &Arc<Self>) {
        let is_back = sibling.is_back();
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.sibling_at = Some(now);
        if is_back {
            state.successor = Some((now, Arc::downgrade(sibling)));
        }
    }

    /// Returns a socket of its session that is still here, connected after `then`, and resumed where it was in the log.
    pub(crate) fn successor_since(&self, then: Instant) -> Option<Arc<Self>> {
        let state = self.state.lock();
        let (_, successor) = state.successor.as_ref().filter(|(at, _)| *at > then)?;
        successor.upgrade().filter(|successor| !successor.closed.is_cancelled())
    }

    /// Records the seq from which it resumed.
    pub(crate) fn come_back(&self, from: Seq) {
        self.state.lock().back_from = Some(from);
    }

    /// Returns true if the client said where it was in the log.
    pub(crate) fn is_back(&self) -> bool {
        self.state.lock().back_from.is_some()
    }

    pub(crate) fn set_inbox(&self, inbox: Arc<Inbox>) {
        let _ = self.inbox.set(inbox);
    }

    pub(crate) fn inbox(&self) -> Option<&Arc<Inbox>> {
        self.inbox.get()
    }

    /// Takes over the subscriptions of a lost socket of its session, from where it resumed itself.
    pub(crate) fn inherit(&self, rooms: Rooms) {
        let (from, rooms) = {
            let mut state = self.state.lock();
            let ClientState { rooms: has, inherited, .. } = &mut *state;
            // Several sockets may leave it the same room: what went by there is sent once.
            let missing = rooms.into_keys().filter(|room| !has.contains_key(room) && inherited.insert(room.clone()));
            let missing: Vec<_> = missing.collect();
            (state.back_from.unwrap_or(state.cursor), missing)
        };
        if self.inbox.get().is_some_and(|inbox| inbox.follow(&rooms, from)) {
            self.start(ClientTasks::start_commands);
        }
    }

    /// Sets the Engine.IO session that carries its packets, in which the handshake is accepted.
    pub(crate) fn attach(&self, engine_session: &Arc<EngineSession>) {
        let _ = self.engine_session.set(Arc::downgrade(engine_session));
        let _ = self.connects.set(engine_session.connect());
    }

    pub(crate) fn connects(&self) -> u64 {
        self.connects.get().copied().unwrap_or_default()
    }

    /// Has everything written at once on this connection from now on.
    pub(crate) fn go_short(&self, connection: &ConnectionHandle) {
        let mut state = self.state.lock();
        if !state.is_closed && state.short_way.is_none() {
            state.short_way = Some(connection.clone());
        }
    }

    pub(crate) fn engine_session(&self) -> Option<Arc<EngineSession>> {
        self.engine_session.get().and_then(Weak::upgrade)
    }

    /// Returns true if another socket of its session has connected after `then`.
    pub(crate) fn has_sibling_since(&self, then: Instant) -> bool {
        self.state.lock().sibling_at.is_some_and(|at| at > then)
    }

    /// Sends the client away, once it has what waits for it.
    pub(crate) fn dismiss(&self) {
        let mut state = self.state.lock();
        state.is_dismissed = true;
        self.dismissed.notify_one();
        self.wake_writer(&mut state);
    }

    pub(crate) async fn dismissed(&self) {
        self.dismissed.notified().await;
    }

    /// Cuts a client that goes on sending far more than it may.
    pub(crate) fn cut_flooding(&self) {
        if !self.is_flooding.swap(true, Ordering::Relaxed) {
            self.start(|tasks, client| tasks.cut(&client, "flooding", "it far exceeds its packet limit"));
        }
    }

    pub(crate) fn is_flooding(&self) -> bool {
        self.is_flooding.load(Ordering::Relaxed)
    }

    /// Takes a slot among the sockets of its user.
    pub(crate) fn occupy(&self, place: SlotGuard<UserId>) {
        self.state.lock().place = Some(place);
    }

    /// Frees that slot.
    pub(crate) fn vacate(&self) {
        self.state.lock().place = None;
    }

    /// Token that is cancelled when the socket is gone.
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Applies line `seq` of the log about the user's rights, unless a newer one is known already.
    ///
    /// Returns the client's rooms with the role before and after, if the role changed.
    pub(crate) fn learn(&self, seq: Seq, change: &RightsChange) -> Option<(Vec<Room>, Role, Role)> {
        let mut state = self.state.lock();
        if state.is_closed || change.user() != state.user.id || seq <= state.learned {
            return None;
        }
        state.learned = seq;
        let moved = match change {
            RightsChange::SessionsEnded { session, .. } => {
                state.has_ended |= session.is_none() || *session == state.lease.session;
                None
            }
            RightsChange::User(user) => {
                let from = state.user.role;
                if (from, state.user.active) != (user.role, user.active) {
                    state.rights = seq;
                }
                state.user = Arc::new(user.clone());
                // A token of another issuer's key may be limited to some roles.
                state.has_ended |= !user.active || !state.lease.credentials.roles.contains(user.role);
                (from != user.role).then(|| (state.rooms.keys().cloned().collect(), from, user.role))
            }
        };
        if state.has_ended {
            self.start(ClientTasks::judge_lease);
        }
        moved
    }

    /// Leaves every room for good; returns the rooms, and the role that was counted there. `None` if it is closed
    /// already.
    pub(crate) fn close(&self) -> Option<(Rooms, Role)> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_closed, true) {
            return None;
        }
        state.is_live = false;
        state.outbox = VecDeque::new();
        state.outbox_bytes = 0;
        state.short_way = None;
        self.closed.cancel();
        state.missed = VecDeque::new();
        // A client of which commands are still being answered counts until that is done.
        if self.inbox.get().is_none_or(|inbox| !inbox.is_busy()) {
            state.place = None;
        }
        Some((std::mem::take(&mut state.rooms), state.user.role))
    }
}

impl ClientState {
    pub(crate) fn awaits(&self, event: &Event) -> Option<Room> {
        if self.unjudged.is_empty() {
            return None;
        }
        let room = Room::Lead(event.lead_id?.to_string());
        self.unjudged.contains(&room).then_some(room)
    }

    /// Returns true if nothing of the log may be sent before a reset.
    pub(crate) fn is_waiting(&self) -> bool {
        self.owed.is_some_and(|owed| self.cursor >= owed.upto())
    }

    pub(crate) fn wants(&self, event: &Event) -> bool {
        let listens = |room| {
            let is_after = |since: &Seq| *since < event.seq;
            self.rooms.get(room).is_some_and(is_after)
                && self.made_up.get(room).is_none_or(is_after)
                && !self.unjudged.contains(room)
        };
        event.seq > self.cursor && !self.has_ended && event.rooms.iter().any(listens)
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
