//! Accounts.

use sqlx::{SqliteConnection, sqlite::SqliteRow};

use super::{Error, Reader, Result, Tx, row::Columns};
use crate::domain::{
    id::{SessionId, UserId},
    role::Role,
    time::Timestamp,
    user::{User, UserRef, canonical_email},
};

/// What decides whether a caller may go on.
pub struct AccountStanding {
    pub user: User,
    pub has_live_session: bool,
    /// Tokens without a session are refused when they were issued up to then.
    pub tokens_not_before: Option<Timestamp>,
}

/// So many networks are remembered of one account.
const KNOWN_NETWORKS: u32 = 20;

impl Reader {
    pub async fn user(&mut self, id: UserId) -> Result<Option<User>> {
        let row =
            sqlx::query("SELECT * FROM users WHERE id = ?").bind(id.to_string()).fetch_optional(&mut *self.tx).await?;
        row.as_ref().map(user).transpose()
    }

    /// The newest line of the log behind which the user has had the rights of today: nothing that is older was theirs.
    pub async fn rights_seq(&mut self, id: UserId) -> Result<u64> {
        let seq: Option<i64> = sqlx::query_scalar("SELECT rights_seq FROM users WHERE id = ?")
            .bind(id.to_string())
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(seq.unwrap_or_default() as u64)
    }

    /// The account with that address, in any normal form and case of ASCII letters, and its password hash.
    pub async fn user_by_email(&mut self, email: &str) -> Result<Option<(User, String)>> {
        let row = sqlx::query("SELECT * FROM users WHERE email = ?")
            .bind(canonical_email(email))
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|row| Ok((user(&row)?, Columns { table: "users", row: &row }.text("password_hash")?))).transpose()
    }

    /// What decides about a caller: the account, and with a session, whether that is the account's and goes on.
    // On PostgreSQL both rows are read here with FOR KEY SHARE when a transaction writes, so that a change of rights,
    // which takes the user's row FOR UPDATE, waits for it or is seen by it.
    pub async fn standing(
        &mut self,
        id: UserId,
        session: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Option<AccountStanding>> {
        let row = sqlx::query(
            "SELECT u.*, s.id AS live_session FROM users u
             LEFT JOIN sessions s ON s.id = ?2 AND s.user_id = u.id AND s.ended_at IS NULL AND s.expires_at > ?3
             WHERE u.id = ?1",
        )
        .bind(id.to_string())
        .bind(session.map(|session| session.to_string()))
        .bind(now.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "users", row: &row };
        Ok(Some(AccountStanding {
            user: user(&row)?,
            has_live_session: columns.maybe_text("live_session")?.is_some(),
            tokens_not_before: columns.maybe("tokens_not_before")?,
        }))
    }

    /// Whether that account signed in from that network since `since`.
    pub async fn is_known_network(&mut self, id: Option<UserId>, network: &str, since: Timestamp) -> Result<bool> {
        // Without an account it is asked all the same, so that it takes as long.
        let row = sqlx::query("SELECT 1 FROM known_networks WHERE user_id = ? AND network = ? AND seen_at >= ?")
            .bind(id.map(|id| id.to_string()).unwrap_or_default())
            .bind(network)
            .bind(since.to_string())
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(row.is_some())
    }

    pub async fn password_hash(&mut self, id: UserId) -> Result<Option<String>> {
        let hash = sqlx::query_scalar("SELECT password_hash FROM users WHERE id = ?").bind(id.to_string());
        Ok(hash.fetch_optional(&mut *self.tx).await?)
    }

    /// At most `limit` accounts in the order of their making, from the one after `after`.
    pub async fn users(&mut self, after: Option<UserId>, limit: u32) -> Result<Vec<User>> {
        let rows = sqlx::query("SELECT * FROM users WHERE id > ? ORDER BY id LIMIT ?")
            .bind(after.map(|id| id.to_string()).unwrap_or_default())
            .bind(limit)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(user).collect()
    }

    /// Those who can own leads, by name.
    pub async fn assignable_users(&mut self) -> Result<Vec<UserRef>> {
        let rows = sqlx::query("SELECT * FROM users WHERE active = 1 AND role <> 'VIEWER' ORDER BY name, id")
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| user(row).map(|user| UserRef::from(&user))).collect()
    }

    /// The active users of a role.
    pub async fn users_of_role(&mut self, role: Role) -> Result<Vec<UserId>> {
        let rows = sqlx::query("SELECT * FROM users WHERE active = 1 AND role = ? ORDER BY id")
            .bind(role.as_str())
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| user(row).map(|user| user.id)).collect()
    }
}

impl Tx<'_> {
    /// # Errors
    /// [`Error::Taken`] when the address has an account.
    pub async fn insert_user(&mut self, user: &User, password_hash: &str) -> Result<()> {
        sqlx::query(
            "INSERT INTO users (id, email, name, role, active, password_hash, created_at, updated_at, rights_seq)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, (SELECT head FROM log))",
        )
        .bind(user.id.to_string())
        .bind(&user.email)
        .bind(&user.name)
        .bind(user.role.as_str())
        .bind(user.active)
        .bind(password_hash)
        .bind(user.created_at.to_string())
        .bind(user.updated_at.to_string())
        .execute(&mut *self.reader.tx)
        .await
        .map_err(taken)?;
        Ok(())
    }

    /// # Errors
    /// [`Error::Taken`] when another account has the address.
    pub async fn save_user(&mut self, user: &User) -> Result<()> {
        sqlx::query("UPDATE users SET email = ?, name = ?, role = ?, active = ?, updated_at = ? WHERE id = ?")
            .bind(&user.email)
            .bind(&user.name)
            .bind(user.role.as_str())
            .bind(user.active)
            .bind(user.updated_at.to_string())
            .bind(user.id.to_string())
            .execute(&mut *self.reader.tx)
            .await
            .map_err(taken)?;
        Ok(())
    }

    pub async fn save_password_hash(&mut self, id: UserId, password_hash: &str) -> Result<()> {
        sqlx::query("UPDATE users SET password_hash = ? WHERE id = ?")
            .bind(password_hash)
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }
}

impl Tx<'_> {
    /// Refuses the tokens without a session that were issued up to `now`.
    pub async fn refuse_older_tokens(&mut self, id: UserId, now: Timestamp) -> Result<()> {
        sqlx::query("UPDATE users SET tokens_not_before = ?2 WHERE id = ?1 AND COALESCE(tokens_not_before, '') < ?2")
            .bind(id.to_string())
            .bind(now.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Forgets from where an account signed in.
    pub async fn forget_networks(&mut self, id: UserId) -> Result<()> {
        sqlx::query("DELETE FROM known_networks WHERE user_id = ?")
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Remembers from where an account signed in; the oldest of many networks is forgotten.
    pub async fn know_network(&mut self, id: UserId, network: &str, now: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO known_networks (user_id, network, seen_at) VALUES (?1, ?2, ?3)
             ON CONFLICT (user_id, network) DO UPDATE SET seen_at = ?3",
        )
        .bind(id.to_string())
        .bind(network)
        .bind(now.to_string())
        .execute(&mut *self.reader.tx)
        .await?;
        sqlx::query(
            "DELETE FROM known_networks WHERE user_id = ?1 AND network NOT IN (
                 SELECT network FROM known_networks WHERE user_id = ?1 ORDER BY seen_at DESC, network LIMIT ?2)",
        )
        .bind(id.to_string())
        .bind(KNOWN_NETWORKS)
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(())
    }
}

/// Brings addresses of older versions, which kept them as they came, into the spelling that they are looked up by.
///
/// One whose canonical spelling has an account already stays as it is, and is logged: nobody can sign in by it until an
/// administrator has changed it.
pub(super) async fn normalise_emails(first: &mut SqliteConnection) -> Result<()> {
    let rows = sqlx::query("SELECT id, email FROM users WHERE email GLOB '*[^ -@[-~]*'").fetch_all(&mut *first).await?;
    for row in &rows {
        let columns = Columns { table: "users", row };
        let (id, email) = (columns.text("id")?, columns.text("email")?);
        let canonical = canonical_email(&email);
        if canonical == email {
            continue;
        }
        let update = sqlx::query("UPDATE users SET email = ? WHERE id = ?").bind(canonical).bind(&id);
        match update.execute(&mut *first).await.map_err(taken) {
            Ok(_) => {}
            Err(Error::Taken(_)) => {
                tracing::warn!(user.id = id, "an account cannot sign in: another has the same e-mail address in NFC");
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn taken(error: sqlx::Error) -> Error {
    match &error {
        sqlx::Error::Database(inner) if inner.is_unique_violation() => Error::Taken("email"),
        _ => error.into(),
    }
}

pub(super) fn user(row: &SqliteRow) -> Result<User> {
    let columns = Columns { table: "users", row };
    Ok(User {
        id: columns.parsed("id")?,
        email: columns.text("email")?,
        name: columns.text("name")?,
        role: columns.parsed("role")?,
        active: columns.integer("active")? != 0,
        created_at: columns.parsed("created_at")?,
        updated_at: columns.parsed("updated_at")?,
    })
}
