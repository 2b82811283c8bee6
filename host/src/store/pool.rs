//! Connection pool: lends a connection per transaction, one for writing and several for reading.
//!
//! A connection is taken back only if its transaction ended cleanly; any other is discarded, and the next borrower
//! opens a new one. So no fault outlives the transaction that met it. Begin and end are plain SQL, because sqlx counts
//! the depth of transactions itself and goes wrong when SQLite rolls back on its own.

use std::{
    panic::Location,
    sync::{Arc, OnceLock, Weak},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};
use tracing::warn;

use crate::store::{
    connection::{Opener, PooledConnection},
    dialect,
    error::{self, Error, Explained, Outage, Result},
    health::DatabaseHealth,
};

/// Maximum wait of a caller for a free connection.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Connections of one kind.
pub(crate) struct ConnectionPool {
    pub(crate) kind: PoolKind,
    size: u32,
    pub(crate) opener: Arc<Opener>,
    health: Arc<DatabaseHealth>,
    permits: Arc<Semaphore>,
    pub(crate) idle: Mutex<Vec<PooledConnection>>,
    pub(crate) leases: Mutex<Vec<Weak<OpenTransaction>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolKind {
    /// Each transaction is a snapshot, with this maximum duration.
    Reader(Duration),
    /// Each transaction holds the write lock.
    Writer,
}

/// Open transaction.
pub(crate) struct OpenTransaction {
    /// `None` once it has ended.
    pub(crate) lent: tokio::sync::Mutex<Option<CheckedOut>>,
    /// Set when a statement failed in a way that may have ended the transaction.
    pub(crate) broken: OnceLock<Option<Outage>>,
    pub(crate) since: Instant,
    pub(crate) origin: &'static Location<'static>,
}

/// Connection in use, with its place in the pool.
pub(crate) struct CheckedOut {
    pub(crate) connection: PooledConnection,
    /// True if a transaction may be open. That of a reader begins with its first statement.
    pub(crate) is_open: bool,
    pub(crate) _permit: OwnedSemaphorePermit,
}

impl ConnectionPool {
    pub(crate) fn new(kind: PoolKind, size: u32, opener: Arc<Opener>, health: Arc<DatabaseHealth>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(size as usize));
        Arc::new(Self { kind, size, opener, health, permits, idle: Mutex::default(), leases: Mutex::default() })
    }

    /// Adds a connection that is open already.
    pub(crate) fn adopt(&self, connection: PooledConnection) {
        self.idle.lock().push(connection);
    }

    /// Waits for a place in the pool, without a connection.
    pub(crate) async fn permit(&self, patience: Duration) -> Result<OwnedSemaphorePermit> {
        match timeout(patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(sqlx::Error::PoolClosed.into()),
            Err(_) => Err(self.waited_too_long()),
        }
    }

    /// Error of a caller that waited for a connection in vain.
    pub(crate) fn waited_too_long(&self) -> Error {
        match self.health.outage().filter(|_| self.kind == PoolKind::Writer) {
            // The caller at the front of the queue is waiting because of this outage.
            Some(outage) => outage.error("no connection became free"),
            None => sqlx::Error::PoolTimedOut.into(),
        }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.permits.is_closed()
    }

    /// Statement that begins a transaction.
    pub(crate) fn opening(&self) -> &'static str {
        match self.kind {
            PoolKind::Reader(_) => dialect::BEGIN_READ,
            PoolKind::Writer => dialect::BEGIN_WRITE,
        }
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        match self.kind {
            PoolKind::Reader(limit) => Some(limit),
            PoolKind::Writer => None,
        }
    }

    /// Takes a connection back whose transaction has ended.
    pub(crate) fn take_back(&self, lent: CheckedOut) {
        let CheckedOut { connection, _permit, .. } = lent;
        if !self.is_closed() {
            self.idle.lock().push(connection);
        }
    }

    /// Ends the transaction of an abandoned connection, in a separate task, because its user may be gone.
    pub(crate) fn release(self: &Arc<Self>, lent: CheckedOut) {
        if !lent.is_open {
            return self.take_back(lent);
        }
        // Without a runtime the connection is dropped, which rolls back too.
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = Arc::clone(self);
        runtime.spawn(async move { pool.roll_back(lent).await });
    }

    async fn roll_back(&self, mut lent: CheckedOut) {
        lent.connection.watch.begin(None);
        if lent.connection.execute("ROLLBACK").await.is_ok() {
            self.take_back(lent);
        }
    }

    /// Commits the transaction of a connection.
    pub(crate) async fn commit(&self, mut lent: CheckedOut) -> std::result::Result<(), sqlx::Error> {
        match lent.connection.execute("COMMIT").await {
            Ok(()) => {
                self.health.committed();
                self.take_back(lent);
                Ok(())
            }
            Err(error) => Err(self.explain("COMMIT", error)),
        }
    }

    /// Determines the reason of a failure, and records it for readiness, metrics and the log.
    pub(crate) fn explain(&self, sql: &str, error: sqlx::Error) -> sqlx::Error {
        if error::is_corrupt(&error) {
            let table = table_of(sql);
            self.health.damaged(table, &error);
            return Explained::Damage { table, source: error }.into();
        }
        let Some(outage) = error::outage(&error) else { return error };
        let outage = self.opener.file.look_into(outage);
        self.health.failed(outage, self.kind == PoolKind::Writer, &error);
        Explained::Outage { outage, source: error }.into()
    }

    pub(crate) fn note(&self, error: &Error) {
        if let Error::Unavailable { outage, source } = error {
            self.health.failed(*outage, self.kind == PoolKind::Writer, source);
        }
    }

    /// Ends transactions that exceeded their maximum duration while no statement runs in them: as long as one is open,
    /// the write-ahead log cannot be emptied.
    pub(crate) async fn end_overdue(&self) {
        let PoolKind::Reader(limit) = self.kind else { return };
        let overdue: Vec<Arc<OpenTransaction>> = {
            let leases = self.leases.lock();
            leases.iter().filter_map(Weak::upgrade).filter(|lease| lease.since.elapsed() > limit).collect()
        };
        for lease in overdue {
            // A running statement is interrupted by its connection.
            let Some(lent) = lease.lent.try_lock().ok().and_then(|mut lent| lent.take()) else { continue };
            warn!(origin = %lease.origin, "ended a read that was open for longer than {limit:?}");
            metrics::counter!("leadwire_database_reads_ended_total").increment(1);
            self.roll_back(lent).await;
        }
    }

    /// Waits for open transactions, then closes all connections.
    pub(crate) async fn close(&self) {
        let everybody = Arc::clone(&self.permits).acquire_many_owned(self.size);
        let _ = timeout(PATIENCE, everybody).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            let _ = sqlx::Connection::close(connection.sqlite).await;
        }
    }
}

/// First table that a statement names.
fn table_of(sql: &str) -> &'static str {
    const TABLES: [&str; 15] = [
        "leads",
        "activities",
        "lead_changes",
        "events",
        "log",
        "users",
        "sessions",
        "refresh_tokens",
        "idempotency_keys",
        "effects",
        "reminders",
        "followers",
        "plugin_actors",
        "plugin_generations",
        "delivery_marks",
    ];
    let words = sql.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let mut after = words.skip_while(|word| !["FROM", "INTO", "UPDATE", "JOIN"].contains(word));
    let named = after.find_map(|word| TABLES.iter().find(|table| **table == word));
    named.copied().unwrap_or("a table")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_statement_names_the_damaged_table() {
        assert_eq!(table_of("SELECT l.* FROM leads l LEFT JOIN users o ON o.id = l.owner_id"), "leads");
        assert_eq!(table_of("UPDATE log SET head = head + 1 RETURNING head"), "log");
        assert_eq!(table_of("INSERT INTO events (seq, name) VALUES ($1, $2)"), "events");
        assert_eq!(table_of("COMMIT"), "a table");
    }
}
