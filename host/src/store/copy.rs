//! Copies of a database: made while others write, verified, and given an epoch of their own.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions, Connection, Row, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};
use tokio::time::{Instant, sleep};

use crate::{
    domain::{counter::Seq, id::Epoch},
    store::{
        affected::AffectedRows,
        error::{Error, Result},
        handle::Store,
        pool::PATIENCE,
        upgrade::MIGRATIONS,
    },
};

/// Summary of a copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    pub epoch: Epoch,
    pub head: Seq,
    /// Version of the newest migration.
    pub migration: i64,
    pub leads: u64,
    pub users: u64,
}

/// Writes a snapshot of the database to `into`, which must not exist. Others continue to write meanwhile.
///
/// # Errors
/// When the database cannot be read or the copy cannot be written.
pub async fn copy(database: &Path, into: &Path) -> Result<()> {
    let failed = |source| Error::Open { path: into.to_owned(), source: sqlx::Error::Io(source) };
    // SQLite fills an empty file. It is created here, so that nobody else can read it.
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(into).map_err(failed)?;
    let mut connection = open(database, false).await?;
    sqlx::query("VACUUM INTO $1").bind(into.to_string_lossy()).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

/// Verifies a copy page by page and returns its summary.
///
/// # Errors
/// When it is damaged, or was written by a newer program.
pub async fn check(copy: &Path) -> Result<Contents> {
    let mut connection = open(copy, true).await?;
    let problems: Vec<String> = sqlx::query_scalar("PRAGMA integrity_check(10)").fetch_all(&mut connection).await?;
    if problems != ["ok"] {
        return Err(Error::Corrupt { table: "sqlite_schema", reason: problems.join("; ") });
    }
    let orphans: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pragma_foreign_key_check").fetch_one(&mut connection).await?;
    if orphans > 0 {
        let reason = format!("{orphans} rows refer to rows that do not exist");
        return Err(Error::Corrupt { table: "sqlite_schema", reason });
    }

    let applied: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success ORDER BY version")
        .fetch_all(&mut connection)
        .await?;
    if let Some(newer) = applied.iter().find(|version| !MIGRATIONS.version_exists(**version)) {
        return Err(Error::Newer(*newer));
    }
    let (epoch, head): (Epoch, Seq) = sqlx::query_as("SELECT epoch, head FROM log").fetch_one(&mut connection).await?;
    let (leads, users): (i64, i64) =
        sqlx::query_as("SELECT (SELECT count(*) FROM leads), (SELECT count(*) FROM users)")
            .fetch_one(&mut connection)
            .await?;
    connection.close().await?;
    let migration = applied.last().copied().unwrap_or_default();
    Ok(Contents { epoch, head, migration, leads: leads as u64, users: users as u64 })
}

/// Gives the log of a copy a new epoch, because the original may issue the same seqs.
///
/// # Errors
/// When the copy cannot be written.
pub async fn renew_epoch(copy: &Path) -> Result<()> {
    // Journal mode DELETE, so that the copy is a single file that can be moved.
    let options = options(copy, false).journal_mode(SqliteJournalMode::Delete);
    let mut connection = options.connect().await?;
    let epoch = Epoch::generate();
    let update = sqlx::query("UPDATE log SET epoch = $1").bind(&epoch);
    update.execute(&mut connection).await?.exactly_one("log")?;
    connection.close().await?;
    Ok(())
}

impl Store {
    /// Rebuilds the file from its content. It takes as long as a copy, and others cannot write meanwhile.
    ///
    /// # Errors
    /// When others keep the database busy, or the disk has no space for a second copy.
    pub async fn vacuum(&self) -> Result<()> {
        let mut connection = open(self.opener.file.path(), false).await?;
        sqlx::query("VACUUM").execute(&mut connection).await?;
        connection.close().await?;
        self.truncate_wal().await.map(drop)
    }

    /// Empties the write-ahead log, so that it contains no earlier version of a page. False when a reader used it for
    /// too long.
    pub async fn truncate_wal(&self) -> Result<bool> {
        let options = SqliteConnectOptions::new().filename(self.opener.file.path()).busy_timeout(PATIENCE);
        let mut connection = options.connect().await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
            let is_busy: i64 = row.try_get(0)?;
            if is_busy == 0 || Instant::now() > end {
                return Ok(is_busy == 0);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

async fn open(path: &Path, read_only: bool) -> Result<SqliteConnection> {
    let opened = options(path, read_only).connect().await;
    opened.map_err(|source| Error::Open { path: path.to_owned(), source })
}

fn options(path: &Path, read_only: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(read_only).busy_timeout(PATIENCE).pragma("secure_delete", "ON")
}
