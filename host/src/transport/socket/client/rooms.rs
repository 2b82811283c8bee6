//! Rooms of a client: which it is in, and of which of them plugins have yet to be asked.

use crate::{
    domain::{counter::Seq, event::Event, role::Role, room::Room},
    transport::socket::{
        client::{CatchUpRange, Client},
        session::resume::Rooms,
    },
};

impl Client {
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
}
