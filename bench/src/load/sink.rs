//! Sum of what all sockets received.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::{
    load::{
        clock::Sent,
        frame,
        order::{Arrival, Order},
    },
    stats::latencies,
};

/// Counts of a measurement.
pub struct Sink {
    /// Beginning of the events that count as deliveries, such as `42["lead:updated"`.
    pub wanted: &'static [u8],
    /// Beginning of other events that are counted as replies.
    pub awaited: &'static [u8],
    /// Sockets that are connected and were greeted.
    pub live: usize,
    pub deliveries: u64,
    /// Bytes of the deliveries, with the heads of their frames.
    pub bytes: u64,
    pub duplicates: u64,
    pub inversions: u64,
    pub gaps: u64,
    /// Newest seq of a delivery.
    pub newest: u64,
    /// Acknowledgements, and other packets that were waited for.
    pub replies: u64,
    pub sent: Sent,
    /// Latencies of deliveries, in nanoseconds.
    pub latency: Histogram<u64>,
    /// The first delivery and the greeting as they came, while `keeps` is set.
    pub kept: Option<Vec<u8>>,
    pub greeting: Option<Vec<u8>>,
    pub keeps: bool,
    pub last_at: Instant,
    /// Anything that was received, to detect a standstill.
    pub progress: u64,
}

impl Sink {
    pub fn new(wanted: &'static [u8]) -> Self {
        Self {
            wanted,
            awaited: b"42[\"sync:done\"",
            live: 0,
            deliveries: 0,
            bytes: 0,
            duplicates: 0,
            inversions: 0,
            gaps: 0,
            newest: 0,
            replies: 0,
            sent: Sent::At(Instant::now()),
            latency: latencies(),
            kept: None,
            greeting: None,
            keeps: false,
            last_at: Instant::now(),
            progress: 0,
        }
    }

    /// Forgets deliveries and latencies; sockets, and faults of order, stay counted.
    pub fn restart(&mut self) {
        (self.deliveries, self.bytes, self.gaps, self.replies) = (0, 0, 0, 0);
        self.latency.reset();
    }

    /// Counts an event if it is wanted; returns true if it was.
    pub fn event(&mut self, payload: &[u8], length: usize, order: &mut Order, now: Instant) -> bool {
        let Some(seq) = self.order(payload, order) else { return false };
        self.deliveries += 1;
        self.bytes += length as u64;
        self.newest = self.newest.max(seq);
        self.last_at = now;
        if let Some(sent) = self.sent.time(seq) {
            let nanos = now.saturating_duration_since(sent).as_nanos();
            self.latency.saturating_record(u64::try_from(nanos).unwrap_or(u64::MAX));
        }
        if self.keeps {
            self.kept = Some(payload.to_vec());
        }
        true
    }

    /// Checks the order of an event if it is wanted; returns its seq.
    pub fn order(&mut self, payload: &[u8], order: &mut Order) -> Option<u64> {
        if !payload.starts_with(self.wanted) {
            return None;
        }
        let seq = frame::seq(payload)?;
        match order.note(seq) {
            Arrival::Next => {}
            Arrival::Gap => self.gaps += 1,
            Arrival::Duplicate => self.duplicates += 1,
            Arrival::Inversion => self.inversions += 1,
        }
        Some(seq)
    }
}
