//! Upgrades of a database beyond SQL migrations: the version check, and the normalisation of addresses.

use std::sync::LazyLock;

use include_dir::{Dir, File, include_dir};
use sqlx::{
    SqlSafeStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::{
    domain::user::canonical_email,
    store::{
        affected::AffectedRows,
        error::{Error, Result, taken},
        row::Columns,
    },
};

static FILES: Dir<'static> = include_dir!("$CARGO_MANIFEST_DIR/../migrations/sqlite");

/// Migrations in `migrations/sqlite`, whose files are named `<version>_<description>.sql`.
pub(crate) static MIGRATIONS: LazyLock<Migrator> =
    LazyLock::new(|| Migrator::with_migrations(FILES.files().map(migration).collect()));

fn migration(file: &'static File<'static>) -> Migration {
    let name = file.path().file_stem().and_then(|stem| stem.to_str());
    let (version, description) = name.and_then(|name| name.split_once('_')).expect("a file is named <version>_<what>");
    let version = version.parse().expect("the version is a number");
    let sql = file.contents_utf8().expect("SQL is UTF-8");
    Migration::new(version, description.replace('_', " ").into(), MigrationType::Simple, sql.into_sql_str(), false)
}

/// Refuses a database whose migrations do not match this version of the program.
pub(crate) async fn check_version(connection: &mut SqliteConnection) -> Result<()> {
    let applied: Vec<i64> =
        sqlx::query_scalar("SELECT version FROM _sqlx_migrations WHERE success").fetch_all(connection).await?;
    let known: Vec<i64> = MIGRATIONS.iter().map(|migration| migration.version).collect();
    if let Some(newer) = applied.iter().find(|version| !known.contains(version)) {
        return Err(Error::Newer(*newer));
    }
    if known.iter().any(|version| !applied.contains(version)) {
        return Err(Error::Older);
    }
    Ok(())
}

/// Converts addresses of older versions, which stored them as entered, to the canonical spelling for look-ups.
///
/// An address whose canonical spelling belongs to another account is left unchanged and logged: nobody can sign in with
/// it until an administrator has changed it.
pub(crate) async fn normalise_emails(first: &mut SqliteConnection) -> Result<()> {
    let rows = sqlx::query("SELECT id, email FROM users").fetch_all(&mut *first).await?;
    for row in &rows {
        let columns = Columns { table: "users", row };
        let (id, email) = (columns.text("id")?, columns.text("email")?);
        let canonical = canonical_email(&email);
        if canonical == email {
            continue;
        }
        let update = sqlx::query("UPDATE users SET email = $1 WHERE id = $2").bind(canonical).bind(&id);
        match update.execute(&mut *first).await.map_err(taken) {
            Ok(done) => done.exactly_one("users")?,
            Err(Error::Taken(_)) => {
                tracing::warn!(user.id = id, "an account cannot sign in: another has the same e-mail address in NFC");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
