//! Lock files: one process at a time serves a database, and one uses a data directory.
//!
//! A lock is a kernel lock (`flock`), so it ends with its process, however that ends. The file names the holder. It is
//! a separate file beside the database, because a lock on the database itself could conflict with SQLite's own.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process,
    time::Duration,
};

use rustix::fs::OFlags;
use tokio::time::{Instant, sleep};
use tracing::warn;

use crate::store::open_files::give_away;

/// Command that holds its locks for as long as it runs; other commands finish soon.
pub const SERVE: &str = "serve";
/// Maximum wait for another command.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(20);

/// Lock that is held until it is dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    what: String,
    command: String,
}

/// Process that holds a lock, as it describes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    pub command: String,
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{what} is in use by {holder}")]
    Held { what: String, holder: Holder },
    #[error("{what} has {links} hard links: expected one, because SQLite finds the write-ahead log by file name")]
    Linked { what: String, links: u64 },
    #[error("cannot lock {}", path.display())]
    Lock { path: PathBuf, source: io::Error },
}

impl Lock {
    /// Takes the lock file at `path` for the subcommand `command`; an error names `what` is locked.
    ///
    /// It does not wait for a server. It waits some seconds for another command.
    ///
    /// # Errors
    /// When another process holds it, or the file cannot be created or locked.
    pub async fn take(path: &Path, what: &str, command: &str) -> Result<Self, LockError> {
        let failed = |source| LockError::Lock { path: path.to_owned(), source };
        let end = Instant::now() + PATIENCE;
        let mut server = None;
        loop {
            let mut file = open(path).map_err(failed)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path).map_err(failed)? => {
                    write_holder(&mut file, command).map_err(failed)?;
                    let (path, what, command) = (path.to_owned(), what.to_owned(), command.to_owned());
                    return Ok(Self { file, path, what, command });
                }
                // Somebody deleted the file meanwhile.
                Ok(()) => continue,
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
            // A process that has just taken the lock may not have written its name yet.
            let holder = read_holder(&mut file).map_err(failed)?;
            // Only if it is seen twice: a process that only looks may hold the lock for a moment, while the file still
            // has an old name.
            let is_server = holder.as_ref().is_some_and(|holder| holder.command == SERVE);
            if is_server && holder == server || Instant::now() > end {
                let holder = holder.unwrap_or_else(|| Holder { pid: 0, command: "?".into() });
                return Err(LockError::Held { what: what.to_owned(), holder });
            }
            server = holder.filter(|_| is_server);
            sleep(PAUSE).await;
        }
    }
}

impl Lock {
    /// Takes the lock again, without waiting, if its file is no longer at its path.
    ///
    /// # Errors
    /// When another process has taken it meanwhile, or the file cannot be created or locked.
    pub(crate) fn renew(&mut self) -> Result<(), LockError> {
        let failed = |source| LockError::Lock { path: self.path.clone(), source };
        if is_at(&self.file, &self.path).map_err(failed)? {
            return Ok(());
        }
        let mut file = open(&self.path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                write_holder(&mut file, &self.command).map_err(failed)?;
                warn!(
                    "lock file {} was deleted and has been recreated: it keeps other processes away from the same files",
                    self.path.display()
                );
                self.file = file;
                Ok(())
            }
            Err(TryLockError::WouldBlock) => {
                let holder = read_holder(&mut file).map_err(failed)?;
                let holder = holder.unwrap_or_else(|| Holder { pid: 0, command: "?".into() });
                Err(LockError::Held { what: self.what.clone(), holder })
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }
}

impl Holder {
    /// Returns the holder of the lock file at `path`, if any. Nothing is created or changed.
    ///
    /// # Errors
    /// When the file exists and cannot be opened or locked.
    pub fn of(path: &Path) -> io::Result<Option<Self>> {
        let mut file = match open_with(OpenOptions::new().read(true), path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            opened => opened?,
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(None),
            Err(TryLockError::WouldBlock) => {
                Ok(Some(read_holder(&mut file)?.unwrap_or_else(|| Self { pid: 0, command: "?".into() })))
            }
            Err(TryLockError::Error(error)) => Err(error),
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "`leadwire {}`, pid {}", self.command, self.pid)
    }
}

/// Opens the file, creates it if it does not exist, and leaves its content unchanged.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(0o600);
    match open_with(&mut options, path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        opened => return opened,
    }
    let file = open_with(options.create(true), path)?;
    give_away(&file, path)?;
    Ok(file)
}

fn open_with(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let no_link = i32::try_from(OFlags::NOFOLLOW.bits()).expect("a flag of open(2) is an int");
    options.custom_flags(no_link).open(path)
}

fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let (open, found) = (file.metadata()?, fs::symlink_metadata(path));
    Ok(found.is_ok_and(|found| (found.dev(), found.ino()) == (open.dev(), open.ino())))
}

fn write_holder(file: &mut File, command: &str) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{} {command}", process::id())
}

fn read_holder(file: &mut File) -> io::Result<Option<Holder>> {
    let mut text = String::new();
    file.rewind()?;
    file.take(256).read_to_string(&mut text)?;
    let holder = text.strip_suffix('\n').and_then(|line| line.split_once(' '));
    Ok(holder.and_then(|(pid, command)| Some(Holder { pid: pid.parse().ok()?, command: command.to_owned() })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lock_waits_for_a_command_and_not_for_a_server() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lock");
        let held = Lock::take(&path, "the thing", SERVE).await.expect("free");
        let error = Lock::take(&path, "the thing", SERVE).await.expect_err("held").to_string();
        assert_eq!(error, format!("the thing is in use by `leadwire serve`, pid {}", process::id()));
        drop(held);

        let held = Lock::take(&path, "the thing", "user add").await.expect("free again");
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { Lock::take(&path, "the thing", SERVE).await }
        });
        sleep(2 * PAUSE).await;
        assert!(!waiting.is_finished());
        drop(held);
        waiting.await.expect("no panic").expect("free at last");
    }

    #[tokio::test]
    async fn reading_the_lock_holder_does_not_block_a_server() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("lock");
        let holder = || Holder::of(&path).expect("readable");
        assert_eq!(holder(), None);
        assert!(!path.exists(), "nothing is made");
        let held = Lock::take(&path, "the thing", SERVE).await.expect("free");
        assert_eq!(holder(), Some(Holder { pid: process::id(), command: SERVE.into() }));
        drop(held);
        assert_eq!(holder(), None);

        // The file still names the server that has ended.
        let looking = File::open(&path).expect("there");
        looking.try_lock_shared().expect("free");
        let starting = Lock::take(&path, "the thing", SERVE);
        let (started, ()) = tokio::join!(starting, async move { drop(looking) });
        started.expect("free at the second look");
    }

    #[tokio::test]
    async fn a_link_is_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, target) = (dir.path().join("lock"), dir.path().join("precious"));
        fs::write(&target, "content").expect("written");
        std::os::unix::fs::symlink(&target, &path).expect("linked");
        assert!(matches!(Lock::take(&path, "it", SERVE).await, Err(LockError::Lock { .. })));
        assert_eq!(fs::read_to_string(&target).expect("there"), "content");
    }
}
