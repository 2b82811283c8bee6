//! Who is here and who looks at which lead; those who look are told of one another: `lead:viewers`.
//!
//! Nothing of this is in the log. What changes only marks a lead here; [`Viewers`] makes its list on a task of
//! its own and comes back with it. No lock is held while plugins are asked, and delivery never waits.

mod roster;
pub mod settings;
mod viewers;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::value::RawValue;
use tokio::{sync::Notify, task::yield_now, time::Instant};

use self::{
    roster::{Parting, Present, Roster},
    viewers::Told,
};
pub use self::{settings::Settings, viewers::Viewers};
use super::{
    client::{Client, Output},
    kept::Rooms,
};
use crate::{
    delivery::RightsChange,
    domain::{event::Event, id::LeadId, role::Role, room::Room, time::Timestamp, user::User},
};

/// Who begins to look is told who is there, but a lead's list is made no more often than this for them.
const NEWCOMERS: Duration = Duration::from_millis(50);
/// And the more sockets have to be looked through, the more of them share one list.
const PER_SOCKET: Duration = Duration::from_micros(10);
/// So many sockets are sent to before others get the lock.
const CHUNK: usize = 256;
/// A failing plugin or database is tried again after the interval, then after twice as long, up to this.
const MAX_PAUSE: Duration = Duration::from_secs(16);

/// Who is here, as everybody in this process knows it.
pub(super) struct Presence {
    /// Locked before any client, never while the registry or a client is.
    state: Mutex<State>,
    wake: Notify,
    interval: Duration,
}

struct State {
    roster: Roster,
    /// Leads that sockets of this node look at.
    watched: HashMap<LeadId, Watched>,
    /// The same leads as far as something is to be done about them, by when.
    agenda: BTreeSet<(Instant, LeadId)>,
    /// Numbers what happens here, so that it can be told what was before what.
    moment: u64,
}

/// A lead that is looked at.
struct Watched {
    seats: HashMap<u64, Seat>,
    /// The last moment at which it may have changed who sees the lead.
    sight: u64,
    due: Option<Instant>,
    /// When a list was last made.
    made: Option<Instant>,
    /// When those who were there already were last told.
    told: Option<Instant>,
    /// How often in a row it could not be said who may be told.
    failures: u32,
}

/// A socket that looks at a lead.
struct Seat {
    client: Arc<Client>,
    /// It is told the next list that is begun after this moment, whatever it knows.
    asked_at: Option<u64>,
    told: Option<Arc<RawValue>>,
}

/// The moment at which a list was begun.
#[derive(Clone, Copy, Debug)]
struct Begun(u64);

/// What became of telling about a lead.
#[derive(Clone, Copy, Debug, Default)]
struct Outcome {
    has_told_others: bool,
    /// Somebody has yet to be told.
    is_pending: bool,
    /// Who sees the lead may be others than those who were told.
    is_outdated: bool,
}

impl Presence {
    pub(super) fn new(settings: &Settings) -> Arc<Self> {
        let roster = Roster::new(settings.grace);
        let state = State { roster, watched: HashMap::new(), agenda: BTreeSet::new(), moment: 0 };
        Arc::new(Self { state: Mutex::new(state), wake: Notify::new(), interval: settings.interval })
    }

    /// A socket connected.
    pub(super) fn arrive(&self, client: &Client, at: Timestamp) {
        let mut state = self.state.lock();
        // Whoever is gone by now was forgotten before it came.
        if !client.closed().is_cancelled() {
            state.roster.arrive(client.user(), client.learned(), client.id(), at);
        }
    }

    /// A socket follows a lead, which others are told of.
    pub(super) fn enter(&self, client: &Client, lead: LeadId) {
        let mut state = self.state.lock();
        if client.is_in(&Room::Lead(lead.to_string())) {
            state.roster.enter(lead, client.user().id, client.id());
            state.settle(lead, self.interval, Instant::now());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// A socket was told that it follows a lead, and is told next who else does.
    pub(super) fn welcome(&self, client: &Arc<Client>, lead: LeadId) {
        let now = Instant::now();
        let mut state = self.state.lock();
        if !client.is_in(&Room::Lead(lead.to_string())) {
            return;
        }
        let moment = state.next_moment();
        let watched = state.watched.entry(lead).or_insert_with(|| Watched::since(moment));
        let seat = || Seat { client: client.clone(), asked_at: None, told: None };
        watched.seats.entry(client.id()).or_insert_with(seat).asked_at = Some(moment);
        let due = watched.next_for_newcomers(now);
        state.plan(lead, due);
        drop(state);
        self.wake.notify_one();
    }

    /// A socket follows a lead no more.
    pub(super) fn leave(&self, client: &Client, lead: LeadId) {
        self.unseat(client, [lead], Parting::Left);
    }

    /// A socket is gone that said goodbye: it does not come back for the leads it followed.
    pub(super) fn left(&self, client: &Client, rooms: &Rooms) {
        self.depart(client, rooms, Parting::Left);
    }

    /// A socket is gone; the next one of its login may stand in for it, unless that is over.
    pub(super) fn lost(&self, client: &Client, rooms: &Rooms) {
        let lease = client.lease();
        self.depart(client, rooms, lease.map_or(Parting::Left, |lease| Parting::Lost(lease.session)));
    }

    fn depart(&self, client: &Client, rooms: &Rooms, parting: Parting) {
        self.unseat(client, rooms.keys().filter_map(Room::lead), parting);
        self.state.lock().roster.depart(client.user().id, client.id(), Instant::now());
        self.wake.notify_one();
    }

    fn unseat(&self, client: &Client, leads: impl IntoIterator<Item = LeadId>, parting: Parting) {
        let (now, user) = (Instant::now(), client.user().id);
        for lead in leads {
            // Locked for one at a time, because delivery takes the same lock.
            let mut state = self.state.lock();
            state.roster.leave(lead, user, client.id(), parting, now);
            if let Some(watched) = state.watched.get_mut(&lead) {
                watched.seats.remove(&client.id());
                state.settle(lead, self.interval, now);
            }
        }
        self.wake.notify_one();
    }

    /// Takes over what line `seq` of the log says of a user's rights.
    pub(super) fn learn(&self, seq: u64, change: &RightsChange) {
        let leads = {
            let roster = &mut self.state.lock().roster;
            match change {
                RightsChange::User(user) => roster.learn(seq, user),
                RightsChange::SessionsEnded { user, session } => roster.end_session(*user, *session),
            }
        };
        self.mark(&leads);
    }

    /// An event that is about to be handed out may change who sees its lead.
    pub(super) fn note(&self, event: &Event) {
        if let Some(lead) = event.lead_id {
            self.mark(&[lead]);
        }
    }

    /// Whatever is known of any lead may be old.
    pub(super) fn note_all(&self) {
        let leads: Vec<LeadId> = self.state.lock().watched.keys().copied().collect();
        self.mark(&leads);
    }

    /// Who sees these leads may be others; what is just being told of them is not told any further.
    fn mark(&self, leads: &[LeadId]) {
        let now = Instant::now();
        for lead in leads {
            let mut state = self.state.lock();
            let moment = state.next_moment();
            let Some(watched) = state.watched.get_mut(lead) else { continue };
            watched.sight = moment;
            // Most such changes change nothing here, and there may be many.
            let due = watched.made.map_or(now, |made| (made + self.interval).max(now));
            state.plan(*lead, due);
            self.wake.notify_one();
        }
    }

    /// Everybody who is here, in no order.
    fn online(&self) -> Vec<Present> {
        self.state.lock().roster.online()
    }

    fn watched(&self) -> usize {
        self.state.lock().watched.len()
    }

    fn viewers(&self, lead: LeadId) -> Vec<Arc<User>> {
        self.state.lock().roster.viewers(lead)
    }

    /// The next lead whose list is to be made; else when to ask again.
    fn next(&self) -> Result<LeadId, Option<Instant>> {
        self.state.lock().next(self.interval)
    }

    /// Waits until something is different.
    async fn changed(&self) {
        self.wake.notified().await;
    }

    /// Begins to make a lead's list, if anybody looks at it.
    fn begin(&self, lead: LeadId) -> Option<Begun> {
        let mut state = self.state.lock();
        let moment = state.next_moment();
        state.watched.get_mut(&lead)?.made = Some(Instant::now());
        Some(Begun(moment))
    }

    /// The roles of those who are to be told.
    fn roles(&self, lead: LeadId) -> Vec<Role> {
        let state = self.state.lock();
        let seats = state.watched.get(&lead).into_iter().flat_map(|watched| watched.seats.values());
        let mut roles = Vec::with_capacity(Role::ALL.len());
        for role in seats.map(|seat| seat.client.user().role) {
            if !roles.contains(&role) {
                roles.push(role);
            }
        }
        roles
    }

    /// Tells what the list came to be; `None` is for nobody.
    async fn finish(&self, lead: LeadId, begun: Begun, told: Option<&Told>) {
        let outcome = self.send(lead, begun, told).await;
        let now = Instant::now();
        let mut state = self.state.lock();
        let Some(watched) = state.watched.get_mut(&lead) else { return };
        if outcome.has_told_others {
            watched.told = Some(now);
        }
        let is_held = told.is_some_and(Told::is_held);
        watched.failures = if is_held { watched.failures.saturating_add(1) } else { 0 };
        let held_until = is_held.then(|| now + watched.pause(self.interval));
        let outdated_until = outcome.is_outdated.then(|| watched.next_for_newcomers(now));
        let pending_until = outcome.is_pending.then(|| watched.next_for_all(self.interval, now));
        for due in [held_until, outdated_until, pending_until].into_iter().flatten() {
            state.plan(lead, due);
        }
    }

    /// Nothing could be found out about the lead.
    fn postpone(&self, lead: LeadId) {
        let mut state = self.state.lock();
        let Some(watched) = state.watched.get_mut(&lead) else { return };
        watched.failures = watched.failures.saturating_add(1);
        let due = Instant::now() + watched.pause(self.interval);
        state.plan(lead, due);
    }

    /// Puts the list into the outboxes of those who do not know it, some at a time.
    async fn send(&self, lead: LeadId, begun: Begun, told: Option<&Told>) -> Outcome {
        let mut outcome = Outcome::default();
        let (ids, is_due) = {
            let state = self.state.lock();
            let Some(watched) = state.watched.get(&lead) else { return outcome };
            let now = Instant::now();
            (watched.seats.keys().copied().collect::<Vec<u64>>(), watched.may_tell_all(self.interval, now))
        };
        for chunk in ids.chunks(CHUNK) {
            {
                let mut state = self.state.lock();
                let Some(watched) = state.watched.get_mut(&lead) else { return outcome };
                if watched.sight > begun.0 {
                    outcome.is_outdated = true;
                    return outcome;
                }
                for id in chunk {
                    if let Some(seat) = watched.seats.get_mut(id) {
                        seat.tell(begun, told, is_due, &mut outcome);
                    }
                }
            }
            yield_now().await;
        }
        outcome
    }
}

impl State {
    fn next_moment(&mut self) -> u64 {
        self.moment += 1;
        self.moment
    }

    /// Sees to it that a lead's viewers are told of a change, or the lead forgotten where nobody looks at it.
    fn settle(&mut self, lead: LeadId, interval: Duration, now: Instant) {
        let Some(watched) = self.watched.get(&lead) else { return };
        if watched.seats.is_empty() {
            if let Some(due) = watched.due {
                self.agenda.remove(&(due, lead));
            }
            self.watched.remove(&lead);
            return;
        }
        let due = watched.next_for_all(interval, now);
        self.plan(lead, due);
    }

    /// Has a lead looked at no later than at `due`.
    fn plan(&mut self, lead: LeadId, due: Instant) {
        let Some(watched) = self.watched.get_mut(&lead) else { return };
        if let Some(planned) = watched.due {
            if planned <= due {
                return;
            }
            self.agenda.remove(&(planned, lead));
        }
        watched.due = Some(due);
        self.agenda.insert((due, lead));
    }

    /// The next lead whose time has come; else when to look again.
    fn next(&mut self, interval: Duration) -> Result<LeadId, Option<Instant>> {
        let now = Instant::now();
        for lead in self.roster.expire(now) {
            self.settle(lead, interval, now);
        }
        match self.agenda.first().copied() {
            Some((due, lead)) if due <= now => {
                self.agenda.pop_first();
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
    /// One that is looked at from that moment on: what was known of it before is old.
    fn since(moment: u64) -> Self {
        Self { seats: HashMap::new(), sight: moment, due: None, made: None, told: None, failures: 0 }
    }

    fn next_for_newcomers(&self, now: Instant) -> Instant {
        let sockets = u32::try_from(self.seats.len()).unwrap_or(u32::MAX);
        let rest = NEWCOMERS.max(PER_SOCKET.saturating_mul(sockets));
        self.made.map_or(now, |made| (made + rest).max(now))
    }

    fn next_for_all(&self, interval: Duration, now: Instant) -> Instant {
        let due = self.next_for_newcomers(now);
        self.told.map_or(due, |told| (told + interval).max(due))
    }

    fn may_tell_all(&self, interval: Duration, now: Instant) -> bool {
        self.told.is_none_or(|told| told + interval <= now)
    }

    /// How long to wait after so many failures.
    fn pause(&self, interval: Duration) -> Duration {
        interval.saturating_mul(1 << self.failures.min(10)).min(MAX_PAUSE.max(interval))
    }
}

impl Seat {
    fn tell(&mut self, begun: Begun, told: Option<&Told>, is_due: bool, outcome: &mut Outcome) {
        if self.asked_at.is_some_and(|asked_at| asked_at > begun.0) {
            // It may not be on this one itself; the next is on the agenda.
            return;
        }
        let is_new = self.asked_at.is_some();
        let user = self.client.user();
        let Some(message) = told.and_then(|told| told.message_for(&user)).filter(|_| !self.client.has_ended()) else {
            // Should it be for them one day, they are told whatever they knew before.
            (self.told, self.asked_at) = (None, None);
            return;
        };
        let knows = |told: &Arc<RawValue>| Arc::ptr_eq(told, &message.body) || told.get() == message.body.get();
        if !is_new && self.told.as_ref().is_some_and(knows) {
            return;
        }
        if !is_new && !is_due || !self.client.try_reply(&Output::Event(message.clone())) {
            outcome.is_pending = true;
            return;
        }
        outcome.has_told_others |= !is_new;
        (self.told, self.asked_at) = (Some(message.body.clone()), None);
    }
}
