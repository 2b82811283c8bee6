//! The database: users, sessions, leads, activities, the log. Only this module knows SQL.
//!
//! [`Store::write`] is the only way to a transaction that writes. SQLite has one writer at a time, so
//! there is one writing connection and a queue in front of it; readers see a snapshot of their own.

use std::{
    panic::Location,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use sqlx::{
    ConnectOptions, SqliteConnection,
    migrate::{MigrateError, Migrator},
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};
use tokio::sync::watch;

pub mod activity;
pub mod audit;
mod connection;
mod content;
pub mod copy;
mod custody;
pub mod effect;
pub mod erase;
mod error;
pub mod examine;
mod file;
pub mod follower;
pub mod generation;
mod head;
mod health;
pub mod hold;
pub mod idempotency;
pub mod lead;
pub mod lock;
pub mod log;
pub mod place;
mod pool;
mod row;
mod search;
pub mod session;
mod transaction;
mod upkeep;
pub mod user;

use connection::{Connection, Opener};
use file::DatabaseFile;
use health::Health;
use pool::{Kind, Pool};
use transaction::Transaction;
use upkeep::Upkeep;

use custody::{Custody, Place};
pub use error::{Error, Outage, Result};
use head::Head;
pub use health::{Check, Failure};
use lock::{Lock, LockError};
use log::Name;

static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

const READERS: u32 = 8;
/// How long a caller waits for a free connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a connection waits for another process's lock. Shorter, so that those in the queue behind learn why.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
/// How long a read may be open: meanwhile the write-ahead log cannot be emptied.
const MAX_READ: Duration = Duration::from_secs(10);
/// The same for a command line that reads, which somebody waits for and can end.
const MAX_READ_ASIDE: Duration = Duration::from_secs(10 * 60);
/// Pages in the write-ahead log at which a commit empties it, if nobody else does: 64 MiB.
const CHECKPOINT_PAGES: &str = "16384";

/// The open database.
pub struct Store {
    writer: Arc<Pool>,
    readers: Arc<Pool>,
    opener: Arc<Opener>,
    health: Arc<Health>,
    /// None where nothing is ever written.
    upkeep: Option<Upkeep>,
    custody: Custody,
    name: Name,
    head: Arc<Head>,
    staged: Arc<watch::Sender<()>>,
}

/// A snapshot of the database to read from. It ends by itself when it is open for long.
pub struct Reader {
    tx: Box<Transaction>,
}

/// A transaction that holds the write lock; dropped without [`Tx::commit`], it changes nothing.
pub struct Tx<'a> {
    reader: Reader,
    store: &'a Store,
    /// The last seq this transaction appended.
    appended: Option<u64>,
    /// Whether there is something new to be done for plugins.
    staged: bool,
}

impl Store {
    /// Opens the database, makes it where there is none, and brings its tables up to date.
    ///
    /// The file and those beside it are readable for their owner alone, from then on.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was written by a newer program.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_bounded(url, MAX_READ).await
    }

    /// As [`Store::open`], where reads may be open for so long.
    async fn open_bounded(url: &str, max_read: Duration) -> Result<Self> {
        let path = database_path(url)?;
        let failed = |error| Error::Open { path: path.clone(), source: sqlx::Error::Io(error) };
        place::prepare(&path).map_err(failed)?;
        Self::open_writable(&path, true, max_read).await
    }

    /// Opens a database that another process serves, to write to it as well: SQLite lets one write after the other,
    /// and the other process sees what was appended.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was not written by this version of the program.
    pub async fn open_beside(url: &str) -> Result<Self> {
        Self::open_writable(&database_path(url)?, false, MAX_READ).await
    }

    async fn open_writable(path: &Path, migrate: bool, max_read: Duration) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            // An answered write must survive a power cut, not only a crash of this process.
            .synchronous(SqliteSynchronous::Full)
            // It is emptied beside, see `upkeep`.
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("journal_size_limit", upkeep::SMALL_WAL.to_string())
            // What was deleted or overwritten is gone from the file.
            .pragma("secure_delete", "ON")
            .busy_timeout(LOCK_PATIENCE);
        let open = |source| Error::Open { path: path.to_owned(), source };
        let mut first = options.clone().connect().await.map_err(open)?;
        if migrate {
            MIGRATIONS.run(&mut first).await.map_err(|error| match error {
                MigrateError::VersionMissing(version) => Error::Newer(version),
                error => Error::Migrate(error),
            })?;
            user::normalise_emails(&mut first).await?;
            search::fill(&mut first).await?;
        } else {
            check_version(&mut first).await?;
        }
        let (name, head) = log::open(&mut first).await?;
        let place = Place::default();
        let file = DatabaseFile::note(path.to_owned(), place.clone())?;
        let custody = Custody::take(path, &options, place).await?;

        let opener = Arc::new(Opener { options, file });
        let mut store = Self::new(opener, custody, name, head, max_read);
        store.writer.adopt(Connection::new(first).await?);
        let (opener, health) = (Arc::clone(&store.opener), Arc::clone(&store.health));
        store.upkeep = Some(Upkeep::start(opener, health, Arc::clone(&store.readers), Arc::clone(&store.writer)));
        Ok(store)
    }

    /// Opens the database to read from it, beside a server that may be running; nothing in it is changed.
    ///
    /// # Errors
    /// When the file cannot be opened, is not a database, or was not written by this version of the program.
    pub async fn open_read_only(url: &str) -> Result<Self> {
        let path = database_path(url)?;
        let options = SqliteConnectOptions::new().filename(&path).read_only(true).busy_timeout(LOCK_PATIENCE);
        let mut first = options.connect().await.map_err(|source| Error::Open { path: path.clone(), source })?;
        check_version(&mut first).await?;
        let (name, head) = log::look(&mut first).await?;
        let file = DatabaseFile::note(path.clone(), Place::default())?;
        let custody = Custody::of_nothing(&path, Place::default());
        let store = Self::new(Arc::new(Opener { options, file }), custody, name, head, MAX_READ_ASIDE);
        store.readers.adopt(Connection::new(first).await?);
        Ok(store)
    }

    fn new(opener: Arc<Opener>, custody: Custody, name: Name, head: u64, max_read: Duration) -> Self {
        let health = Arc::<Health>::default();
        let pool = |kind, size| Pool::new(kind, size, Arc::clone(&opener), Arc::clone(&health));
        Self {
            writer: pool(Kind::Writer, 1),
            readers: pool(Kind::Reader(max_read), READERS),
            opener,
            health,
            upkeep: None,
            custody,
            name,
            head: Arc::new(Head::at(head)),
            staged: Arc::default(),
        }
    }

    /// A consistent view for one or more queries.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when the database is displaced, and another content was put into the open file, or no
    /// connection is left that has the old one open.
    #[track_caller]
    pub fn read(&self) -> impl Future<Output = Result<Reader>> + Send + use<> {
        let (readers, origin, checked) = (Arc::clone(&self.readers), Location::caller(), self.custody.check_content());
        async move {
            checked?;
            Ok(Reader { tx: Box::new(readers.begin(origin).await?) })
        }
    }

    /// Begins a transaction that may write.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when the database's file is not the one that was opened: what is written would be lost.
    #[track_caller]
    pub fn write(&self) -> impl Future<Output = Result<Tx<'_>>> + Send {
        let origin = Location::caller();
        async move {
            self.custody.check()?;
            let tx = Box::new(self.writer.begin(origin).await?);
            Ok(Tx { reader: Reader { tx }, store: self, appended: None, staged: false })
        }
    }

    /// Gives the log another name, because seqs of it may have been issued before that it knows nothing of.
    pub async fn renew_epoch(&mut self) -> Result<()> {
        let mut tx = self.write().await?;
        let epoch = tx.renew_epoch().await?;
        tx.commit().await?;
        self.name.epoch = epoch;
        Ok(())
    }

    /// Names this log: seqs of one epoch belong together.
    pub fn epoch(&self) -> &str {
        &self.name.epoch
    }

    /// Names this database over all its epochs; a copy of it has the same.
    pub fn lineage(&self) -> &str {
        &self.name.lineage
    }

    /// Path of the database's file.
    pub fn path(&self) -> &Path {
        self.custody.path()
    }

    /// Checks that the database's files are still the ones that were opened; it costs three `stat`s.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when they are not.
    pub fn check_place(&self) -> Result<()> {
        self.custody.check()
    }

    /// As [`check_place`](Self::check_place), and that nobody has put another content into the file.
    ///
    /// # Errors
    /// [`Outage::Replaced`], or what else keeps the log from being read.
    pub async fn check_log(&self) -> Result<()> {
        self.custody.check_log(self).await
    }

    /// Has [`check_log`](Self::check_log) look at the content of the file too, for the process that serves it.
    ///
    /// # Errors
    /// When the database cannot be written.
    pub async fn watch_content(&self) -> Result<()> {
        self.custody.watch_content(self).await
    }

    /// Writes all that the open database has into another file, even when its own file was deleted.
    ///
    /// # Errors
    /// When `file` is there and not empty, or cannot be written.
    pub async fn save(&self, file: &Path) -> Result<()> {
        self.custody.save(file).await
    }

    /// Holds locks until the database is closed.
    pub fn hold(&self, locks: impl IntoIterator<Item = Lock>) {
        self.custody.hold(locks);
    }

    /// Takes the locks again whose files somebody has deleted.
    ///
    /// # Errors
    /// When another process was faster, or a file cannot be made.
    pub fn renew_locks(&self) -> std::result::Result<(), LockError> {
        self.custody.renew_locks()
    }

    /// Has every newer seq told to `witness`, before it is told to anybody else or answered.
    pub fn set_witness(&self, witness: impl Fn(u64) + Send + Sync + 'static) {
        self.head.set_witness(Box::new(witness));
    }

    /// The newest committed seq this process knows of; it changes after each commit that appended.
    pub fn appended(&self) -> watch::Receiver<u64> {
        self.head.subscribe()
    }

    /// Told after each commit that left something to do for plugins: an effect, a reminder, a question to repeat.
    pub fn staged(&self) -> watch::Receiver<()> {
        self.staged.subscribe()
    }

    /// Looks for lines that another process appended, and wakes those who wait for new ones.
    pub async fn refresh(&self) -> Result<u64> {
        let head = self.read().await?.head().await?;
        self.head.announce(head);
        Ok(head)
    }

    /// Bytes of the write-ahead log.
    pub fn wal_bytes(&self) -> u64 {
        self.opener.file.wal_bytes()
    }

    /// Says that the log goes up to `seq` at least: for whoever found a line, before it is shown to anybody.
    pub(crate) fn announce(&self, seq: u64) {
        self.head.announce(seq);
    }

    /// Closes every connection, after which the files can be moved.
    pub async fn close(&self) {
        if let Some(upkeep) = &self.upkeep {
            upkeep.close().await;
        }
        self.readers.close().await;
        self.writer.close().await;
        self.custody.end(self.health.outage() == Some(Outage::Io)).await;
    }
}

impl Tx<'_> {
    /// Makes the changes last and wakes those who wait for the log, also when the caller goes away meanwhile.
    pub async fn commit(self) -> Result<()> {
        let Self { reader, store, appended, staged } = self;
        let (head, wake) = (Arc::clone(&store.head), Arc::clone(&store.staged));
        let told = move || {
            if let Some(seq) = appended {
                head.announce(seq);
            }
            if staged {
                wake.send_replace(());
            }
        };
        reader.tx.commit(told).await
    }
}

impl std::ops::Deref for Tx<'_> {
    type Target = Reader;

    fn deref(&self) -> &Reader {
        &self.reader
    }
}

impl std::ops::DerefMut for Tx<'_> {
    fn deref_mut(&mut self) -> &mut Reader {
        &mut self.reader
    }
}

/// Refuses a database that this version of the program did not bring up to date.
async fn check_version(connection: &mut SqliteConnection) -> Result<()> {
    let applied: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(connection).await?;
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    if let Some(newer) = applied.iter().find(|version| !known.contains(version)) {
        return Err(Error::Newer(*newer));
    }
    if known.iter().any(|version| !applied.contains(version)) {
        return Err(Error::Older);
    }
    Ok(())
}

/// The file that a database setting means.
pub fn database_path(url: &str) -> Result<PathBuf> {
    let path = match url.split_once(':') {
        Some(("sqlite", rest)) => rest.strip_prefix("//").unwrap_or(rest),
        Some((scheme, rest)) if rest.starts_with("//") && scheme.len() > 1 => return Err(Error::Url(url.into())),
        _ => url,
    };
    if path.is_empty() || path == ":memory:" {
        return Err(Error::Url(url.into()));
    }
    Ok(path.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn open(dir: &tempfile::TempDir) -> Result<Store> {
        Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await
    }

    #[tokio::test]
    async fn a_reopened_database_keeps_its_epoch_and_another_has_its_own() {
        let (dir, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let first = open(&dir).await.expect("opens");
        first.close().await;
        assert_eq!(first.epoch(), open(&dir).await.expect("opens again").epoch());
        assert_ne!(first.epoch(), open(&other).await.expect("opens").epoch());
    }

    #[tokio::test]
    async fn a_database_from_the_future_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = open(&dir).await.expect("opens");
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
        assert!(matches!(open(&dir).await, Err(Error::Newer(9999))));
    }

    #[tokio::test]
    async fn a_database_of_the_first_version_keeps_its_activities() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("test.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true).foreign_keys(true);
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

        let store = open(&dir).await.expect("brings it up to date");
        let mut reader = store.read().await.expect("a reader");
        let kept = reader.activity(crate::domain::id::ActivityId(activity)).await.expect("readable").expect("kept");
        assert_eq!((kept.fields.body.as_deref(), kept.creator.name.as_str()), (Some("hello"), "Ann"));
        drop(reader);
        let mut tx = store.write().await.expect("a transaction");
        let problems = sqlx::query("PRAGMA foreign_key_check").fetch_all(&mut *tx.reader.tx).await.expect("checks");
        assert!(problems.is_empty());
        // Nobody's activity is refused as ever.
        let orphan = sqlx::query("UPDATE activities SET creator_id = NULL").execute(&mut *tx.reader.tx).await;
        assert!(orphan.is_err());
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_refused_and_left_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("test.db");
        std::fs::write(&path, "a shopping list, longer than the header of a database file by some way".repeat(10))
            .expect("writes");
        assert!(matches!(open(&dir).await, Err(Error::Open { .. } | Error::Migrate(_) | Error::Database(_))));
        assert!(std::fs::read_to_string(&path).expect("still text").starts_with("a shopping list"));
    }

    #[test]
    fn only_sqlite_databases_are_understood() {
        for url in ["leads.db", "sqlite:leads.db", "sqlite://leads.db"] {
            assert_eq!(database_path(url).expect("a path"), PathBuf::from("leads.db"));
        }
        for url in ["", "sqlite:", "sqlite::memory:", "mysql://localhost/leads"] {
            assert!(matches!(database_path(url), Err(Error::Url(_))), "{url}");
        }
    }
}
