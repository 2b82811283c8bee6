//! One connected socket, as delivery sees it: whose it is, which rooms it is in, and what waits to be sent.
//!
//! A client is *live* while it takes every event as it is handed out. When its outbox is full, or a failing
//! plugin holds an event back, it is *behind*: nothing is pushed any more, and its [`Writer`] reads the log
//! from its cursor on until it has caught up. Everything that is sent, replies too, goes through the outbox.
//! While a `sync:reset` is owed, it *waits* at the reset line: a newer event would have it come back from past that line.
//!
//! [`Writer`]: super::outbox::Writer

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

use super::{
    Settings,
    flow::{Flow, Parting},
    handler::Heir,
    kept::Rooms,
    limits::Place,
    session::Lease,
};
use crate::{
    delivery::{
        RightsChange,
        shape::{Message, Slice},
    },
    domain::{
        event::Event,
        id::{LeadId, UserId},
        role::Role,
        room::Room,
        user::User,
    },
};

pub(super) struct Client {
    id: u64,
    state: Mutex<State>,
    limits: Limits,
    /// There is something to do for the writer.
    wake: Notify,
    /// Something left the outbox.
    room: Notify,
    /// The lease is another, or over.
    lease_changed: Notify,
    dismissed: Notify,
    flooding: CancellationToken,
    closed: CancellationToken,
    flow: OnceLock<Weak<Flow>>,
    heir: OnceLock<Heir>,
}

struct State {
    user: Arc<User>,
    lease: Lease,
    /// Each with the seq after which the client listens to it.
    rooms: Rooms,
    /// Those among them of leads that the user did not see yet. Nothing is sent there before plugins were asked.
    unjudged: HashSet<Room>,
    /// Of rooms that it listens to from an older line on than it did at first: up to which line that was made up for. The
    /// cursor may be behind.
    made_up: HashMap<Room, u64>,
    /// What the client asks for of what went by before it listened.
    missed: VecDeque<Missed>,
    /// It asked for what it missed, and the answer that says so is not in the outbox yet.
    is_unanswered: bool,
    /// There is to be a `sync:done` once the client has caught up, and these acks.
    syncing: Option<Vec<i64>>,
    /// Every line up to here was taken, or was not for this client.
    cursor: u64,
    /// The newest line about the user's rights that is in `user` and `has_ended`.
    learned: u64,
    /// The newest line that changed what the user may see.
    rights: u64,
    /// Reset lines up to here are taken account of: by the handshake, or by a reset that was sent.
    settled: u64,
    owed: Option<OwedReset>,
    is_live: bool,
    /// It was live and could not take an event.
    fell_behind: bool,
    has_ended: bool,
    /// How it went, where it was not simply lost.
    parting: Parting,
    /// When another socket of its session last connected.
    sibling_at: Option<Instant>,
    /// When one did that went on where it was in the log, and that one.
    successor: Option<(Instant, Weak<Client>)>,
    /// Rooms that lost sockets of its session have left it.
    inherited: HashSet<Room>,
    /// Where it went on in the log, if it said where it was.
    back_from: Option<u64>,
    is_closed: bool,
    outbox: VecDeque<Output>,
    outbox_bytes: usize,
    /// Counts it among the sockets of its user until it is closed.
    place: Option<Place<UserId>>,
}

/// Lines of some rooms that a client asks for: those that follow `since`, up to where it began to listen.
#[derive(Clone, Debug)]
pub(super) struct Missed {
    pub(super) since: u64,
    pub(super) upto: u64,
    rooms: HashSet<Room>,
    is_under_way: bool,
}

impl Missed {
    /// The lead whose lines alone are asked for, if it is one.
    pub(super) fn lead(&self) -> Option<LeadId> {
        let mut rooms = self.rooms.iter();
        match (rooms.next(), rooms.next()) {
            (Some(Room::Lead(lead)), None) => lead.parse().ok(),
            _ => None,
        }
    }
}

/// A `sync:reset` that is to be sent, because of a line of the log.
#[derive(Clone, Copy, Debug)]
struct OwedReset {
    /// The oldest line that it is for: the client waits there.
    first: u64,
    /// The newest line that it is for.
    line: u64,
    due: Instant,
    /// What is to be sent before: the line that tells of the client's own new rights.
    after: u64,
    /// Something for the user alone went by, which no list shows: the log is read on after the reset.
    reads_on: bool,
}

impl OwedReset {
    /// The last line that may be sent ahead of it.
    fn upto(&self) -> u64 {
        if self.reads_on { self.line } else { self.first }
    }
}

struct Limits {
    packets: usize,
    bytes: usize,
}

/// One packet to be sent.
#[derive(Clone, Debug)]
pub(super) enum Output {
    Event(Message),
    Ack(i64, Arc<serde_json::value::RawValue>),
}

/// What became of an event that was offered to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offered {
    Taken,
    /// The event is not for it, or it reads the log anyway.
    Nothing,
    /// It fell behind: its outbox has no room.
    Full,
    /// It fell behind: a failing plugin holds the event back.
    Held,
    /// It fell behind: the user sees a lead now that it listens to, and plugins have to be asked whether it may.
    Unjudged,
}

/// The client asks again and again for what it missed.
#[derive(Debug, thiserror::Error)]
#[error("too many replays are under way")]
pub(super) struct TooManySyncs;

impl Output {
    fn bytes(&self) -> usize {
        match self {
            Self::Event(message) => message.bytes(),
            Self::Ack(_, body) => body.get().len(),
        }
    }

    /// The length of its Engine.IO packet: `42["name",{…}]` or `437[{…}]`.
    pub(super) fn encoded_bytes(&self) -> usize {
        match self {
            Self::Event(message) => "42[\"\",]".len() + message.bytes(),
            Self::Ack(id, body) => "43[]".len() + id.to_string().len() + body.get().len(),
        }
    }
}

impl Client {
    /// A client of whom everything up to `cursor` is known, and whose user is as of that line; it starts behind, so that nothing is pushed
    /// before its writer runs.
    pub(super) fn new(user: User, lease: Lease, cursor: u64, settings: &Settings) -> Arc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let state = State {
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
            rights: 0,
            settled: cursor,
            owed: None,
            is_live: false,
            fell_behind: false,
            has_ended: false,
            parting: Parting::Lost,
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
            limits: Limits { packets: settings.outbox_packets, bytes: settings.outbox_bytes },
            wake: Notify::new(),
            room: Notify::new(),
            lease_changed: Notify::new(),
            dismissed: Notify::new(),
            flooding: CancellationToken::new(),
            closed: CancellationToken::new(),
            flow: OnceLock::new(),
            heir: OnceLock::new(),
        })
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// The user as the last line of the log that was applied has it.
    pub(super) fn user(&self) -> Arc<User> {
        self.state.lock().user.clone()
    }

    /// Whether its session is over; it is sent nothing of the log any more.
    pub(super) fn has_ended(&self) -> bool {
        self.state.lock().has_ended
    }

    /// What lets the socket stay, as long as its session does.
    pub(super) fn lease(&self) -> Option<Lease> {
        let state = self.state.lock();
        (!state.has_ended).then_some(state.lease)
    }

    pub(super) fn renew(&self, lease: Lease) {
        self.state.lock().lease = lease;
        self.lease_changed.notify_one();
    }

    /// Ends the socket's session, as a line of the log would.
    pub(super) fn end(&self) {
        self.state.lock().has_ended = true;
        self.lease_changed.notify_one();
    }

    /// Notes how the client goes, ahead of closing it.
    pub(super) fn go(&self, parting: Parting) {
        self.state.lock().parting = parting;
    }

    pub(super) fn parting(&self) -> Parting {
        self.state.lock().parting
    }

    /// Notes that another socket of the same session connected.
    pub(super) fn note_sibling(&self, sibling: &Arc<Self>) {
        let is_back = sibling.is_back();
        let (mut state, now) = (self.state.lock(), Instant::now());
        state.sibling_at = Some(now);
        if is_back {
            state.successor = Some((now, Arc::downgrade(sibling)));
        }
    }

    /// A socket of its session that is here and connected since then, going on where it was in the log.
    pub(super) fn successor_since(&self, then: Instant) -> Option<Arc<Self>> {
        let state = self.state.lock();
        let (_, successor) = state.successor.as_ref().filter(|(at, _)| *at > then)?;
        successor.upgrade().filter(|successor| !successor.closed.is_cancelled())
    }

    /// Notes that it went on from there in the log.
    pub(super) fn come_back(&self, from: u64) {
        self.state.lock().back_from = Some(from);
    }

    /// Whether it said where it was in the log.
    pub(super) fn is_back(&self) -> bool {
        self.state.lock().back_from.is_some()
    }

    pub(super) fn set_heir(&self, heir: Heir) {
        let _ = self.heir.set(heir);
    }

    /// Follows what a lost socket of its session followed, from where it went on itself.
    pub(super) async fn inherit(&self, rooms: Rooms) {
        let (from, rooms) = {
            let mut state = self.state.lock();
            let State { rooms: has, inherited, .. } = &mut *state;
            // Several sockets may leave it the same room: what went by there is sent once.
            let missing = rooms.into_keys().filter(|room| !has.contains_key(room) && inherited.insert(room.clone()));
            let missing = missing.collect();
            (state.back_from.unwrap_or(state.cursor), missing)
        };
        if let Some(heir) = self.heir.get() {
            heir.follow(rooms, from).await;
        }
    }

    /// Says whose packets it gets.
    pub(super) fn attach(&self, flow: &Arc<Flow>) {
        let _ = self.flow.set(Arc::downgrade(flow));
    }

    pub(super) fn flow(&self) -> Option<Arc<Flow>> {
        self.flow.get().and_then(Weak::upgrade)
    }

    /// Whether another socket of its session has connected since then.
    pub(super) fn has_sibling_since(&self, then: Instant) -> bool {
        self.state.lock().sibling_at.is_some_and(|at| at > then)
    }

    /// Sends the client away, once it has what waits for it.
    pub(super) fn dismiss(&self) {
        self.dismissed.notify_one();
    }

    pub(super) async fn dismissed(&self) {
        self.dismissed.notified().await;
    }

    /// Cancelled when the client goes on sending far more than it may.
    pub(super) fn flooding(&self) -> &CancellationToken {
        &self.flooding
    }

    /// Takes a place among the sockets of its user.
    pub(super) fn occupy(&self, place: Place<UserId>) {
        self.state.lock().place = Some(place);
    }

    /// Leaves it to the caller how long the client counts among them.
    pub(super) fn vacate(&self) -> Option<Place<UserId>> {
        self.state.lock().place.take()
    }

    pub(super) fn has_output(&self) -> bool {
        !self.state.lock().outbox.is_empty()
    }

    /// How many packets wait to be sent, and how many bytes they have.
    pub(super) fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.outbox.len(), state.outbox_bytes)
    }

    /// Whether it is being caught up from the log.
    pub(super) fn is_behind(&self) -> bool {
        let state = self.state.lock();
        !state.is_live && !state.has_ended && !state.is_waiting()
    }

    /// Waits until the lease may be another, or over.
    pub(super) async fn lease_changed(&self) {
        self.lease_changed.notified().await;
    }

    pub(super) fn cursor(&self) -> u64 {
        self.state.lock().cursor
    }

    /// The newest line about the user's rights that the client knows of.
    pub(super) fn learned(&self) -> u64 {
        self.state.lock().learned
    }

    /// The newest line that changed what the user may see: nothing older is made up for.
    pub(super) fn rights(&self) -> u64 {
        self.state.lock().rights
    }

    pub(super) fn note_rights(&self, seq: u64) {
        let mut state = self.state.lock();
        state.rights = seq.max(state.rights);
    }

    /// Lets the writer send a reset at that moment, unless the client has what came of the line. Nothing newer than the
    /// line is sent before. `is_own` is for one about the client's own rights.
    pub(super) fn owe_reset(&self, line: u64, is_own: bool, due: Instant) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if line <= state.settled || state.is_closed {
            return;
        }
        let owed = state.owed.get_or_insert(OwedReset { first: line, line, due, after: 0, reads_on: false });
        // One will do for all lines up to then.
        owed.line = owed.line.max(line);
        owed.due = owed.due.min(due);
        if is_own {
            owed.after = line;
            owed.reads_on = true;
        }
        if std::mem::take(&mut state.is_live) {
            // It was offered everything up to there.
            state.cursor = state.cursor.max(line);
        }
        drop(guard);
        self.wake.notify_one();
    }

    /// When a reset is to be sent, if one is owed and nothing has to go ahead of it.
    pub(super) fn reset_due(&self) -> Option<Instant> {
        let state = self.state.lock();
        let owed = state.owed.filter(|owed| !state.has_ended && state.cursor >= owed.after)?;
        Some(owed.due)
    }

    /// Where a client that is reset now goes on, if lines up to `position` were, or are just being, handed out.
    pub(super) fn reset_seq(&self, position: u64) -> u64 {
        let state = self.state.lock();
        match state.owed {
            Some(owed) if owed.reads_on && state.cursor >= owed.line => state.cursor,
            // Whether the newest line is for the user alone may not be known yet.
            Some(owed) => position.saturating_sub(1).max(owed.line).max(state.cursor),
            None => position,
        }
    }

    /// The last line that may be sent ahead of a reset that is owed.
    pub(super) fn upto(&self) -> u64 {
        self.state.lock().owed.map_or(u64::MAX, |owed| owed.upto())
    }

    /// Begins at an older seq than the head that was noted, and says so when it has caught up.
    pub(super) fn resume(&self, since: u64) {
        let mut state = self.state.lock();
        state.cursor = since;
        state.syncing = Some(Vec::new());
    }

    /// Asks for what of a room that the client is in went by after `since`, unless it was sent that.
    /// A `since` that is ahead of the log, or behind the newest reset line, leads to a reset.
    pub(super) fn ask(&self, room: &Room, since: u64, position: u64, reset_line: u64) {
        let mut state = self.state.lock();
        let Some(upto) = state.rooms.get(room).copied() else { return };
        if (upto..=position).contains(&since) && since >= reset_line {
            return;
        }
        state.is_live = false;
        match state.missed.back_mut() {
            // Many rooms from the same seq on are read for at once.
            Some(last) if last.since == since && since < upto && !last.is_under_way => {
                last.rooms.insert(room.clone());
                last.upto = last.upto.max(upto);
            }
            _ => {
                let rooms = HashSet::from([room.clone()]);
                state.missed.push_back(Missed { since, upto, rooms, is_under_way: false });
            }
        }
        // Woken by `answered`: the answer goes ahead of what it announces.
        state.is_unanswered = true;
    }

    /// Notes that the answer to `ask` is in the outbox, so that what was missed may follow.
    pub(super) fn answered(&self) {
        if std::mem::take(&mut self.state.lock().is_unanswered) {
            self.wake.notify_one();
        }
    }

    pub(super) fn is_unanswered(&self) -> bool {
        self.state.lock().is_unanswered
    }

    /// Asks for what of all its rooms went by after `since` and was not sent, and for word when it has caught up.
    /// A `since` that is ahead of the log, or behind the newest reset line, leads to a reset.
    ///
    /// # Errors
    /// When too many such questions wait already.
    pub(super) fn sync(
        &self,
        since: u64,
        ack: Option<i64>,
        position: u64,
        reset_line: u64,
    ) -> Result<(), TooManySyncs> {
        const MAX_WAITING: usize = 8;
        let mut state = self.state.lock();
        let upto = state.rooms.values().copied().max().unwrap_or_default();
        let waiting = state.missed.iter().filter(|missed| missed.rooms.len() > 1).count();
        if waiting >= MAX_WAITING || state.syncing.as_ref().is_some_and(|acks| acks.len() >= MAX_WAITING) {
            return Err(TooManySyncs);
        }
        if since < upto || since > position || since < reset_line {
            let rooms = state.rooms.keys().cloned().collect();
            state.missed.push_back(Missed { since, upto, rooms, is_under_way: false });
        }
        state.syncing.get_or_insert_default().extend(ack);
        state.is_live = false;
        if let Some(owed) = &mut state.owed {
            // It is the answer.
            owed.due = owed.due.min(Instant::now());
        }
        drop(state);
        self.wake.notify_one();
        Ok(())
    }

    /// What the client asks for next of what went by.
    pub(super) fn next_missed(&self) -> Option<Missed> {
        let mut state = self.state.lock();
        let is_late = state.owed.is_some_and(|owed| state.cursor < owed.after);
        if state.has_ended || is_late {
            return None;
        }
        let missed = state.missed.front_mut()?;
        missed.is_under_way = true;
        Some(missed.clone())
    }

    /// Whether a line that went by is for this client, asked for and not sent; for whom to shape it then.
    pub(super) fn wants_missed(&self, event: &Event, missed: &Missed) -> Option<Arc<User>> {
        let state = self.state.lock();
        let from = |room| state.rooms.get(room).copied();
        let is_asked = |room| {
            let is_before = from(room).is_some_and(|from| event.seq <= from);
            missed.rooms.contains(room) && is_before && !state.unjudged.contains(room)
        };
        let was_sent = |room| from(room).is_some_and(|from| from < event.seq) && !state.unjudged.contains(room);
        let wants = !state.has_ended && event.rooms.iter().any(is_asked) && !event.rooms.iter().any(was_sent);
        wants.then(|| state.user.clone())
    }

    /// Notes that what was asked for first was sent.
    pub(super) fn was_sent_missed(&self) {
        let mut state = self.state.lock();
        let Some(missed) = state.missed.pop_front() else { return };
        let State { rooms, made_up, .. } = &mut *state;
        for room in missed.rooms {
            if let Some(from) = rooms.get_mut(&room).filter(|from| missed.since < **from) {
                let before = std::mem::replace(from, missed.since);
                made_up.entry(room).or_insert(before);
            }
        }
    }

    /// The acks that wait for the client to catch up; nothing where nobody asked for word of it.
    pub(super) fn synced(&self) -> Option<Vec<i64>> {
        let mut state = self.state.lock();
        if state.owed.is_some() {
            return None;
        }
        state.syncing.take()
    }

    /// Goes on from `seq`, whatever was missed; the acks that waited for it. A client that is live missed nothing.
    pub(super) fn skip_to(&self, seq: u64) -> Vec<i64> {
        let mut state = self.state.lock();
        state.settled = state.settled.max(seq);
        state.owed.take_if(|owed| owed.line <= seq);
        if state.is_live {
            return Vec::new();
        }
        state.cursor = state.cursor.max(seq);
        state.missed.clear();
        for from in state.rooms.values_mut() {
            *from = seq.max(*from);
        }
        state.syncing.take().unwrap_or_default()
    }

    /// Cancelled when the socket is gone.
    pub(super) fn closed(&self) -> &CancellationToken {
        &self.closed
    }

    /// Puts a reply into the outbox, and waits while that is full. A reply to a closed socket is dropped.
    pub(super) async fn reply(&self, output: Output) {
        loop {
            let room = self.room.notified();
            if self.try_reply(&output) {
                return;
            }
            tokio::select! {
                () = room => {}
                () = self.closed.cancelled() => return,
            }
        }
    }

    /// Puts a reply into the outbox unless that is full.
    pub(super) fn try_reply(&self, output: &Output) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return true;
        }
        let pushed = state.push(&self.limits, output);
        drop(state);
        self.wake.notify_one();
        pushed
    }

    /// Waits until there may be something to do for the writer.
    pub(super) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(super) fn pop(&self) -> Option<Output> {
        let mut state = self.state.lock();
        let output = state.outbox.pop_front()?;
        state.outbox_bytes -= output.bytes();
        drop(state);
        self.room.notify_one();
        Some(output)
    }

    /// Takes an event that is being handed out, if it is for this client, which falls behind where it cannot.
    pub(super) fn offer(&self, event: &Event, slices: &[(Role, Arc<Slice>)]) -> Offered {
        let mut state = self.state.lock();
        let awaits = state.awaits(event).is_some();
        if !state.is_live || !(awaits || state.wants(event)) {
            let is_personal = event.rooms.iter().all(|room| matches!(room, Room::User(_))) && state.wants(event);
            if let Some(owed) = state.owed.as_mut().filter(|owed| is_personal && event.seq > owed.first) {
                owed.reads_on = true;
            }
            return Offered::Nothing;
        }
        let role = state.user.role;
        let slice = slices.iter().find(|(shaped, _)| *shaped == role).map(|(_, slice)| &**slice);
        let offered = match slice {
            Some(slice) if awaits && slice.includes(&state.user) => Offered::Unjudged,
            _ if !state.wants(event) => Offered::Nothing,
            None | Some(Slice::Held(_)) => Offered::Held,
            Some(slice) => match slice.message_for(&state.user) {
                Some(message) if state.push(&self.limits, &Output::Event(message.clone())) => Offered::Taken,
                Some(_) => Offered::Full,
                None => Offered::Nothing,
            },
        };
        state.is_live = matches!(offered, Offered::Taken | Offered::Nothing);
        state.fell_behind |= !state.is_live;
        // Lines between the cursor and this one were not for this client.
        state.cursor = if state.is_live { event.seq } else { event.seq - 1 };
        drop(state);
        self.wake.notify_one();
        offered
    }

    /// Whether it fell behind since this was last asked.
    pub(super) fn take_fallen(&self) -> bool {
        std::mem::take(&mut self.state.lock().fell_behind)
    }

    /// The cursor of a client that is behind and has nothing in its outbox, where events may wait that it took
    /// just before it fell behind; and does not wait for a reset.
    pub(super) fn behind(&self) -> Option<u64> {
        let state = self.state.lock();
        let reads = !state.is_live && !state.has_ended && !state.is_waiting() && state.outbox.is_empty();
        reads.then_some(state.cursor)
    }

    /// Whether a line that is read again is for this client, who is then the one to shape it for.
    pub(super) fn wants(&self, event: &Event) -> Option<Arc<User>> {
        let state = self.state.lock();
        state.wants(event).then(|| state.user.clone())
    }

    /// Notes that everything up to `seq` was taken.
    pub(super) fn advance(&self, seq: u64) {
        let mut state = self.state.lock();
        state.cursor = state.cursor.max(seq);
    }

    /// Lets the client take events as they come, unless one was handed out that it has not read.
    ///
    /// `position` is asked while the client is locked: an event is handed out only after the position
    /// says so, and is offered under this lock. Whichever comes first, the client takes it once.
    pub(super) fn go_live(&self, position: impl FnOnce() -> u64) -> bool {
        let mut state = self.state.lock();
        let is_done = state.missed.is_empty() && state.syncing.is_none() && state.owed.is_none();
        state.is_live = state.cursor >= position() && is_done;
        state.is_live
    }

    pub(super) fn fall_behind(&self) {
        self.state.lock().is_live = false;
        self.wake.notify_one();
    }

    /// Takes over what line `seq` of the log says of the user's rights, unless that is old news.
    ///
    /// Returns the client's rooms with the role before and after, where that changed.
    pub(super) fn learn(&self, seq: u64, change: &RightsChange) -> Option<(Vec<Room>, Role, Role)> {
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
                // A token of another issuer's key may act as some roles alone.
                state.has_ended |= !user.active || !state.lease.credentials.roles.contains(user.role);
                (from != user.role).then(|| (state.rooms.keys().cloned().collect(), from, user.role))
            }
        }
    }

    /// Whether it listens to a room, or is about to, of which plugins were not asked. It is sent nothing there.
    pub(super) fn leave_unjudged(&self, room: &Room) {
        let mut state = self.state.lock();
        if !state.rooms.contains_key(room) {
            state.unjudged.insert(room.clone());
        }
    }

    /// The room of the event's lead, if plugins have to be asked about it once the user sees the lead.
    pub(super) fn awaits(&self, event: &Event) -> Option<Room> {
        self.state.lock().awaits(event)
    }

    /// Whether all that is asked for is of rooms of which plugins were not asked.
    pub(super) fn is_unjudged(&self, missed: &Missed) -> bool {
        let state = self.state.lock();
        missed.rooms.iter().all(|room| state.unjudged.contains(room))
    }

    /// The rooms of which plugins were not asked.
    pub(super) fn unjudged(&self) -> Vec<Room> {
        self.state.lock().unjudged.iter().cloned().collect()
    }

    /// Lets a room count from behind `since` on: plugins were asked. False where it was left meanwhile.
    pub(super) fn judge(&self, room: &Room, since: u64) -> bool {
        let mut state = self.state.lock();
        let was_unjudged = state.unjudged.remove(room);
        if let Some(from) = state.rooms.get_mut(room).filter(|_| was_unjudged) {
            *from = since.max(*from);
            return true;
        }
        false
    }

    pub(super) fn is_in(&self, room: &Room) -> bool {
        self.state.lock().rooms.contains_key(room)
    }

    pub(super) fn look_at_rooms(&self, look: impl FnOnce(&Rooms)) {
        look(&self.state.lock().rooms);
    }

    pub(super) fn rooms(&self) -> usize {
        self.state.lock().rooms.len()
    }

    /// Enters a room; the role to count there, unless the client is closed or in it already.
    pub(super) fn enter(&self, room: &Room, since: u64) -> Option<Role> {
        let mut state = self.state.lock();
        if state.is_closed || state.rooms.contains_key(room) {
            return None;
        }
        state.rooms.insert(room.clone(), since);
        Some(state.user.role)
    }

    pub(super) fn exit(&self, room: &Room) -> Option<Role> {
        let mut state = self.state.lock();
        state.unjudged.remove(room);
        state.made_up.remove(room);
        state.rooms.remove(room)?;
        Some(state.user.role)
    }

    /// Leaves every room for good; which they were, and the role that was counted there. Nothing where it has already.
    pub(super) fn close(&self) -> Option<(Rooms, Role)> {
        let mut state = self.state.lock();
        if std::mem::replace(&mut state.is_closed, true) {
            return None;
        }
        state.is_live = false;
        state.outbox = VecDeque::new();
        state.outbox_bytes = 0;
        self.closed.cancel();
        state.missed = VecDeque::new();
        // Where nobody works for it yet; else it counts until that is done.
        state.place = None;
        Some((std::mem::take(&mut state.rooms), state.user.role))
    }
}

impl State {
    fn awaits(&self, event: &Event) -> Option<Room> {
        if self.unjudged.is_empty() {
            return None;
        }
        let room = Room::Lead(event.lead_id?.to_string());
        self.unjudged.contains(&room).then_some(room)
    }

    /// Whether it may be sent nothing of the log before a reset.
    fn is_waiting(&self) -> bool {
        self.owed.is_some_and(|owed| self.cursor >= owed.upto())
    }

    fn wants(&self, event: &Event) -> bool {
        let listens = |room| {
            let is_after = |since: &u64| *since < event.seq;
            self.rooms.get(room).is_some_and(is_after)
                && self.made_up.get(room).is_none_or(is_after)
                && !self.unjudged.contains(room)
        };
        event.seq > self.cursor && !self.has_ended && event.rooms.iter().any(listens)
    }

    fn push(&mut self, limits: &Limits, output: &Output) -> bool {
        let bytes = output.bytes();
        // A packet that alone is over the limit still goes through an empty outbox.
        let fits = self.outbox_bytes + bytes <= limits.bytes && self.outbox.len() < limits.packets;
        if !fits && !self.outbox.is_empty() {
            return false;
        }
        self.outbox_bytes += bytes;
        self.outbox.push_back(output.clone());
        true
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;
    use crate::{
        auth::Credentials,
        delivery::{replay::Line, shape::Shaper},
        domain::{id::UserId, policy::Visibility, role::Roles, time::Timestamp},
        plugin::Plugins,
    };

    const ROLE: Role = Role::Sales;

    fn user() -> User {
        let at = Timestamp::from_millis(0).expect("in range");
        let (email, name) = ("sam@example.com".into(), "Sam".into());
        User { id: UserId(Uuid::nil()), email, name, role: ROLE, active: true, created_at: at, updated_at: at }
    }

    /// A client in the room of all that has read everything up to 10.
    fn client(outbox_packets: usize) -> Arc<Client> {
        let at = user().created_at;
        let lease = Lease::new(Credentials { session: None, issued_at: at, expires_at: at, roles: Roles::ALL });
        let client = Client::new(user(), lease, 10, &Settings { outbox_packets, ..Settings::default() });
        client.enter(&Room::Everyone, 10);
        client
    }

    fn event(seq: u64) -> Event {
        let (rooms, at) = (vec![Room::Everyone], Timestamp::from_millis(0).expect("in range"));
        Event {
            seq,
            name: "lead:updated".into(),
            rooms,
            lead_id: None,
            payload: json!({}).into(),
            context: json!({}),
            at,
        }
    }

    fn offer(client: &Client, seq: u64) {
        let shaper = Shaper::new(Plugins::none(), Visibility::default(), "epoch");
        let line = Line::new(event(seq));
        client.offer(&line.event, &shaper.slices(&line, &[ROLE]));
    }

    fn seqs(client: &Client) -> Vec<u64> {
        let seq = |output: Output| match output {
            Output::Event(message) => {
                serde_json::from_str::<serde_json::Value>(message.body.get()).expect("JSON")["seq"].as_u64()
            }
            Output::Ack(..) => None,
        };
        std::iter::from_fn(|| client.pop()).filter_map(seq).collect()
    }

    #[test]
    fn a_client_is_pushed_nothing_before_it_is_live_and_nothing_twice() {
        let client = client(8);
        offer(&client, 11);
        assert_eq!((seqs(&client), client.behind()), (vec![], Some(10)));
        assert!(!client.go_live(|| 11), "11 was handed out and not read");
        client.advance(11);
        assert!(client.go_live(|| 11));
        for seq in [10, 11, 12, 12, 13] {
            offer(&client, seq);
        }
        assert_eq!(seqs(&client), [12, 13]);
    }

    #[test]
    fn a_full_outbox_makes_a_client_fall_behind_at_the_first_event_it_cannot_take() {
        let client = client(2);
        assert!(client.go_live(|| 10));
        for seq in 11..=15 {
            offer(&client, seq);
        }
        assert_eq!(client.behind(), None, "what it took comes first");
        assert_eq!(seqs(&client), [11, 12]);
        assert_eq!(client.behind(), Some(12));
    }

    #[test]
    fn nothing_newer_goes_ahead_of_a_reset_that_is_owed_and_nothing_for_the_user_alone_is_lost_by_it() {
        let later = Instant::now() + std::time::Duration::from_secs(3600);
        let client = client(8);
        client.enter(&Room::User(user().id), 10);
        assert!(client.go_live(|| 10));
        offer(&client, 11);
        client.owe_reset(12, false, later);
        for seq in 13..=15 {
            offer(&client, seq);
        }
        assert_eq!(seqs(&client), [11], "what was handed out before goes out");
        assert!(!client.go_live(|| 12));
        assert_eq!((client.behind(), client.is_behind(), client.upto()), (None, false, 12));
        assert_eq!((client.reset_due(), client.reset_seq(15)), (Some(later), 14));
        // A second line is made up for by the same reset, and a question is answered by it.
        client.owe_reset(16, false, later);
        assert_eq!((client.upto(), client.reset_seq(16)), (12, 16));
        client.sync(14, Some(1), 16, 12).expect("few wait");
        assert!(client.synced().is_none() && client.reset_due().expect("owed") < later);
        assert_eq!(client.skip_to(16), [1]);
        assert!(client.go_live(|| 16));

        // What is for the user alone is in no list that is fetched.
        client.owe_reset(17, false, later);
        let mut notice = event(18);
        notice.rooms = vec![Room::User(user().id)];
        client.offer(&notice, &[]);
        offer(&client, 19);
        assert_eq!((client.behind(), client.reset_seq(19)), (None, 17));
        client.skip_to(17);
        assert_eq!((client.reset_due(), client.behind()), (None, Some(17)));
    }

    #[test]
    fn rights_are_learned_once_and_never_from_older_lines() {
        let client = client(8);
        let promoted = |at: i64| {
            let at = Timestamp::from_millis(at).expect("in range");
            RightsChange::User(User { role: Role::Admin, updated_at: at, ..user() })
        };
        let everywhere = RightsChange::SessionsEnded { user: user().id, session: None };
        assert!(client.learn(10, &promoted(5)).is_none(), "the handshake read later");
        client.learn(9, &everywhere);
        assert!(!client.has_ended());
        assert_eq!(client.learn(11, &promoted(5)), Some((vec![Room::Everyone], ROLE, Role::Admin)));
        assert!(client.learn(11, &RightsChange::User(user())).is_none(), "the same line again");
        assert_eq!(client.user().role, Role::Admin);
        // The clock was set back: what was written later counts all the same.
        assert_eq!(client.learn(12, &promoted(-5)), None);
        assert_eq!(client.learn(13, &RightsChange::User(user())), Some((vec![Room::Everyone], Role::Admin, ROLE)));
        client.learn(14, &everywhere);
        assert!(client.has_ended());
        offer(&client, 15);
        assert_eq!((seqs(&client), client.behind()), (vec![], None));
    }

    #[test]
    fn a_socket_ends_when_its_token_may_not_act_as_the_users_new_role() {
        let client = client(8);
        let at = user().created_at;
        let roles = [ROLE].into_iter().collect();
        client.renew(Lease::new(Credentials { session: None, issued_at: at, expires_at: at, roles }));
        client.learn(11, &RightsChange::User(user()));
        assert!(!client.has_ended());
        client.learn(12, &RightsChange::User(User { role: Role::Admin, ..user() }));
        assert!(client.has_ended());
    }

    #[test]
    fn a_closed_client_enters_no_room_and_takes_no_reply() {
        let client = client(8);
        assert_eq!(client.close(), Some((Rooms::from([(Room::Everyone, 10)]), ROLE)));
        assert_eq!(client.close(), None);
        assert_eq!(client.enter(&Room::Lead("x".into()), 11), None);
        assert!(client.try_reply(&Output::Event(Message::new("error", &json!({})))), "it is dropped");
        assert!(client.pop().is_none());
    }
}
