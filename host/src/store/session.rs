//! Login sessions and their refresh tokens, which are stored only as hashes.

use uuid::Uuid;

use crate::{
    domain::{
        id::{SessionId, UserId},
        time::Timestamp,
        user::User,
    },
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::Columns,
        user::user,
    },
};

/// Stored refresh token, with the session it belongs to.
pub struct StoredRefreshToken {
    pub session: SessionId,
    pub user: User,
    pub expires_at: Timestamp,
    pub used_at: Option<Timestamp>,
    pub session_ended: bool,
}

/// Id that no session has.
const NO_SESSION: SessionId = SessionId(Uuid::nil());

impl Reader {
    /// User of a session, unless the session has ended or expired.
    pub async fn session_user(&mut self, id: SessionId, now: Timestamp) -> Result<Option<User>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(users as u),
            " FROM sessions s JOIN users u ON u.id = s.user_id
             WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > $2"
        ))
        .bind(id.to_string())
        .bind(now.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        row.as_ref().map(user).transpose()
    }

    pub async fn refresh_token(&mut self, hash: &str) -> Result<Option<StoredRefreshToken>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(users as u),
            ", t.session_id, t.expires_at, t.used_at, s.ended_at
             FROM refresh_tokens t JOIN sessions s ON s.id = t.session_id JOIN users u ON u.id = s.user_id
             WHERE t.hash = $1"
        ))
        .bind(hash)
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "refresh_tokens", row: &row };
        Ok(Some(StoredRefreshToken {
            session: columns.parsed("session_id")?,
            user: user(&row)?,
            expires_at: columns.parsed("expires_at")?,
            used_at: columns.maybe("used_at")?,
            session_ended: columns.maybe_text("ended_at")?.is_some(),
        }))
    }
}

impl Tx<'_> {
    /// Begins a session that lasts as long as its first refresh token, and deletes the user's sessions whose tokens
    /// have all expired.
    pub async fn insert_session(
        &mut self,
        id: SessionId,
        user: UserId,
        refresh_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE user_id = $1 AND expires_at <= $2")
            .bind(user.to_string())
            .bind(now.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .any_number();
        sqlx::query("INSERT INTO sessions (id, user_id, created_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(id.to_string())
            .bind(user.to_string())
            .bind(now.to_string())
            .bind(expires_at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        self.insert_refresh_token(id, refresh_hash, now, expires_at).await
    }

    /// Refresh token rotation: marks a token as used and adds its successor; the session lasts as long as the
    /// successor.
    pub async fn rotate_refresh_token(
        &mut self,
        hash: &str,
        session: SessionId,
        successor_hash: &str,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<()> {
        // Used tokens are kept until they would have expired: this is how reuse is detected.
        sqlx::query("DELETE FROM refresh_tokens WHERE session_id = $1 AND expires_at <= $2")
            .bind(session.to_string())
            .bind(now.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .any_number();
        sqlx::query("UPDATE refresh_tokens SET used_at = $1 WHERE hash = $2")
            .bind(now.to_string())
            .bind(hash)
            .execute(&mut *self.reader.tx)
            .await?
            .exactly_one("refresh_tokens")?;
        sqlx::query("UPDATE sessions SET expires_at = $1 WHERE id = $2")
            .bind(expires_at.to_string())
            .bind(session.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .exactly_one("sessions")?;
        self.insert_refresh_token(session, successor_hash, now, expires_at).await
    }

    /// Ends one session; false if it had ended before.
    pub async fn end_session(&mut self, id: SessionId, now: Timestamp) -> Result<bool> {
        sqlx::query("UPDATE sessions SET ended_at = $1 WHERE id = $2 AND ended_at IS NULL")
            .bind(now.to_string())
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .at_most_one("sessions")
    }

    /// Ends a user's sessions, all or all but one, and returns those that ended.
    pub async fn end_sessions(
        &mut self,
        user: UserId,
        except: Option<SessionId>,
        now: Timestamp,
    ) -> Result<Vec<SessionId>> {
        let rows = sqlx::query(
            "UPDATE sessions SET ended_at = $1 WHERE user_id = $2 AND id <> $3 AND ended_at IS NULL RETURNING id",
        )
        .bind(now.to_string())
        .bind(user.to_string())
        .bind(except.unwrap_or(NO_SESSION).to_string())
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
        sqlx::query("INSERT INTO refresh_tokens (hash, session_id, issued_at, expires_at) VALUES ($1, $2, $3, $4)")
            .bind(hash)
            .bind(session.to_string())
            .bind(now.to_string())
            .bind(expires_at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }
}
