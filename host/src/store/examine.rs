//! Examination of a database file, with or without a running server: it finds damage and changes nothing.

use std::path::Path;

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    domain::{counter::Seq, id::Epoch},
    store::{
        dialect,
        error::{Error, Result},
        pool::PATIENCE,
        upgrade::MIGRATIONS,
    },
};

/// Maximum number of problems listed.
const MAX_LISTED: usize = 10;

/// Result of an examination.
#[derive(Clone, Debug)]
pub struct Examination {
    /// Damage that SQLite reports.
    pub damage: Vec<String>,
    /// Tables with rows that refer to missing rows, and the number of these rows.
    pub orphans: Vec<(String, u64)>,
    pub migrations: Migrations,
    /// Epoch and head of the log; `None` when there is no log.
    pub log: Option<(Epoch, Seq)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    UpToDate,
    /// Number of migrations that have not been applied yet.
    Behind(usize),
    /// Migration that this program does not know.
    Newer(i64),
}

/// Examines a database.
///
/// # Errors
/// When it cannot be opened or read at all.
pub async fn examine(path: &Path) -> Result<Examination> {
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(PATIENCE);
    let opened = options.connect().await;
    let mut connection = opened.map_err(|source| Error::Open { path: path.to_owned(), source })?;
    let query = format!("PRAGMA quick_check({MAX_LISTED})");
    let mut damage: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_all(&mut connection).await?;
    damage.retain(|line| line != "ok");
    let orphans: Vec<(String, i64)> =
        sqlx::query_as("SELECT \"table\", count(*) FROM pragma_foreign_key_check GROUP BY 1")
            .fetch_all(&mut connection)
            .await?;
    let migrations = migrations(&mut connection).await?;
    let log = if has_table(&mut connection, "log").await? {
        sqlx::query_as("SELECT epoch, head FROM log").fetch_optional(&mut connection).await?
    } else {
        None
    };
    connection.close().await?;
    let orphans = orphans.into_iter().map(|(table, count)| (table, count as u64)).collect();
    Ok(Examination { damage, orphans, migrations, log })
}

async fn migrations(connection: &mut SqliteConnection) -> Result<Migrations> {
    let applied: Vec<i64> = if has_table(connection, "_sqlx_migrations").await? {
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&mut *connection).await?
    } else {
        Vec::new()
    };
    if let Some(newer) = applied.iter().find(|version| !MIGRATIONS.version_exists(**version)) {
        return Ok(Migrations::Newer(*newer));
    }
    let missing = MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).count();
    Ok(if missing == 0 { Migrations::UpToDate } else { Migrations::Behind(missing) })
}

async fn has_table(connection: &mut SqliteConnection, name: &str) -> Result<bool> {
    let count: i64 = sqlx::query_scalar(dialect::COUNT_TABLES).bind(name).fetch_one(connection).await?;
    Ok(count > 0)
}
