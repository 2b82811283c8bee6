//! What is done for the database beside commands: it empties the write-ahead log, ends reads that stay open, and looks
//! through a file that was found damaged.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::StreamExt;
use sqlx::{ConnectOptions, SqliteConnection};
use tokio::{task::JoinHandle, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{Result, connection::Opener, health::Health, pool::Pool};

const ROUND: Duration = Duration::from_millis(500);
/// Below this size the write-ahead log is left alone.
pub(super) const SMALL_WAL: u64 = 4 << 20;
/// From this size on, it is said that something keeps it from being emptied.
const LARGE_WAL: u64 = 64 << 20;
/// How long writers of this process wait for the log to be cut, and it for readers.
const CUT_PATIENCE: Duration = Duration::from_millis(25);
/// After an attempt that a reader prevented.
const CUT_PAUSE: Duration = Duration::from_secs(1);
/// A damaged file is looked through this often, until it is found whole.
const EXAMINE_EVERY: Duration = Duration::from_secs(5 * 60);
/// Lines of a report on damage that are kept.
const MAX_FINDINGS: u32 = 5;

/// The task; it ends when this is dropped.
pub(super) struct Upkeep {
    stop: CancellationToken,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
}

struct Work {
    opener: Arc<Opener>,
    health: Arc<Health>,
    readers: Arc<Pool>,
    writer: Arc<Pool>,
    connection: Option<SqliteConnection>,
    /// When the log may be cut again.
    cut_at: Instant,
    /// Since when something keeps the log from being emptied, and whether that was said.
    held: Option<(Instant, bool)>,
}

/// Outcome of a checkpoint.
struct Checkpoint {
    /// Whether everything in the log is in the database file as well.
    is_complete: bool,
}

impl Upkeep {
    pub(super) fn start(opener: Arc<Opener>, health: Arc<Health>, readers: Arc<Pool>, writer: Arc<Pool>) -> Self {
        let stop = CancellationToken::new();
        let (cut_at, connection, held) = (Instant::now(), None, None);
        let work = Work { opener, health, readers, writer, connection, cut_at, held };
        let task = tokio::spawn(work.run(stop.clone()));
        Self { stop, task: Some(task).into() }
    }

    /// Stops, and returns once its connection is closed.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        if let Some(task) = task {
            let _ = task.await;
        }
    }
}

impl Drop for Upkeep {
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
                debug!("cannot empty the write-ahead log, trying again: {error}");
                self.connection = None;
            }
        }
        let _ = examining.await;
        if let Some(connection) = self.connection.take() {
            let _ = sqlx::Connection::close(connection).await;
        }
    }

    /// Copies the log into the database file, and cuts it where nobody reads from it.
    async fn empty_wal(&mut self) -> Result<()> {
        let size = self.opener.file.wal_bytes();
        if size <= SMALL_WAL {
            self.no_longer_held(size);
            return Ok(());
        }
        // Neither readers nor writers notice this one.
        let copied = self.checkpoint("PRAGMA wal_checkpoint(PASSIVE)").await?;
        if !copied.is_complete {
            self.note_held(size);
        }
        if self.cut_at > Instant::now() {
            return Ok(());
        }

        // In the queue of writers, so that the lock is free; what they wrote since is little.
        let permit = self.writer.permit(CUT_PATIENCE * 10).await?;
        let cut = self.checkpoint("PRAGMA wal_checkpoint(TRUNCATE)").await;
        drop(permit);
        match cut?.is_complete {
            true => self.no_longer_held(self.opener.file.wal_bytes()),
            false => self.cut_at = Instant::now() + CUT_PAUSE,
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
                "the write-ahead log has grown to {} MiB: something has been reading an old state for {:.0?} and keeps it from \
                 being emptied. It is another process that has the database open, such as sqlite3 or a backup: end it",
                size >> 20,
                since.elapsed()
            );
            *is_said = true;
        }
    }

    fn no_longer_held(&mut self, size: u64) {
        if let Some((_, true)) = self.held.take() {
            info!("the write-ahead log is emptied again: {} KiB", size >> 10);
        }
    }
}

/// Looks through the file when a statement met damage, to tell what there is, or that it is whole.
async fn examine(opener: Arc<Opener>, health: Arc<Health>) {
    loop {
        sleep(ROUND).await;
        let Some(damage) = health.damage() else { continue };
        if damage.examined.is_some_and(|at| at.elapsed() < EXAMINE_EVERY) {
            continue;
        }
        match findings(&opener).await {
            Ok(found) => health.examined(found),
            Err(error) => health.examined(Some(format!("{}; it cannot be looked through: {error}", damage.found))),
        }
    }
}

async fn findings(opener: &Opener) -> Result<Option<String>> {
    opener.file.check()?;
    let mut connection = opener.options.clone().connect().await?;
    let sql = sqlx::AssertSqlSafe(format!("PRAGMA quick_check({MAX_FINDINGS})"));
    let mut lines: Vec<String> = Vec::new();
    let mut rows = sqlx::query_scalar(sql).fetch(&mut connection);
    // It stops where it cannot go on; what it found until then is the better part.
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

/// Says which table it is where SQLite only says on which page its tree begins: `Tree 5 page 7: …`.
async fn name_tables(connection: &mut SqliteConnection, line: &mut String) {
    let root = line.split("Tree ").nth(1).and_then(|rest| rest.split(' ').next()?.parse::<i64>().ok());
    let Some(root) = root else { return };
    let named = sqlx::query_scalar("SELECT tbl_name FROM sqlite_schema WHERE rootpage = ?").bind(root);
    if let Ok(Some(table)) = named.fetch_optional(connection).await {
        let table: String = table;
        line.insert_str(0, &format!("table {table}: "));
    }
}
