//! Watches for a database whose file stays and whose content does not: `cp` of a copy writes into the file that is open.
//!
//! SQLite would go on with what it remembers of the old pages, and mix them with the new ones. So a number in the header
//! of the file, `user_version`, is counted up while the log grows: what was there before has a smaller one.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::time::sleep;

use super::{Result, Store, Tx};

const MAGIC: &[u8] = b"SQLite format 3\0";
const HEADER: usize = 100;
/// Where the header has `user_version`.
const STAMP: std::ops::Range<usize> = 60..64;
/// A page that is just being written may be read half.
const AGAIN: Duration = Duration::from_millis(50);

pub(super) struct Content {
    /// Open for as long as the database is: to close it would drop SQLite's locks.
    file: File,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// In the file, where it comes with a checkpoint.
    in_file: u32,
    /// In the database.
    written: u32,
    /// The log when that was written.
    head: u64,
}

impl Content {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, seen: Mutex::default() })
    }

    /// Returns why the file does not have what SQLite has written to it.
    pub(super) async fn overwritten(&self) -> Option<String> {
        self.look()?;
        sleep(AGAIN).await;
        self.look()
    }

    fn look(&self) -> Option<String> {
        let mut header = [0; HEADER];
        if self.file.read_exact_at(&mut header, 0).is_err() || !header.starts_with(MAGIC) {
            return Some("it is no database any more".into());
        }
        let stamp = u32::from_be_bytes(header[STAMP].try_into().expect("four bytes"));
        let mut seen = self.seen.lock();
        if stamp < seen.in_file || stamp > seen.written {
            return Some("it is an older copy, or another database".into());
        }
        seen.in_file = stamp;
        None
    }

    /// Counts the number up, if the log has grown to `head` since it was last.
    pub(super) async fn follow(&self, store: &Store, head: u64) -> Result<()> {
        let written = {
            let seen = self.seen.lock();
            if seen.head == head && seen.written > 0 {
                return Ok(());
            }
            seen.written
        };
        let mut tx = store.write().await?;
        let stamp = tx.stamp(written.saturating_add(1).max(now())).await?;
        {
            let mut seen = self.seen.lock();
            (seen.written, seen.head) = (stamp, head);
        }
        tx.commit().await
    }
}

/// Seconds since 1970, as SQLite can keep them.
fn now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(seconds).unwrap_or(0) & (u32::MAX >> 1)
}

impl Tx<'_> {
    /// Writes a number into the header of the file, `stamp` or one that is greater than what was there, and returns it.
    async fn stamp(&mut self, stamp: u32) -> Result<u32> {
        let before: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut *self.reader.tx).await?;
        let before = u32::try_from(before).unwrap_or(0);
        let next = stamp.max(before.saturating_add(1));
        // A pragma takes no parameters.
        let statement = format!("PRAGMA user_version = {next}");
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *self.reader.tx).await?;
        Ok(next)
    }
}
