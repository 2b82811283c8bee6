//! Logins and their refresh tokens, which are stored only as hashes.

use super::{Reader, Result, Tx, row::Columns, user::user};
use crate::domain::{
    id::{SessionId, UserId},
    time::Timestamp,
    user::User,
};

/// A refresh token, with the session it belongs to.
pub struct RefreshToken {
    pub session: SessionId,
    pub user: User,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
    pub session_ended: bool,
}

impl Reader {
    /// Whose session it is, unless it has ended or run out.
    pub async fn session_user(&mut self, id: SessionId, now: Timestamp) -> Result<Option<User>> {
        let row = sqlx::query(
            "SELECT u.* FROM sessions s JOIN users u ON u.id = s.user_id
             WHERE s.id = ? AND s.ended_at IS NULL AND s.expires_at > ?",
        )
        .bind(id.to_string())
        .bind(now.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        row.as_ref().map(user).transpose()
    }

    pub async fn refresh_token(&mut self, hash: &str) -> Result<Option<RefreshToken>> {
        let row = sqlx::query(
            "SELECT u.*, t.session_id, t.expires_at, t.used_at, s.ended_at
             FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
             WHERE t.hash = ?",
        )
        .bind(hash)
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "refresh_tokens", row: &row };
        Ok(Some(RefreshToken {
            session: columns.parsed("session_id")?,
            user: user(&row)?,
            expires_at: columns.parsed("expires_at")?,
            used_at: columns.maybe("used_at")?,
            session_ended: columns.maybe_text("ended_at")?.is_some(),
        }))
    }
}

impl Tx<'_> {
    /// Begins a session that lasts as long as its first refresh token, and drops the user's sessions
    /// whose tokens are all past their time.
    pub async fn insert_session(
        &mut self,
        id: SessionId,
        user: UserId,
        refresh_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE user_id = ? AND expires_at <= ?")
            .bind(user.to_string())
            .bind(now.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        sqlx::query("INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES (?, ?, ?, ?)")
            .bind(id.to_string())
            .bind(user.to_string())
            .bind(now.to_string())
            .bind(expires_at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        self.insert_refresh_token(id, refresh_hash, now, expires_at).await
    }

    /// Marks a refresh token as used and lets `successor_hash` follow it; the session lasts as long as that.
    pub async fn rotate_refresh_token(
        &mut self,
        hash: &str,
        session: SessionId,
        successor_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        // Used tokens are kept for as long as they could have been used: that is how reuse is noticed.
        sqlx::query("DELETE FROM refresh_tokens WHERE session_id = ? AND expires_at <= ?")
            .bind(session.to_string())
            .bind(now.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        sqlx::query("UPDATE refresh_tokens SET used_at = ? WHERE hash = ?")
            .bind(now.to_string())
            .bind(hash)
            .execute(&mut *self.reader.tx)
            .await?;
        sqlx::query("UPDATE sessions SET expires_at = ? WHERE id = ?")
            .bind(expires_at.to_string())
            .bind(session.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        self.insert_refresh_token(session, successor_hash, now, expires_at).await
    }

    /// Ends one session; false if it had ended before.
    pub async fn end_session(&mut self, id: SessionId, now: Timestamp) -> Result<bool> {
        let done = sqlx::query("UPDATE sessions SET ended_at = ? WHERE id = ? AND ended_at IS NULL")
            .bind(now.to_string())
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Ends a user's sessions, all or all but one, and returns those that ended.
    pub async fn end_sessions(
        &mut self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<SessionId>> {
        let rows = sqlx::query(
            "UPDATE sessions SET ended_at = ? WHERE user_id = ? AND id <> ? AND ended_at IS NULL RETURNING id",
        )
        .bind(now.to_string())
        .bind(user.to_string())
        .bind(except.map(|id| id.to_string()).unwrap_or_default())
        .fetch_all(&mut *self.reader.tx)
        .await?;
        rows.iter().map(|row| Columns { table: "sessions", row }.parsed("id")).collect()
    }

    async fn insert_refresh_token(
        &mut self,
        session: SessionId,
        hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        sqlx::query("INSERT INTO refresh_tokens (hash, session_id, issued_at, expires_at) VALUES (?, ?, ?, ?)")
            .bind(hash)
            .bind(session.to_string())
            .bind(now.to_string())
            .bind(expires_at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }
}
