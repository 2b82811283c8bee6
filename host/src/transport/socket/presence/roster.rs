//! Roster: who is online, and who looks at which lead. Only the facts, by ids of sockets, without a clock or a lock.
//!
//! A user whose last connection is lost stays for the grace period, because most come back. What another node would
//! have to know of this one is in here and nowhere else.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::{
    counter::Seq,
    id::{LeadId, SessionId, UserId},
    time::Timestamp,
    user::User,
};

/// Maximum number of lost visits that may come back, in all; beyond it, the next one that is lost counts as gone.
const MAX_LOST: usize = 100_000;

pub(crate) struct Roster {
    grace: Duration,
    people: HashMap<UserId, RosterUser>,
    leads: HashMap<LeadId, HashMap<UserId, Visit>>,
    /// Users without a connection, by the time at which they count as gone.
    leaving: BTreeSet<(Instant, UserId)>,
    /// Their visits, and those of others who lost one connection of several.
    lost: BTreeSet<(Instant, UserId, LeadId)>,
}

struct RosterUser {
    user: Arc<User>,
    /// Line of the log as of which `user` is.
    learned: Seq,
    since: Timestamp,
    sockets: HashSet<u64>,
    until: Option<Instant>,
    leads: HashSet<LeadId>,
}

/// Visit of a user to a lead.
#[derive(Default)]
struct Visit {
    sockets: HashSet<u64>,
    /// Set when every connection to the lead is lost: the end of the grace period, and the login session that may come
    /// back.
    lost: Option<(Instant, Option<SessionId>)>,
}

/// Way in which a socket departed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Departure {
    /// It disconnected on purpose, or its session is over.
    Left,
    /// Its connection broke; the next one of the login session may replace it.
    Lost(Option<SessionId>),
}

/// User who is online.
#[derive(Clone, Debug)]
pub(crate) struct OnlineUser {
    pub(crate) user: Arc<User>,
    pub(crate) since: Timestamp,
}

impl Roster {
    pub(crate) fn new(grace: Duration) -> Self {
        let (people, leads) = (HashMap::new(), HashMap::new());
        Self { grace, people, leads, leaving: BTreeSet::new(), lost: BTreeSet::new() }
    }

    /// Adds a socket that connected; its user is as of line `learned` of the log.
    pub(crate) fn arrive(&mut self, user: Arc<User>, learned: Seq, socket: u64, at: Timestamp) {
        let id = user.id;
        let person = self.people.entry(id).or_insert_with(|| RosterUser {
            user: user.clone(),
            learned,
            since: at,
            sockets: HashSet::new(),
            until: None,
            leads: HashSet::new(),
        });
        if learned > person.learned {
            (person.user, person.learned) = (user, learned);
        }
        person.sockets.insert(socket);
        if let Some(until) = person.until.take() {
            self.leaving.remove(&(until, id));
        }
    }

    /// Begins the visit of an online user's socket to a lead.
    pub(crate) fn enter(&mut self, lead: LeadId, user: UserId, socket: u64) {
        let Some(person) = self.people.get_mut(&user) else { return };
        person.leads.insert(lead);
        let visit = self.leads.entry(lead).or_default().entry(user).or_default();
        visit.sockets.insert(socket);
        if let Some((until, _)) = visit.lost.take() {
            self.lost.remove(&(until, user, lead));
        }
    }

    /// Ends the visit of a socket to a lead.
    pub(crate) fn leave(&mut self, lead: LeadId, user: UserId, socket: u64, departure: Departure, now: Instant) {
        let Some(visit) = self.leads.get_mut(&lead).and_then(|visits| visits.get_mut(&user)) else { return };
        if !visit.sockets.remove(&socket) || !visit.sockets.is_empty() {
            return;
        }
        match departure {
            Departure::Lost(session) if self.lost.len() < MAX_LOST => {
                let until = now + self.grace;
                visit.lost = Some((until, session));
                self.lost.insert((until, user, lead));
            }
            Departure::Lost(_) | Departure::Left => self.end_visit(lead, user),
        }
    }

    /// Removes a socket that is gone; the leads it looked at were left before.
    pub(crate) fn depart(&mut self, user: UserId, socket: u64, now: Instant) {
        let Some(person) = self.people.get_mut(&user) else { return };
        if !person.sockets.remove(&socket) || !person.sockets.is_empty() {
            return;
        }
        if !person.user.active {
            self.forget(user);
            return;
        }
        let until = now + self.grace;
        person.until = Some(until);
        self.leaving.insert((until, user));
    }

    /// Updates a user to line `seq` of the log; returns the leads where that may show.
    pub(crate) fn learn(&mut self, seq: Seq, user: &User) -> Vec<LeadId> {
        let Some(person) = self.people.get_mut(&user.id).filter(|person| person.learned < seq) else {
            return Vec::new();
        };
        (person.user, person.learned) = (Arc::new(user.clone()), seq);
        let leads = person.leads.iter().copied().collect();
        if !user.active && person.sockets.is_empty() {
            self.forget(user.id);
        }
        leads
    }

    /// Ends the visits of lost sockets whose session is over, because they do not come back; returns the leads where
    /// that shows.
    pub(crate) fn end_session(&mut self, user: UserId, ended: Option<SessionId>) -> Vec<LeadId> {
        let Some(person) = self.people.get(&user) else { return Vec::new() };
        let is_over = |lead: &&LeadId| {
            let visit = self.leads.get(lead).and_then(|visits| visits.get(&user));
            let lost = visit.and_then(|visit| visit.lost);
            lost.is_some_and(|(_, session)| ended.is_none() || session == ended)
        };
        let over: Vec<LeadId> = person.leads.iter().filter(is_over).copied().collect();
        over.iter().for_each(|lead| self.end_visit(*lead, user));
        over
    }

    /// Forgets users and visits whose grace period is over; returns the leads where that shows.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<LeadId> {
        let mut left = Vec::new();
        while let Some(&(until, user, lead)) = self.lost.first()
            && until <= now
        {
            self.end_visit(lead, user);
            left.push(lead);
        }
        while let Some(&(until, user)) = self.leaving.first()
            && until <= now
        {
            self.forget(user);
        }
        left
    }

    /// Returns when the next grace period is over.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        let visit = self.lost.first().map(|(until, ..)| *until);
        let person = self.leaving.first().map(|(until, _)| *until);
        visit.into_iter().chain(person).min()
    }

    /// Returns who looks at a lead, each user once, in no order. The caller has to check that they may see it.
    pub(crate) fn viewers(&self, lead: LeadId) -> Vec<Arc<User>> {
        let users = self.leads.get(&lead).into_iter().flat_map(HashMap::keys);
        let people = users.filter_map(|user| self.people.get(user));
        people.filter(|person| person.user.active).map(|person| person.user.clone()).collect()
    }

    /// Returns everybody who is online, in no order.
    pub(crate) fn online(&self) -> Vec<OnlineUser> {
        let active = self.people.values().filter(|person| person.user.active);
        active.map(|person| OnlineUser { user: person.user.clone(), since: person.since }).collect()
    }

    fn end_visit(&mut self, lead: LeadId, user: UserId) {
        if let Some(visits) = self.leads.get_mut(&lead) {
            if let Some(Visit { lost: Some((until, _)), .. }) = visits.remove(&user) {
                self.lost.remove(&(until, user, lead));
            }
            if visits.is_empty() {
                self.leads.remove(&lead);
            }
        }
        if let Some(person) = self.people.get_mut(&user) {
            person.leads.remove(&lead);
        }
    }

    fn forget(&mut self, user: UserId) {
        let Some(person) = self.people.get(&user) else { return };
        if let Some(until) = person.until {
            self.leaving.remove(&(until, user));
        }
        let leads: Vec<LeadId> = person.leads.iter().copied().collect();
        leads.into_iter().for_each(|lead| self.end_visit(lead, user));
        self.people.remove(&user);
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::role::Role;

    const GRACE: Duration = Duration::from_secs(10);

    fn at() -> Timestamp {
        Timestamp::from_millis(0).expect("in range")
    }

    fn user(number: u128) -> Arc<User> {
        let (id, email, name) = (UserId(Uuid::from_u128(number)), "a@example.com".into(), format!("user {number}"));
        Arc::new(User { id, email, name, role: Role::Sales, active: true, created_at: at(), updated_at: at() })
    }

    fn lead(number: u128) -> LeadId {
        LeadId(Uuid::from_u128(number))
    }

    fn session(number: u128) -> Option<SessionId> {
        Some(SessionId(Uuid::from_u128(number)))
    }

    /// Creates a roster of user 1 with the sockets 10 and 11, both at the leads 1 and 2.
    fn roster() -> Roster {
        let mut roster = Roster::new(GRACE);
        for socket in [10, 11] {
            roster.arrive(user(1), Seq(1), socket, at());
            roster.enter(lead(1), user(1).id, socket);
            roster.enter(lead(2), user(1).id, socket);
        }
        roster
    }

    fn is_empty(roster: &Roster) -> bool {
        roster.people.is_empty() && roster.leads.is_empty() && roster.lost.is_empty() && roster.leaving.is_empty()
    }

    fn lose(roster: &mut Roster, socket: u64, departure: Departure, now: Instant) {
        for number in [1, 2] {
            roster.leave(lead(number), user(1).id, socket, departure, now);
        }
        roster.depart(user(1).id, socket, now);
    }

    #[test]
    fn a_user_is_present_once_until_the_last_socket_leaves() {
        let (mut roster, now, me) = (roster(), Instant::now(), user(1).id);
        assert_eq!((roster.viewers(lead(1)).len(), roster.online().len()), (1, 1));
        roster.leave(lead(1), me, 10, Departure::Left, now);
        roster.leave(lead(1), me, 10, Departure::Left, now);
        assert_eq!(roster.viewers(lead(1)).len(), 1, "the other socket looks at it");
        roster.leave(lead(1), me, 11, Departure::Left, now);
        assert_eq!((roster.viewers(lead(1)).len(), roster.viewers(lead(2)).len()), (0, 1));
        lose(&mut roster, 10, Departure::Left, now);
        lose(&mut roster, 11, Departure::Left, now);
        assert_eq!((roster.viewers(lead(2)).len(), roster.online().len()), (0, 1), "online for the grace");
        assert!(roster.expire(now + GRACE).is_empty(), "no lead is concerned");
        assert!(is_empty(&roster));
    }

    #[test]
    fn a_user_who_lost_the_last_connection_is_removed_after_the_grace_period() {
        let (mut roster, now) = (roster(), Instant::now());
        lose(&mut roster, 10, Departure::Lost(session(1)), now);
        assert_eq!(roster.next_expiry(), None, "another connection is there");
        lose(&mut roster, 11, Departure::Lost(session(1)), now);
        assert_eq!(roster.next_expiry(), Some(now + GRACE));
        assert!(roster.expire(now + GRACE / 2).is_empty());
        assert_eq!((roster.viewers(lead(1)).len(), roster.online().len()), (1, 1));
        let mut left = roster.expire(now + GRACE);
        left.sort();
        assert_eq!(left, [lead(1), lead(2)]);
        assert!(is_empty(&roster));
    }

    #[test]
    fn a_reconnect_within_the_grace_period_keeps_presence() {
        let (mut roster, now) = (roster(), Instant::now());
        for socket in [10, 11] {
            lose(&mut roster, socket, Departure::Lost(session(1)), now);
        }
        let later = Timestamp::from_millis(1000).expect("in range");
        roster.arrive(user(1), Seq(1), 12, later);
        roster.enter(lead(1), user(1).id, 12);
        assert_eq!(roster.expire(now + GRACE), [lead(2)], "which is not looked at again");
        assert_eq!((roster.viewers(lead(1)).len(), roster.online()[0].since), (1, at()));
        assert_eq!(roster.next_expiry(), None);
    }

    #[test]
    fn an_ended_session_ends_the_grace_of_its_own_sockets_alone() {
        let (mut roster, now, me) = (roster(), Instant::now(), user(1).id);
        for socket in [10, 11] {
            roster.leave(lead(1), me, socket, Departure::Lost(session(1)), now);
            roster.leave(lead(2), me, socket, Departure::Lost(session(2)), now);
        }
        assert_eq!(roster.end_session(me, session(1)), [lead(1)]);
        assert_eq!(roster.end_session(me, None), [lead(2)]);
        assert!(roster.lost.is_empty() && roster.leads.is_empty());
    }

    #[test]
    fn a_deactivated_user_is_removed_at_once_and_older_events_are_ignored() {
        let (mut roster, now) = (roster(), Instant::now());
        let away = User { active: false, ..User::clone(&user(1)) };
        assert!(roster.learn(Seq(1), &away).is_empty(), "the handshake knew better");
        assert_eq!(roster.learn(Seq(2), &away).len(), 2);
        assert!(roster.viewers(lead(1)).is_empty() && roster.online().is_empty());
        lose(&mut roster, 10, Departure::Left, now);
        lose(&mut roster, 11, Departure::Left, now);
        assert!(is_empty(&roster));
    }
}
