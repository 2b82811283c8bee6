//! Audit log of events that anybody can cause: failed logins, refusals, denied connections.
//!
//! Each is logged at once, for tools that block addresses, and stored in the audit table. A flood must fill neither, so
//! repetitions are coalesced: one row per minute for each kind, account and address; the number of rows is limited, and
//! each row writes at most ten log lines.

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{select, time::interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    auth::{clock::Clock, settings},
    domain::time::Timestamp,
    store::{self, audit::Entry, handle::Store},
};

/// Repetitions within this time share one row.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of rows that begin in one window; further entries are counted by kind alone.
const MAX_OPEN: usize = 1000;
/// Maximum number of log lines per row.
const MAX_LINES: u32 = 10;
const FLUSH_EVERY: Duration = Duration::from_secs(1);
const PRUNE_EVERY: u32 = 3600;
const PRUNED_AT_ONCE: u32 = 1000;

/// Audit log; clones share one state.
#[derive(Clone)]
pub struct AuditLog(Arc<AuditLogInner>);

struct AuditLogInner {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    settings: settings::AuditConfig,
    open: Mutex<HashMap<RepeatKey, Repeated>>,
    /// Serialises flushes: two at once would begin a row twice.
    flushing: tokio::sync::Mutex<()>,
}

/// Key that identifies repetitions of the same entry.
type RepeatKey = (&'static str, Option<String>, Option<String>, String);

struct Repeated {
    entry: Entry,
    first_at: Timestamp,
    last_at: Timestamp,
    /// Id of the row, once it exists.
    row: Option<i64>,
    seen: u32,
    /// Number of repetitions that are not in the row yet.
    unsaved: u32,
}

impl AuditLog {
    pub(crate) fn new(store: Arc<Store>, clock: Arc<dyn Clock>, settings: settings::AuditConfig) -> Self {
        let (open, flushing) = (Mutex::default(), tokio::sync::Mutex::default());
        Self(Arc::new(AuditLogInner { store, clock, settings, open, flushing }))
    }

    /// Records an entry. It is in the table after the next flush, at most a second later.
    pub fn note(&self, entry: Entry) {
        let now = self.0.clock.now();
        let mut open = self.0.open.lock();
        let mut entry = entry;
        let mut key = key(&entry);
        if !open.contains_key(&key) && open.len() >= MAX_OPEN {
            entry = Entry::new(entry.kind).with("reason", "too_many_to_list");
            key = crate::auth::audit_log::key(&entry);
        }
        let repeated = open.entry(key).or_insert_with(|| Repeated {
            entry: entry.clone(),
            first_at: now,
            last_at: now,
            row: None,
            seen: 0,
            unsaved: 0,
        });
        repeated.last_at = now;
        repeated.seen = repeated.seen.saturating_add(1);
        repeated.unsaved = repeated.unsaved.saturating_add(1);
        if repeated.seen <= MAX_LINES {
            entry.log();
        }
    }

    /// Writes recorded entries to the table.
    ///
    /// # Errors
    /// The entries are kept; the next flush tries again.
    pub async fn flush(&self) -> Result<(), store::Error> {
        let inner = &*self.0;
        let _alone = inner.flushing.lock().await;
        let unsaved: Vec<(RepeatKey, Entry, Timestamp, Timestamp, Option<i64>, u32)> = inner
            .open
            .lock()
            .iter()
            .filter(|(_, noted)| noted.unsaved > 0)
            .map(|(key, noted)| {
                (key.clone(), noted.entry.clone(), noted.first_at, noted.last_at, noted.row, noted.unsaved)
            })
            .collect();
        let mut saved = Vec::with_capacity(unsaved.len());
        if !unsaved.is_empty() {
            let mut tx = inner.store.write().await?;
            for (key, entry, first_at, last_at, row, count) in unsaved {
                let row = match row {
                    Some(row) => {
                        tx.repeat_audit(row, last_at, count).await?;
                        row
                    }
                    None => tx.insert_audit(&entry, first_at, last_at, count).await?,
                };
                saved.push((key, row, count));
            }
            tx.commit().await?;
        }

        let now = inner.clock.now();
        let mut open = inner.open.lock();
        for (key, row, count) in saved {
            if let Some(noted) = open.get_mut(&key) {
                noted.row = Some(row);
                noted.unsaved -= count;
            }
        }
        open.retain(|_, noted| noted.unsaved > 0 || now.since(noted.first_at) < WINDOW);
        Ok(())
    }

    /// Runs until `stop`: flushes every second, logs operators' commands from other processes, and prunes every hour.
    pub async fn run(self, stop: CancellationToken) {
        let (mut ticks, mut ticked, mut is_failing, mut logged) = (interval(FLUSH_EVERY), 0_u32, false, None);
        loop {
            let is_over = select! {
                _ = ticks.tick() => false,
                () = stop.cancelled() => true,
            };
            let mut written = self.flush().await;
            if written.is_ok() {
                written = self.log_operators(&mut logged).await;
            }
            if written.is_ok() && !is_over && ticked.is_multiple_of(PRUNE_EVERY) {
                written = self.prune().await;
            }
            ticked = ticked.wrapping_add(1);
            match written {
                Ok(()) => is_failing = false,
                // Retried every second, but logged once.
                Err(error) if !is_failing => {
                    warn!(error = &error as &dyn std::error::Error, "cannot write the audit table");
                    is_failing = true;
                }
                Err(_) => {}
            }
            if is_over {
                return;
            }
        }
    }

    /// Logs what operators did since row `logged`; the first call only sets the starting point.
    async fn log_operators(&self, logged: &mut Option<i64>) -> Result<(), store::Error> {
        let mut reader = self.0.store.read().await?;
        let Some(last) = logged else {
            *logged = Some(reader.newest_audit_row().await?);
            return Ok(());
        };
        for row in reader.operators_rows(*last).await? {
            row.log();
            *last = row.id;
        }
        Ok(())
    }

    /// Deletes rows beyond the retention limits for age and number, in batches between which others can write.
    ///
    /// # Errors
    /// When the database fails; earlier batches stay deleted.
    pub async fn prune(&self) -> Result<(), store::Error> {
        let inner = &*self.0;
        let since = inner.clock.now().minus(inner.settings.keep_for);
        loop {
            let mut tx = inner.store.write().await?;
            let pruned = tx.prune_audit(since, inner.settings.keep_rows, PRUNED_AT_ONCE).await?;
            tx.commit().await?;
            if pruned < PRUNED_AT_ONCE.into() {
                return Ok(());
            }
        }
    }
}

fn key(entry: &Entry) -> RepeatKey {
    let detail = serde_json::to_string(&entry.detail).expect("details are plain JSON");
    (entry.kind.as_str(), entry.subject.clone(), entry.address.map(|address| address.to_string()), detail)
}
