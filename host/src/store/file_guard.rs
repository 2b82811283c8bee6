//! File guard of an open database: ensures that it is still the file that was opened, and that this process has its
//! locks.
//!
//! A database whose file was deleted, replaced or overwritten is *displaced*: nothing is written to it, because the
//! next process would not find it. A file that was moved can come back. Every other case ends only with a restart,
//! which checks everything again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use parking_lot::Mutex;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::store::{
    error::{Error, Result},
    file_stamp::FileStamp,
    lock::{Lock, LockError},
    log_name,
    open_files::{OpenFiles, OpenPlace},
};

pub(crate) struct FileGuard {
    pub(crate) path: PathBuf,
    pub(crate) place: OpenPlace,
    /// Open for the whole lifetime of the store: SQLite deletes the `-wal` file with the last connection, and creates
    /// another one with the next.
    pub(crate) keeper: tokio::sync::Mutex<Option<SqliteConnection>>,
    pub(crate) content: OnceLock<FileStamp>,
    locks: Mutex<Vec<Lock>>,
}

impl FileGuard {
    /// Guards a database that is already open; its connections are checked by `place`.
    pub(crate) async fn take(path: &Path, options: &SqliteConnectOptions, place: OpenPlace) -> Result<Self> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let mut keeper = SqliteConnection::connect_with(options).await.map_err(open)?;
        log_name::look(&mut keeper).await?;
        let files = OpenFiles::of(path).map_err(|error| open(sqlx::Error::Io(error)))?;
        let _ = place.0.files.set(files);
        Ok(Self { keeper: Some(keeper).into(), ..Self::of_nothing(path, place) })
    }

    /// Guard of a database that is only read.
    pub(crate) fn of_nothing(path: &Path, place: OpenPlace) -> Self {
        Self { path: path.to_owned(), place, keeper: None.into(), content: OnceLock::new(), locks: Mutex::default() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn check(&self) -> Result<()> {
        self.place.check()
    }

    /// Checks that reads return what was written; this is not so in a file that was overwritten.
    pub(crate) fn check_content(&self) -> Result<()> {
        if self.place.is_overwritten() { self.place.check() } else { Ok(()) }
    }

    /// Writes the content of the open database to another file, which must not exist or be empty.
    pub(crate) async fn save(&self, file: &Path) -> Result<()> {
        self.check_content()?;
        let mut keeper = self.keeper.lock().await;
        let missing = || Error::Database(sqlx::Error::Io(io::ErrorKind::NotConnected.into()));
        let keeper = keeper.as_mut().ok_or_else(missing)?;
        sqlx::query("VACUUM INTO $1").bind(file.to_string_lossy()).execute(keeper).await?;
        Ok(())
    }

    pub(crate) fn hold(&self, locks: impl IntoIterator<Item = Lock>) {
        self.locks.lock().extend(locks);
    }

    /// Takes locks again whose files were deleted: without them, another process would start.
    ///
    /// # Errors
    /// When another process was faster, or a file cannot be created.
    pub(crate) fn renew_locks(&self) -> std::result::Result<(), LockError> {
        self.locks.lock().iter_mut().try_for_each(Lock::renew)
    }

    /// Releases the database, after every other connection was closed.
    ///
    /// The last connection to be closed checkpoints the write-ahead log into the file. If the database `is_broken` or
    /// was overwritten, that would damage the file as well, so recovery is left to the next start.
    pub(crate) async fn end(&self, is_broken: bool) {
        if let Some(keeper) = self.keeper.lock().await.take() {
            if is_broken || self.place.is_overwritten() {
                std::mem::forget(keeper);
            } else {
                let _ = keeper.close().await;
            }
        }
        self.locks.lock().clear();
    }
}
