//! Replay: reads the log from an older seq on, for the tail and for sockets that catch up.
//!
//! Lines that are wanted now are cached for a while, with the slice that each role gets of them, so that a thousand
//! sockets that catch up cost one read and one call of the plugins.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use parking_lot::Mutex;
use quick_cache::{Weighter, unsync::Cache};

use crate::{
    delivery::{current_leads::CurrentLeads, line::LogLine},
    domain::{
        counter::Seq,
        event::Event,
        id::{Epoch, LeadId},
    },
    store::{self, handle::Store},
};

/// Approximate memory limit of the cached lines.
const CAPACITY_BYTES: u64 = 32 * 1024 * 1024;
const TYPICAL_LINE_BYTES: u64 = 16 * 1024;

pub struct Replay {
    store: Arc<Store>,
    current_leads: CurrentLeads,
    lines: Mutex<Cache<Seq, Arc<LogLine>, LineWeighter>>,
    /// Number of times that the cache was cleared: a line that was read before a clear is not cached after it.
    forgotten: AtomicU64,
    /// Locked by the one caller that reads the database: the others then find the lines in `lines`.
    reading: tokio::sync::Mutex<()>,
}

impl Replay {
    pub fn new(store: Arc<Store>) -> Self {
        let items = (CAPACITY_BYTES / TYPICAL_LINE_BYTES) as usize;
        let lines = Mutex::new(Cache::with_weighter(items, CAPACITY_BYTES, LineWeighter));
        let current_leads = CurrentLeads::new(store.clone());
        Self { store, current_leads, lines, forgotten: AtomicU64::new(0), reading: tokio::sync::Mutex::new(()) }
    }

    /// Returns the epoch of the log, which identifies it.
    pub fn epoch(&self) -> &Epoch {
        self.store.epoch()
    }

    /// Returns the cache of current leads, by which lines about them are judged.
    pub fn current_leads(&self) -> &CurrentLeads {
        &self.current_leads
    }

    /// Returns some of the lines that follow `seq`, at most `limit`, oldest first; none at the head.
    ///
    /// The first one is not `seq + 1` if the log is no longer kept that far back.
    pub async fn after(&self, seq: Seq, limit: u32) -> Result<Vec<Arc<LogLine>>, store::Error> {
        let cached = self.cached_after(seq, limit);
        if !cached.is_empty() {
            return Ok(cached);
        }
        let _reading = self.reading.lock().await;
        let cached = self.cached_after(seq, limit);
        if !cached.is_empty() {
            return Ok(cached);
        }
        let forgotten = self.forgotten.load(Relaxed);
        let events = self.store.read().await?.events_after(seq, limit).await?;
        Ok(self.cache(events, forgotten))
    }

    /// Returns some of the lines about a lead that follow `seq`, at most `limit`, oldest first; `None` if the log is no
    /// longer kept that far back.
    pub async fn about_lead(
        &self,
        lead: LeadId,
        seq: Seq,
        limit: u32,
    ) -> Result<Option<Vec<Arc<LogLine>>>, store::Error> {
        let forgotten = self.forgotten.load(Relaxed);
        let mut reader = self.store.read().await?;
        if reader.oldest().await? > seq.next() {
            return Ok(None);
        }
        let events = reader.lead_events_after(lead, seq, limit).await?;
        drop(reader);
        Ok(Some(self.cache(events, forgotten)))
    }

    /// Clears the cache, because the log itself was changed; the lines are read again.
    pub(crate) fn forget(&self) {
        let mut lines = self.lines.lock();
        self.forgotten.fetch_add(1, Relaxed);
        lines.clear();
    }

    /// Caches what was read, unless the cache was cleared meanwhile; `forgotten` is the count before the read.
    fn cache(&self, events: Vec<Event>, forgotten: u64) -> Vec<Arc<LogLine>> {
        if let Some(last) = events.last() {
            self.store.announce(last.seq);
        }
        let mut lines = self.lines.lock();
        if self.forgotten.load(Relaxed) != forgotten {
            return events.into_iter().map(|event| Arc::new(LogLine::new(event))).collect();
        }
        let cached = |event: Event| {
            let seq = event.seq;
            if let Some(line) = lines.get(&seq) {
                return line.clone();
            }
            let line = Arc::new(LogLine::new(event));
            lines.insert(seq, line.clone());
            line
        };
        events.into_iter().map(cached).collect()
    }

    fn cached_after(&self, seq: Seq, limit: u32) -> Vec<Arc<LogLine>> {
        let lines = self.lines.lock();
        let following = std::iter::successors(Some(seq.next()), |seq| Some(seq.next()));
        following.take(limit as usize).map_while(|seq| lines.get(&seq).cloned()).collect()
    }
}

struct LineWeighter;

impl Weighter<Seq, Arc<LogLine>> for LineWeighter {
    fn weight(&self, _: &Seq, line: &Arc<LogLine>) -> u64 {
        line.weight
    }
}
