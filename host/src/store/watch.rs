//! Content watch: increases the stamp in the database file while the log grows, and detects content that was replaced.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::{
    domain::counter::Seq,
    store::{
        error::{Error, Result},
        file_guard::FileGuard,
        file_stamp::FileStamp,
        handle::{Store, Tx},
        log_name,
    },
};

impl FileStamp {
    /// Increases the stamp if the log has grown to `head` since the last time.
    pub(crate) async fn follow(&self, store: &Store, head: Seq) -> Result<()> {
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

/// Seconds since 1970, in the range that SQLite can store.
fn now() -> u32 {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    u32::try_from(seconds).unwrap_or(0) & (u32::MAX >> 1)
}

impl Tx<'_> {
    /// Writes a number into the header of the file: `stamp`, or one greater than the present number if that is larger.
    /// Returns it.
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

impl FileGuard {
    /// Starts to watch the content of the file as well, for a process that serves it.
    pub(crate) async fn watch_content(&self, store: &Store) -> Result<()> {
        let opened = FileStamp::of(&self.path);
        let content =
            opened.map_err(|error| Error::Open { path: self.path.clone(), source: sqlx::Error::Io(error) })?;
        let content = self.content.get_or_init(|| content);
        let head = store.known_head();
        content.follow(store, head).await?;
        // Checkpoint the stamp into the file, so that every earlier copy has an older one.
        if let Some(keeper) = self.keeper.lock().await.as_mut() {
            sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").execute(keeper).await?;
        }
        Ok(())
    }

    /// Same as [`check`](Self::check); also checks that the log is the one that was opened and did not get shorter,
    /// because a database can also be replaced by writing into its file.
    pub(crate) async fn check_log(&self, store: &Store) -> Result<()> {
        self.check()?;
        let (name, head, path) = (&store.name, store.known_head(), self.path.display());
        if let Some(content) = self.content.get()
            && let Some(reason) = content.overwritten().await
        {
            self.place.overwritten(format!("{path} was overwritten ({reason})"));
        }
        let (found, end) = match self.keeper.lock().await.as_mut() {
            Some(keeper) => log_name::look(keeper).await?,
            None => return self.check(),
        };
        if found != *name {
            self.place.overwritten(format!("{path} was overwritten (it has another log)"));
        } else if end < head {
            self.place.overwritten(format!("{path} was overwritten (the log was at {head} and is at {end})"));
        }
        self.check()?;
        match self.content.get() {
            Some(content) => content.follow(store, head).await,
            None => Ok(()),
        }
    }
}
