//! Outcomes stored by idempotency key, so that a repeated request is answered and not carried out again.

use serde_json::Value;

use crate::{
    domain::{id::UserId, time::Timestamp},
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::Columns,
    },
};

/// Stored outcome of a request with a key.
pub struct StoredOutcome {
    /// Hash that distinguishes one request from another.
    pub fingerprint: String,
    pub outcome: Value,
}

impl Reader {
    /// Outcome of the request of `user` with `key`, if it was stored since `since`.
    pub async fn done(&mut self, user: UserId, key: &str, since: Timestamp) -> Result<Option<StoredOutcome>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(idempotency_keys),
            " FROM idempotency_keys WHERE user_id = $1 AND key = $2 AND created_at >= $3"
        ))
        .bind(user.to_string())
        .bind(key)
        .bind(since.to_string())
        .fetch_optional(&mut *self.tx)
        .await?;
        let Some(row) = row else { return Ok(None) };
        let columns = Columns { table: "idempotency_keys", row: &row };
        Ok(Some(StoredOutcome { fingerprint: columns.text("fingerprint")?, outcome: columns.json("outcome")? }))
    }
}

impl Tx<'_> {
    /// Stores the outcome of a request with `key`, and deletes outcomes older than `since`.
    pub async fn save_done(
        &mut self,
        user: UserId,
        key: &str,
        done: &StoredOutcome,
        at: Timestamp,
        since: Timestamp,
    ) -> Result<()> {
        sqlx::query("DELETE FROM idempotency_keys WHERE created_at < $1")
            .bind(since.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .any_number();
        sqlx::query(
            "INSERT INTO idempotency_keys (user_id, key, fingerprint, outcome, created_at) VALUES ($1, $2, $3, $4, $5)",
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
