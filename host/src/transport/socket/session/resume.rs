//! Subscriptions of lost sockets, restored when the session reconnects (within 2 min).
//!
//! A stock client emits nothing again after a reconnect, and the guide's hook subscribes once: without this, a lost
//! connection would silently end its subscriptions. `server/handover.rs` hands them to the next process.

use std::{collections::HashMap, hash::Hash, time::Duration};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::domain::{
    counter::Seq,
    id::SessionId,
    room::{MAX_LEAD_ROOM_CHARS, Room},
};

const KEEP_FOR: Duration = Duration::from_secs(2 * 60);
/// Maximum number of rooms that are kept in all; beyond it, those of the next socket that is lost are not kept.
const MAX_ROOMS: usize = 200_000;
const MAX_SESSIONS: usize = 200_000;

/// Rooms, each with the seq after which the socket listened to it.
pub(crate) type Rooms = HashMap<Room, Seq>;

/// Subscriptions of lost sockets per session, as one process hands them to the next.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResumeSnapshot(HashMap<SessionId, LostSession>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct LostSession {
    sockets: usize,
    /// Leads, each with the seq after which the socket listened to it.
    leads: HashMap<String, Seq>,
    /// Set if there were more than can be kept.
    #[serde(default)]
    is_cut: bool,
}

#[derive(Default)]
pub(crate) struct LostSubscriptions(Mutex<LostState>);

#[derive(Default)]
struct LostState {
    sessions: HashMap<SessionId, LostSocket>,
    rooms: usize,
    swept: Option<Instant>,
}

impl ResumeSnapshot {
    /// Merges two snapshots.
    pub(crate) fn and(mut self, other: Self) -> Self {
        for (session, LostSession { sockets, leads, is_cut }) in other.0 {
            let left = self.0.entry(session).or_default();
            left.sockets = left.sockets.saturating_add(sockets);
            left.is_cut |= is_cut;
            for (lead, since) in leads {
                add(&mut left.leads, lead, since);
            }
        }
        self
    }

    /// Adds the subscriptions of one more socket of a session.
    pub(crate) fn add(&mut self, session: SessionId, rooms: &Rooms) {
        let left = self.0.entry(session).or_default();
        left.sockets = left.sockets.saturating_add(1);
        for (room, since) in rooms {
            if let Some(lead) = lead(room) {
                add(&mut left.leads, lead, *since);
            }
        }
    }
}

/// Sockets of one session that were lost and are not back.
struct LostSocket {
    /// Rooms of all of them. It is not known which of them comes back, so each follows everything.
    rooms: Rooms,
    sockets: usize,
    /// Set if there were more than can be kept, which the client has to be told.
    is_cut: bool,
    until: Instant,
}

impl LostSubscriptions {
    /// Keeps the lead rooms among `rooms`, beside those that the session has left behind already, for as many more
    /// sockets as were lost.
    pub(crate) fn keep(&self, session: SessionId, rooms: Rooms, sockets: usize, limit: usize) {
        let mut state = self.0.lock();
        let now = Instant::now();
        state.sweep(now);
        let leads = rooms.into_iter().filter(|(room, _)| matches!(room, Room::Lead(_)));
        let before = state.remove(session);
        // The number that another process left comes from a file, so it may be any.
        let lost = before.as_ref().map_or(0, |before| before.sockets).saturating_add(sockets);
        let (mut union, mut is_cut) =
            before.map_or_else(|| (Rooms::new(), false), |before| (before.rooms, before.is_cut));
        let most = limit.min(MAX_ROOMS.saturating_sub(state.rooms));
        for (room, since) in leads {
            if union.len() < most || union.contains_key(&room) {
                add(&mut union, room, since);
            } else {
                is_cut = true;
            }
        }
        // A socket that followed nothing counts as well: it may be the first that is back.
        if state.sessions.len() < MAX_SESSIONS {
            state.rooms += union.len();
            let until = now + KEEP_FOR;
            state.sessions.insert(session, LostSocket { rooms: union, sockets: lost, is_cut, until });
        }
    }

    /// Returns all that is kept, for another process.
    pub(crate) fn followed(&self) -> ResumeSnapshot {
        let (state, now) = (self.0.lock(), Instant::now());
        let left = |lost: &LostSocket| LostSession {
            sockets: lost.sockets,
            is_cut: lost.is_cut,
            leads: lost.rooms.iter().filter_map(|(room, since)| Some((lead(room)?, *since))).collect(),
        };
        let in_time = state.sessions.iter().filter(|(_, lost)| lost.until > now);
        ResumeSnapshot(in_time.map(|(session, lost)| (*session, left(lost))).collect())
    }

    /// Restores what another process had kept; nothing was listened to after `head`.
    pub(crate) fn restore(&self, followed: ResumeSnapshot, limit: usize, head: Seq) {
        for (session, LostSession { sockets, leads, is_cut }) in followed.0 {
            let leads = leads.into_iter().filter(|(lead, _)| (1..=MAX_LEAD_ROOM_CHARS).contains(&lead.chars().count()));
            let rooms = leads.map(|(lead, since)| (Room::Lead(lead), since.min(head)));
            self.keep(session, rooms.collect(), sockets, limit);
            if let Some(lost) = self.0.lock().sessions.get_mut(&session).filter(|_| is_cut) {
                lost.is_cut = true;
            }
        }
    }

    /// Returns the rooms that the session left behind, and true if there were more of them than can be kept. They stay
    /// until they were [taken](Self::taken).
    pub(crate) fn rooms(&self, session: SessionId) -> (Rooms, bool) {
        let state = self.0.lock();
        let lost = state.sessions.get(&session).filter(|lost| lost.until > Instant::now());
        lost.map_or_else(|| (Rooms::new(), false), |lost| (lost.rooms.clone(), lost.is_cut))
    }

    /// Records that one of the session's sockets is back, and in the rooms.
    pub(crate) fn taken(&self, session: SessionId) {
        let mut state = self.0.lock();
        let Some(lost) = state.sessions.get_mut(&session) else { return };
        lost.sockets = lost.sockets.saturating_sub(1);
        if lost.sockets == 0 {
            state.remove(session);
        }
    }
}

/// Adds what was listened to after a seq; of two, the older one counts.
pub(crate) fn add<K: Eq + Hash>(listened: &mut HashMap<K, Seq>, to: K, since: Seq) {
    listened.entry(to).and_modify(|known| *known = since.min(*known)).or_insert(since);
}

fn lead(room: &Room) -> Option<String> {
    match room {
        Room::Lead(lead) => Some(lead.clone()),
        _ => None,
    }
}

impl LostState {
    fn remove(&mut self, session: SessionId) -> Option<LostSocket> {
        let lost = self.sessions.remove(&session)?;
        self.rooms -= lost.rooms.len();
        Some(lost)
    }

    /// Forgets what nobody came back for. Done now and then only, because thousands may be lost at once.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now - swept < KEEP_FOR / 8) {
            return;
        }
        self.swept = Some(now);
        self.sessions.retain(|_, lost| lost.until > now);
        self.rooms = self.sessions.values().map(|lost| lost.rooms.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    fn take(lost: &LostSubscriptions, session: SessionId) -> Rooms {
        let (rooms, _) = lost.rooms(session);
        lost.taken(session);
        rooms
    }

    fn rooms(leads: &[(&str, u64)]) -> Rooms {
        leads.iter().map(|(lead, since)| (Room::Lead((*lead).into()), Seq(*since))).collect()
    }

    #[tokio::test]
    async fn lead_rooms_of_several_lost_sockets_are_restored_for_as_many_reconnects() {
        let (lost, session) = (LostSubscriptions::default(), SessionId(Uuid::from_u128(1)));
        let mut first = rooms(&[("a", 7), ("b", 3)]);
        first.insert(Room::Everyone, Seq(0));
        lost.keep(session, first, 1, 10);
        lost.keep(session, rooms(&[("b", 5), ("c", 6)]), 1, 10);
        lost.keep(session, Rooms::new(), 1, 10);
        assert!(take(&lost, SessionId(Uuid::from_u128(2))).is_empty());
        for _ in 0..3 {
            assert_eq!(take(&lost, session), rooms(&[("a", 7), ("b", 3), ("c", 6)]));
        }
        assert!(take(&lost, session).is_empty());
        assert_eq!(lost.0.lock().rooms, 0);
    }

    #[tokio::test]
    async fn lost_subscriptions_are_handed_over_to_the_next_process() {
        let (before, after, session) =
            (LostSubscriptions::default(), LostSubscriptions::default(), SessionId(Uuid::from_u128(1)));
        before.keep(session, rooms(&[("a", 7), ("b", 3)]), 1, 10);
        let json = serde_json::to_string(&before.followed()).expect("JSON");
        after.restore(serde_json::from_str(&json).expect("the same"), 10, Seq(9));
        assert_eq!(after.followed(), before.followed());
        assert_eq!(take(&after, session), rooms(&[("a", 7), ("b", 3)]));
        assert_eq!(after.followed(), ResumeSnapshot::default());
    }

    #[tokio::test]
    async fn a_handed_over_socket_count_does_not_overflow() {
        let (lost, session) = (LostSubscriptions::default(), SessionId(Uuid::nil()));
        let left = json!({session.to_string(): {"sockets": usize::MAX, "leads": {"a": 7}}});
        lost.restore(serde_json::from_value(left).expect("followed"), 10, Seq(9));
        lost.keep(session, rooms(&[("b", 3)]), 1, 10);
        let mut followed = lost.followed();
        followed.add(session, &rooms(&[("c", 5)]));
        assert_eq!(take(&lost, session), rooms(&[("a", 7), ("b", 3)]));
    }

    #[tokio::test]
    async fn invalid_entries_of_a_handover_are_ignored() {
        let (lost, session) = (LostSubscriptions::default(), SessionId(Uuid::nil()));
        let long = "x".repeat(MAX_LEAD_ROOM_CHARS + 1);
        let followed = json!({session.to_string(): {"sockets": 1, "leads": {"": 1, long: 1, "a": 7, "b": 9}}});
        lost.restore(serde_json::from_value(followed).expect("readable"), 10, Seq(8));
        assert_eq!(take(&lost, session), rooms(&[("a", 7), ("b", 8)]));
    }

    #[tokio::test]
    async fn lost_subscriptions_are_limited_to_those_of_one_socket() {
        let (lost, session) = (LostSubscriptions::default(), SessionId(Uuid::nil()));
        lost.keep(session, rooms(&[("a", 1), ("b", 1)]), 1, 2);
        assert!(!lost.rooms(session).1, "that is all");
        lost.keep(session, rooms(&[("c", 1)]), 1, 2);
        assert!(lost.rooms(session).1, "and that is more");
        let next = LostSubscriptions::default();
        next.restore(lost.followed(), 2, Seq(1));
        assert!(next.rooms(session).1, "which is not forgotten");
        assert_eq!(take(&lost, session).len(), 2);
    }

    #[tokio::test]
    async fn expired_subscriptions_are_not_handed_over() {
        let (lost, session) = (LostSubscriptions::default(), SessionId(Uuid::nil()));
        lost.keep(session, rooms(&[("a", 1)]), 1, 2);
        assert_ne!(lost.followed(), ResumeSnapshot::default());
        lost.0.lock().sessions.values_mut().for_each(|lost| lost.until = Instant::now());
        assert_eq!(lost.followed(), ResumeSnapshot::default());
    }
}
