//! Health of the database: outages, damage, and recent commits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tracing::{error, info, warn};

use crate::store::error::{Error, Outage, Result};

/// Maximum age of a cached check.
pub(crate) const FRESH: Duration = Duration::from_secs(1);
/// Timeout of a check.
pub(crate) const PATIENCE: Duration = Duration::from_secs(2);
/// Minimum time between two log messages about the same problem.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Health state, shared by everything that runs statements.
#[derive(Default)]
pub(crate) struct DatabaseHealth {
    /// Reason and start of the present outage: no transaction could be committed since.
    outage: Mutex<Option<(Outage, Instant)>>,
    last_commit: Mutex<Option<Instant>>,
    write_failure_logged: Mutex<Option<(Outage, Instant)>>,
    read_failure_logged: Mutex<Option<Instant>>,
    damage: Mutex<Option<Damage>>,
    pub(crate) checked: tokio::sync::Mutex<Option<(Instant, Arc<[HealthCheck]>)>>,
}

/// Damage that a statement or a check of the file found.
#[derive(Clone, Debug)]
pub(crate) struct Damage {
    pub(crate) found: String,
    /// Time of the last examination of the whole file because of it.
    pub(crate) examined: Option<Instant>,
}

/// Check of one aspect of the database, for readiness.
#[derive(Clone, Debug)]
pub struct HealthCheck {
    pub name: &'static str,
    pub failure: Option<HealthFailure>,
}

/// Reason why a check failed.
#[derive(Clone, Debug)]
pub struct HealthFailure {
    /// Stable code in snake_case, safe to show to everybody.
    pub code: &'static str,
    /// Details for operators.
    pub reason: String,
}

impl HealthCheck {
    pub(crate) fn of(name: &'static str, outcome: Result<()>) -> Self {
        Self { name, failure: outcome.err().map(|error| HealthFailure::of(&error)) }
    }
}

impl HealthFailure {
    fn of(error: &Error) -> Self {
        let code = match error {
            Error::Unavailable { outage, .. } => outage.as_str(),
            Error::Busy(_) => "busy",
            Error::Corrupt { .. } => "damaged",
            _ => "failed",
        };
        Self { code, reason: error.to_string() }
    }

    pub(crate) fn damage(damage: Damage) -> Self {
        Self { code: "damaged", reason: damage.found }
    }
}

impl DatabaseHealth {
    /// Records a commit.
    pub(crate) fn committed(&self) {
        *self.last_commit.lock() = Some(Instant::now());
        let Some((outage, since)) = self.outage.lock().take() else { return };
        // Small transactions may succeed while larger ones fail: do not log each change.
        let logged = *self.write_failure_logged.lock();
        if logged.is_some_and(|(_, at)| at >= since) {
            info!(reason = outage.as_str(), "database writable again after {:.1?}", since.elapsed());
        }
    }

    /// Present outage: the reason why no transaction could be committed since the last successful one.
    pub(crate) fn outage(&self) -> Option<Outage> {
        self.outage.lock().map(|(outage, _)| outage)
    }

    pub(crate) fn has_committed_within(&self, span: Duration) -> bool {
        self.outage.lock().is_none() && self.last_commit.lock().is_some_and(|at| at.elapsed() < span)
    }

    /// Records a temporary failure; only the first of a series is logged.
    pub(crate) fn failed(&self, outage: Outage, is_write: bool, error: &sqlx::Error) {
        metrics::counter!("leadwire_database_errors_total", "reason" => outage.as_str()).increment(1);
        if is_write {
            let now = Instant::now();
            let mut current = self.outage.lock();
            let since = current.map_or(now, |(_, since)| since);
            *current = Some((outage, since));
            let mut logged = self.write_failure_logged.lock();
            if logged.is_none_or(|(before, at)| before != outage || at.elapsed() > LOG_EVERY && at < since) {
                *logged = Some((outage, now));
                let reason = outage.as_str();
                error!(reason, "the database cannot be written, writes are refused: {outage}: {error}");
            }
            return;
        }
        let mut logged = self.read_failure_logged.lock();
        if logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
            *logged = Some(Instant::now());
            warn!(reason = outage.as_str(), "the database cannot be read: {outage}: {error}");
        }
    }

    /// Records damage that a statement found.
    pub(crate) fn damaged(&self, table: &str, error: &sqlx::Error) {
        metrics::counter!("leadwire_database_errors_total", "reason" => "damaged").increment(1);
        let mut damage = self.damage.lock();
        if damage.is_none() {
            error!(
                table,
                "the database is damaged: {error}. Stop the server, keep a copy of the file, and restore a backup"
            );
            *damage = Some(Damage { found: format!("{table} cannot be read"), examined: None });
        }
    }

    pub(crate) fn damage(&self) -> Option<Damage> {
        self.damage.lock().clone()
    }

    /// Records the result of an examination of the whole file; `None` clears the damage.
    pub(crate) fn examined(&self, found: Option<String>) {
        let mut damage = self.damage.lock();
        match found {
            Some(found) => {
                error!("the database is damaged: {found}");
                *damage = Some(Damage { found, examined: Some(Instant::now()) });
            }
            None if damage.take().is_some() => info!("integrity check passed, the database is intact"),
            None => {}
        }
    }
}
