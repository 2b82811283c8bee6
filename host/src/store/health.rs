//! What is known of the database's condition: outages, damage, and whether it can be written right now.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::time::timeout;
use tracing::{error, info, warn};

use super::{Error, Outage, Result, Store};

/// A check is as old as this at most.
const FRESH: Duration = Duration::from_secs(1);
/// A check that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same trouble is logged no more often.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Bytes that are written to see that an outage is over.
const FILLER: i64 = 64 << 10;

/// Shared by everything that runs statements.
#[derive(Default)]
pub(super) struct Health {
    /// Since when no transaction could be committed, and why.
    outage: Mutex<Option<(Outage, Instant)>>,
    last_commit: Mutex<Option<Instant>>,
    write_failure_logged: Mutex<Option<(Outage, Instant)>>,
    read_failure_logged: Mutex<Option<Instant>>,
    damage: Mutex<Option<Damage>>,
    checked: tokio::sync::Mutex<Option<(Instant, Arc<[Check]>)>>,
}

/// Damage that a statement or a check of the file met.
#[derive(Clone, Debug)]
pub(super) struct Damage {
    pub(super) found: String,
    /// When the file was last looked through because of it.
    pub(super) examined: Option<Instant>,
}

/// One aspect of the database, for readiness.
#[derive(Clone, Debug)]
pub struct Check {
    pub name: &'static str,
    pub failure: Option<Failure>,
}

/// Why a check failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Stable and snake_case, fit for everybody's eyes.
    pub code: &'static str,
    /// For operators.
    pub reason: String,
}

impl Store {
    /// Checks whether the database can be read and written and is whole: at most once a second, however many ask.
    ///
    /// A write is tried for real, because a full disk or a read-only file system shows nowhere else.
    pub async fn check(&self) -> Arc<[Check]> {
        let mut checked = self.health.checked.lock().await;
        if let Some((at, checks)) = &*checked
            && at.elapsed() < FRESH
        {
            return Arc::clone(checks);
        }
        let checks: Arc<[Check]> = [
            Check::of("database", self.in_time(self.refresh()).await.map(drop)),
            Check::of("file", self.check_file()),
            Check::of("writes", self.in_time(self.try_to_write()).await),
            Check { name: "pages", failure: self.health.damage().map(Failure::damage) },
        ]
        .into();
        *checked = Some((Instant::now(), Arc::clone(&checks)));
        checks
    }

    /// Checks that the database file is still the one that was opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`] with [`Outage::Replaced`].
    pub fn check_file(&self) -> Result<()> {
        self.opener.file.check()
    }

    async fn in_time<T>(&self, check: impl Future<Output = Result<T>>) -> Result<T> {
        let late = || match self.health.outage() {
            Some(outage) => outage.error("it did not answer in time"),
            None => sqlx::Error::PoolTimedOut.into(),
        };
        timeout(PATIENCE, check).await.unwrap_or_else(|_| Err(late()))
    }

    async fn try_to_write(&self) -> Result<()> {
        if self.health.has_committed_within(FRESH) {
            return Ok(());
        }
        // Where a command did not fit, a single page may still do: after an outage, as much as a command writes is tried.
        let filler = self.health.outage().map(|_| FILLER);
        let mut tx = self.write().await?;
        // SQLite writes no page that stays as it was.
        sqlx::query("UPDATE liveness SET count = count + 1, filler = randomblob(?)")
            .bind(filler)
            .execute(&mut *tx.reader.tx)
            .await?;
        tx.commit().await
    }
}

impl Check {
    fn of(name: &'static str, outcome: Result<()>) -> Self {
        Self { name, failure: outcome.err().map(|error| Failure::of(&error)) }
    }
}

impl Failure {
    fn of(error: &Error) -> Self {
        let code = match error {
            Error::Unavailable { outage, .. } => outage.as_str(),
            Error::Busy(_) => "busy",
            Error::Corrupt { .. } => "damaged",
            _ => "failed",
        };
        Self { code, reason: error.to_string() }
    }

    fn damage(damage: Damage) -> Self {
        Self { code: "damaged", reason: damage.found }
    }
}

impl Health {
    /// Notes that a transaction was made to last.
    pub(super) fn committed(&self) {
        *self.last_commit.lock() = Some(Instant::now());
        let Some((outage, since)) = self.outage.lock().take() else { return };
        // Small transactions may go through while others do not: no line for each of them.
        let logged = *self.write_failure_logged.lock();
        if logged.is_some_and(|(_, at)| at >= since) {
            info!(reason = outage.as_str(), "the database can be written again, after {:.1?}", since.elapsed());
        }
    }

    /// Why no transaction could be committed since the last that was.
    pub(super) fn outage(&self) -> Option<Outage> {
        self.outage.lock().map(|(outage, _)| outage)
    }

    fn has_committed_within(&self, span: Duration) -> bool {
        self.outage.lock().is_none() && self.last_commit.lock().is_some_and(|at| at.elapsed() < span)
    }

    /// Notes a failure that passes; the log has the first of a row.
    pub(super) fn failed(&self, outage: Outage, is_write: bool, error: &sqlx::Error) {
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

    /// Notes damage that a statement met.
    pub(super) fn damaged(&self, table: &str, error: &sqlx::Error) {
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

    pub(super) fn damage(&self) -> Option<Damage> {
        self.damage.lock().clone()
    }

    /// Notes what a look through the whole file found: nothing ends the alarm.
    pub(super) fn examined(&self, found: Option<String>) {
        let mut damage = self.damage.lock();
        match found {
            Some(found) => {
                error!("the database is damaged: {found}");
                *damage = Some(Damage { found, examined: Some(Instant::now()) });
            }
            None if damage.take().is_some() => info!("the database was looked through and is whole"),
            None => {}
        }
    }
}
