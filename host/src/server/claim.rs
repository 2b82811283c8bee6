//! Claims a database and a data directory for one process, and checks that they belong together.
//!
//! `serve` holds both for as long as it runs. A writing command takes the database for as long as it works. Beside a
//! server, a command only appends, which SQLite makes safe, and leaves the rest to the server.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use tokio::{
    task::spawn_blocking,
    time::{Instant, MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    config::Config,
    domain::{counter::Seq, time::Timestamp},
    server::epoch_note::{EpochNote, EpochVerdict, KnownLog, LogIdentity},
    store::{
        self, Outage,
        handle::Store,
        lock::{self, Lock, LockError},
        open_files::{self, FileId},
    },
};

/// Interval of the checks that the database is still in place.
const ROUND: Duration = Duration::from_secs(1);
/// Interval of repeated error messages.
const REMIND: Duration = Duration::from_secs(60);

/// Locks of a server that is about to open its database.
pub(crate) struct Claim {
    data_dir: PathBuf,
    known: KnownLog,
    is_new_database: bool,
    locks: [Lock; 2],
}

impl Claim {
    /// Takes the data directory and the database of a server, before either is changed.
    ///
    /// # Errors
    /// When another process has one of them, or the data directory knows a log and the database is empty.
    pub(crate) async fn take(config: &Config, data_dir: &Path) -> Result<Self> {
        let database = config.database_file()?;
        let locks = lock_all(data_dir, &database, lock::SERVE).await?;
        let known = read_note(data_dir)?;
        let claim = Self { data_dir: data_dir.to_owned(), known, is_new_database: config.new_database, locks };
        if fs::metadata(&database).map_or(0, |found| found.len()) == 0 {
            claim.refuse_other(&database, "is empty or missing")?;
        }
        Ok(claim)
    }

    /// Checks that the log in the database continues where it was; otherwise the log gets a new epoch. From here on the
    /// note follows the log, and the locks are held until the store is closed.
    ///
    /// # Errors
    /// When the data directory belongs to another database.
    pub(crate) async fn settle(self, store: &mut Store) -> Result<Arc<EpochNote>> {
        let head = *store.appended().borrow();
        match self.known.judge(&log_of(store)?, head) {
            _ if self.is_new_database => renew(store, "started with --new-database", head).await?,
            EpochVerdict::Fits => {}
            EpochVerdict::Renew(reason) => renew(store, &reason, head).await?,
            EpochVerdict::Other => {
                if let Err(refusal) = self.refuse_other(store.path(), "is another one") {
                    store.close().await;
                    return Err(refusal);
                }
                renew(store, "it replaces a database without events", head).await?;
            }
        }
        let note = EpochNote::begin(&self.data_dir, log_of(store)?, head);
        let note = note.with_context(|| format!("cannot write to the data directory {}", self.data_dir.display()))?;
        let note = Arc::new(note);
        let witness = Arc::clone(&note);
        store.set_witness(move |seq| witness.issue(seq));
        store.watch_content().await?;
        store.hold(self.locks);
        Ok(note)
    }

    fn refuse_other(&self, database: &Path, is: &str) -> Result<()> {
        let Some(issued) = self.known.issued().filter(|_| !self.is_new_database) else { return Ok(()) };
        let (dir, database) = (self.data_dir.display(), database.display());
        bail!(
            "the data directory {dir} belongs to a database with {issued} or more events, and {database} {is}: put the \
             right file in place, name another data directory with --data-dir, or, to go on with {database} as it is, \
             start once with --new-database"
        )
    }
}

/// Opens the database for the writing subcommand `command`, alone or beside a running server.
///
/// # Errors
/// When it cannot be opened.
pub(crate) async fn open_for_command(config: &Config, command: &str) -> Result<Store> {
    match lock_database(&config.database_file()?, command).await {
        Ok(lock) => open_alone(config, lock).await,
        Err(LockError::Held { holder, .. }) if holder.command == lock::SERVE => {
            Ok(Store::open_beside(&config.database_url()?).await?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Opens the database for the subcommand `command`, which must not run beside anything else.
///
/// # Errors
/// When it cannot be opened, or a server or another command uses it.
pub(crate) async fn open_for_command_alone(config: &Config, command: &str) -> Result<Store> {
    let lock = lock_database(&config.database_file()?, command).await;
    let lock = lock.with_context(|| format!("`leadwire {command}` cannot run while a server is running"))?;
    open_alone(config, lock).await
}

async fn open_alone(config: &Config, lock: Lock) -> Result<Store> {
    let known = read_note(&config.data_dir()?)?;
    let mut store = Store::open(&config.database_url()?).await?;
    store.hold([lock]);
    // Appended events must not continue a copy under the epoch of the original.
    if known.judge(&log_of(&store)?, *store.appended().borrow()) != EpochVerdict::Fits {
        store.renew_epoch().await?;
    }
    Ok(store)
}

/// Path of the lock file of a data directory.
pub(crate) fn data_dir_lock(data_dir: &Path) -> PathBuf {
    data_dir.join("lock")
}

/// Path of the lock file of a database.
pub(crate) fn database_lock(database: &Path) -> PathBuf {
    open_files::beside(database, "-lock")
}

/// Takes a data directory and a database, like a server, for the subcommand `command`.
///
/// # Errors
/// When another process has one of them, or the data directory does not exist.
pub(crate) async fn lock_all(data_dir: &Path, database: &Path, command: &str) -> Result<[Lock; 2], LockError> {
    let what = format!("the data directory {}", data_dir.display());
    let first = Lock::take(&data_dir_lock(data_dir), &what, command).await?;
    Ok([first, lock_database(database, command).await?])
}

async fn lock_database(database: &Path, command: &str) -> Result<Lock, LockError> {
    let what = format!("the database {}", database.display());
    let links = fs::metadata(database).map_or(1, |found| found.nlink());
    if links > 1 {
        return Err(LockError::Linked { what, links });
    }
    Lock::take(&database_lock(database), &what, command).await
}

fn read_note(data_dir: &Path) -> Result<KnownLog> {
    KnownLog::read(data_dir)
        .with_context(|| format!("cannot read log.json in the data directory {}", data_dir.display()))
}

fn log_of(store: &Store) -> Result<LogIdentity> {
    let found = fs::metadata(store.path()).with_context(|| format!("cannot find {}", store.path().display()))?;
    let (lineage, epoch) = (store.lineage().to_owned(), store.epoch().to_owned());
    Ok(LogIdentity { lineage, epoch, database: FileId::of(&found) })
}

async fn renew(store: &mut Store, reason: &str, head: Seq) -> Result<(), store::Error> {
    store.renew_epoch().await?;
    // Nobody can have seen an event of an empty log.
    if head > Seq::START {
        info!(epoch = store.epoch().as_str(), "new log epoch, clients will resync: {reason}");
    }
    Ok(())
}

/// Monitors the database and the note until `stop`: a displaced database is reported, and its content saved.
pub(crate) async fn look_after(store: Arc<Store>, note: Arc<EpochNote>, data_dir: PathBuf, stop: CancellationToken) {
    let mut rounds = interval(ROUND);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut last_logged, mut locks_last_logged): (Option<Instant>, Option<Instant>) = (None, None);
    while stop.run_until_cancelled(rounds.tick()).await.is_some() {
        if let Err(error) = store.renew_locks()
            && locks_last_logged.is_none_or(|last_logged| last_logged.elapsed() > REMIND)
        {
            error!("a lock file was deleted and cannot be recreated: {:#}", anyhow::Error::from(error));
            locks_last_logged = Some(Instant::now());
        }
        let Err(store::Error::Unavailable { outage: Outage::Replaced, source: displaced }) = store.check_log().await
        else {
            last_logged = None;
            let note = Arc::clone(&note);
            // It waits for the disk.
            let _ = spawn_blocking(move || note.renew()).await;
            continue;
        };
        if last_logged.is_none() {
            save(&store, &data_dir).await;
        } else if last_logged.is_some_and(|last_logged| last_logged.elapsed() > REMIND) {
            error!("database writes are still stopped: {displaced}; stop the server and restore the file");
        } else {
            continue;
        }
        last_logged = Some(Instant::now());
    }
}

/// Saves the content of the open database, as long as this process can still read it.
async fn save(store: &Store, data_dir: &Path) {
    let now = Timestamp::now().to_string().replace([':', '.'], "-");
    let file = data_dir.join(format!("saved-{now}.db"));
    let saved = match open_files::make(&file) {
        Ok(()) => store.save(&file).await.map_err(anyhow::Error::from),
        Err(error) => Err(error.into()),
    };
    match saved {
        Ok(()) => {
            warn!("the database is saved in {}: stop the server and move that file into place", file.display());
        }
        Err(error) => error!("cannot save the database to {}: {error:#}", file.display()),
    }
}
