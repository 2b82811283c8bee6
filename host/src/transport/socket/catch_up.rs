//! Catch-up of a client: its cursor in the log, the ranges that it missed, and the `sync:reset` that it is owed. A
//! client that is behind goes live again once it has read everything that was handed out.

use std::{collections::HashSet, sync::Arc};

use tokio::time::Instant;

use crate::{
    domain::{counter::Seq, event::Event, room::Room, user::User},
    transport::socket::{
        client::{CatchUpRange, Client, ClientState, OwedReset},
        error::TooManySyncs,
    },
};

impl Client {
    /// Returns true if the client is catching up from the log.
    pub(crate) fn is_behind(&self) -> bool {
        let state = self.state.lock();
        !state.is_live && !state.has_ended && !state.is_waiting()
    }

    pub(crate) fn cursor(&self) -> Seq {
        self.state.lock().cursor
    }

    /// Returns the newest line about the user's rights that the client knows of.
    pub(crate) fn learned(&self) -> Seq {
        self.state.lock().learned
    }

    /// Returns the newest line that changed what the user may see: nothing older is made up for.
    pub(crate) fn rights(&self) -> Seq {
        self.state.lock().rights
    }

    pub(crate) fn note_rights(&self, seq: Seq) {
        let mut state = self.state.lock();
        state.rights = seq.max(state.rights);
    }

    /// Records where the tail was before the handshake read the head. What takes effect with a line between the two is
    /// not in effect yet: what the client fetches until the tail is there may be outdated.
    pub(crate) fn note_tail(&self, position: Seq) {
        let mut state = self.state.lock();
        state.settled = state.settled.min(position);
    }

    /// Has the writer send a reset at `due`, unless the line is settled already. Nothing newer than the line is sent
    /// before it. `is_own` is for a line about the client's own rights.
    pub(crate) fn owe_reset(&self, line: Seq, is_own: bool, due: Instant) {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let settled = if is_own { state.settled_own.max(state.settled) } else { state.settled };
        if line <= settled || state.is_closed {
            return;
        }
        let owed = state.owed.get_or_insert(OwedReset { first: line, line, due, after: Seq::START, reads_on: false });
        // One reset is enough for all lines up to then.
        owed.line = owed.line.max(line);
        owed.due = owed.due.min(due);
        if is_own {
            owed.after = line;
            owed.reads_on = true;
        }
        if std::mem::take(&mut state.is_live) {
            // The client was offered everything up to there.
            state.cursor = state.cursor.max(line);
        }
        self.wake_writer(&mut guard);
    }

    /// Returns when a reset is to be sent, if one is owed and nothing has to go ahead of it.
    pub(crate) fn reset_due(&self) -> Option<Instant> {
        let state = self.state.lock();
        let owed = state.owed.filter(|owed| !state.has_ended && state.cursor >= owed.after)?;
        Some(owed.due)
    }

    /// Returns the seq from which a client that is reset now goes on, if lines up to `position` were, or are just
    /// being, handed out.
    pub(crate) fn reset_seq(&self, position: Seq) -> Seq {
        let state = self.state.lock();
        match state.owed {
            Some(owed) if owed.reads_on && state.cursor >= owed.line => state.cursor,
            // It may not be known yet if the newest line is for the user alone.
            Some(owed) => position.before().max(owed.line).max(state.cursor),
            None => position,
        }
    }

    /// Returns the last line that may be sent ahead of a reset that is owed.
    pub(crate) fn upto(&self) -> Seq {
        self.state.lock().owed.map_or(Seq::END, |owed| owed.upto())
    }

    /// Resumes: begins at an older seq than the head of the handshake, and reports when it has caught up.
    pub(crate) fn resume(&self, since: Seq) {
        let mut state = self.state.lock();
        state.cursor = since;
        state.syncing = Some(Vec::new());
    }

    /// Asks for what went by after `since` in a room that the client is in, unless it was sent that. A `since` that is
    /// ahead of the log, or behind the newest reset line, leads to a reset.
    pub(crate) fn ask(&self, room: &Room, since: Seq, position: Seq, reset_line: Seq) {
        let mut state = self.state.lock();
        let Some(upto) = state.rooms.get(room).copied() else { return };
        // The handshake may be ahead of the tail: what it told the client of is not ahead of the log.
        if (upto..=position.max(state.cursor)).contains(&since) && since >= reset_line {
            return;
        }
        state.is_live = false;
        match state.missed.back_mut() {
            // Rooms that are asked for from the same seq on are read for at once.
            Some(last) if last.since == since && since < upto && !last.is_under_way => {
                last.rooms.insert(room.clone());
                last.upto = last.upto.max(upto);
            }
            _ => {
                let rooms = HashSet::from([room.clone()]);
                state.missed.push_back(CatchUpRange { since, upto, rooms, is_under_way: false });
            }
        }
        // The writer is woken by `answered`: the acknowledgement goes ahead of what it announces.
        state.is_unanswered = true;
    }

    /// Records that the acknowledgement of `ask` is in the send queue, so that what was missed may follow.
    pub(crate) fn answered(&self) {
        let mut state = self.state.lock();
        if std::mem::take(&mut state.is_unanswered) {
            self.wake_writer(&mut state);
        }
    }

    pub(crate) fn is_unanswered(&self) -> bool {
        self.state.lock().is_unanswered
    }

    /// Asks for what went by after `since` in all its rooms and was not sent, and for a report when it has caught up.
    /// A `since` that is ahead of the log, or behind the newest reset line, leads to a reset.
    ///
    /// # Errors
    /// When too many such requests wait already.
    pub(crate) fn sync(
        &self,
        since: Seq,
        ack: Option<i64>,
        position: Seq,
        reset_line: Seq,
    ) -> Result<(), TooManySyncs> {
        const MAX_WAITING: usize = 8;
        let mut state = self.state.lock();
        let upto = state.rooms.values().copied().max().unwrap_or_default();
        let waiting = state.missed.iter().filter(|missed| missed.rooms.len() > 1).count();
        if waiting >= MAX_WAITING || state.syncing.as_ref().is_some_and(|acks| acks.len() >= MAX_WAITING) {
            return Err(TooManySyncs);
        }
        if since < upto || since > position.max(state.cursor) || since < reset_line {
            let rooms = state.rooms.keys().cloned().collect();
            state.missed.push_back(CatchUpRange { since, upto, rooms, is_under_way: false });
        }
        state.syncing.get_or_insert_default().extend(ack);
        state.is_live = false;
        if let Some(owed) = &mut state.owed {
            // The reset is the answer.
            owed.due = owed.due.min(Instant::now());
        }
        self.wake_writer(&mut state);
        Ok(())
    }

    /// Returns the next range that the client asks for, of what went by.
    pub(crate) fn next_missed(&self) -> Option<CatchUpRange> {
        let mut state = self.state.lock();
        let is_late = state.owed.is_some_and(|owed| state.cursor < owed.after);
        if state.has_ended || is_late {
            return None;
        }
        let missed = state.missed.front_mut()?;
        missed.is_under_way = true;
        Some(missed.clone())
    }

    /// Returns the user to shape a line that went by for, if this client asked for the line and was not sent it.
    pub(crate) fn wants_missed(&self, event: &Event, missed: &CatchUpRange) -> Option<Arc<User>> {
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

    /// Records that the range that was asked for first was sent.
    pub(crate) fn was_sent_missed(&self) {
        let mut state = self.state.lock();
        let Some(missed) = state.missed.pop_front() else { return };
        let ClientState { rooms, made_up, .. } = &mut *state;
        for room in missed.rooms {
            if let Some(from) = rooms.get_mut(&room).filter(|from| missed.since < **from) {
                let before = std::mem::replace(from, missed.since);
                made_up.entry(room).or_insert(before);
            }
        }
    }

    /// Returns the acks that wait for the client to catch up; `None` if it asked for no report of that, or a reset is
    /// owed.
    pub(crate) fn synced(&self) -> Option<Vec<i64>> {
        let mut state = self.state.lock();
        if state.owed.is_some() {
            return None;
        }
        state.syncing.take()
    }

    /// Goes on from `seq`, whatever was missed; returns the acks that waited for it. A client that is live missed
    /// nothing.
    pub(crate) fn skip_to(&self, seq: Seq) -> Vec<i64> {
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

    /// Returns the cursor of a client that is behind, does not wait for a reset, and has nothing in its send queue,
    /// where events may be that it took just before it fell behind.
    pub(crate) fn behind(&self) -> Option<Seq> {
        let state = self.state.lock();
        let reads = !state.is_live && !state.has_ended && !state.is_waiting() && state.outbox.is_empty();
        reads.then_some(state.cursor)
    }

    /// Returns the user to shape a replayed line for, if the line is for this client.
    pub(crate) fn wants(&self, event: &Event) -> Option<Arc<User>> {
        let state = self.state.lock();
        state.wants(event).then(|| state.user.clone())
    }

    /// Records that everything up to `seq` was taken.
    pub(crate) fn advance(&self, seq: Seq) {
        let mut state = self.state.lock();
        state.cursor = state.cursor.max(seq);
    }

    /// Makes the client live, so that it takes events as they come, unless one was handed out that it has not read.
    ///
    /// `position` is called while the client is locked: an event is handed out only after the position says so, and is
    /// offered under this lock. Whichever comes first, the client takes it once.
    pub(crate) fn go_live(&self, position: impl FnOnce() -> Seq) -> bool {
        let mut state = self.state.lock();
        let is_done = state.missed.is_empty() && state.syncing.is_none() && state.owed.is_none();
        state.is_live = state.cursor >= position() && is_done;
        state.is_live
    }

    pub(crate) fn fall_behind(&self) {
        let mut state = self.state.lock();
        state.is_live = false;
        self.wake_writer(&mut state);
    }
}
