//! One connection to SQLite: how it is opened, and what may stop a statement of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{ConnectOptions, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{Result, file::DatabaseFile};

/// Virtual machine steps between two looks at the deadline: about a millisecond.
const STEPS: i32 = 20_000;

/// Opens connections to one database, always with the same settings.
pub(super) struct Opener {
    pub(super) options: SqliteConnectOptions,
    pub(super) file: DatabaseFile,
}

/// A connection of our own. When in doubt it is dropped, which rolls back, and another one is opened.
pub(super) struct Connection {
    pub(super) sqlite: SqliteConnection,
    pub(super) watch: Arc<Watch>,
}

/// What the callbacks of a connection share with its user.
pub(super) struct Watch {
    base: Instant,
    /// Milliseconds after `base` at which a running statement is interrupted.
    deadline: AtomicU64,
    has_rolled_back: AtomicBool,
}

impl Opener {
    /// # Errors
    /// Also when the file is not the one that was opened first: nothing may be read from or written to another one.
    pub(super) async fn open(&self) -> Result<Connection> {
        self.file.check()?;
        let opened = self.options.connect().await;
        self.file.check()?;
        Connection::new(opened?).await
    }
}

impl Connection {
    pub(super) async fn new(mut sqlite: SqliteConnection) -> Result<Self> {
        let watch = Arc::new(Watch {
            base: Instant::now(),
            deadline: AtomicU64::new(u64::MAX),
            has_rolled_back: AtomicBool::new(false),
        });
        let (timer, undone) = (Arc::clone(&watch), Arc::clone(&watch));

        let mut handle = sqlite.lock_handle().await?;
        handle.set_progress_handler(STEPS, move || timer.elapsed() < timer.deadline.load(Ordering::Relaxed));
        // SQLite rolls back by itself when the disk is full, for instance. What follows would run alone then, and last.
        handle.set_rollback_hook(move || undone.has_rolled_back.store(true, Ordering::Release));
        drop(handle);
        Ok(Self { sqlite, watch })
    }
}

impl Watch {
    /// Lets statements run for `limit` from now on, and forgets earlier rollbacks.
    pub(super) fn begin(&self, limit: Option<Duration>) {
        let deadline = limit.map_or(u64::MAX, |limit| self.elapsed() + millis(limit));
        self.deadline.store(deadline, Ordering::Relaxed);
        self.has_rolled_back.store(false, Ordering::Release);
    }

    pub(super) fn has_rolled_back(&self) -> bool {
        self.has_rolled_back.load(Ordering::Acquire)
    }

    fn elapsed(&self) -> u64 {
        millis(self.base.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}
