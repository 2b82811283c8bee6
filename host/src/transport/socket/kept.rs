//! The lead rooms of sockets that were lost, kept for the next socket of the same login session.
//!
//! A stock client emits nothing again after a reconnect, and the guide's hook subscribes once: without this, a
//! lost connection would end its subscriptions without a word.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::domain::{id::SessionId, room::Room};

const KEPT_FOR: Duration = Duration::from_secs(2 * 60);
/// Beyond so many in all, those of the next socket that is lost are not kept.
const MAX_ROOMS: usize = 200_000;

/// Rooms, each with the seq after which it was listened to.
pub(super) type Rooms = HashMap<Room, u64>;

#[derive(Default)]
pub(super) struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    sessions: HashMap<SessionId, (Rooms, Instant)>,
    rooms: usize,
    swept: Option<Instant>,
}

impl Kept {
    /// Keeps the lead rooms among `rooms`, beside those that the session has left behind already.
    pub(super) fn keep(&self, session: SessionId, rooms: Rooms, limit: usize) {
        let mut state = self.0.lock();
        let now = Instant::now();
        state.sweep(now);
        let leads = rooms.into_iter().filter(|(room, _)| matches!(room, Room::Lead(_)));
        let (mut union, _) = state.take(session).unwrap_or((Rooms::new(), now));
        for (room, since) in leads.take(MAX_ROOMS.saturating_sub(state.rooms + union.len())) {
            if union.len() < limit || union.contains_key(&room) {
                union.entry(room).and_modify(|kept| *kept = since.min(*kept)).or_insert(since);
            }
        }
        if !union.is_empty() {
            state.rooms += union.len();
            state.sessions.insert(session, (union, now + KEPT_FOR));
        }
    }

    /// The rooms that the session left behind, which are its socket's again.
    pub(super) fn take(&self, session: SessionId) -> Rooms {
        let taken = self.0.lock().take(session);
        taken.filter(|(_, until)| *until > Instant::now()).map_or_else(Rooms::new, |(rooms, _)| rooms)
    }
}

impl State {
    fn take(&mut self, session: SessionId) -> Option<(Rooms, Instant)> {
        let taken = self.sessions.remove(&session)?;
        self.rooms -= taken.0.len();
        Some(taken)
    }

    /// Forgets what nobody came back for; looked for now and then, because thousands may be lost at once.
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_some_and(|swept| now - swept < KEPT_FOR / 8) {
            return;
        }
        self.swept = Some(now);
        self.sessions.retain(|_, (_, until)| *until > now);
        self.rooms = self.sessions.values().map(|(rooms, _)| rooms.len()).sum();
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn rooms(leads: &[(&str, u64)]) -> Rooms {
        leads.iter().map(|(lead, since)| (Room::Lead((*lead).into()), *since)).collect()
    }

    #[tokio::test]
    async fn what_several_sockets_left_is_taken_once_and_only_lead_rooms_are() {
        let (kept, session) = (Kept::default(), SessionId(Uuid::from_u128(1)));
        let mut first = rooms(&[("a", 7), ("b", 3)]);
        first.insert(Room::Everyone, 0);
        kept.keep(session, first, 10);
        kept.keep(session, rooms(&[("b", 5), ("c", 6)]), 10);
        assert!(kept.take(SessionId(Uuid::from_u128(2))).is_empty());
        assert_eq!(kept.take(session), rooms(&[("a", 7), ("b", 3), ("c", 6)]));
        assert!(kept.take(session).is_empty());
        assert_eq!(kept.0.lock().rooms, 0);
    }

    #[tokio::test]
    async fn no_more_is_kept_than_a_socket_may_have() {
        let (kept, session) = (Kept::default(), SessionId(Uuid::nil()));
        kept.keep(session, rooms(&[("a", 1), ("b", 1), ("c", 1)]), 2);
        assert_eq!(kept.take(session).len(), 2);
    }
}
