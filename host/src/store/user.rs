//! Accounts, their known networks, and the facts that authorise a caller.

use sqlx::sqlite::SqliteRow;
use uuid::Uuid;

use crate::{
    domain::{
        counter::Seq,
        id::{SessionId, UserId},
        role::Role,
        time::Timestamp,
        user::{User, UserRef, canonical_email},
    },
    store::{
        affected::AffectedRows,
        error::{Result, taken},
        handle::{Reader, Tx},
        row::{Columns, WriteQuery},
    },
};

/// Facts that decide whether a caller may act.
pub struct AccountStatus {
    pub user: User,
    pub has_live_session: bool,
    /// Tokens without a session are refused when they were issued up to this time.
    pub tokens_not_before: Option<Timestamp>,
}

/// Maximum number of known networks per account.
const KNOWN_NETWORKS: u32 = 20;
/// Id that no account has and that sorts before every other.
const NO_USER: UserId = UserId(Uuid::nil());

impl Reader {
    pub async fn user(&mut self, id: UserId) -> Result<Option<User>> {
        let row = sqlx::query(concat!("SELECT ", columns!(users), " FROM users WHERE id = $1"))
            .bind(id.to_string())
            .fetch_optional(&mut *self.tx)
            .await?;
        row.as_ref().map(user).transpose()
    }

    /// Seq since which the user has had their present rights; older events were not theirs to see.
    pub async fn rights_seq(&mut self, id: UserId) -> Result<Seq> {
        let seq: Option<Seq> = sqlx::query_scalar("SELECT rights_seq FROM users WHERE id = $1")
            .bind(id.to_string())
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(seq.unwrap_or_default())
    }

    /// Account with that address, in any normal form and case of ASCII letters, and its password hash.
    pub async fn user_by_email(&mut self, email: &str) -> Result<Option<(User, String)>> {
        let row = sqlx::query(concat!("SELECT ", columns!(users), " FROM users WHERE email = $1"))
            .bind(canonical_email(email))
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|row| Ok((user(&row)?, Columns { table: "users", row: &row }.text("password_hash")?))).transpose()
    }

    /// Facts about a caller: the account and, with a session, whether it is the account's and still live.
    // On PostgreSQL, a writing transaction reads both rows here with FOR KEY SHARE. A change of rights takes the user's
    // row FOR UPDATE, so it waits for the transaction or is seen by it.
    pub async fn account_status(
        &mut self,
        id: UserId,
        session: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Option<AccountStatus>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(users as u),
            ", s.id AS live_session FROM users u
             LEFT JOIN sessions s ON s.id = $2 AND s.user_id = u.id AND s.ended_at IS NULL AND s.expires_at > $3
             WHERE u.id = $1"
        ))
        .bind(id.to_string())
        .bind(session.map(|session| session.to_string()))
        .bind(now.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "users", row: &row };
        Ok(Some(AccountStatus {
            user: user(&row)?,
            has_live_session: columns.maybe_text("live_session")?.is_some(),
            tokens_not_before: columns.maybe("tokens_not_before")?,
        }))
    }

    /// True if that account signed in from that network since `since`.
    pub async fn is_known_network(&mut self, id: Option<UserId>, network: &str, since: Timestamp) -> Result<bool> {
        // Without an account the query runs all the same, so that it takes as long.
        let row = sqlx::query("SELECT 1 FROM known_networks WHERE user_id = $1 AND network = $2 AND seen_at >= $3")
            .bind(id.unwrap_or(NO_USER).to_string())
            .bind(network)
            .bind(since.to_string())
            .fetch_optional(&mut *self.tx)
            .await?;
        Ok(row.is_some())
    }

    pub async fn password_hash(&mut self, id: UserId) -> Result<Option<String>> {
        let hash = sqlx::query_scalar("SELECT password_hash FROM users WHERE id = $1").bind(id.to_string());
        Ok(hash.fetch_optional(&mut *self.tx).await?)
    }

    /// Returns at most `limit` accounts in order of creation, after the account `after`.
    pub async fn users(&mut self, after: Option<UserId>, limit: u32) -> Result<Vec<User>> {
        let rows = sqlx::query(concat!("SELECT ", columns!(users), " FROM users WHERE id > $1 ORDER BY id LIMIT $2"))
            .bind(after.unwrap_or(NO_USER).to_string())
            .bind(limit)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(user).collect()
    }

    /// Users who can own leads, by name.
    pub async fn assignable_users(&mut self) -> Result<Vec<UserRef>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(users),
            " FROM users WHERE active AND role <> 'VIEWER' ORDER BY name, id"
        ))
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(|row| user(row).map(|user| UserRef::from(&user))).collect()
    }

    /// Active users of a role.
    pub async fn users_of_role(&mut self, role: Role) -> Result<Vec<UserId>> {
        let rows =
            sqlx::query(concat!("SELECT ", columns!(users), " FROM users WHERE active AND role = $1 ORDER BY id"))
                .bind(role.as_str())
                .fetch_all(&mut *self.tx)
                .await?;
        rows.iter().map(|row| user(row).map(|user| user.id)).collect()
    }
}

impl Tx<'_> {
    /// Inserts an account.
    ///
    /// # Errors
    /// [`Error::Taken`](crate::store::Error::Taken) when an account with the address exists.
    pub async fn insert_user(&mut self, user: &User, password_hash: &str) -> Result<()> {
        let insert = sqlx::query(concat!(
            "INSERT INTO users (",
            columns!(users written),
            ", id, password_hash, created_at, rights_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, (SELECT head FROM log))"
        ));
        bind_written(insert, user)
            .bind(password_hash)
            .bind(user.created_at.to_string())
            .execute(&mut *self.reader.tx)
            .await
            .map_err(taken)?;
        Ok(())
    }

    /// Updates an account.
    ///
    /// # Errors
    /// [`Error::Taken`](crate::store::Error::Taken) when another account has the address.
    pub async fn save_user(&mut self, user: &User) -> Result<()> {
        let update = sqlx::query(concat!(
            "UPDATE users SET (",
            columns!(users written),
            ") = ($1, $2, $3, $4, $5) WHERE id = $6"
        ));
        let done = bind_written(update, user).execute(&mut *self.reader.tx).await.map_err(taken)?;
        done.exactly_one("users")
    }

    pub async fn save_password_hash(&mut self, id: UserId, password_hash: &str) -> Result<()> {
        sqlx::query("UPDATE users SET password_hash = $1 WHERE id = $2")
            .bind(password_hash)
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .exactly_one("users")
    }
}

impl Tx<'_> {
    /// Refuses tokens without a session that were issued up to `now`.
    pub async fn refuse_older_tokens(&mut self, id: UserId, now: Timestamp) -> Result<()> {
        sqlx::query(
            "UPDATE users SET tokens_not_before = $2
             WHERE id = $1 AND (tokens_not_before IS NULL OR tokens_not_before < $2)",
        )
        .bind(id.to_string())
        .bind(now.to_string())
        .execute(&mut *self.reader.tx)
        .await?
        .at_most_one("users")?;
        Ok(())
    }

    /// Deletes the known networks of an account.
    pub async fn forget_networks(&mut self, id: UserId) -> Result<()> {
        sqlx::query("DELETE FROM known_networks WHERE user_id = $1")
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .any_number();
        Ok(())
    }

    /// Records a network that an account signed in from; the oldest of many networks is deleted.
    pub async fn know_network(&mut self, id: UserId, network: &str, now: Timestamp) -> Result<()> {
        sqlx::query(
            "INSERT INTO known_networks (user_id, network, seen_at) VALUES ($1, $2, $3)
             ON CONFLICT (user_id, network) DO UPDATE SET seen_at = $3",
        )
        .bind(id.to_string())
        .bind(network)
        .bind(now.to_string())
        .execute(&mut *self.reader.tx)
        .await?;
        sqlx::query(
            "DELETE FROM known_networks WHERE user_id = $1 AND network NOT IN (
                 SELECT network FROM known_networks WHERE user_id = $1 ORDER BY seen_at DESC, network LIMIT $2)",
        )
        .bind(id.to_string())
        .bind(KNOWN_NETWORKS)
        .execute(&mut *self.reader.tx)
        .await?
        .any_number();
        Ok(())
    }
}

/// Binds the columns of `columns!(users written)`, then the id.
fn bind_written<'q>(query: WriteQuery<'q>, user: &'q User) -> WriteQuery<'q> {
    query
        .bind(&user.email)
        .bind(&user.name)
        .bind(user.role.as_str())
        .bind(user.active)
        .bind(user.updated_at.to_string())
        .bind(user.id.to_string())
}

pub(crate) fn user(row: &SqliteRow) -> Result<User> {
    let columns = Columns { table: "users", row };
    Ok(User {
        id: columns.parsed("id")?,
        email: columns.text("email")?,
        name: columns.text("name")?,
        role: columns.parsed("role")?,
        active: columns.flag("active")?,
        created_at: columns.parsed("created_at")?,
        updated_at: columns.parsed("updated_at")?,
    })
}
