//! One connected socket, as delivery sees it: its user, its rooms, and what waits to be sent.
//!
//! A client is *live* while it takes every event as it is handed out. When its send queue is full, or a failing plugin
//! holds an event back, it is *behind*: nothing is pushed any more, and its [`Writer`] reads the log from its cursor on
//! until it has caught up. Everything that is sent, replies too, goes through the send queue. While a `sync:reset` is
//! owed, it *waits* at the reset line: after a newer event, it would resume from past that line.
//!
//! [`Writer`]: super::writer::Writer

use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicU64, Ordering},
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
            inbox::SubscriptionHeir,
            packet::{OutgoingPacket, QueueLimits},
            session::{lease::Lease, resume::Rooms},
            settings::SocketConfig,
        },
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
    /// Notified when the lease is another, or over.
    lease_changed: Notify,
    dismissed: Notify,
    flooding: CancellationToken,
    pub(crate) closed: CancellationToken,
    engine_session: OnceLock<Weak<EngineSession>>,
    heir: OnceLock<SubscriptionHeir>,
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
    pub(crate) outbox: VecDeque<OutgoingPacket>,
    pub(crate) outbox_bytes: usize,
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
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            place: None,
        };
        Arc::new(Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(state),
            limits: QueueLimits { packets: settings.outbox_packets, bytes: settings.outbox_bytes },
            wake: Notify::new(),
            room: Notify::new(),
            lease_changed: Notify::new(),
            dismissed: Notify::new(),
            flooding: CancellationToken::new(),
            closed: CancellationToken::new(),
            engine_session: OnceLock::new(),
            heir: OnceLock::new(),
        })
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
        self.lease_changed.notify_one();
    }

    /// Ends the socket's session, as a line of the log would.
    pub(crate) fn end(&self) {
        self.state.lock().has_ended = true;
        self.lease_changed.notify_one();
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

    pub(crate) fn set_subscription_heir(&self, heir: SubscriptionHeir) {
        let _ = self.heir.set(heir);
    }

    /// Takes over the subscriptions of a lost socket of its session, from where it resumed itself.
    pub(crate) async fn inherit(&self, rooms: Rooms) {
        let (from, rooms) = {
            let mut state = self.state.lock();
            let ClientState { rooms: has, inherited, .. } = &mut *state;
            // Several sockets may leave it the same room: what went by there is sent once.
            let missing = rooms.into_keys().filter(|room| !has.contains_key(room) && inherited.insert(room.clone()));
            let missing = missing.collect();
            (state.back_from.unwrap_or(state.cursor), missing)
        };
        if let Some(heir) = self.heir.get() {
            heir.follow(rooms, from).await;
        }
    }

    /// Sets the Engine.IO session that carries its packets.
    pub(crate) fn attach(&self, engine_session: &Arc<EngineSession>) {
        let _ = self.engine_session.set(Arc::downgrade(engine_session));
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
        self.dismissed.notify_one();
    }

    pub(crate) async fn dismissed(&self) {
        self.dismissed.notified().await;
    }

    /// Token that is cancelled when the client goes on sending far more than it may.
    pub(crate) fn flooding(&self) -> &CancellationToken {
        &self.flooding
    }

    /// Takes a slot among the sockets of its user.
    pub(crate) fn occupy(&self, place: SlotGuard<UserId>) {
        self.state.lock().place = Some(place);
    }

    /// Hands the slot to the caller, who decides how long the client counts among them.
    pub(crate) fn vacate(&self) -> Option<SlotGuard<UserId>> {
        self.state.lock().place.take()
    }

    /// Waits until the lease may be another, or over.
    pub(crate) async fn lease_changed(&self) {
        self.lease_changed.notified().await;
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
        self.lease_changed.notify_one();
        match change {
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
        }
    }

    /// Marks a room that the client is about to enter as unjudged: plugins were not asked, and nothing is sent there.
    pub(crate) fn leave_unjudged(&self, room: &Room) {
        let mut state = self.state.lock();
        if !state.rooms.contains_key(room) {
            state.unjudged.insert(room.clone());
        }
    }

    /// Returns the room of the event's lead, if plugins have to be asked about it once the user sees the lead.
    pub(crate) fn awaits(&self, event: &Event) -> Option<Room> {
        self.state.lock().awaits(event)
    }

    /// Returns true if the range is only of rooms about which plugins were not asked.
    pub(crate) fn is_unjudged(&self, missed: &CatchUpRange) -> bool {
        let state = self.state.lock();
        missed.rooms.iter().all(|room| state.unjudged.contains(room))
    }

    /// Returns the rooms about which plugins were not asked.
    pub(crate) fn unjudged(&self) -> Vec<Room> {
        self.state.lock().unjudged.iter().cloned().collect()
    }

    /// Marks a room as judged, because plugins were asked: it counts from behind `since` on. False if the client left
    /// it meanwhile.
    pub(crate) fn judge(&self, room: &Room, since: Seq) -> bool {
        let mut state = self.state.lock();
        let was_unjudged = state.unjudged.remove(room);
        if let Some(from) = state.rooms.get_mut(room).filter(|_| was_unjudged) {
            *from = since.max(*from);
            return true;
        }
        false
    }

    pub(crate) fn is_in(&self, room: &Room) -> bool {
        self.state.lock().rooms.contains_key(room)
    }

    pub(crate) fn look_at_rooms(&self, look: impl FnOnce(&Rooms)) {
        look(&self.state.lock().rooms);
    }

    pub(crate) fn rooms(&self) -> usize {
        self.state.lock().rooms.len()
    }

    /// Enters a room; returns the role to count there, unless the client is closed or in it already.
    pub(crate) fn enter(&self, room: &Room, since: Seq) -> Option<Role> {
        let mut state = self.state.lock();
        if state.is_closed || state.rooms.contains_key(room) {
            return None;
        }
        state.rooms.insert(room.clone(), since);
        Some(state.user.role)
    }

    pub(crate) fn exit(&self, room: &Room) -> Option<Role> {
        let mut state = self.state.lock();
        state.unjudged.remove(room);
        state.made_up.remove(room);
        state.rooms.remove(room)?;
        Some(state.user.role)
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
        self.closed.cancel();
        state.missed = VecDeque::new();
        // Frees the slot if no command task runs for the client yet; else the client counts until that is done.
        state.place = None;
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
mod tests;
