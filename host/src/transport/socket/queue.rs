//! Send queue of a client: replies and live events wait here for the writer. The queue is bounded: a client that cannot
//! take an event falls behind, and catches up from the log (backpressure).

use std::sync::Arc;

use crate::{
    delivery::line::Slice,
    domain::{event::Event, role::Role, room::Room},
    transport::socket::{
        client::{Client, ClientState},
        packet::{Offered, OutgoingPacket, QueueLimits},
    },
};

impl Client {
    /// Puts a reply into the send queue, and waits while that is full. A reply to a closed socket is dropped.
    pub(crate) async fn reply(&self, output: OutgoingPacket) {
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

    /// Puts a reply into the send queue unless that is full; false if it is.
    pub(crate) fn try_reply(&self, output: &OutgoingPacket) -> bool {
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
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    pub(crate) fn pop(&self) -> Option<OutgoingPacket> {
        let mut state = self.state.lock();
        let output = state.outbox.pop_front()?;
        state.outbox_bytes -= output.bytes();
        drop(state);
        self.room.notify_one();
        Some(output)
    }

    /// Takes an event that is being handed out, if it is for this client. A client that cannot take it falls behind.
    pub(crate) fn offer(&self, event: &Event, slices: &[(Role, Arc<Slice>)]) -> Offered {
        walk_step!("offer");
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
                Some(message) if state.push(&self.limits, &OutgoingPacket::Event(message.clone())) => Offered::Taken,
                Some(_) => Offered::Full,
                None => Offered::Nothing,
            },
        };
        state.is_live = matches!(offered, Offered::Taken | Offered::Nothing);
        state.fell_behind |= !state.is_live;
        // Lines between the cursor and this one were not for this client.
        state.cursor = if state.is_live { event.seq } else { event.seq.before() };
        drop(state);
        self.wake.notify_one();
        offered
    }

    /// Returns true if the client fell behind since the last call.
    pub(crate) fn take_fallen(&self) -> bool {
        std::mem::take(&mut self.state.lock().fell_behind)
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.state.lock().outbox.is_empty()
    }

    /// Returns the number of packets that wait to be sent, and the number of their bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.outbox.len(), state.outbox_bytes)
    }
}

impl ClientState {
    fn push(&mut self, limits: &QueueLimits, output: &OutgoingPacket) -> bool {
        let bytes = output.bytes();
        // A packet that alone is over the limit still goes through an empty queue.
        let fits = self.outbox_bytes + bytes <= limits.bytes && self.outbox.len() < limits.packets;
        if !fits && !self.outbox.is_empty() {
            return false;
        }
        self.outbox_bytes += bytes;
        self.outbox.push_back(output.clone());
        true
    }
}
