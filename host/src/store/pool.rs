//! Connections that are lent for a transaction each: one for writing, some for reading.
//!
//! A connection is taken back only when its transaction has ended cleanly; any other is thrown away, and the next
//! borrower opens a new one. So no fault outlives the transaction that met it. Begin and end are plain SQL, because
//! sqlx counts the depth of transactions by itself and goes wrong when SQLite rolls back on its own.

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

use super::{
    Error, Outage, PATIENCE, Result,
    connection::{Connection, Opener},
    error::{self, Explained},
    health::Health,
    transaction::Transaction,
};

/// Connections of one kind.
pub(super) struct Pool {
    kind: Kind,
    size: u32,
    opener: Arc<Opener>,
    health: Arc<Health>,
    permits: Arc<Semaphore>,
    idle: Mutex<Vec<Connection>>,
    leases: Mutex<Vec<Weak<Lease>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Each transaction is a snapshot, and may be open for so long.
    Reader(Duration),
    /// Each transaction holds the write lock.
    Writer,
}

/// A transaction that is open.
pub(super) struct Lease {
    /// None once it has ended.
    pub(super) lent: tokio::sync::Mutex<Option<Lent>>,
    /// Set when a statement failed in a way that may have ended the transaction.
    pub(super) broken: OnceLock<Option<Outage>>,
    since: Instant,
    origin: &'static Location<'static>,
}

/// A connection that is in use, and its place in the pool.
pub(super) struct Lent {
    pub(super) connection: Connection,
    /// Whether a transaction may be open.
    pub(super) is_open: bool,
    _permit: OwnedSemaphorePermit,
}

impl Pool {
    pub(super) fn new(kind: Kind, size: u32, opener: Arc<Opener>, health: Arc<Health>) -> Arc<Self> {
        let permits = Arc::new(Semaphore::new(size as usize));
        Arc::new(Self { kind, size, opener, health, permits, idle: Mutex::default(), leases: Mutex::default() })
    }

    /// Adds a connection that is open already.
    pub(super) fn adopt(&self, connection: Connection) {
        self.idle.lock().push(connection);
    }

    /// Begins a transaction, once a connection is free.
    pub(super) async fn begin(self: &Arc<Self>, origin: &'static Location<'static>) -> Result<Transaction> {
        let mut permit = self.permit(PATIENCE).await?;
        if self.kind == Kind::Writer {
            self.opener.file.check().inspect_err(|error| self.note(error))?;
        }
        loop {
            let idle = self.idle.lock().pop();
            let is_new = idle.is_none();
            let connection = match idle {
                Some(connection) => connection,
                None => self.opener.open().await.inspect_err(|error| self.note(error))?,
            };

            let mut transaction = self.lend(connection, permit, origin);
            let error = match transaction.begin().await {
                Ok(()) => return Ok(transaction),
                Err(error) => error,
            };
            let is_locked = error::outage(&error) == Some(Outage::Locked);
            if is_locked || is_new {
                return Err(error.into());
            }
            // It went bad while nobody used it; a new one decides.
            drop(transaction);
            permit = self.permit(PATIENCE).await?;
        }
    }

    /// Waits for a place in the pool, without a connection.
    pub(super) async fn permit(&self, patience: Duration) -> Result<OwnedSemaphorePermit> {
        match timeout(patience, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(sqlx::Error::PoolClosed.into()),
            Err(_) => Err(match self.health.outage().filter(|_| self.kind == Kind::Writer) {
                // Who is at the front of the queue waits for it.
                Some(outage) => outage.error("no connection became free"),
                None => sqlx::Error::PoolTimedOut.into(),
            }),
        }
    }

    fn lend(
        self: &Arc<Self>,
        connection: Connection,
        permit: OwnedSemaphorePermit,
        origin: &'static Location<'static>,
    ) -> Transaction {
        let lent = Lent { connection, is_open: false, _permit: permit };
        let lent = tokio::sync::Mutex::new(Some(lent));
        let lease = Arc::new(Lease { lent, broken: OnceLock::new(), since: Instant::now(), origin });
        if let Kind::Reader(_) = self.kind {
            let mut leases = self.leases.lock();
            leases.retain(|lease| lease.strong_count() > 0);
            leases.push(Arc::downgrade(&lease));
        }
        Transaction::new(lease, Arc::clone(self))
    }

    /// The statement that begins a transaction.
    pub(super) fn opening(&self) -> &'static str {
        match self.kind {
            Kind::Reader(_) => "BEGIN",
            // A deferred transaction starts as a reader; once another writer commits it can no longer write.
            Kind::Writer => "BEGIN IMMEDIATE",
        }
    }

    pub(super) fn limit(&self) -> Option<Duration> {
        match self.kind {
            Kind::Reader(limit) => Some(limit),
            Kind::Writer => None,
        }
    }

    /// Takes a connection back whose transaction has ended.
    pub(super) fn take_back(&self, lent: Lent) {
        let Lent { connection, _permit, .. } = lent;
        if !self.permits.is_closed() {
            self.idle.lock().push(connection);
        }
    }

    /// Ends the transaction of a connection that nobody uses any more: beside, because the user may be gone.
    pub(super) fn release(self: &Arc<Self>, lent: Lent) {
        if !lent.is_open {
            return self.take_back(lent);
        }
        // Without a runtime it is dropped, which rolls back too.
        let Ok(runtime) = Handle::try_current() else { return };
        let pool = Arc::clone(self);
        runtime.spawn(async move { pool.roll_back(lent).await });
    }

    async fn roll_back(&self, mut lent: Lent) {
        lent.connection.watch.begin(None);
        if sqlx::query("ROLLBACK").execute(&mut lent.connection.sqlite).await.is_ok() {
            self.take_back(lent);
        }
    }

    /// Makes the transaction of a connection last.
    pub(super) async fn commit(&self, mut lent: Lent) -> std::result::Result<(), sqlx::Error> {
        match sqlx::query("COMMIT").execute(&mut lent.connection.sqlite).await {
            Ok(_) => {
                self.health.committed();
                self.take_back(lent);
                Ok(())
            }
            Err(error) => Err(self.explain("COMMIT", error)),
        }
    }

    /// Looks into a failure, and notes it for readiness, metrics and the log.
    pub(super) fn explain(&self, sql: &str, error: sqlx::Error) -> sqlx::Error {
        if error::is_corrupt(&error) {
            let table = table_of(sql);
            self.health.damaged(table, &error);
            return Explained::Damage { table, source: error }.into();
        }
        let Some(outage) = error::outage(&error) else { return error };
        let outage = self.opener.file.look_into(outage);
        self.health.failed(outage, self.kind == Kind::Writer, &error);
        Explained::Outage { outage, source: error }.into()
    }

    fn note(&self, error: &Error) {
        if let Error::Unavailable { outage, source } = error {
            self.health.failed(*outage, self.kind == Kind::Writer, source);
        }
    }

    /// Ends transactions that are open for longer than they may be, though nobody runs a statement in them: as long as
    /// one is open, the write-ahead log cannot be emptied.
    pub(super) async fn end_overdue(&self) {
        let Kind::Reader(limit) = self.kind else { return };
        let overdue: Vec<Arc<Lease>> = {
            let leases = self.leases.lock();
            leases.iter().filter_map(Weak::upgrade).filter(|lease| lease.since.elapsed() > limit).collect()
        };
        for lease in overdue {
            // A statement that runs is interrupted by its connection.
            let Some(lent) = lease.lent.try_lock().ok().and_then(|mut lent| lent.take()) else { continue };
            warn!(origin = %lease.origin, "ended a read that was open for longer than {limit:?}");
            metrics::counter!("leadwire_database_reads_ended_total").increment(1);
            self.roll_back(lent).await;
        }
    }

    /// Waits for transactions that are open, and closes all connections.
    pub(super) async fn close(&self) {
        let everybody = Arc::clone(&self.permits).acquire_many_owned(self.size);
        let _ = timeout(PATIENCE, everybody).await;
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            let _ = sqlx::Connection::close(connection.sqlite).await;
        }
    }
}

/// The first table that a statement names.
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
    fn a_damaged_table_is_named_by_the_statement_that_met_it() {
        assert_eq!(table_of("SELECT l.* FROM leads l LEFT JOIN users o ON o.id = l.owner_id"), "leads");
        assert_eq!(table_of("UPDATE log SET head = head + 1 RETURNING head"), "log");
        assert_eq!(table_of("INSERT INTO events (seq, name) VALUES (?, ?)"), "events");
        assert_eq!(table_of("COMMIT"), "a table");
    }
}
