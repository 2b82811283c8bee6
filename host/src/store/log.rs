//! The log: every event in the order in which it was committed, numbered without a gap.

use sqlx::SqlitePool;

use super::{
    Reader, Result, Tx,
    row::{Columns, json},
};
use crate::domain::{
    event::{Draft, Event},
    room::Room,
};

/// The epoch and head of the log; a new database gets a new epoch.
pub(super) async fn open(pool: &SqlitePool) -> Result<(String, u64)> {
    sqlx::query("INSERT INTO log (id, epoch, head) VALUES (1, ?, 0) ON CONFLICT DO NOTHING")
        .bind(uuid::Uuid::now_v7().to_string())
        .execute(pool)
        .await?;
    let (epoch, head): (String, i64) = sqlx::query_as("SELECT epoch, head FROM log").fetch_one(pool).await?;
    Ok((epoch, head as u64))
}

impl Reader {
    /// The newest seq.
    pub async fn head(&mut self) -> Result<u64> {
        let head: i64 = sqlx::query_scalar("SELECT head FROM log").fetch_one(&mut *self.tx).await?;
        Ok(head as u64)
    }

    /// At most `limit` events that follow `seq`, oldest first.
    pub async fn events_after(&mut self, seq: u64, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query("SELECT * FROM events WHERE seq > ? ORDER BY seq LIMIT ?")
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| event(&Columns { table: "events", row })).collect()
    }

    /// The newest `limit` events, oldest first.
    pub async fn recent_events(&mut self, limit: u32) -> Result<Vec<Event>> {
        let head = self.head().await?;
        self.events_after(head.saturating_sub(limit.into()), limit).await
    }
}

impl Tx<'_> {
    /// Writes the next line of the log and returns its number.
    pub async fn append(&mut self, draft: &Draft) -> Result<u64> {
        let seq: i64 =
            sqlx::query_scalar("UPDATE log SET head = head + 1 RETURNING head").fetch_one(&mut *self.reader.tx).await?;
        let rooms: Vec<String> = draft.rooms.iter().map(Room::to_string).collect();
        sqlx::query(
            "INSERT INTO events (seq, name, rooms, lead_id, payload, context, at) VALUES (?, ?, ?, ?, ?, ?, ?)",
        )
        .bind(seq)
        .bind(draft.name)
        .bind(json(&rooms))
        .bind(draft.lead_id.map(|id| id.to_string()))
        .bind(draft.payload.to_string())
        .bind(draft.context.to_string())
        .bind(draft.at.to_string())
        .execute(&mut *self.reader.tx)
        .await?;
        self.appended = Some(seq as u64);
        Ok(seq as u64)
    }
}

fn event(columns: &Columns<'_>) -> Result<Event> {
    let rooms: Vec<String> = columns.json("rooms")?;
    let rooms = rooms.iter().map(|room| room.parse().map_err(|error| columns.corrupt("rooms", &error)));
    Ok(Event {
        seq: columns.integer("seq")? as u64,
        name: columns.text("name")?,
        rooms: rooms.collect::<Result<_>>()?,
        lead_id: columns.maybe("lead_id")?,
        payload: columns.json("payload")?,
        context: columns.json("context")?,
        at: columns.parsed("at")?,
    })
}
