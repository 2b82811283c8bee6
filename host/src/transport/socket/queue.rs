//! Sending to a client: at once where the kernel takes it (the short way), else through a bounded send queue and its
//! writer.
//!
//! On the short way, the queue holds only what is not in the log, such as replies; a client that cannot take an event
//! falls behind, and catches up from the log (backpressure). On the long way, through socketioxide, events wait in the
//! queue too, as long as it has room.

use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::{
    delivery::line::{Message, Slice},
    domain::{counter::Seq, event::Event, role::Role, room::Room},
    transport::{
        record,
        socket::{
            client::{Client, ClientState, ClientTasks},
            packet::{Fall, OutgoingPacket, QueueLimits},
        },
        tcp::gate::{FramesSent, GateShut, MAX_FRAMES},
    },
};

/// Outcome of offering a client some lines in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OfferedRun {
    /// Number of events that will arrive.
    pub(crate) taken: u64,
    /// Number of events that were written at once, and of the bytes of their packets.
    pub(crate) written: u64,
    pub(crate) bytes: u64,
    /// Set if the client fell behind.
    pub(crate) fell: Option<Fall>,
}

/// Verdict on one line for one client.
enum Judged<'a> {
    /// The line is not in its rooms, or the client reads the log anyway.
    Unwanted,
    /// The line is in its rooms, and its user gets nothing of it.
    Nothing,
    Gets(&'a Message),
    Falls(Fall),
}

/// Line that is being handed out: the event, and what each role gets of it.
pub(crate) type OfferedLine<'a> = (&'a Event, &'a [(Role, Arc<Slice>)]);

impl Client {
    /// Sends a reply; waits while the send queue is full. A reply to a closed socket is dropped.
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

    /// Sends a reply, unless the send queue is full; false if it is.
    pub(crate) fn try_reply(&self, output: &OutgoingPacket) -> bool {
        let mut state = self.state.lock();
        if state.is_closed {
            return true;
        }
        if state.outbox.is_empty() && state.short_way.is_some() {
            let frame = output.frame();
            let sent = state.send(&[&frame]);
            if sent.has_rest {
                self.wake_writer(&mut state);
            }
            if sent.frames == 1 {
                output.count();
                return true;
            }
        }
        let pushed = state.push(&self.limits, output);
        self.wake_writer(&mut state);
        pushed
    }

    /// Waits until there may be something to do for the writer.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Wakes the writer, or starts one.
    pub(crate) fn wake_writer(&self, state: &mut ClientState) {
        if state.has_writer || state.is_closed {
            self.wake.notify_one();
        } else {
            state.has_writer = true;
            self.start(ClientTasks::start_writer);
        }
    }

    /// Ends the writer if there is nothing that it has to do; the next thing to do starts another.
    pub(crate) fn retire_writer(&self) -> bool {
        let mut state = self.state.lock();
        let is_idle = state.outbox.is_empty()
            && state.missed.is_empty()
            && !state.is_unanswered
            && state.syncing.is_none()
            && state.owed.is_none()
            && (state.is_live || state.has_ended)
            && !state.is_dismissed;
        let has_left = state.short_way.as_ref().is_some_and(|connection| !connection.gate().has_rest());
        if is_idle && has_left {
            state.has_writer = false;
        }
        !state.has_writer
    }

    /// Takes the first packet of the queue for the long way.
    pub(crate) fn pop(&self) -> Option<OutgoingPacket> {
        let mut state = self.state.lock();
        let output = state.outbox.pop_front()?;
        state.outbox_bytes -= output.bytes();
        drop(state);
        self.room.notify_one();
        Some(output)
    }

    /// Sends the queue by the short way, as far as the kernel takes it. Returns true if it is empty, and nothing is
    /// left of what was sent before.
    pub(crate) fn flush_short(&self) -> bool {
        let mut state = self.state.lock();
        while let Some(output) = state.outbox.front().cloned() {
            let frame = output.frame();
            let sent = state.send(&[&frame]);
            if sent.frames == 0 {
                return false;
            }
            output.count();
            state.outbox.pop_front();
            state.outbox_bytes -= output.bytes();
            self.room.notify_one();
        }
        state.outbox = Default::default();
        state.short_way.as_ref().is_none_or(|connection| !connection.gate().has_rest())
    }

    /// Takes lines that are being handed out one after the other, those that are for this client. A client that cannot
    /// take one falls behind there.
    pub(crate) fn offer(&self, lines: &[OfferedLine<'_>]) -> OfferedRun {
        walk_step!("offer");
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let mut run = OfferedRun::default();
        if state.short_way.is_some() && state.outbox.is_empty() {
            self.offer_short(state, lines, &mut run);
        } else {
            for (event, slices) in lines {
                self.offer_long(state, event, slices, &mut run);
            }
        }
        let waits = run.taken > 0 && state.short_way.is_none();
        if waits || run.fell.is_some() {
            self.wake_writer(state);
        }
        run
    }

    /// Hands the kernel what the client gets of the lines, in one write.
    fn offer_short(&self, state: &mut ClientState, lines: &[OfferedLine<'_>], run: &mut OfferedRun) {
        let mut messages = SmallVec::<[(Seq, &Message); MAX_FRAMES]>::new();
        let (mut upto, mut fell) = (state.cursor, None);
        for (event, slices) in lines {
            match state.judge(event, slices) {
                Judged::Unwanted => {}
                Judged::Nothing => upto = event.seq,
                Judged::Gets(message) => {
                    upto = event.seq;
                    messages.push((event.seq, message));
                }
                Judged::Falls(fall) => {
                    fell = Some((event.seq, fall));
                    break;
                }
            }
        }
        let mut taken = 0;
        while taken < messages.len() {
            let frames: SmallVec<[&Bytes; MAX_FRAMES]> =
                messages[taken..].iter().take(MAX_FRAMES).map(|(_, message)| message.frame()).collect();
            let sent = state.send(&frames);
            taken += sent.frames;
            if sent.has_rest {
                self.wake_writer(state);
            }
            if sent.frames < frames.len() {
                break;
            }
        }
        for (_, message) in &messages[..taken] {
            record::event(message);
            run.taken += 1;
            run.written += 1;
            run.bytes += message.packet_bytes() as u64;
        }
        if let Some((seq, _)) = messages.get(taken) {
            fell = Some((*seq, Fall::Full));
        }
        match fell {
            None => state.cursor = upto,
            Some((seq, fall)) => run.fell = Some(state.fall(seq, fall)),
        }
    }

    fn offer_long(&self, state: &mut ClientState, event: &Event, slices: &[(Role, Arc<Slice>)], run: &mut OfferedRun) {
        match state.judge(event, slices) {
            Judged::Unwanted => {}
            Judged::Nothing => state.cursor = event.seq,
            Judged::Gets(message) => {
                // On the short way, what waits in the queue goes ahead, and the log has the event.
                let may_wait = state.short_way.is_none();
                if may_wait && state.push(&self.limits, &OutgoingPacket::Event(message.clone())) {
                    run.taken += 1;
                    state.cursor = event.seq;
                } else {
                    run.fell = Some(state.fall(event.seq, Fall::Full));
                }
            }
            Judged::Falls(fall) => run.fell = Some(state.fall(event.seq, fall)),
        }
    }

    /// Returns true if the client fell behind since the last call.
    pub(crate) fn take_fallen(&self) -> bool {
        std::mem::take(&mut self.state.lock().fell_behind)
    }

    pub(crate) fn has_output(&self) -> bool {
        let state = self.state.lock();
        !state.outbox.is_empty() || state.short_way.as_ref().is_some_and(|connection| connection.gate().has_rest())
    }

    /// Returns true if it is on the short way.
    pub(crate) fn is_direct(&self) -> bool {
        self.state.lock().short_way.is_some()
    }

    /// Returns the number of packets that wait to be sent, and the number of their bytes.
    pub(crate) fn queued(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.outbox.len(), state.outbox_bytes)
    }
}

impl ClientState {
    /// Judges a line that is being handed out.
    fn judge<'a>(&mut self, event: &Event, slices: &'a [(Role, Arc<Slice>)]) -> Judged<'a> {
        let (awaits, wants) = (self.awaits(event).is_some(), self.wants(event));
        if !self.is_live || !(awaits || wants) {
            let is_personal = wants && event.rooms.iter().all(|room| matches!(room, Room::User(_)));
            if let Some(owed) = self.owed.as_mut().filter(|owed| is_personal && event.seq > owed.first) {
                owed.reads_on = true;
            }
            return Judged::Unwanted;
        }
        let slice = slices.iter().find(|(shaped, _)| *shaped == self.user.role).map(|(_, slice)| &**slice);
        match slice {
            Some(slice) if awaits && slice.includes(&self.user) => Judged::Falls(Fall::Unjudged),
            _ if !wants => Judged::Nothing,
            None | Some(Slice::Held(_)) => Judged::Falls(Fall::Held),
            Some(slice) => slice.message_for(&self.user).map_or(Judged::Nothing, Judged::Gets),
        }
    }

    /// Falls behind at a line: lines between the cursor and that one were not for this client.
    fn fall(&mut self, at: Seq, why: Fall) -> Fall {
        (self.is_live, self.fell_behind) = (false, true);
        self.cursor = at.before();
        why
    }

    /// Writes frames by the short way.
    fn send(&mut self, frames: &[&Bytes]) -> FramesSent {
        let Some(connection) = &self.short_way else { return FramesSent::default() };
        connection.gate().send(frames).unwrap_or_else(|GateShut| {
            // The engine has what is left to say.
            self.short_way = None;
            FramesSent::default()
        })
    }

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
