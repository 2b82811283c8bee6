//! Accounts.

use sqlx::sqlite::SqliteRow;

use super::{Error, Reader, Result, Tx, row::Columns};
use crate::domain::{
    id::UserId,
    role::Role,
    user::{User, UserRef},
};

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

    /// The account with that address, and its password hash.
    pub async fn user_by_email(&mut self, email: &str) -> Result<Option<(User, String)>> {
        let row = sqlx::query("SELECT * FROM users WHERE email = ?")
            .bind(email.to_lowercase())
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|row| Ok((user(&row)?, Columns { table: "users", row: &row }.text("password_hash")?))).transpose()
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
