//! Store handle: opens the database, lends snapshots ([`Reader`]), and carries out writes ([`Tx`]): together in a group
//! commit, or alone.
//!
//! It also knows the names and the head of the log, and guards the files of the database while they are open.

use std::{panic::Location, path::Path, sync::Arc, time::Duration};

use futures_util::future::BoxFuture;
use sqlx::{
    ConnectOptions,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::watch;

use crate::{
    domain::{counter::Seq, id::Epoch},
    store::{
        connection::{Opener, PooledConnection},
        database_url::DatabaseUrl,
        error::{Error, Outage, Result},
        file::DatabaseFile,
        file_guard::FileGuard,
        group_commit::GroupCommit,
        head::CommitSignals,
        health::DatabaseHealth,
        lock::{Lock, LockError},
        log_name::{self, LogName},
        maintenance::{self, Maintenance},
        open_files::{self, OpenPlace},
        pool::{ConnectionPool, PATIENCE, PoolKind},
        search,
        upgrade::{self, MIGRATIONS, check_version},
    },
};

pub use crate::store::tx::{Reader, Tx};

const READERS: u32 = 8;
/// Busy timeout for another process's lock. Shorter than the wait for a connection, so that callers in the queue behind
/// learn the reason.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// Maximum duration of a read: while it is open, the write-ahead log cannot be emptied.
const MAX_READ: Duration = Duration::from_secs(10);
/// Maximum duration of a read by a command, which a person waits for and can end.
const MAX_READ_ASIDE: Duration = Duration::from_secs(10 * 60);
/// Statements that a connection keeps prepared: more than there are in this module.
const PREPARED: usize = 512;

/// Open database.
pub struct Store {
    writer: Arc<ConnectionPool>,
    readers: Arc<ConnectionPool>,
    pub(crate) opener: Arc<Opener>,
    pub(crate) health: Arc<DatabaseHealth>,
    /// `None` for a database that is never written, as is the next.
    group_commit: Option<GroupCommit>,
    upkeep: Option<Maintenance>,
    custody: FileGuard,
    pub(crate) name: LogName,
    signals: CommitSignals,
}

impl Store {
    /// Opens the database, creates it if it does not exist, and applies pending migrations.
    ///
    /// From then on, the file and those beside it are readable for their owner only.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was written by a newer program.
    pub async fn open(database: &DatabaseUrl) -> Result<Self> {
        Self::open_bounded(database, MAX_READ).await
    }

    /// Same as [`Store::open`], with another maximum duration of reads.
    pub(crate) async fn open_bounded(database: &DatabaseUrl, max_read: Duration) -> Result<Self> {
        let path = database.file();
        let failed = |error| Error::Open { path: path.to_owned(), source: sqlx::Error::Io(error) };
        open_files::prepare(path).map_err(failed)?;
        Self::open_writable(path, true, max_read).await
    }

    /// Opens a database that another process serves, for writing. SQLite serialises the writers, and the other process
    /// sees what was appended.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was not written by this version of the program.
    pub async fn open_beside(database: &DatabaseUrl) -> Result<Self> {
        Self::open_writable(database.file(), false, MAX_READ).await
    }

    async fn open_writable(path: &Path, migrate: bool, max_read: Duration) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answered write must survive a power cut, not only a crash of this process.
            .synchronous(SqliteSynchronous::Full)
            // No commit waits for a checkpoint: the maintenance task runs them, on a connection of its own.
            .pragma("wal_autocheckpoint", "0")
            .statement_cache_capacity(PREPARED)
            .pragma("journal_size_limit", maintenance::SMALL_WAL.to_string())
            // Deleted or overwritten rows are erased from the file. The trigram index leaves that to its merges.
            .pragma("secure_delete", "ON")
            .busy_timeout(LOCK_PATIENCE);
        let open = |source| Error::Open { path: path.to_owned(), source };
        let mut first = options.clone().connect().await.map_err(open)?;
        if migrate {
            MIGRATIONS.run(&mut first).await.map_err(|error| match error {
                MigrateError::VersionMissing(version) => Error::Newer(version),
                error => Error::Migrate(error),
            })?;
            upgrade::normalise_emails(&mut first).await?;
            search::fill(&mut first).await?;
        } else {
            check_version(&mut first).await?;
        }
        let (name, head) = log_name::open(&mut first).await?;
        let place = OpenPlace::default();
        let file = DatabaseFile::note(path.to_owned(), place.clone())?;
        let custody = FileGuard::take(path, &options, place).await?;

        let opener = Arc::new(Opener { options, file });
        let mut store = Self::new(opener, custody, name, head, max_read);
        store.writer.adopt(PooledConnection::new(first).await?);
        let (opener, health) = (Arc::clone(&store.opener), Arc::clone(&store.health));
        store.group_commit = Some(GroupCommit::start(Arc::clone(&store.writer), store.signals.clone()));
        store.upkeep = Some(Maintenance::start(opener, health, Arc::clone(&store.readers), Arc::clone(&store.writer)));
        Ok(store)
    }

    /// Opens the database for reading, possibly beside a running server; nothing in it is changed.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was not written by this version of the program.
    pub async fn open_read_only(database: &DatabaseUrl) -> Result<Self> {
        let path = database.file().to_owned();
        let options = SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(LOCK_PATIENCE);
        let mut first = options.connect().await.map_err(|source| Error::Open { path: path.clone(), source })?;
        check_version(&mut first).await?;
        let (name, head) = log_name::look(&mut first).await?;
        let file = DatabaseFile::note(path.clone(), OpenPlace::default())?;
        let custody = FileGuard::of_nothing(&path, OpenPlace::default());
        let store = Self::new(Arc::new(Opener { options, file }), custody, name, head, MAX_READ_ASIDE);
        store.readers.adopt(PooledConnection::new(first).await?);
        Ok(store)
    }

    fn new(opener: Arc<Opener>, custody: FileGuard, name: LogName, head: Seq, max_read: Duration) -> Self {
        let health = Arc::<DatabaseHealth>::default();
        let pool = |kind, size| ConnectionPool::new(kind, size, Arc::clone(&opener), Arc::clone(&health));
        Self {
            writer: pool(PoolKind::Writer, 1),
            readers: pool(PoolKind::Reader(max_read), READERS),
            opener,
            health,
            group_commit: None,
            upkeep: None,
            custody,
            name,
            signals: CommitSignals::at(head),
        }
    }

    /// Opens a snapshot of the database for one or more queries.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when the database is displaced, and either the content of the open file was replaced, or no
    /// connection to the old file is left.
    #[track_caller]
    pub fn read(&self) -> impl Future<Output = Result<Reader>> + Send + use<> {
        let (readers, origin, checked) = (Arc::clone(&self.readers), Location::caller(), self.custody.check_content());
        async move {
            checked?;
            Ok(Reader { tx: Box::new(readers.begin(origin).await?) })
        }
    }

    /// Carries out a job that writes, together with others that wait, and returns its outcome once that is durable.
    ///
    /// The job awaits nothing but the statements of its transaction: others wait for it. An error undoes its changes.
    /// When the caller goes away, a job that has begun is carried out all the same.
    ///
    /// # Errors
    /// Those of the job; [`Outage::Replaced`] when the database's file is not the one that was opened;
    /// [`Error::Busy`] when the job could not begin in time; [`Error::Unavailable`] when the commit failed, and then
    /// nothing was changed.
    pub async fn write_in_group<T, E>(
        &self,
        job: impl for<'c, 's> FnOnce(&'c mut Tx<'s>) -> BoxFuture<'c, std::result::Result<T, E>> + Send + 'static,
    ) -> std::result::Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.custody.check()?;
        match &self.group_commit {
            Some(group_commit) => group_commit.run(PATIENCE, job).await,
            None => Err(Outage::ReadOnly.error("the database was opened for reading").into()),
        }
    }

    /// Begins a writing transaction that is shared with nobody, for work that is long, or that is not one job.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when the database's file is not the one that was opened: the write would be lost.
    #[track_caller]
    pub fn write(&self) -> impl Future<Output = Result<Tx<'_>>> + Send {
        let origin = Location::caller();
        async move {
            self.custody.check()?;
            Ok(Tx::new(self.writer.begin(origin).await?, &self.signals))
        }
    }

    #[cfg(test)]
    pub(crate) fn group_commit(&self) -> &GroupCommit {
        self.group_commit.as_ref().expect("it is writable")
    }

    /// Gives the log a new epoch, because it may have issued seqs before that it no longer contains.
    pub async fn renew_epoch(&mut self) -> Result<()> {
        let mut tx = self.write().await?;
        let epoch = tx.renew_epoch().await?;
        tx.commit().await?;
        self.name.epoch = epoch;
        Ok(())
    }

    /// Epoch of the log: seqs of one epoch belong together.
    pub fn epoch(&self) -> &Epoch {
        &self.name.epoch
    }

    /// Lineage of the database over all its epochs; a copy of it has the same.
    pub fn lineage(&self) -> &str {
        &self.name.lineage
    }

    /// Path of the database file.
    pub fn path(&self) -> &Path {
        self.custody.path()
    }

    /// Checks that the database's files are still the ones that were opened; it costs three `stat` calls.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when they are not.
    pub fn check_place(&self) -> Result<()> {
        self.custody.check()
    }

    /// Same as [`check_place`](Self::check_place); also checks that the content of the file was not replaced.
    ///
    /// # Errors
    /// [`Outage::Replaced`], or any other error that prevents reading the log.
    pub async fn check_log(&self) -> Result<()> {
        self.custody.check_log(self).await
    }

    /// Makes [`check_log`](Self::check_log) check the content of the file too, in the process that serves it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn watch_content(&self) -> Result<()> {
        self.custody.watch_content(self).await
    }

    /// Writes the content of the open database to another file, even if its own file was deleted.
    ///
    /// # Errors
    /// When `file` exists and is not empty, or cannot be written.
    pub async fn save(&self, file: &Path) -> Result<()> {
        self.custody.save(file).await
    }

    /// Holds locks until the database is closed.
    pub fn hold(&self, locks: impl IntoIterator<Item = Lock>) {
        self.custody.hold(locks);
    }

    /// Takes locks again whose files were deleted.
    ///
    /// # Errors
    /// When another process was faster, or a file cannot be created.
    pub fn renew_locks(&self) -> std::result::Result<(), LockError> {
        self.custody.renew_locks()
    }

    /// Sets a callback that gets every newer seq before anybody else sees it or a command is answered.
    pub fn set_witness(&self, witness: impl Fn(Seq) + Send + Sync + 'static) {
        self.signals.head.set_witness(Box::new(witness));
    }

    /// Newest committed seq known to this process; it changes after each commit that appended events.
    pub fn appended(&self) -> watch::Receiver<Seq> {
        self.signals.head.subscribe()
    }

    /// Signals each commit that left work for plugins: an effect, a reminder, a question to repeat.
    pub fn staged(&self) -> watch::Receiver<()> {
        self.signals.staged.subscribe()
    }

    /// Reads the head of the log, which another process may have advanced, and wakes those who wait for new events.
    pub async fn refresh(&self) -> Result<Seq> {
        let head = self.read().await?.head().await?;
        self.signals.head.announce(head);
        Ok(head)
    }

    /// Newest committed seq known to this process.
    pub(crate) fn known_head(&self) -> Seq {
        self.signals.head.seq()
    }

    /// Size of the write-ahead log in bytes.
    pub fn wal_bytes(&self) -> u64 {
        self.opener.file.wal_bytes()
    }

    /// Raises the head to at least `seq`. Call it when an event was found, before it is shown to anybody.
    pub(crate) fn announce(&self, seq: Seq) {
        self.signals.head.announce(seq);
    }

    /// Closes every connection; afterwards the files can be moved.
    ///
    /// Jobs that wait are carried out before.
    pub async fn close(&self) {
        if let Some(group_commit) = &self.group_commit {
            group_commit.close().await;
        }
        if let Some(upkeep) = &self.upkeep {
            upkeep.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
        self.custody.end(self.health.outage() == Some(Outage::Io)).await;
    }
}

#[cfg(test)]
mod tests {
    use sqlx::migrate::Migrator;

    use super::*;
    use crate::store::test_database::TestDatabase;

    #[tokio::test]
    async fn a_database_keeps_its_epoch_when_reopened() {
        let database = TestDatabase::new();
        let first = database.open().await;
        first.close().await;
        assert_eq!(first.epoch(), database.open().await.epoch());
        assert_ne!(first.epoch(), TestDatabase::new().open().await.epoch());
    }

    #[tokio::test]
    async fn a_newer_database_is_refused() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        sqlx::query(
            "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (9999, 'of the future', 1, x'00', 0)",
        )
        .execute(&mut *tx.reader.tx)
        .await
        .expect("pretends");
        tx.commit().await.expect("commits");
        store.close().await;
        assert!(matches!(database.try_open().await, Err(Error::Newer(9999))));
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_keeps_its_activities() {
        let database = TestDatabase::new();
        let options = SqliteConnectOptions::new().filename(database.file()).create_if_missing(true).foreign_keys(true);
        let mut connection = options.connect().await.expect("opens");
        let first = MIGRATIONS.iter().filter(|migration| migration.version == 1).cloned().collect();
        Migrator::with_migrations(first).run(&mut connection).await.expect("migrates");
        let (user, lead, activity) = (uuid::Uuid::now_v7(), uuid::Uuid::now_v7(), uuid::Uuid::now_v7());
        let at = "2026-01-01T00:00:00.000Z";
        for statement in [
            format!("INSERT INTO users VALUES ('{user}', 'ann@example.com', 'Ann', 'SALES', 1, '', '{at}', '{at}')"),
            format!(
                "INSERT INTO leads (id, title, status, currency, custom, created_by, version, created_at, updated_at)
                 VALUES ('{lead}', 'Roof', 'NEW', 'USD', '{{}}', '{user}', 1, '{at}', '{at}')"
            ),
            format!(
                "INSERT INTO activities (id, lead_id, type, body, creator_id, meta, created_at, updated_at)
                 VALUES ('{activity}', '{lead}', 'NOTE', 'hello', '{user}', '{{}}', '{at}', '{at}')"
            ),
        ] {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.expect("inserts");
        }
        sqlx::Connection::close(connection).await.expect("closes");

        let store = database.open().await;
        let mut reader = store.read().await.expect("a reader");
        let activity = reader.activity(crate::domain::id::ActivityId(activity)).await.expect("readable").expect("kept");
        assert_eq!((activity.fields.body.as_deref(), activity.creator.name.as_str()), (Some("hello"), "Ann"));
        drop(reader);
        let mut tx = store.write().await.expect("a transaction");
        let problems = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *tx.reader.tx).await.expect("checks");
        assert!(problems.is_empty());
        // An activity of neither a user nor a plugin is still refused.
        let orphan = sqlx::query("UPDATE activities SET creator_id = NULL").execute(&mut *tx.reader.tx).await;
        assert!(orphan.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_not_a_database_is_refused_and_not_changed() {
        let database = TestDatabase::new();
        let path = database.file();
        std::fs::write(&path, "a shopping list, longer than the header of a database file by some way".repeat(10))
            .expect("writes");
        assert!(matches!(database.try_open().await, Err(Error::Open { .. } | Error::Migrate(_) | Error::Database(_))));
        assert!(std::fs::read_to_string(&path).expect("still text").starts_with("a shopping list"));
    }
}
