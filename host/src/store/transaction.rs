//! Open transaction, as the queries of this module use it: every statement passes through here.
//!
//! A statement that fails with anything but a constraint violation marks the transaction as broken; no further
//! statement runs in it.

use std::{
    fmt,
    panic::Location,
    sync::{Arc, OnceLock},
    time::Instant,
};

use futures_util::{
    FutureExt, StreamExt, TryFutureExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    AssertSqlSafe, Either, Execute, Executor, SqlSafeStr, SqlStr, Sqlite,
    error::BoxDynError,
    sqlite::{SqliteArguments, SqliteQueryResult, SqliteRow, SqliteStatement, SqliteTypeInfo},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::store::{
    connection::PooledConnection,
    error::{self, Error, Explained, Outage, Result},
    pool::{CheckedOut, ConnectionPool, OpenTransaction, PATIENCE, PoolKind},
};

impl ConnectionPool {
    /// Begins a transaction, once a connection is free.
    pub(crate) async fn begin(self: &Arc<Self>, origin: &'static Location<'static>) -> Result<Transaction> {
        let mut permit = self.permit(PATIENCE).await?;
        if self.kind == PoolKind::Writer {
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
            // An idle connection that went bad; retry with another one, a new one decides.
            drop(transaction);
            permit = self.permit(PATIENCE).await?;
        }
    }

    fn lend(
        self: &Arc<Self>,
        connection: PooledConnection,
        permit: OwnedSemaphorePermit,
        origin: &'static Location<'static>,
    ) -> Transaction {
        let lent = CheckedOut { connection, is_open: false, _permit: permit };
        let lent = tokio::sync::Mutex::new(Some(lent));
        let lease = Arc::new(OpenTransaction { lent, broken: OnceLock::new(), since: Instant::now(), origin });
        if let PoolKind::Reader(_) = self.kind {
            let mut leases = self.leases.lock();
            leases.retain(|lease| lease.strong_count() > 0);
            leases.push(Arc::downgrade(&lease));
        }
        Transaction::new(lease, Arc::clone(self))
    }
}

type QueryItem = Either<SqliteQueryResult, SqliteRow>;
type SqlxResult<T> = std::result::Result<T, sqlx::Error>;

/// Transaction; dropped without [`Transaction::commit`], it is rolled back.
pub(crate) struct Transaction {
    lease: Arc<OpenTransaction>,
    pool: Arc<ConnectionPool>,
}

impl Transaction {
    pub(crate) fn new(lease: Arc<OpenTransaction>, pool: Arc<ConnectionPool>) -> Self {
        Self { lease, pool }
    }

    pub(crate) async fn begin(&mut self) -> SqlxResult<()> {
        let mut lent = self.lease.lent.lock().await;
        let Some(lent) = lent.as_mut() else { return Err(overdue()) };
        lent.connection.watch.begin(self.pool.limit());
        if self.pool.kind != PoolKind::Writer {
            // A snapshot is of the moment of its first statement, and begins together with it.
            return Ok(());
        }
        // Set first: this future may be dropped while SQLite still waits for the lock.
        lent.is_open = true;
        let begun = lent.connection.execute(self.pool.opening()).await;
        let Err(error) = begun else { return Ok(()) };
        if error::outage(&error) == Some(Outage::Locked) {
            lent.is_open = false;
        } else {
            let _ = self.lease.broken.set(error::outage(&error));
        }
        Err(self.pool.explain(self.pool.opening(), error))
    }

    /// Commits, also when the caller goes away meanwhile; then runs `then`.
    pub(crate) async fn commit(self, then: impl FnOnce() + Send + 'static) -> Result<()> {
        if let Some(outage) = self.lease.broken.get() {
            return Err(failed_before(*outage).into());
        }
        let lent = self.lease.lent.lock().await.take();
        let Some(lent) = lent else { return Err(overdue().into()) };
        if lent.connection.watch.has_rolled_back() {
            return Err(failed_before(Some(Outage::Io)).into());
        }
        let pool = Arc::clone(&self.pool);
        let committing = tokio::spawn(async move {
            pool.commit(lent).await?;
            then();
            Ok(())
        });
        match committing.await {
            Ok(committed) => committed.map_err(|error: sqlx::Error| error.into()),
            Err(broken) => Err(Error::Database(sqlx::Error::Io(std::io::Error::other(broken)))),
        }
    }

    /// True if no further statement can run in it, also because SQLite rolled back by itself.
    pub(crate) async fn is_broken(&self) -> bool {
        let is_undone =
            self.lease.lent.lock().await.as_ref().is_none_or(|lent| lent.connection.watch.has_rolled_back());
        if is_undone {
            let _ = self.lease.broken.set(Some(Outage::Io));
        }
        self.lease.broken.get().is_some()
    }

    /// Outage that broke it.
    pub(crate) fn outage(&self) -> Option<Outage> {
        *self.lease.broken.get()?
    }

    /// Interrupts its next statement, unless that is quick.
    #[cfg(test)]
    pub(crate) async fn interrupt(&self) {
        let lent = self.lease.lent.lock().await;
        lent.as_ref().expect("it is open").connection.watch.begin(Some(std::time::Duration::ZERO));
    }

    /// Prevents that anything of it lasts.
    pub(crate) fn break_off(&self) {
        let _ = self.lease.broken.set(None);
    }

    /// Runs one statement and records its failure.
    async fn run(&mut self, mut statement: Statement, limit: usize) -> SqlxResult<Vec<SqlxResult<QueryItem>>> {
        if let Some(outage) = self.lease.broken.get() {
            return Err(failed_before(*outage));
        }
        let mut lent = self.lease.lent.lock().await;
        let Some(CheckedOut { connection, is_open, .. }) = lent.as_mut() else { return Err(overdue()) };
        let sql = statement.sql.clone();
        statement.is_prepared = statement.arguments.is_some();
        let is_first = !std::mem::replace(is_open, true);
        if is_first {
            let opening = self.pool.opening();
            statement.sql = AssertSqlSafe(format!("{opening}; {}", sql.as_str())).into_sql_str();
        }
        let steps: Vec<SqlxResult<QueryItem>> = if limit == 1 {
            let row = connection.sqlite.fetch_optional(statement).await.transpose();
            row.map(|row| row.map(Either::Right)).into_iter().collect()
        } else {
            let is_single = !statement.sql.as_str().contains(';');
            let mut items = connection.items(statement, is_single).await;
            if is_first && matches!(items.first(), Some(Ok(_))) {
                // The result of BEGIN.
                items.drain(..1);
            }
            items
        };
        let undone = connection.watch.has_rolled_back();
        drop(lent);
        let note = |step: SqlxResult<QueryItem>| step.map_err(|error| self.note(sql.as_str(), error, undone));
        Ok(steps.into_iter().map(note).collect())
    }

    /// Only a constraint violation leaves the transaction unchanged.
    fn note(&self, sql: &str, error: sqlx::Error, undone: bool) -> sqlx::Error {
        if error::is_constraint(&error) && !undone {
            return error;
        }
        let error = self.pool.explain(sql, error);
        let _ = self.lease.broken.set(error::outage(&error));
        error
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        // The only other holder is the task that ends it because it is overdue.
        let Some(lent) = self.lease.lent.try_lock().ok().and_then(|mut lent| lent.take()) else { return };
        // A broken transaction is dropped with its connection, which rolls back as well.
        if self.lease.broken.get().is_none() {
            self.pool.release(lent);
        }
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").finish_non_exhaustive()
    }
}

fn overdue() -> sqlx::Error {
    let source = sqlx::Error::Protocol("the transaction was open for too long and has been ended".into());
    Explained::Outage { outage: Outage::TookTooLong, source }.into()
}

fn failed_before(outage: Option<Outage>) -> sqlx::Error {
    let source = sqlx::Error::Protocol("an earlier statement has ended the transaction".into());
    match outage {
        Some(outage) => Explained::Outage { outage, source }.into(),
        None => source,
    }
}

/// Statement, taken from sqlx and passed back to it.
struct Statement {
    sql: SqlStr,
    arguments: Option<SqliteArguments>,
    is_prepared: bool,
}

impl Statement {
    fn of<'q>(mut query: impl Execute<'q, Sqlite>) -> SqlxResult<Self> {
        let arguments = query.take_arguments().map_err(sqlx::Error::Encode)?;
        Ok(Self { arguments, is_prepared: true, sql: query.sql() })
    }
}

impl Execute<'_, Sqlite> for Statement {
    fn sql(self) -> SqlStr {
        self.sql
    }

    fn statement(&self) -> Option<&SqliteStatement> {
        None
    }

    fn take_arguments(&mut self) -> std::result::Result<Option<SqliteArguments>, BoxDynError> {
        Ok(self.arguments.take())
    }

    fn persistent(&self) -> bool {
        self.is_prepared
    }
}

impl<'c> Executor<'c> for &'c mut Transaction {
    type Database = Sqlite;

    /// Collects the rows first: a slow reader of them must not keep the statement open.
    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, SqlxResult<QueryItem>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let statement = Statement::of(query);
        async move { Ok(stream::iter(self.run(statement?, usize::MAX).await?)) }.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, SqlxResult<Option<SqliteRow>>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let statement = Statement::of(query);
        async move {
            for step in self.run(statement?, 1).await? {
                if let Either::Right(row) = step? {
                    return Ok(Some(row));
                }
            }
            Ok(None)
        }
        .boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, SqlxResult<SqliteStatement>>
    where
        'c: 'e,
    {
        async move {
            let mut lent = self.lease.lent.lock().await;
            let Some(lent) = lent.as_mut() else { return Err(overdue()) };
            lent.connection.sqlite.prepare_with(sql, parameters).await
        }
        .boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;
    use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};
    use tokio::time::{Instant, sleep, timeout};

    use super::*;
    use crate::{
        domain::{counter::Seq, event::NewEvent, time::Timestamp},
        store::{
            handle::{Store, Tx},
            maintenance::SMALL_WAL,
            test_database::TestDatabase,
        },
    };

    /// Connection of another process, as far as SQLite can tell.
    async fn stranger(database: &TestDatabase) -> SqliteConnection {
        let options = SqliteConnectOptions::new().filename(database.file());
        options.busy_timeout(Duration::from_millis(1)).connect().await.expect("opens")
    }

    async fn append(tx: &mut Tx<'_>, bytes: usize) -> Result<Seq> {
        let at = Timestamp::from_millis(0).expect("in range");
        let (rooms, payload, context) = (Vec::new(), json!("x".repeat(bytes)), json!({}));
        tx.append(&NewEvent { name: "lead:created", rooms, lead_id: None, payload, context, at }).await
    }

    async fn write(store: &Store) -> Result<Seq> {
        let mut tx = store.write().await?;
        let seq = append(&mut tx, 10).await?;
        tx.commit().await.map(|()| seq)
    }

    /// Waits for a condition that must become true soon.
    async fn soon<T>(what: &str, mut is_so: impl AsyncFnMut() -> Option<T>) -> T {
        let begin = Instant::now();
        loop {
            if let Some(done) = is_so().await {
                return done;
            }
            assert!(begin.elapsed() < Duration::from_secs(20), "not so after 20 s: {what}");
            sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn a_transaction_rolled_back_by_sqlite_does_not_affect_others() {
        let database = TestDatabase::new();
        let store = database.open().await;
        assert_eq!(write(&store).await.expect("writes"), Seq(1));

        let mut tx = store.write().await.expect("a transaction");
        append(&mut tx, 10).await.expect("a line");
        // For this connection only, as if the disk were full.
        let full = sqlx::query("PRAGMA max_page_count = 1").fetch_one(&mut *tx.reader.tx).await;
        full.expect("sets how many pages there may be");
        let error = append(&mut tx, 1 << 20).await.expect_err("has no room");
        assert!(matches!(error, Error::Unavailable { outage: Outage::DiskFull, .. }), "{error:?}");
        // Outside the transaction, this would be committed.
        let error = sqlx::query("UPDATE log SET head = 77").execute(&mut *tx.reader.tx).await.expect_err("is refused");
        assert_eq!(error::outage(&error), Some(Outage::DiskFull));
        let error = tx.commit().await.expect_err("cannot last");
        assert!(matches!(error, Error::Unavailable { outage: Outage::DiskFull, .. }), "{error:?}");

        assert_eq!(write(&store).await.expect("writes as before"), Seq(2));
        let events = store.read().await.expect("a reader").events_after(Seq(0), 10).await.expect("events");
        assert_eq!(events.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [1, 2]);
    }

    #[tokio::test]
    async fn a_read_transaction_ended_by_sqlite_keeps_no_old_snapshot() {
        let database = TestDatabase::new();
        let store = database.open().await;
        for seq in 1..=20 {
            let mut reader = store.read().await.expect("a reader");
            // Same effect as an I/O error on a transaction.
            sqlx::query("ROLLBACK").execute(&mut *reader.tx).await.expect("ends");
            drop(reader);
            assert_eq!(write(&store).await.expect("writes"), Seq(seq));
            assert_eq!(store.refresh().await.expect("reads"), Seq(seq));
        }
    }

    #[tokio::test]
    async fn a_dropped_transaction_leaves_no_lock_and_no_change() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut other = stranger(&database).await;
        let mut tx = store.write().await.expect("a transaction");
        append(&mut tx, 10).await.expect("a line");
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect_err("is locked");
        drop(tx);
        soon("the lock is free", async || sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.ok()).await;
        sqlx::query("ROLLBACK").execute(&mut other).await.expect("ends");
        assert_eq!(store.refresh().await.expect("reads"), Seq(0));
        assert_eq!(write(&store).await.expect("writes"), Seq(1));
    }

    #[tokio::test]
    async fn an_abandoned_wait_for_the_write_lock_never_acquires_it() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut other = stranger(&database).await;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.expect("locks");
        assert!(timeout(Duration::from_millis(50), store.write()).await.is_err());
        sqlx::query("ROLLBACK").execute(&mut other).await.expect("ends");
        assert_eq!(write(&store).await.expect("writes"), Seq(1));
        soon("the lock is free", async || sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.ok()).await;
        other.close().await.expect("closes");
    }

    #[tokio::test]
    async fn a_commit_completes_when_its_future_is_dropped() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut appended = store.appended();
        let mut tx = store.write().await.expect("a transaction");
        append(&mut tx, 10).await.expect("a line");
        let mut commit = Box::pin(tx.commit());
        tokio::select! {
            biased;
            done = &mut commit => panic!("no commit is that quick: {done:?}"),
            () = std::future::ready(()) => {}
        }
        drop(commit);
        timeout(Duration::from_secs(20), appended.changed()).await.expect("in time").expect("the store is there");
        assert_eq!(write(&store).await.expect("writes"), Seq(2));
    }

    #[tokio::test]
    async fn a_long_read_transaction_is_aborted() {
        let database = TestDatabase::new();
        let store = Store::open_bounded(&database.url(), Duration::from_millis(100)).await.expect("opens");
        let mut idle = store.read().await.expect("a reader");
        assert_eq!(idle.head().await.expect("reads"), Seq(0));
        let error = soon("the read is ended", async || idle.head().await.err()).await;
        assert!(matches!(error, Error::Unavailable { outage: Outage::TookTooLong, .. }), "{error:?}");

        let mut busy = store.read().await.expect("a reader");
        let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n";
        let error = sqlx::query(endless).fetch_one(&mut *busy.tx).await.expect_err("is interrupted");
        assert_eq!(error::outage(&error), Some(Outage::TookTooLong));
        drop(busy);
        assert_eq!(store.refresh().await.expect("reads"), Seq(0));
    }

    #[tokio::test]
    async fn the_write_ahead_log_is_truncated_when_no_reader_uses_it() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut other = stranger(&database).await;
        sqlx::query("BEGIN").execute(&mut other).await.expect("begins");
        sqlx::query("SELECT * FROM log").fetch_all(&mut other).await.expect("reads an old state");
        for _ in 0..12 {
            let mut tx = store.write().await.expect("a transaction");
            append(&mut tx, 1 << 20).await.expect("a line");
            tx.commit().await.expect("commits");
        }
        assert!(store.wal_bytes() > 3 * SMALL_WAL);
        sqlx::query("ROLLBACK").execute(&mut other).await.expect("ends");
        soon("the log is cut", async || (store.wal_bytes() == 0).then_some(())).await;
        assert_eq!(write(&store).await.expect("writes"), Seq(13));
    }
}
