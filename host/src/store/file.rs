//! Database file: its identity when it was opened, and the size of its write-ahead log.

use std::{
    fs,
    io::{self, ErrorKind},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use crate::store::{
    error::{Error, Outage, Result},
    open_files::OpenPlace,
};

/// File that was opened.
pub(crate) struct DatabaseFile {
    path: PathBuf,
    identity: FileIdentity,
    /// The file and those beside it, when the database is writable.
    place: OpenPlace,
}

/// Device and inode.
type FileIdentity = (u64, u64);

impl DatabaseFile {
    /// Records the identity of the file at `path`.
    pub(crate) fn note(path: PathBuf, place: OpenPlace) -> Result<Self> {
        let identity =
            identity(&path).map_err(|source| Error::Open { path: path.clone(), source: sqlx::Error::Io(source) })?;
        Ok(Self { path, identity, place })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that the file at the path is still the one that was opened.
    ///
    /// # Errors
    /// [`Outage::Replaced`] when it was deleted or replaced.
    pub(crate) fn check(&self) -> Result<()> {
        self.place.check()?;
        match identity(&self.path) {
            Ok(found) if found == self.identity => Ok(()),
            Ok(_) => Err(Outage::Replaced.error("another file is at its path")),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Outage::Replaced.error("no file is at its path")),
            Err(error) => Err(Error::Unavailable { outage: Outage::Io, source: sqlx::Error::Io(error) }),
        }
    }

    /// Size of the write-ahead log in bytes.
    pub(crate) fn wal_bytes(&self) -> u64 {
        let mut path = self.path.clone().into_os_string();
        path.push("-wal");
        fs::metadata(path).map_or(0, |found| found.len())
    }

    /// Determines the precise outage behind an I/O error, which SQLite does not distinguish, by writing to a file
    /// beside the database.
    pub(crate) fn look_into(&self, outage: Outage) -> Outage {
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

fn identity(path: &Path) -> io::Result<FileIdentity> {
    let found = fs::metadata(path)?;
    Ok((found.dev(), found.ino()))
}
