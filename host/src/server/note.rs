//! The note `log.json` in the data directory: which log it belongs to, and how far that has come.
//!
//! A database that was brought back from a copy issues seqs again that clients have seen. The copy itself cannot know,
//! so the note does: every seq is in it before a client is sent it. The note and the database are bound to each other
//! by what no copy shares ([`FileId`]), so that a copy of both is found out as well.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::error;

use crate::store::place::FileId;

const FILE: &str = "log.json";
/// Digits of `issued`: always as many, because they are written over in place.
const DIGITS: usize = 20;

/// Names of a log, and the file that it is in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Log {
    /// The same for a database and its copies.
    pub(super) lineage: String,
    pub(super) epoch: String,
    pub(super) database: FileId,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    #[serde(flatten)]
    log: Log,
    /// The file that this was written into.
    note: FileId,
    /// The last seq that a client may have seen. It comes last, and is a text of [`DIGITS`] digits.
    issued: String,
}

/// What a data directory knows of a log.
#[derive(Debug)]
pub(super) enum Known {
    Nothing,
    /// There is a note, and nobody can tell what it said.
    Damaged(String),
    Log {
        log: Log,
        issued: u64,
        is_copy: bool,
    },
}

/// What is to be done with a log that was found in the database.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The log goes on where it was.
    Fits,
    /// Seqs of it may have been issued that it does not know of.
    Renew(String),
    /// It is another database than the one that the data directory belongs to.
    Other,
}

impl Known {
    /// Reads the note.
    ///
    /// # Errors
    /// When there is a note that cannot be read.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let path = dir.join(FILE);
        let (text, own) = match fs::read_to_string(&path).and_then(|text| Ok((text, FileId::of(&fs::metadata(&path)?))))
        {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::Nothing),
            Err(error) if error.kind() == ErrorKind::InvalidData => return Ok(Self::Damaged(error.to_string())),
            Err(error) => return Err(error),
        };
        Ok(match serde_json::from_str::<Record>(&text) {
            Ok(Record { log, note, issued }) => match issued.parse() {
                Ok(issued) => Self::Log { log, issued, is_copy: note != own },
                Err(_) => Self::Damaged(format!("issued: expected {DIGITS} digits, found {issued:?}")),
            },
            Err(error) => Self::Damaged(error.to_string()),
        })
    }

    /// The last seq that was issued, as far as it can be told: `None` when there was no log at all.
    pub(super) fn issued(&self) -> Option<u64> {
        match self {
            Self::Nothing => None,
            Self::Damaged(_) => Some(1),
            Self::Log { issued, .. } => Some(*issued).filter(|issued| *issued > 0),
        }
    }

    /// Judges a log that was found in the database, where it ends at `head`.
    pub(super) fn judge(&self, found: &Log, head: u64) -> Verdict {
        let (log, issued, is_copy) = match self {
            Self::Nothing => return Verdict::Renew("the data directory knows no log".into()),
            Self::Damaged(reason) => return Verdict::Renew(format!("{FILE} is damaged ({reason})")),
            Self::Log { log, issued, is_copy } => (log, *issued, *is_copy),
        };
        if log.lineage != found.lineage {
            return Verdict::Other;
        }
        if log.epoch != found.epoch {
            return Verdict::Renew("the database is of another epoch than the data directory".into());
        }
        if log.database != found.database {
            return Verdict::Renew("the database is a copy, or was moved from elsewhere".into());
        }
        if is_copy {
            return Verdict::Renew("the data directory is a copy, or was moved from elsewhere".into());
        }
        if head < issued {
            return Verdict::Renew(format!("the log ends at {head} and was at {issued} before"));
        }
        Verdict::Fits
    }
}

/// The note of the log that is being served.
pub(super) struct Note {
    path: PathBuf,
    log: Log,
    open: Mutex<Open>,
    /// Held while a new file is written, which `open` must not be: who issues a seq does not wait for the disk.
    renewing: Mutex<()>,
}

struct Open {
    issued: u64,
    file: File,
    /// Where the digits are.
    at: u64,
    /// `issued` when a new file was last begun.
    renewed: u64,
    has_failed: bool,
}

impl Note {
    /// Writes the note of a log that is about to be served.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(super) fn begin(dir: &Path, log: Log, head: u64) -> io::Result<Self> {
        let path = dir.join(FILE);
        let (file, at) = write_aside(&path, &log, head)?;
        put_in_place(&path)?;
        File::open(dir)?.sync_all()?;
        let open = Open { issued: head, file, at, renewed: head, has_failed: false };
        Ok(Self { path, log, open: open.into(), renewing: Mutex::default() })
    }

    /// Notes that `seq` is about to be seen: at once, but not on the disk yet, so that this costs next to nothing.
    ///
    /// It outlives the process, however that ends. A power cut takes what came after the last [`renew`](Self::renew).
    pub(super) fn issue(&self, seq: u64) {
        let mut open = self.open.lock();
        if seq <= open.issued {
            return;
        }
        open.issued = seq;
        let written = open.file.write_all_at(digits(seq).as_bytes(), open.at);
        open.take_note_of(written, &self.path);
    }

    /// Writes the note as a new file, on the disk, if there is something new: a copy of it that was made before, and is
    /// put back into the same file, is not taken for this one then.
    pub(super) fn renew(&self) {
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
        // The old file would do as well: it is this much older.
        let _ = self.path.parent().map(|dir| File::open(dir).and_then(|dir| dir.sync_all()));
    }
}

impl Open {
    /// What fails is tried again with the next seq, but told once.
    fn take_note_of(&mut self, written: io::Result<()>, path: &Path) {
        let has_failed = written.is_err();
        if let Err(error) = written
            && !self.has_failed
        {
            let path = path.display();
            error!(%error, "cannot note how far the log is in {path}: a copy of the database may not be recognised");
        }
        self.has_failed = has_failed;
    }
}

/// Writes a new file aside, on the disk; returns it, and where its digits are.
fn write_aside(path: &Path, log: &Log, issued: u64) -> io::Result<(File, u64)> {
    let aside = aside(path);
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&aside)?;
    let record = Record { log: log.clone(), note: FileId::of(&file.metadata()?), issued: digits(issued) };
    let text = serde_json::to_string(&record)?;
    let at = text.rfind(&record.issued).expect("it was just written") as u64;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok((file, at))
}

/// A crash leaves the old file or the new one.
fn put_in_place(path: &Path) -> io::Result<()> {
    fs::rename(aside(path), path)
}

fn aside(path: &Path) -> PathBuf {
    path.with_extension("partial")
}

fn digits(seq: u64) -> String {
    format!("{seq:0DIGITS$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(dir: &Path, lineage: &str, epoch: &str, file: &str) -> Log {
        let path = dir.join(file);
        let file = OpenOptions::new().create(true).append(true).open(path).expect("a file");
        let database = FileId::of(&file.metadata().expect("its metadata"));
        Log { lineage: lineage.into(), epoch: epoch.into(), database }
    }

    fn renews(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Renew(_))
    }

    #[test]
    fn a_log_goes_on_where_it_was_and_one_that_ends_before_that_does_not() {
        let dir = tempfile::tempdir().expect("a folder");
        let served = log(dir.path(), "a", "1", "db");
        let known = || Known::read(dir.path()).expect("readable");
        assert!(renews(&known().judge(&served, 0)), "nothing is known");
        let note = Note::begin(dir.path(), served.clone(), 7).expect("written");
        for (issued, renew) in [(8, false), (9, true), (u64::MAX, false)] {
            note.issue(issued);
            if renew {
                note.renew();
            }
            assert_eq!(known().issued(), Some(issued));
            assert_eq!(known().judge(&served, issued), Verdict::Fits);
            assert!(renews(&known().judge(&served, issued - 1)), "{issued}");
        }
    }

    #[test]
    fn another_database_a_copy_of_it_and_another_epoch_are_told_apart() {
        let dir = tempfile::tempdir().expect("a folder");
        Note::begin(dir.path(), log(dir.path(), "a", "1", "db"), 7).expect("written");
        let known = Known::read(dir.path()).expect("readable");
        assert_eq!(known.judge(&log(dir.path(), "a", "1", "db"), 7), Verdict::Fits);
        assert_eq!(known.judge(&log(dir.path(), "b", "1", "db"), 7), Verdict::Other);
        assert!(renews(&known.judge(&log(dir.path(), "a", "2", "db"), 7)));
        assert!(renews(&known.judge(&log(dir.path(), "a", "1", "copy"), 7)));
    }

    #[test]
    fn a_note_that_was_put_back_from_a_copy_is_found_out_also_in_the_same_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let served = log(dir.path(), "a", "1", "db");
        let note = Note::begin(dir.path(), served.clone(), 7).expect("written");
        let (path, backup) = (dir.path().join(FILE), dir.path().join("backup"));
        fs::copy(&path, &backup).expect("copied");
        note.issue(9);
        note.renew();
        assert_eq!(Known::read(dir.path()).expect("readable").judge(&served, 9), Verdict::Fits);
        // `cp` writes into the file that is there.
        let copied = fs::read(&backup).expect("read");
        OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(&path)
            .and_then(|mut file| file.write_all(&copied))
            .expect("cp");
        assert!(renews(&Known::read(dir.path()).expect("readable").judge(&served, 7)));
    }

    #[test]
    fn a_damaged_note_is_one_that_knew_something() {
        let dir = tempfile::tempdir().expect("a folder");
        for text in [&b""[..], b"{}", b"\xff\xfe", b"{\"lineage\": 1}"] {
            fs::write(dir.path().join(FILE), text).expect("written");
            let known = Known::read(dir.path()).expect("readable");
            assert!(matches!(known, Known::Damaged(_)) && known.issued().is_some(), "{known:?}");
            assert!(renews(&known.judge(&log(dir.path(), "a", "1", "db"), 7)));
        }
    }
}
