//! Epoch note `log.json` in the data directory: the log that it belongs to, and its newest issued seq.
//!
//! A database that was restored from a copy reissues seqs that clients have seen. The copy itself cannot know, but the
//! note does: it contains every seq before a client is sent it. Note and database are bound to each other by an
//! identity that no copy shares ([`FileId`]), so that a copy of both is detected as well.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::{
    domain::{counter::Seq, id::Epoch},
    store::open_files::FileId,
};

const FILE: &str = "log.json";
/// Number of digits of `issued`: constant, because they are overwritten in place.
const DIGITS: usize = 20;

/// Names of a log, and the identity of its database file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LogIdentity {
    /// The same for a database and its copies.
    pub(crate) lineage: String,
    pub(crate) epoch: Epoch,
    pub(crate) database: FileId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct NoteFile {
    #[serde(flatten)]
    log: LogIdentity,
    /// Identity of the file that this was written into.
    note: FileId,
    /// Last seq that a client may have seen. It comes last, as a text of [`DIGITS`] digits.
    issued: String,
}

/// Log that a data directory knows.
#[derive(Debug)]
pub(crate) enum KnownLog {
    Nothing,
    /// A note exists, but is unreadable.
    Damaged(String),
    Log {
        log: LogIdentity,
        issued: Seq,
        is_copy: bool,
    },
}

/// Verdict on the log that was found in the database.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum EpochVerdict {
    /// The log continues where it was.
    Fits,
    /// Seqs may have been issued that the log no longer contains: it needs a new epoch.
    Renew(String),
    /// The data directory belongs to another database.
    Other,
}

impl KnownLog {
    /// Reads the note.
    ///
    /// # Errors
    /// When the note exists and cannot be read.
    pub(crate) fn read(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let (text, own) = match fs::read_to_string(&path).and_then(|text| Ok((text, FileId::of(&fs::metadata(&path)?))))
        {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(Self::Damaged(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(match serde_json::from_str::<NoteFile>(&text) {
            Ok(NoteFile { log, note, issued }) => match issued.parse() {
                Ok(issued) => Self::Log { log, issued, is_copy: note != own },
                Err(_) => Self::Damaged(format!("issued: expected {DIGITS} digits, found {issued:?}")),
            },
            Err(error) => Self::Damaged(error.to_string()),
        })
    }

    /// Last seq that was issued, as far as known; `None` when there was no log at all.
    pub(crate) fn issued(&self) -> Option<Seq> {
        match self {
            Self::Nothing => None,
            Self::Damaged(_) => Some(Seq(1)),
            Self::Log { issued, .. } => Some(*issued).filter(|issued| *issued > Seq::START),
        }
    }

    /// Judges the log that was found in the database, with its newest seq `head`.
    pub(crate) fn judge(&self, found: &LogIdentity, head: Seq) -> EpochVerdict {
        let (log, issued, is_copy) = match self {
            Self::Nothing => return EpochVerdict::Renew("the data directory has no record of a log".into()),
            Self::Damaged(reason) => return EpochVerdict::Renew(format!("{FILE} is damaged ({reason})")),
            Self::Log { log, issued, is_copy } => (log, *issued, *is_copy),
        };
        if log.lineage != found.lineage {
            return EpochVerdict::Other;
        }
        if log.epoch != found.epoch {
            return EpochVerdict::Renew("the database and the data directory have different epochs".into());
        }
        if log.database != found.database {
            return EpochVerdict::Renew("the database is a copy, or was moved from elsewhere".into());
        }
        if is_copy {
            return EpochVerdict::Renew("the data directory is a copy, or was moved from elsewhere".into());
        }
        if head < issued {
            return EpochVerdict::Renew(format!(
                "the log ends at {head}, but events up to {issued} were issued before"
            ));
        }
        EpochVerdict::Fits
    }
}

/// Note of the log that is being served.
pub(crate) struct EpochNote {
    path: PathBuf,
    log: LogIdentity,
    open: Mutex<Open>,
    /// Held while a new file is written. `open` is not held then, because a task that issues a seq must not wait for
    /// the disk.
    renewing: Mutex<()>,
}

struct Open {
    issued: Seq,
    file: File,
    /// Offset of the digits.
    at: u64,
    /// `issued` when the newest file was begun.
    renewed: Seq,
    has_failed: bool,
}

impl EpochNote {
    /// Writes the note of a log that is about to be served.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn begin(dir: &Path, log: LogIdentity, head: Seq) -> io::Result<Self> {
        let path = dir.join(FILE);
        let (file, at) = write_aside(&path, &log, head)?;
        put_in_place(&path)?;
        File::open(dir)?.sync_all()?;
        let open = Open { issued: head, file, at, renewed: head, has_failed: false };
        Ok(Self { path, log, open: open.into(), renewing: Mutex::default() })
    }

    /// Records that `seq` is about to be sent to a client. It is not synced to disk, so it costs next to nothing.
    ///
    /// It survives the process, however that ends. A power cut loses what came after the last [`renew`](Self::renew).
    pub(crate) fn issue(&self, seq: Seq) {
        let mut open = self.open.lock();
        if seq <= open.issued {
            return;
        }
        open.issued = seq;
        let written = open.file.write_all_at(digits(seq).as_bytes(), open.at);
        open.take_note_of(written, &self.path);
    }

    /// Writes the note as a new, synced file if it has changed. An earlier copy that is put back into the same file is
    /// then recognised as a copy.
    pub(crate) fn renew(&self) {
        let _renewing = self.renewing.lock();
        let issued = {
            let open = self.open.lock();
            if open.renewed == open.issued && !open.has_failed {
                return;
            }
            open.issued
        };
        let written = write_aside(&self.path, &self.log, issued);

        let mut open = self.open.lock();
        let renewed = written.and_then(|(file, at)| {
            file.write_all_at(digits(open.issued).as_bytes(), at)?;
            put_in_place(&self.path)?;
            (open.file, open.at, open.renewed) = (file, at, issued);
            Ok(())
        });
        open.take_note_of(renewed, &self.path);
        drop(open);
        // A failure is harmless: after a power cut the old file is found, which is only slightly older.
        let _ = self.path.parent().map(|dir| File::open(dir).and_then(|dir| dir.sync_all()));
    }
}

impl Open {
    /// A failure is retried with the next seq, but logged once.
    fn take_note_of(&mut self, written: io::Result<()>, path: &Path) {
        let has_failed = written.is_err();
        if let Err(error) = written
            && !self.has_failed
        {
            let path = path.display();
            error!(%error, "cannot record the log position in {path}: a copy of the database may go undetected");
        }
        self.has_failed = has_failed;
    }
}

/// Writes and syncs a new file under a temporary name; returns it, and the offset of its digits.
fn write_aside(path: &Path, log: &LogIdentity, issued: Seq) -> io::Result<(File, u64)> {
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let record = NoteFile { log: log.clone(), note: FileId::of(&file.metadata()?), issued: digits(issued) };
    let text = serde_json::to_string(&record)?;
    let at = text.rfind(&record.issued).expect("it was just written") as u64;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok((file, at))
}

/// Renames the new file into place: a crash leaves the old file or the new one.
fn put_in_place(path: &Path) -> io::Result<()> {
    fs::rename(aside(path), path)
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

fn digits(seq: Seq) -> String {
    format!("{seq:0DIGITS$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, lineage: &str, epoch: &str, file: &str) -> LogIdentity {
        let path = dir.join(file);
        let file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        let database = FileId::of(&file.metadata().expect("its metadata"));
        LogIdentity { lineage: lineage.into(), epoch: epoch.into(), database }
    }

    fn renews(verdict: &EpochVerdict) -> bool {
        matches!(verdict, EpochVerdict::Renew(_))
    }

    #[test]
    fn a_log_that_ends_before_the_noted_position_gets_a_new_epoch() {
        let dir = tempfile::tempdir().expect("a folder");
        let served = log(dir.path(), "a", "1", "db");
        let known = || KnownLog::read(dir.path()).expect("readable");
        assert!(renews(&known().judge(&served, Seq(0))), "nothing is known");
        let note = EpochNote::begin(dir.path(), served.clone(), Seq(7)).expect("written");
        for (issued, renew) in [(8, false), (9, true), (u64::MAX, false)] {
            note.issue(Seq(issued));
            if renew {
                note.renew();
            }
            assert_eq!(known().issued(), Some(Seq(issued)));
            assert_eq!(known().judge(&served, Seq(issued)), EpochVerdict::Fits);
            assert!(renews(&known().judge(&served, Seq(issued - 1))), "{issued}");
        }
    }

    #[test]
    fn a_copy_another_database_and_another_epoch_are_distinguished() {
        let dir = tempfile::tempdir().expect("a folder");
        EpochNote::begin(dir.path(), log(dir.path(), "a", "1", "db"), Seq(7)).expect("written");
        let known = KnownLog::read(dir.path()).expect("readable");
        assert_eq!(known.judge(&log(dir.path(), "a", "1", "db"), Seq(7)), EpochVerdict::Fits);
        assert_eq!(known.judge(&log(dir.path(), "b", "1", "db"), Seq(7)), EpochVerdict::Other);
        assert!(renews(&known.judge(&log(dir.path(), "a", "2", "db"), Seq(7))));
        assert!(renews(&known.judge(&log(dir.path(), "a", "1", "copy"), Seq(7))));
    }

    #[test]
    fn a_restored_note_is_detected_even_in_the_same_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let served = log(dir.path(), "a", "1", "db");
        let note = EpochNote::begin(dir.path(), served.clone(), Seq(7)).expect("written");
        let (path, backup) = (dir.path().join(FILE), dir.path().join("backup"));
        fs::copy(&path, &backup).expect("copied");
        note.issue(Seq(9));
        note.renew();
        assert_eq!(KnownLog::read(dir.path()).expect("readable").judge(&served, Seq(9)), EpochVerdict::Fits);
        // `cp` writes into the existing file.
        let copied = fs::read(&backup).expect("read");
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&copied))
            .expect("cp");
        assert!(renews(&KnownLog::read(dir.path()).expect("readable").judge(&served, Seq(7))));
    }

    #[test]
    fn a_damaged_note_renews_the_epoch() {
        let dir = tempfile::tempdir().expect("a folder");
        for text in [&b""[..], b"{}", b"\xff\xfe", b"{\"lineage\": 1}"] {
            fs::write(dir.path().join(FILE), text).expect("written");
            let known = KnownLog::read(dir.path()).expect("readable");
            assert!(matches!(known, KnownLog::Damaged(_)) && known.issued().is_some(), "{known:?}");
            assert!(renews(&known.judge(&log(dir.path(), "a", "1", "db"), Seq(7))));
        }
    }
}
