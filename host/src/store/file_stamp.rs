//! Detects a database whose file stays but whose content is replaced: `cp` of a copy writes into the open file.
//!
//! SQLite would continue with cached old pages and mix them with the new ones. So a number in the header of the file,
//! `user_version`, is increased while the log grows: earlier content has a smaller one.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path, time::Duration};

use parking_lot::Mutex;
use tokio::time::sleep;

use crate::domain::counter::Seq;

const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER: usize = 100;
/// Position of `user_version` in the header.
const STAMP: std::ops::Range<usize> = 60..64;
/// Delay before a second look: a page that is just being written may be read half.
const AGAIN: Duration = Duration::from_millis(50);

pub(crate) struct FileStamp {
    /// Open for as long as the database is: closing it would drop SQLite's locks.
    file: File,
    pub(crate) seen: Mutex<StampState>,
}

#[derive(Default)]
pub(crate) struct StampState {
    /// Stamp in the file, where it arrives with a checkpoint.
    in_file: u32,
    /// Stamp in the database.
    pub(crate) written: u32,
    /// Head of the log when the stamp was written.
    pub(crate) head: Seq,
}

impl FileStamp {
    pub(crate) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, seen: Mutex::default() })
    }

    /// Returns the reason if the file does not contain what SQLite has written to it.
    pub(crate) async fn overwritten(&self) -> Option<String> {
        self.look()?;
        sleep(AGAIN).await;
        self.look()
    }

    fn look(&self) -> Option<String> {
        let mut header = [0; HEADER];
        if self.file.read_exact_at(&mut header, 0).is_err() || !header.starts_with(MAGIC) {
            return Some("it is no longer a database".into());
        }
        let stamp = u32::from_be_bytes(header[STAMP].try_into().expect("four bytes"));
        let mut seen = self.seen.lock();
        if stamp < seen.in_file || stamp > seen.written {
            return Some("it is an older copy, or another database".into());
        }
        seen.in_file = stamp;
        None
    }
}
