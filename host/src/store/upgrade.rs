//! Upgrades of a database beyond SQL migrations: the version check, and the normalisation of addresses.

use sqlx::{SqliteConnection, migrate::Migrator};

use crate::{
    domain::user::canonical_email,
    store::{
        affected::AffectedRows,
        error::{Error, Result, taken},
        row::Columns,
    },
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

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
