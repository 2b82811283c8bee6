//! The log from an older seq on: what the tail reads, and what a socket that is behind reads again.
//!
//! Lines that are wanted now are kept for a while with what each role gets of them, so that a thousand
//! sockets that catch up cost one read and one question to the plugins.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use quick_cache::{Weighter, unsync::Cache};

use super::{shape::Shapes, sight::Sights};
use crate::{
    domain::{
        event::{Event, size_in_memory},
        id::LeadId,
    },
    store::{self, Store},
};

/// The memory that kept lines may take, roughly.
const CAPACITY_BYTES: u64 = 32 * 1024 * 1024;
const TYPICAL_LINE_BYTES: u64 = 16 * 1024;

/// One line of the log, and what has been made of it.
pub struct Line {
    pub event: Event,
    pub(super) shapes: Mutex<Shapes>,
    weight: u64,
}

impl Line {
    pub fn new(event: Event) -> Self {
        // The event itself, and about as much again for each of two encoded forms.
        let weight = 1024 + 3 * (size_in_memory(&event.payload) + size_in_memory(&event.context));
        Self { event, shapes: Mutex::default(), weight }
    }

    /// The lead of which the line tells more than its id.
    pub fn lead_in_content(&self) -> Option<LeadId> {
        self.event.content().and(self.event.lead_id)
    }
}

pub struct Replay {
    store: Arc<Store>,
    sights: Sights,
    lines: Mutex<Cache<u64, Arc<Line>, ByBytes>>,
    /// How often everything was forgotten: what was read before that is not kept after it.
    forgotten: AtomicU64,
    /// Held by the one who reads the database: the others will find the lines in `lines`.
    reading: tokio::sync::Mutex<()>,
}

impl Replay {
    pub fn new(store: Arc<Store>) -> Self {
        let items = (CAPACITY_BYTES / TYPICAL_LINE_BYTES) as usize;
        let lines = Mutex::new(Cache::with_weighter(items, CAPACITY_BYTES, ByBytes));
        let sights = Sights::new(store.clone());
        Self { store, sights, lines, forgotten: AtomicU64::new(0), reading: tokio::sync::Mutex::new(()) }
    }

    /// Names the log that is read.
    pub fn epoch(&self) -> &str {
        self.store.epoch()
    }

    /// Who sees the leads that lines are about now.
    pub fn sights(&self) -> &Sights {
        &self.sights
    }

    /// Some of the lines that follow `seq`, at most `limit`, oldest first; none at the head.
    ///
    /// The first one is not `seq + 1` when the log is no longer kept that far back.
    pub async fn after(&self, seq: u64, limit: u32) -> Result<Vec<Arc<Line>>, store::Error> {
        let kept = self.kept_after(seq, limit);
        if !kept.is_empty() {
            return Ok(kept);
        }
        let _reading = self.reading.lock().await;
        let kept = self.kept_after(seq, limit);
        if !kept.is_empty() {
            return Ok(kept);
        }
        let forgotten = self.forgotten.load(Relaxed);
        let events = self.store.read().await?.events_after(seq, limit).await?;
        Ok(self.keep(events, forgotten))
    }

    /// Some of the lines about a lead that follow `seq`, at most `limit`, oldest first; nothing when the log is no
    /// longer kept that far back.
    pub async fn about_lead(&self, lead: LeadId, seq: u64, limit: u32) -> Result<Option<Vec<Arc<Line>>>, store::Error> {
        let forgotten = self.forgotten.load(Relaxed);
        let mut reader = self.store.read().await?;
        if reader.oldest().await? > seq + 1 {
            return Ok(None);
        }
        let events = reader.lead_events_after(lead, seq, limit).await?;
        drop(reader);
        Ok(Some(self.keep(events, forgotten)))
    }

    /// Forgets all lines, because the log itself was changed; they are read again.
    pub(super) fn forget(&self) {
        let mut lines = self.lines.lock();
        self.forgotten.fetch_add(1, Relaxed);
        lines.clear();
    }

    /// Keeps what was read when `forgotten` was the count.
    fn keep(&self, events: Vec<Event>, forgotten: u64) -> Vec<Arc<Line>> {
        if let Some(last) = events.last() {
            self.store.announce(last.seq);
        }
        let mut lines = self.lines.lock();
        if self.forgotten.load(Relaxed) != forgotten {
            return events.into_iter().map(|event| Arc::new(Line::new(event))).collect();
        }
        let keep = |event: Event| {
            let seq = event.seq;
            if let Some(line) = lines.get(&seq) {
                return line.clone();
            }
            let line = Arc::new(Line::new(event));
            lines.insert(seq, line.clone());
            line
        };
        events.into_iter().map(keep).collect()
    }

    fn kept_after(&self, seq: u64, limit: u32) -> Vec<Arc<Line>> {
        let lines = self.lines.lock();
        (seq + 1..=seq.saturating_add(limit.into())).map_while(|seq| lines.get(&seq).cloned()).collect()
    }
}

struct ByBytes;

impl Weighter<u64, Arc<Line>> for ByBytes {
    fn weight(&self, _: &u64, line: &Arc<Line>) -> u64 {
        line.weight
    }
}
