//! Send window of an Engine.IO session: what was handed to socketioxide and has not left yet.
//!
//! socketioxide's queue reports nothing but "full", and a full one has no room for the heartbeat either, which then
//! takes a slow client for dead. So the packets that leave are counted, in polls and WebSocket frames alike, and part
//! of the queue is kept empty.

use std::collections::VecDeque;

/// Share of the 128 places in socketioxide's queue; the others are for heartbeats and the engine's own packets.
const MAX_PACKETS: usize = 96;
const MAX_BYTES: u64 = 256 * 1024;

#[derive(Default)]
pub(crate) struct SendWindow {
    /// Number of packets that have left.
    left: u64,
    /// Lengths of the packets that may still be queued.
    queued: VecDeque<usize>,
    bytes: u64,
}

impl SendWindow {
    /// Records a packet that was handed over.
    pub(crate) fn push(&mut self, bytes: usize) {
        self.queued.push_back(bytes);
        self.bytes += bytes as u64;
    }

    /// Records that so many packets have left since the session began.
    pub(crate) fn leave(&mut self, left: u64) {
        while self.left < left
            && let Some(bytes) = self.queued.pop_front()
        {
            self.left += 1;
            self.bytes -= bytes as u64;
        }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.is_empty() || (self.queued.len() < MAX_PACKETS && self.bytes < MAX_BYTES)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_is_full_at_its_packets_or_its_bytes_and_has_room_again_as_they_leave() {
        for (bytes, packets) in [(100, MAX_PACKETS), (64 * 1024, 4)] {
            let mut window = SendWindow::default();
            for _ in 0..packets {
                assert!(window.has_room());
                window.push(bytes);
            }
            assert!(!window.has_room());
            window.leave(1);
            assert!(window.has_room() && !window.is_empty());
            window.leave(packets as u64 + 7);
            assert!(window.is_empty());
            assert_eq!(window.bytes, 0);
        }
    }

    #[test]
    fn a_packet_larger_than_the_window_goes_alone() {
        let mut window = SendWindow::default();
        assert!(window.has_room());
        window.push(10 * 1024 * 1024);
        assert!(!window.has_room());
        window.leave(1);
        assert!(window.has_room());
    }
}
