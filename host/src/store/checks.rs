//! Readiness checks of the database: can it be read and written, and is its file intact.

use std::{sync::Arc, time::Instant};

use tokio::time::timeout;

use crate::store::{
    affected::AffectedRows,
    error::Result,
    handle::Store,
    health::{FRESH, HealthCheck, HealthFailure, PATIENCE},
};

/// Number of bytes written to verify that an outage is over.
const FILLER: usize = 64 << 10;

impl Store {
    /// Checks that the database can be read and written and is intact. Runs at most once a second, however often it is
    /// called.
    ///
    /// It really writes, because a full disk or a read-only file system shows in no other way.
    pub async fn check(&self) -> Arc<[HealthCheck]> {
        let mut checked = self.health.checked.lock().await;
        if let Some((at, checks)) = &*checked
            && at.elapsed() < FRESH
        {
            return Arc::clone(checks);
        }
        let checks: Arc<[HealthCheck]> = [
            HealthCheck::of("database", self.in_time(self.refresh()).await.map(drop)),
            HealthCheck::of("file", self.check_file()),
            HealthCheck::of("writes", self.in_time(self.try_to_write()).await),
            HealthCheck { name: "pages", failure: self.health.damage().map(HealthFailure::damage) },
        ]
        .into();
        *checked = Some((Instant::now(), Arc::clone(&checks)));
        checks
    }

    /// Checks that the database file is still the one that was opened.
    ///
    /// # Errors
    /// [`Error::Unavailable`](crate::store::Error::Unavailable) with [`Outage::Replaced`](crate::store::Outage::Replaced).
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
        // A single page may fit where a command does not. So after an outage, as much is written as a command would
        // write.
        let mut filler = vec![0; self.health.outage().map_or(1, |_| FILLER)];
        // The value must change: SQLite does not write a page whose content stays the same.
        rand::fill(&mut filler);
        let mut tx = self.write().await?;
        sqlx::query("UPDATE liveness SET count = count + 1, filler = $1")
            .bind(filler)
            .execute(&mut *tx.reader.tx)
            .await?
            .exactly_one("liveness")?;
        tx.commit().await
    }
}
