//! Maintenance task of the database: empties the write-ahead log, ends reads that stay open, keeps the trigram index, and
//! examines a file that was found damaged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::store::{connection::Opener, error::Result, health::DatabaseHealth, pool::ConnectionPool, trigram};

const ROUND: Duration = Duration::from_millis(500);
/// Size up to which the write-ahead log is left alone.
pub(crate) const SMALL_WAL: u64 = 4 << 20;
/// Size from which a warning is logged that something prevents emptying it.
const LARGE_WAL: u64 = 64 << 20;
/// Time that a truncation waits for readers, and so delays writers of this process.
const CUT_PATIENCE: Duration = Duration::from_millis(25);
/// Pause after an attempt that a reader prevented.
const CUT_PAUSE: Duration = Duration::from_secs(1);
/// Interval between examinations of a damaged file, until it is found intact.
const EXAMINE_EVERY: Duration = Duration::from_secs(5 * 60);
/// Number of lines kept of a damage report.
const MAX_FINDINGS: u32 = 5;

/// Handle of the task; the task ends when this is dropped.
pub(crate) struct Maintenance {
    stop: CancellationToken,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

struct Work {
    opener: Arc<Opener>,
    health: Arc<DatabaseHealth>,
    readers: Arc<ConnectionPool>,
    writer: Arc<ConnectionPool>,
    connection: Option<SqliteConnection>,
    /// Earliest time of the next truncation.
    cut_at: Instant,
    /// Start of the time during which something prevents emptying the log; the flag is set once that was logged.
    held: Option<(Instant, bool)>,
}

/// Outcome of a checkpoint.
struct Checkpoint {
    /// True if everything in the write-ahead log is in the database file as well.
    is_complete: bool,
}

impl Maintenance {
    pub(crate) fn start(
        opener: Arc<Opener>,
        health: Arc<DatabaseHealth>,
        readers: Arc<ConnectionPool>,
        writer: Arc<ConnectionPool>,
    ) -> Self {
        let stop = CancellationToken::new();
        let (cut_at, connection, held) = (Instant::now(), None, None);
        let keeping = stop.clone().run_until_cancelled_owned(trigram::keep(Arc::clone(&readers), Arc::clone(&writer)));
        let work = Work { opener, health, readers, writer, connection, cut_at, held };
        let work = work.run(stop.clone());
        let task = tokio::spawn(async {
            tokio::join!(work, keeping);
        });
        Self { stop, task: Some(task).into() }
    }

    /// Stops the task, and returns once its connection is closed.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

impl Drop for Maintenance {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Work {
    async fn run(mut self, stop: CancellationToken) {
        let examining =
            stop.clone().run_until_cancelled_owned(examine(Arc::clone(&self.opener), Arc::clone(&self.health)));
        let examining = tokio::spawn(examining);
        while stop.run_until_cancelled(sleep(ROUND)).await.is_some() {
            self.readers.end_overdue().await;
            if let Err(error) = self.empty_wal().await {
                debug!("cannot checkpoint the write-ahead log, retrying: {error}");
                self.connection = None;
            }
        }
        let _ = examining.await;
        if let Some(connection) = self.connection.take() {
            let _ = sqlx::Connection::close(connection).await;
        }
    }

    /// Copies the write-ahead log into the database file, and truncates it if nobody reads from it.
    async fn empty_wal(&mut self) -> Result<()> {
        let size = self.opener.file.wal_bytes();
        if size <= SMALL_WAL {
            self.no_longer_held(size);
            return Ok(());
        }
        // A passive checkpoint blocks neither readers nor writers.
        let copied = self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").await?;
        if !copied.is_complete {
            self.note_held(size);
        }
        if self.cut_at > Instant::now() {
            return Ok(());
        }

        // Waits in the queue of writers, so that the lock is free; little was written since the passive checkpoint.
        let permit = self.writer.permit(CUT_PATIENCE * 10).await?;
        let cut = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)").await;
        drop(permit);
        if cut?.is_complete {
            self.no_longer_held(self.opener.file.wal_bytes());
        } else {
            self.cut_at = Instant::now() + CUT_PAUSE;
        }
        Ok(())
    }

    async fn checkpoint(&mut self, pragma: &'static str) -> Result<Checkpoint> {
        if self.connection.is_none() {
            self.opener.file.check()?;
            let options = self.opener.options.clone().busy_timeout(CUT_PATIENCE);
            self.connection = Some(options.connect().await?);
            self.opener.file.check()?;
        }
        let connection = self.connection.as_mut().expect("it was just opened");
        let (busy, frames, copied): (i64, i64, i64) = sqlx::query_as(pragma).fetch_one(connection).await?;
        Ok(Checkpoint { is_complete: busy == 0 && frames == copied })
    }

    fn note_held(&mut self, size: u64) {
        let (since, is_said) = self.held.get_or_insert((Instant::now(), false));
        if size > LARGE_WAL && !*is_said {
            warn!(
                "the write-ahead log has grown to {} MiB: a reader has held an old snapshot for {:.0?} and blocks \
                 checkpoints. It is another process that has the database open, such as sqlite3 or a backup: stop it",
                size >> 20,
                since.elapsed()
            );
            *is_said = true;
        }
    }

    fn no_longer_held(&mut self, size: u64) {
        if let Some((_, true)) = self.held.take() {
            info!("write-ahead log truncated again: {} KiB", size >> 10);
        }
    }
}

/// Examines the whole file after a statement found damage, and reports the damage or that the file is intact.
async fn examine(opener: Arc<Opener>, health: Arc<DatabaseHealth>) {
    loop {
        sleep(ROUND).await;
        let Some(damage) = health.damage() else { continue };
        if damage.examined.is_some_and(|at| at.elapsed() < EXAMINE_EVERY) {
            continue;
        }
        match findings(&opener).await {
            Ok(found) => health.examined(found),
            Err(error) => health.examined(Some(format!("{}; integrity check failed: {error}", damage.found))),
        }
    }
}

async fn findings(opener: &Opener) -> Result<Option<String>> {
    opener.file.check()?;
    let mut connection = opener.options.clone().connect().await?;
    let sql = sqlx::AssertSqlSafe(format!("PRAGMA quick_check({MAX_FINDINGS})"));
    let mut lines: Vec<String> = Vec::new();
    let mut rows = sqlx::query_scalar(sql).fetch(&mut connection);
    // SQLite stops where it cannot continue; the findings until then are still useful.
    let stopped = loop {
        match rows.next().await {
            Some(Ok(line)) => lines.push(line),
            Some(Err(error)) => break Some(error),
            None => break None,
        }
    };
    drop(rows);
    if let Some(error) = stopped {
        lines.retain(|line| line != "ok");
        if lines.is_empty() {
            return Err(error.into());
        }
    }
    for line in &mut lines {
        name_tables(&mut connection, line).await;
    }
    let _ = sqlx::Connection::close(connection).await;
    Ok(Some(lines.join("; ")).filter(|found| found != "ok"))
}

/// Adds the name of the table to a line in which SQLite names only the root page of its tree: `Tree 5 page 7: …`.
async fn name_tables(connection: &mut SqliteConnection, line: &mut String) {
    let root = line.split("Tree ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<i64>().ok());
    let Some(root) = root else { return };
    let named = sqlx::query_scalar("SELECT tbl_name FROM sqlite_schema WHERE rootpage = $1").bind(root);
    if let Ok(Some(table)) = named.fetch_optional(connection).await {
        let table: String = table;
        line.insert_str(0, &format!("table {table}: "));
    }
}
