//! Presence: who is online and who looks at which lead; the viewers of a lead learn of each other through
//! `lead:viewers`.
//!
//! Nothing of this is in the log. A change only marks a lead here; [`Viewers`] makes its list on a task of its own and
//! comes back with it. No lock is held while plugins are asked, and delivery never waits.

mod list;
mod roster;
pub mod settings;
pub(crate) mod viewers;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, task::yield_now, time::Instant};

use crate::{
    backoff::Backoff,
    delivery::{RightsChange, line::Message},
    domain::{counter::Seq, event::Event, id::LeadId, role::Role, room::Room, time::Timestamp, user::User},
    transport::socket::{
        client::Client,
        packet::OutgoingPacket,
        presence::{
            list::ViewerList,
            roster::{Departure, OnlineUser, Roster},
            settings::PresenceConfig,
        },
        session::resume::Rooms,
    },
};

pub use crate::transport::socket::presence::viewers::Viewers;

/// Minimum time between two lists of a lead for new viewers.
const NEWCOMERS: Duration = Duration::from_millis(50);
/// Time per socket that is waited at least as well: the more sockets have to be looked through, the more of them share
/// one list.
const PER_SOCKET: Duration = Duration::from_micros(10);
/// Number of sockets that are sent to before others get the lock.
const CHUNK: usize = 256;
/// Longest pause (back-off): a failing plugin or database is tried again after twice the interval, then after twice as
/// long, up to this.
const MAX_PAUSE: Duration = Duration::from_secs(16);

/// Presence, as everybody in this process knows it.
pub(crate) struct Presence {
    /// Locked before any client, never while the registry or a client is.
    state: Mutex<PresenceState>,
    wake: Notify,
    interval: Duration,
}

struct PresenceState {
    roster: Roster,
    /// Leads that sockets of this node look at.
    watched: HashMap<LeadId, Watched>,
    /// Schedule of the same leads, as far as something is to be done about them, by due time.
    schedule: BTreeSet<(Instant, LeadId)>,
    /// Version: numbers what happens here, so that it is known what was before what.
    version: u64,
}

/// Lead that is looked at.
struct Watched {
    subscriptions: HashMap<u64, Subscription>,
    /// Version at which it may last have changed who sees the lead.
    audience_version: u64,
    due: Option<Instant>,
    /// Time at which a list was last made.
    made: Option<Instant>,
    /// Time at which those who were there already were last sent a list.
    sent: Option<Instant>,
    /// Pauses between attempts while it cannot be said who may have the list. Boxed, because hardly any lead needs one.
    backoff: Option<Box<Backoff>>,
}

/// Subscription of a socket to the viewers of a lead.
struct Subscription {
    client: Arc<Client>,
    /// Version at which it asked: it is sent the next list that is begun after that, whatever it knows.
    asked_at: Option<u64>,
    /// List that it was sent last.
    known: Option<Message>,
}

/// Version at which a list was begun.
#[derive(Clone, Copy, Debug)]
struct ListVersion(u64);

/// Outcome of sending a lead's list.
#[derive(Clone, Copy, Debug, Default)]
struct ListOutcome {
    /// Set when a socket that was there already was sent the list.
    has_sent_to_others: bool,
    /// Set when somebody has yet to be sent it.
    is_pending: bool,
    /// Set when others may see the lead now than those who were sent the list.
    is_outdated: bool,
}

impl Presence {
    pub(crate) fn new(settings: &PresenceConfig) -> Arc<Self> {
        let roster = Roster::new(settings.grace);
        let state = PresenceState { roster, watched: HashMap::new(), schedule: BTreeSet::new(), version: 0 };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), interval: settings.interval })
    }

    /// Adds a socket that connected.
    pub(crate) fn arrive(&self, client: &Client, at: Timestamp) {
        let mut state = self.state.lock();
        // A socket that is gone by now was forgotten before it was added.
        if !client.closed().is_cancelled() {
            state.roster.arrive(client.user(), client.learned(), client.id(), at);
        }
    }

    /// Begins a visit: a socket follows a lead, and the other viewers are informed.
    pub(crate) fn enter(&self, client: &Client, lead: LeadId) {
        let mut state = self.state.lock();
        if client.is_in(&Room::Lead(lead.to_string())) {
            state.roster.enter(lead, client.user().id, client.id());
            state.settle(lead, self.interval, Instant::now());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Subscribes a socket, whose `lead:subscribe` was acknowledged, to the viewers of the lead: it gets their list
    /// next.
    pub(crate) fn welcome(&self, client: &Arc<Client>, lead: LeadId) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if !client.is_in(&Room::Lead(lead.to_string())) {
            return;
        }
        let version = state.next_version();
        let watched = state.watched.entry(lead).or_insert_with(|| Watched::since(version));
        let subscription = || Subscription { client: client.clone(), asked_at: None, known: None };
        watched.subscriptions.entry(client.id()).or_insert_with(subscription).asked_at = Some(version);
        let due = watched.next_for_newcomers(now);
        state.plan(lead, due);
        drop(state);
        self.wake.notify_one();
    }

    /// Ends a visit: a socket does not follow a lead any more.
    pub(crate) fn leave(&self, client: &Client, lead: LeadId) {
        self.unsubscribe(client, [lead], Departure::Left);
    }

    /// Removes a socket that disconnected on purpose: it does not come back for the leads it followed.
    pub(crate) fn left(&self, client: &Client, rooms: &Rooms) {
        self.depart(client, rooms, Departure::Left);
    }

    /// Removes a socket that was lost; the next one of its login session may replace it, unless that session is over.
    pub(crate) fn lost(&self, client: &Client, rooms: &Rooms) {
        let lease = client.lease();
        self.depart(client, rooms, lease.map_or(Departure::Left, |lease| Departure::Lost(lease.session)));
    }

    fn depart(&self, client: &Client, rooms: &Rooms, departure: Departure) {
        self.unsubscribe(client, rooms.keys().filter_map(Room::lead), departure);
        self.state.lock().roster.depart(client.user().id, client.id(), Instant::now());
        self.wake.notify_one();
    }

    fn unsubscribe(&self, client: &Client, leads: impl IntoIterator<Item = LeadId>, departure: Departure) {
        let (now, user) = (Instant::now(), client.user().id);
        for lead in leads {
            // Locked for one lead at a time, because delivery takes the same lock.
            let mut state = self.state.lock();
            state.roster.leave(lead, user, client.id(), departure, now);
            if let Some(watched) = state.watched.get_mut(&lead) {
                watched.subscriptions.remove(&client.id());
                state.settle(lead, self.interval, now);
            }
        }
        self.wake.notify_one();
    }

    /// Applies line `seq` of the log about a user's rights.
    pub(crate) fn learn(&self, seq: Seq, change: &RightsChange) {
        let leads = {
            let roster = &mut self.state.lock().roster;
            match change {
                RightsChange::User(user) => roster.learn(seq, user),
                RightsChange::SessionsEnded { user, session } => roster.end_session(*user, *session),
            }
        };
        self.mark(&leads);
    }

    /// Marks the lead of an event that is about to be handed out: the event may change who sees it.
    pub(crate) fn note(&self, event: &Event) {
        if let Some(lead) = event.lead_id {
            self.mark(&[lead]);
        }
    }

    /// Marks all leads: whatever is known of them may be old.
    pub(crate) fn note_all(&self) {
        let leads: Vec<LeadId> = self.state.lock().watched.keys().copied().collect();
        self.mark(&leads);
    }

    /// Marks leads that others may see now: a list of theirs that is just being sent is not sent any further.
    fn mark(&self, leads: &[LeadId]) {
        let now = Instant::now();
        for lead in leads {
            let mut state = self.state.lock();
            let version = state.next_version();
            let Some(watched) = state.watched.get_mut(lead) else { continue };
            watched.audience_version = version;
            // Most such changes change nothing here, and there may be many.
            let due = watched.made.map_or(now, |made| (made + self.interval).max(now));
            state.plan(*lead, due);
            self.wake.notify_one();
        }
    }

    /// Returns everybody who is online, in no order.
    fn online(&self) -> Vec<OnlineUser> {
        self.state.lock().roster.online()
    }

    fn watched(&self) -> usize {
        self.state.lock().watched.len()
    }

    fn viewers(&self, lead: LeadId) -> Vec<Arc<User>> {
        self.state.lock().roster.viewers(lead)
    }

    /// Returns the next lead whose list is to be made, else when to ask again.
    fn next(&self) -> Result<LeadId, Option<Instant>> {
        self.state.lock().next(self.interval)
    }

    /// Waits until something has changed.
    async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Begins a lead's list, if anybody looks at the lead.
    fn begin(&self, lead: LeadId) -> Option<ListVersion> {
        let mut state = self.state.lock();
        let version = state.next_version();
        state.watched.get_mut(&lead)?.made = Some(Instant::now());
        Some(ListVersion(version))
    }

    /// Returns the roles of those who are to be sent the list.
    fn roles(&self, lead: LeadId) -> Vec<Role> {
        let state = self.state.lock();
        let subscriptions = state.watched.get(&lead).into_iter().flat_map(|watched| watched.subscriptions.values());
        let mut roles = Vec::with_capacity(Role::ALL.len());
        for role in subscriptions.map(|subscription| subscription.client.user().role) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        roles
    }

    /// Sends the list that was made, and schedules what is left to do; `None` is for nobody.
    async fn finish(&self, lead: LeadId, begun: ListVersion, list: Option<&ViewerList>) {
        let outcome = self.send(lead, begun, list).await;
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(watched) = state.watched.get_mut(&lead) else { return };
        if outcome.has_sent_to_others {
            watched.sent = Some(now);
        }
        let is_held = list.is_some_and(ViewerList::is_held);
        if !is_held {
            watched.backoff = None;
        }
        let held_until = is_held.then(|| now + watched.pause(self.interval));
        let outdated_until = outcome.is_outdated.then(|| watched.next_for_newcomers(now));
        let pending_until = outcome.is_pending.then(|| watched.next_for_all(self.interval, now));
        for due in [held_until, outdated_until, pending_until].into_iter().flatten() {
            state.plan(lead, due);
        }
    }

    /// Schedules a retry, because nothing could be found out about the lead.
    fn postpone(&self, lead: LeadId) {
        let mut state = self.state.lock();
        let Some(watched) = state.watched.get_mut(&lead) else { return };
        let due = Instant::now() + watched.pause(self.interval);
        state.plan(lead, due);
    }

    /// Puts the list into the send queues of those who do not know it, some at a time.
    async fn send(&self, lead: LeadId, begun: ListVersion, list: Option<&ViewerList>) -> ListOutcome {
        let mut outcome = ListOutcome::default();
        let (ids, is_due) = {
            let state = self.state.lock();
            let Some(watched) = state.watched.get(&lead) else { return outcome };
            let now = Instant::now();
            (watched.subscriptions.keys().copied().collect::<Vec<u64>>(), watched.may_send_to_all(self.interval, now))
        };
        for chunk in ids.chunks(CHUNK) {
            {
                let mut state = self.state.lock();
                let Some(watched) = state.watched.get_mut(&lead) else { return outcome };
                if watched.audience_version > begun.0 {
                    outcome.is_outdated = true;
                    return outcome;
                }
                for id in chunk {
                    if let Some(subscription) = watched.subscriptions.get_mut(id) {
                        subscription.send(begun, list, is_due, &mut outcome);
                    }
                }
            }
            yield_now().await;
        }
        outcome
    }
}

impl PresenceState {
    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    /// Schedules that a lead's viewers are sent a change, or forgets the lead if nobody looks at it.
    fn settle(&mut self, lead: LeadId, interval: Duration, now: Instant) {
        let Some(watched) = self.watched.get(&lead) else { return };
        if watched.subscriptions.is_empty() {
            if let Some(due) = watched.due {
                self.schedule.remove(&(due, lead));
            }
            self.watched.remove(&lead);
            return;
        }
        let due = watched.next_for_all(interval, now);
        self.plan(lead, due);
    }

    /// Schedules a lead for `due` at the latest.
    fn plan(&mut self, lead: LeadId, due: Instant) {
        let Some(watched) = self.watched.get_mut(&lead) else { return };
        if let Some(planned) = watched.due {
            if planned <= due {
                return;
            }
            self.schedule.remove(&(planned, lead));
        }
        watched.due = Some(due);
        self.schedule.insert((due, lead));
    }

    /// Returns the next lead that is due, else when to look again.
    fn next(&mut self, interval: Duration) -> Result<LeadId, Option<Instant>> {
        let now = Instant::now();
        for lead in self.roster.expire(now) {
            self.settle(lead, interval, now);
        }
        match self.schedule.first().copied() {
            Some((due, lead)) if due <= now => {
                self.schedule.pop_first();
                if let Some(watched) = self.watched.get_mut(&lead) {
                    watched.due = None;
                }
                Ok(lead)
            }
            next => Err(next.map(|(due, _)| due).into_iter().chain(self.roster.next_expiry()).min()),
        }
    }
}

impl Watched {
    /// Creates a lead that is looked at from that version on: what was known of it before is old.
    fn since(version: u64) -> Self {
        Self {
            subscriptions: HashMap::new(),
            audience_version: version,
            due: None,
            made: None,
            sent: None,
            backoff: None,
        }
    }

    fn next_for_newcomers(&self, now: Instant) -> Instant {
        let sockets = u32::try_from(self.subscriptions.len()).unwrap_or(u32::MAX);
        let rest = NEWCOMERS.max(PER_SOCKET.saturating_mul(sockets));
        self.made.map_or(now, |made| (made + rest).max(now))
    }

    fn next_for_all(&self, interval: Duration, now: Instant) -> Instant {
        let due = self.next_for_newcomers(now);
        self.sent.map_or(due, |sent| (sent + interval).max(due))
    }

    fn may_send_to_all(&self, interval: Duration, now: Instant) -> bool {
        self.sent.is_none_or(|sent| sent + interval <= now)
    }

    /// Returns the time to wait after one more failure.
    fn pause(&mut self, interval: Duration) -> Duration {
        let longest = MAX_PAUSE.max(interval);
        let backoff = || Box::new(Backoff::new((2 * interval).min(longest), longest));
        self.backoff.get_or_insert_with(backoff).next()
    }
}

impl Subscription {
    fn send(&mut self, begun: ListVersion, list: Option<&ViewerList>, is_due: bool, outcome: &mut ListOutcome) {
        if self.asked_at.is_some_and(|asked_at| asked_at > begun.0) {
            // It may not be on this list itself; the next one is scheduled.
            return;
        }
        let is_new = self.asked_at.is_some();
        let user = self.client.user();
        let Some(message) = list.and_then(|list| list.message_for(&user)).filter(|_| !self.client.has_ended()) else {
            // If a list is for them one day, they are sent it whatever they knew before.
            (self.known, self.asked_at) = (None, None);
            return;
        };
        let is_same = |known: &Message| known.body() == message.body();
        if !is_new && self.known.as_ref().is_some_and(is_same) {
            return;
        }
        if !is_new && !is_due || !self.client.try_reply(&OutgoingPacket::Event(message.clone())) {
            outcome.is_pending = true;
            return;
        }
        outcome.has_sent_to_others |= !is_new;
        (self.known, self.asked_at) = (Some(message.clone()), None);
    }
}
