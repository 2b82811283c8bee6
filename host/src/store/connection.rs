//! Connections to SQLite: how one is opened, and the deadline that interrupts its statements.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use sqlx::{
    ConnectOptions, Either, Execute, Executor, Sqlite, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteQueryResult, SqliteRow},
};

use crate::store::{error::Result, file::DatabaseFile};

/// Virtual machine steps between two checks of the deadline: about a millisecond.
const STEPS: i32 = 20_000;

/// Opens connections to one database, always with the same settings.
pub(crate) struct Opener {
    pub(crate) options: SqliteConnectOptions,
    pub(crate) file: DatabaseFile,
}

/// Connection of a pool. When in doubt it is dropped, which rolls back, and another one is opened.
pub(crate) struct PooledConnection {
    pub(crate) sqlite: SqliteConnection,
    pub(crate) watch: Arc<Deadline>,
}

/// State that the callbacks of a connection share with its user.
pub(crate) struct Deadline {
    base: Instant,
    /// Milliseconds after `base` at which a running statement is interrupted.
    deadline: AtomicU64,
    has_rolled_back: AtomicBool,
}

impl Opener {
    /// Opens a connection.
    ///
    /// # Errors
    /// Also when the file is not the one that was opened first: another file must not be read or written.
    pub(crate) async fn open(&self) -> Result<PooledConnection> {
        self.file.check()?;
        let opened = self.options.connect().await;
        self.file.check()?;
        PooledConnection::new(opened?).await
    }
}

impl PooledConnection {
    pub(crate) async fn new(mut sqlite: SqliteConnection) -> Result<Self> {
        let watch = Arc::new(Deadline {
            base: Instant::now(),
            deadline: AtomicU64::new(u64::MAX),
            has_rolled_back: AtomicBool::new(false),
        });
        let (timer, undone) = (Arc::clone(&watch), Arc::clone(&watch));

        let mut handle = sqlite.lock_handle().await?;
        handle.set_progress_handler(STEPS, move || timer.elapsed() < timer.deadline.load(Ordering::Relaxed));
        // SQLite rolls back by itself, for example when the disk is full. Later statements would then run outside the
        // transaction and be committed one by one.
        handle.set_rollback_hook(move || undone.has_rolled_back.store(true, Ordering::Release));
        drop(handle);
        Ok(Self { sqlite, watch })
    }

    /// Runs a statement without parameters.
    pub(crate) async fn execute(&mut self, sql: &'static str) -> std::result::Result<(), sqlx::Error> {
        self.items(sqlx::query(sql), true).await.into_iter().try_for_each(|item| item.map(drop))
    }

    /// Runs statements, and returns their rows and results.
    ///
    /// The result of a statement is its last item. So if it `is_single`, the end of the stream is not awaited, for which
    /// the caller's task would be woken a second time.
    pub(crate) async fn items<'q>(
        &mut self,
        query: impl Execute<'q, Sqlite> + 'q,
        is_single: bool,
    ) -> Vec<std::result::Result<Either<SqliteQueryResult, SqliteRow>, sqlx::Error>> {
        let mut items = Vec::new();
        let mut stream = self.sqlite.fetch_many(query);
        while let Some(item) = stream.next().await {
            let is_result = matches!(item, Ok(Either::Left(_)));
            items.push(item);
            if is_result && is_single {
                break;
            }
        }
        drop(stream);
        items
    }
}

impl Deadline {
    /// Sets the deadline of statements to `limit` from now on, and clears earlier rollbacks.
    pub(crate) fn begin(&self, limit: Option<Duration>) {
        let deadline = limit.map_or(u64::MAX, |limit| self.elapsed() + millis(limit));
        self.deadline.store(deadline, Ordering::Relaxed);
        self.has_rolled_back.store(false, Ordering::Release);
    }

    pub(crate) fn has_rolled_back(&self) -> bool {
        self.has_rolled_back.load(Ordering::Acquire)
    }

    fn elapsed(&self) -> u64 {
        millis(self.base.elapsed())
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX - 1)
}
