//! Examination of a database file, beside a server or none: what is wrong with it is found, and nothing is changed.

use std::path::Path;

use sqlx::{ConnectOptions, Connection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{Error, MIGRATIONS, PATIENCE, Result};

/// More problems are not listed.
const MAX_LISTED: usize = 10;

/// What an examination found.
#[derive(Clone, Debug)]
pub struct Examination {
    /// What SQLite says is damaged.
    pub damage: Vec<String>,
    /// Tables with rows that refer to rows that do not exist, and how many.
    pub orphans: Vec<(String, u64)>,
    pub migrations: Migrations,
    /// Epoch and head of the log; None where there is no log.
    pub log: Option<(String, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Migrations {
    UpToDate,
    /// So many are still to be made.
    Behind(usize),
    /// One that this program does not know.
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
    let log: Option<(String, i64)> = match has_table(&mut connection, "log").await? {
        true => sqlx::query_as("SELECT epoch, head FROM log").fetch_optional(&mut connection).await?,
        false => None,
    };
    connection.close().await?;
    let orphans = orphans.into_iter().map(|(table, count)| (table, count as u64)).collect();
    Ok(Examination { damage, orphans, migrations, log: log.map(|(epoch, head)| (epoch, head as u64)) })
}

async fn migrations(connection: &mut SqliteConnection) -> Result<Migrations> {
    let applied: Vec<i64> = match has_table(connection, "_sqlx_migrations").await? {
        true => {
            sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(&mut *connection).await?
        }
        false => Vec::new(),
    };
    if let Some(newer) = applied.iter().find(|version| !MIGRATIONS.version_exists(**version)) {
        return Ok(Migrations::Newer(*newer));
    }
    let missing = MIGRATIONS.iter().filter(|migration| !applied.contains(&migration.version)).count();
    Ok(if missing == 0 { Migrations::UpToDate } else { Migrations::Behind(missing) })
}

async fn has_table(connection: &mut SqliteConnection, name: &str) -> Result<bool> {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?")
        .bind(name)
        .fetch_one(connection)
        .await?;
    Ok(count > 0)
}
