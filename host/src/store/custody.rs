//! Custody of an open database: what makes sure that it is still the one that was opened, and ours.
//!
//! A database whose file was deleted, replaced or written over is *displaced*: nothing is written to it, because the next
//! process would not find it. A file that was moved can come back; all else ends with another start alone, which looks
//! at everything again.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use sqlx::{Connection, SqliteConnection, sqlite::SqliteConnectOptions};
use tracing::{error, info};

use super::{
    Error, Outage, Result, Store,
    content::Content,
    lock::{Lock, LockError},
    log,
    place::{Displaced, OpenFiles},
};

/// The files that were opened, and what became of them.
#[derive(Clone, Default)]
pub(super) struct Place(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// Empty until they are all there, and where nothing is ever written.
    files: OnceLock<OpenFiles>,
    displaced: Mutex<Option<Displaced>>,
}

pub(super) struct Custody {
    path: PathBuf,
    place: Place,
    /// Open from the first to the last moment: SQLite deletes the `-wal` file with the last connection, and makes
    /// another one with the next.
    keeper: tokio::sync::Mutex<Option<SqliteConnection>>,
    content: OnceLock<Content>,
    locks: Mutex<Vec<Lock>>,
}

impl Place {
    /// Checks that the database's files are the ones that were opened.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when they are not, or once were not and it is not sure that they are.
    pub(super) fn check(&self) -> Result<()> {
        let mut displaced = self.0.displaced.lock();
        if let None | Some(Displaced::Missing(_)) = &*displaced {
            let found = self.0.files.get().and_then(OpenFiles::displaced);
            match &found {
                Some(found) if displaced.as_ref() != Some(found) => tell(found),
                None if displaced.is_some() => info!("the files of the database are back in their place"),
                _ => {}
            }
            *displaced = found;
        }
        displaced.as_ref().map_or(Ok(()), |displaced| Err(Outage::Replaced.error(displaced.reason())))
    }

    fn overwritten(&self, reason: String) {
        let found = Displaced::Overwritten(reason);
        let before = self.0.displaced.lock().replace(found.clone());
        if before.is_none_or(|before| !matches!(before, Displaced::Overwritten(_))) {
            tell(&found);
        }
    }

    fn is_overwritten(&self) -> bool {
        matches!(*self.0.displaced.lock(), Some(Displaced::Overwritten(_)))
    }
}

fn tell(displaced: &Displaced) {
    let until = match displaced {
        Displaced::Missing(_) => "it is back, or the server is started again",
        Displaced::Replaced(_) | Displaced::Overwritten(_) => "the server is started again",
    };
    error!("{} while it was open: nothing is written any more, until {until}", displaced.reason());
}

impl Custody {
    /// Takes custody of a database that is open already; `place` is what its connections are checked by.
    pub(super) async fn take(path: &Path, options: &SqliteConnectOptions, place: Place) -> Result<Self> {
        let open = |source| Error::Open { path: path.to_owned(), source };
        let mut keeper = SqliteConnection::connect_with(options).await.map_err(open)?;
        log::look(&mut keeper).await?;
        let files = OpenFiles::of(path).map_err(|error| open(sqlx::Error::Io(error)))?;
        let _ = place.0.files.set(files);
        Ok(Self { keeper: Some(keeper).into(), ..Self::of_nothing(path, place) })
    }

    /// For a database that is only read.
    pub(super) fn of_nothing(path: &Path, place: Place) -> Self {
        Self { path: path.to_owned(), place, keeper: None.into(), content: OnceLock::new(), locks: Mutex::default() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn check(&self) -> Result<()> {
        self.place.check()
    }

    /// Checks that what is read is what was written: not so in a file that was written over.
    pub(super) fn check_content(&self) -> Result<()> {
        if self.place.is_overwritten() { self.place.check() } else { Ok(()) }
    }

    /// Watches what is in the file as well, for a process that serves it.
    pub(super) async fn watch_content(&self, store: &Store) -> Result<()> {
        let opened = Content::of(&self.path);
        let content =
            opened.map_err(|error| Error::Open { path: self.path.clone(), source: sqlx::Error::Io(error) })?;
        let content = self.content.get_or_init(|| content);
        let head = store.head.seq();
        content.follow(store, head).await?;
        // Into the file, so that whatever was copied before is older than that.
        if let Some(keeper) = self.keeper.lock().await.as_mut() {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(keeper).await?;
        }
        Ok(())
    }

    /// As [`check`](Self::check), and that the log is the one that was opened and did not get shorter: a database can be
    /// replaced by what is written into its file as well.
    pub(super) async fn check_log(&self, store: &Store) -> Result<()> {
        self.check()?;
        let (name, head, path) = (&store.name, store.head.seq(), self.path.display());
        if let Some(content) = self.content.get()
            && let Some(reason) = content.overwritten().await
        {
            self.place.overwritten(format!("{path} was written over ({reason})"));
        }
        let (found, end) = match self.keeper.lock().await.as_mut() {
            Some(keeper) => log::look(keeper).await?,
            None => return self.check(),
        };
        if found != *name {
            self.place.overwritten(format!("{path} was written over (it has another log)"));
        } else if end < head {
            self.place.overwritten(format!("{path} was written over (the log was at {head} and is at {end})"));
        }
        self.check()?;
        match self.content.get() {
            Some(content) => content.follow(store, head).await,
            None => Ok(()),
        }
    }

    /// Writes all that the open database has into another file, which must not be there or be empty.
    pub(super) async fn save(&self, file: &Path) -> Result<()> {
        self.check_content()?;
        let mut keeper = self.keeper.lock().await;
        let missing = || Error::Database(sqlx::Error::Io(io::ErrorKind::NotConnected.into()));
        let keeper = keeper.as_mut().ok_or_else(missing)?;
        sqlx::query("VACUUM INTO ?").bind(file.to_string_lossy()).execute(keeper).await?;
        Ok(())
    }

    pub(super) fn hold(&self, locks: impl IntoIterator<Item = Lock>) {
        self.locks.lock().extend(locks);
    }

    /// Takes the locks again whose files somebody has deleted: without them, another process would start.
    ///
    /// # Errors
    /// When another process was faster, or a file cannot be made.
    pub(super) fn renew_locks(&self) -> std::result::Result<(), LockError> {
        self.locks.lock().iter_mut().try_for_each(Lock::renew)
    }

    /// Lets go of the database, after every other connection was closed.
    ///
    /// The last connection to be closed copies the write-ahead log into the file. Where either `is_broken`, that would
    /// spoil the file as well: then it is left to the next start to find out what is whole.
    pub(super) async fn end(&self, is_broken: bool) {
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
