//! What a client's key has led to, so that a repeated request is answered and not carried out again.

use serde_json::Value;

use super::{Reader, Result, Tx, row::Columns};
use crate::domain::{id::UserId, time::Timestamp};

/// What was done under a key.
pub struct Done {
    /// Tells one command from another.
    pub fingerprint: String,
    pub outcome: Value,
}

impl Reader {
    /// What `user` did under `key` since `since`.
    pub async fn done(&mut self, user: UserId, key: &str, since: Timestamp) -> Result<Option<Done>> {
        let row = sqlx::query("SELECT * FROM idempotency_keys WHERE user_id = ? AND key = ? AND created_at >= ?")
            .bind(user.to_string())
            .bind(key)
            .bind(since.to_string())
            .fetch_optional(&mut *self.tx)
            .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "idempotency_keys", row: &row };
        Ok(Some(Done { fingerprint: columns.text("fingerprint")?, outcome: columns.json("outcome")? }))
    }
}

impl Tx<'_> {
    /// Remembers what was done under `key`, and forgets what is older than `since`.
    pub async fn save_done(
        &mut self,
        user: UserId,
        key: &str,
        done: &Done,
        at: Timestamp,
        since: Timestamp,
    ) -> Result<()> {
        sqlx::query("DELETE FROM idempotency_keys WHERE created_at < ?")
            .bind(since.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        sqlx::query(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, outcome, created_at) VALUES (?, ?, ?, ?, ?)",
        )
        .bind(user.to_string())
        .bind(key)
        .bind(&done.fingerprint)
        .bind(done.outcome.to_string())
        .bind(at.to_string())
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(())
    }
}
