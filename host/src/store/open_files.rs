//! Files of the database: created with access for the owner only, and watched for as long as they are open.
//!
//! Nothing here opens and closes a file that SQLite has open: closing any descriptor of it would drop SQLite's locks.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, ErrorKind},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::UNIX_EPOCH,
};

use parking_lot::Mutex;
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::store::error::{Outage, Result};

/// Files that were opened, and their present state.
#[derive(Clone, Default)]
pub(crate) struct OpenPlace(pub(crate) Arc<OpenPlaceInner>);

#[derive(Default)]
pub(crate) struct OpenPlaceInner {
    /// Empty until all files exist, and always for a database that is never written.
    pub(crate) files: OnceLock<OpenFiles>,
    displaced: Mutex<Option<Displaced>>,
}

impl OpenPlace {
    /// Checks that the database's files are the ones that were opened.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when they are not, or once were not and it is not certain that they are now.
    pub(crate) fn check(&self) -> Result<()> {
        let mut displaced = self.0.displaced.lock();
        if let None | Some(Displaced::Missing(_)) = &*displaced {
            let found = self.0.files.get().and_then(OpenFiles::displaced);
            match &found {
                Some(found) if displaced.as_ref() != Some(found) => log_displaced(found),
                None if displaced.is_some() => info!("database files are back in place"),
                _ => {}
            }
            *displaced = found;
        }
        displaced.as_ref().map_or(Ok(()), |displaced| Err(Outage::Replaced.error(displaced.reason())))
    }

    pub(crate) fn overwritten(&self, reason: String) {
        let found = Displaced::Overwritten(reason);
        let before = self.0.displaced.lock().replace(found.clone());
        if before.is_none_or(|before| !matches!(before, Displaced::Overwritten(_))) {
            log_displaced(&found);
        }
    }

    pub(crate) fn is_overwritten(&self) -> bool {
        matches!(*self.0.displaced.lock(), Some(Displaced::Overwritten(_)))
    }
}

fn log_displaced(displaced: &Displaced) {
    let until = match displaced {
        Displaced::Missing(_) => "it is back or the server is restarted",
        Displaced::Replaced(_) | Displaced::Overwritten(_) => "the server is restarted",
    };
    error!("{} while it was open: writes are stopped until {until}", displaced.reason());
}

const OWNER_ALONE: u32 = 0o600;

/// Identity of a file that no copy shares and that survives reboots: its inode and the inode's creation time.
///
/// The device number is not part of it, because many file systems get another one when they are mounted again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileId {
    inode: u64,
    /// Nanoseconds since 1970; `None` when the file system does not record it.
    born: Option<u64>,
}

impl FileId {
    pub fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { inode: metadata.ino(), born: born.and_then(|since| u64::try_from(since.as_nanos()).ok()) }
    }
}

/// Creates the file if it does not exist, and restricts it and the files that SQLite keeps beside it to their owner.
pub(crate) fn prepare(path: &Path) -> io::Result<()> {
    match make(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // SQLite gives the files beside it the mode of the database.
    [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")].iter().try_for_each(|file| restrict(file))
}

/// Creates an empty file that only its owner can read.
///
/// # Errors
/// Also when the file exists.
pub fn make(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create_new(true).mode(OWNER_ALONE).open(path)?;
    give_away(&file, path)
}

/// Gives a file created by root to the owner of the folder, whose server could not access it otherwise.
pub(crate) fn give_away(file: &File, path: &Path) -> io::Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(folder)?;
    fchown(file, Some(owner.uid()), Some(owner.gid()))
}

fn restrict(file: &Path) -> io::Result<()> {
    let mode = match fs::metadata(file) {
        Ok(found) => found.mode() & 0o777,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if mode & 0o077 == 0 {
        return Ok(());
    }
    let restricted = fs::set_permissions(file, Permissions::from_mode(mode & 0o700));
    restricted.map_err(|error| {
        let name = file.display();
        io::Error::new(error.kind(), format!("{name} has mode {mode:04o}, expected 0600, and chmod failed: {error}"))
    })?;
    warn!("{} had mode {mode:04o}, accessible to other users: changed to {:04o}", file.display(), mode & 0o700);
    Ok(())
}

/// Path of the file that SQLite, or this program, keeps beside the database under that suffix.
///
/// Links are resolved the way SQLite resolves them, so that one database has one such path.
pub fn beside(database: &Path, suffix: &str) -> PathBuf {
    let real = fs::canonicalize(database).ok().or_else(|| {
        let parent = database.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Some(fs::canonicalize(parent).ok()?.join(database.file_name()?))
    });
    let mut name = real.unwrap_or_else(|| database.to_owned()).into_os_string();
    name.push(suffix);
    name.into()
}

/// Database files as they were opened.
pub(crate) struct OpenFiles([OpenFile; 3]);

struct OpenFile {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl OpenFiles {
    /// Returns the files at their paths now. The caller must hold a connection that has read something: only then do
    /// all exist.
    pub(crate) fn of(database: &Path) -> io::Result<Self> {
        let open = |suffix| {
            let path = beside(database, suffix);
            let found = fs::metadata(&path)?;
            Ok::<_, io::Error>(OpenFile { path, device: found.dev(), inode: found.ino() })
        };
        Ok(Self([open("")?, open("-wal")?, open("-shm")?]))
    }

    /// Returns the reason if one of the files is no longer the one at its path.
    pub(crate) fn displaced(&self) -> Option<Displaced> {
        self.0.iter().find_map(|OpenFile { path, device, inode }| match fs::metadata(path) {
            Ok(found) if (found.dev(), found.ino()) == (*device, *inode) => None,
            Ok(_) => Some(Displaced::Replaced(format!("{} was replaced by another file", path.display()))),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                Some(Displaced::Missing(format!("{} was deleted or moved", path.display())))
            }
            Err(error) => Some(Displaced::Missing(format!("{} can no longer be found: {error}", path.display()))),
        })
    }
}

/// Reason why the files of a database are not those that were opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Displaced {
    /// A file is missing at its path. It can come back.
    Missing(String),
    /// Another file is in its place. What was done to the rest, which now belongs to both databases, is unknown.
    Replaced(String),
    /// The content of the open file was replaced.
    Overwritten(String),
}

impl Displaced {
    pub(crate) fn reason(&self) -> &str {
        let (Self::Missing(reason) | Self::Replaced(reason) | Self::Overwritten(reason)) = self;
        reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").mode() & 0o777
    }

    #[test]
    fn a_new_database_has_mode_0600_and_open_permissions_are_corrected() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("test.db");
        prepare(&path).expect("made");
        assert_eq!(mode(&path), 0o600);
        let wal = dir.path().join("test.db-wal");
        fs::write(&wal, "").expect("written");
        for file in [&path, &wal] {
            fs::set_permissions(file, Permissions::from_mode(0o664)).expect("opened to others");
        }
        prepare(&path).expect("restricted");
        assert_eq!((mode(&path), mode(&wal)), (0o600, 0o600));
    }

    #[test]
    fn a_copy_at_the_same_path_has_another_identity() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, aside) = (dir.path().join("a"), dir.path().join("b"));
        let id = || FileId::of(&fs::metadata(&path).expect("a file"));
        fs::write(&path, "content").expect("written");
        let first = id();
        fs::rename(&path, &aside).and_then(|()| fs::rename(&aside, &path)).expect("moved there and back");
        assert_eq!(id(), first);
        fs::copy(&path, &aside).and_then(|_| fs::rename(&aside, &path)).expect("copied");
        assert_ne!(id(), first);
    }

    #[test]
    fn a_deleted_or_replaced_file_is_displaced() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("test.db");
        let make = || ["", "-wal", "-shm"].map(|suffix| fs::write(beside(&path, suffix), "").expect("written"));
        make();
        for suffix in ["", "-wal", "-shm"] {
            let files = OpenFiles::of(&path).expect("all are there");
            assert_eq!(files.displaced(), None);
            // Kept open, or the next file could get the same inode.
            let _open = fs::File::open(beside(&path, suffix)).expect("a file");
            fs::remove_file(beside(&path, suffix)).expect("deleted");
            assert!(files.displaced().expect("it is gone").reason().contains("deleted"));
            make();
            assert!(files.displaced().expect("it is another").reason().contains("replaced"), "{suffix}");
        }
    }
}
