//! The database file itself: which one was opened, and how much there is of it.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::{Error, Outage, Result, custody::Place};

/// The file that was opened.
pub(super) struct DatabaseFile {
    path: PathBuf,
    identity: Identity,
    /// It and those beside it, where something is written.
    place: Place,
}

/// Device and inode.
type Identity = (u64, u64);

impl DatabaseFile {
    /// Notes which file there is at `path`.
    pub(super) fn note(path: PathBuf, place: Place) -> Result<Self> {
        let identity =
            identity(&path).map_err(|source| Error::Open { path: path.clone(), source: sqlx::Error::Io(source) })?;
        Ok(Self { path, identity, place })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file at the path is still the one that was opened.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when it was deleted or another one is in its place.
    pub(super) fn check(&self) -> Result<()> {
        self.place.check()?;
        match identity(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(Outage::Replaced.error("another file is at its path")),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Outage::Replaced.error("no file is at its path")),
            Err(error) => Err(Error::Unavailable { outage: Outage::Io, source: sqlx::Error::Io(error) }),
        }
    }

    /// Bytes of the write-ahead log.
    pub(super) fn wal_bytes(&self) -> u64 {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        fs::metadata(path).map_or(0, |found| found.len())
    }

    /// The better word for an I/O error, which SQLite does not tell apart: a file beside is tried.
    pub(super) fn look_into(&self, outage: Outage) -> Outage {
        if !matches!(outage, Outage::Io | Outage::CannotOpen) {
            return outage;
        }
        match try_to_write_beside(&self.path).map_err(|error| error.kind()) {
            Err(ErrorKind::ReadOnlyFilesystem) => Outage::ReadOnly,
            Err(ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => Outage::DiskFull,
            _ => outage,
        }
    }
}

fn try_to_write_beside(path: &Path) -> io::Result<()> {
    let mut beside = path.to_path_buf().into_os_string();
    beside.push(format!(".try-{}", std::process::id()));
    let written = fs::write(&beside, [0; 4096]);
    let removed = fs::remove_file(&beside);
    written.and(removed)
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}
