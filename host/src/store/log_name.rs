//! Names of a log: the lineage, shared by a database and its copies, and the epoch of its seqs.

use sqlx::SqliteConnection;

use crate::{
    domain::{counter::Seq, id::Epoch},
    store::error::Result,
};

/// Names of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LogName {
    /// Permanent, and the same for a database and all its copies.
    pub(crate) lineage: String,
    /// A new one whenever seqs could be issued a second time.
    pub(crate) epoch: Epoch,
}

/// Returns the names and the head of the log; a new database gets new names.
pub(crate) async fn open(connection: &mut SqliteConnection) -> Result<(LogName, Seq)> {
    sqlx::query("INSERT INTO log (id, lineage, epoch, head) VALUES (1, $1, $2, 0) ON CONFLICT DO NOTHING")
        .bind(uuid::Uuid::new_v4().simple().to_string())
        .bind(Epoch::generate())
        .execute(&mut *connection)
        .await?;
    look(connection).await
}

/// Returns the names and the head of an existing log.
pub(crate) async fn look(connection: &mut SqliteConnection) -> Result<(LogName, Seq)> {
    let (lineage, epoch, head) = sqlx::query_as("SELECT lineage, epoch, head FROM log").fetch_one(connection).await?;
    Ok((LogName { lineage, epoch }, head))
}
