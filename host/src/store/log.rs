//! The log: every event in the order in which it was committed, numbered without a gap.

use std::sync::Arc;

use sqlx::SqliteConnection;

use super::{
    Reader, Result, Tx,
    row::{Columns, json},
};
use crate::domain::{
    event::{Draft, Event, Resets},
    id::LeadId,
    role::Role,
    room::Room,
    time::Timestamp,
};

/// Names of a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// The same for a database and all its copies, for good.
    pub(super) lineage: String,
    /// Another one wherever seqs could be issued a second time.
    pub(super) epoch: String,
}

/// The names and the head of the log; a new database gets new ones.
pub(super) async fn open(connection: &mut SqliteConnection) -> Result<(Name, u64)> {
    sqlx::query("INSERT INTO log (id, lineage, epoch, head) VALUES (1, ?, ?, 0) ON CONFLICT DO NOTHING")
        .bind(uuid::Uuid::new_v4().simple().to_string())
        .bind(uuid::Uuid::now_v7().to_string())
        .execute(&mut *connection)
        .await?;
    look(connection).await
}

/// The names and the head of a log that is there.
pub(super) async fn look(connection: &mut SqliteConnection) -> Result<(Name, u64)> {
    let row: (String, String, i64) =
        sqlx::query_as("SELECT lineage, epoch, head FROM log").fetch_one(connection).await?;
    Ok((Name { lineage: row.0, epoch: row.1 }, row.2 as u64))
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

    /// At most `limit` events about a lead that follow `seq`, oldest first.
    pub async fn lead_events_after(&mut self, lead: LeadId, seq: u64, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query("SELECT * FROM events WHERE lead_id = ? AND seq > ? ORDER BY seq LIMIT ?")
            .bind(lead.to_string())
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .bind(limit)
            .fetch_all(&mut *self.tx)
            .await?;
        rows.iter().map(|row| event(&Columns { table: "events", row })).collect()
    }

    /// The seq of the oldest event that is kept, or the one that the first event will get.
    pub async fn oldest(&mut self) -> Result<u64> {
        let oldest: i64 = sqlx::query_scalar("SELECT coalesce(min(seq), (SELECT head + 1 FROM log)) FROM events")
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(oldest as u64)
    }

    /// The newest line past which a client of each role has to fetch again; roles that no line concerned are left out.
    pub async fn resets(&mut self) -> Result<Vec<(Role, u64)>> {
        let rows = sqlx::query("SELECT * FROM delivery_resets ORDER BY role").fetch_all(&mut *self.tx).await?;
        let reset = |row| {
            let columns = Columns { table: "delivery_resets", row };
            Ok((columns.parsed("role")?, columns.integer("seq")? as u64))
        };
        rows.iter().map(reset).collect()
    }

    pub async fn event(&mut self, seq: u64) -> Result<Option<Event>> {
        let row = sqlx::query("SELECT * FROM events WHERE seq = ?")
            .bind(i64::try_from(seq).unwrap_or(i64::MAX))
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|row| event(&Columns { table: "events", row: &row })).transpose()
    }

    /// The seq of the first event at or after `at`, or the one that the next event will get.
    ///
    /// Events are taken to be in the order of their times, as they are but for a clock that was set back.
    pub async fn first_seq_since(&mut self, at: Timestamp) -> Result<u64> {
        let head = self.head().await?;
        let (mut low, mut high) = (0, head + 1);
        // Every event up to `low` is older, none from `high` on is.
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            let found: Option<(i64, String)> =
                sqlx::query_as("SELECT seq, at FROM events WHERE seq >= ? ORDER BY seq LIMIT 1")
                    .bind(i64::try_from(middle).unwrap_or(i64::MAX))
                    .fetch_optional(&mut *self.tx)
                    .await?;
            match found {
                // The text of a time sorts as the time does.
                Some((seq, time)) if time < at.to_string() => low = seq as u64,
                _ => high = middle,
            }
        }
        Ok(high)
    }

    /// The newest `limit` events, oldest first.
    pub async fn recent_events(&mut self, limit: u32) -> Result<Vec<Event>> {
        let head = self.head().await?;
        self.events_after(head.saturating_sub(limit.into()), limit).await
    }
}

impl Tx<'_> {
    /// Mints another epoch.
    pub(super) async fn renew_epoch(&mut self) -> Result<String> {
        let epoch = uuid::Uuid::now_v7().to_string();
        sqlx::query("UPDATE log SET epoch = ?").bind(&epoch).execute(&mut *self.reader.tx).await?;
        Ok(epoch)
    }

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
        if let Some(resets) = draft.resets() {
            self.note_resets(seq, &resets).await?;
        }
        self.appended = Some(seq as u64);
        Ok(seq as u64)
    }

    /// Keeps whom a reset line concerns, for as long as somebody may come back from before it.
    async fn note_resets(&mut self, seq: i64, resets: &Resets) -> Result<()> {
        let roles = match resets {
            Resets::Roles(roles) => roles,
            Resets::User(user) => {
                sqlx::query("UPDATE users SET rights_seq = ? WHERE id = ?")
                    .bind(seq)
                    .bind(user.to_string())
                    .execute(&mut *self.reader.tx)
                    .await?;
                return Ok(());
            }
        };
        for role in roles {
            sqlx::query(
                "INSERT INTO delivery_resets (role, seq) VALUES (?, ?) ON CONFLICT DO UPDATE SET seq = excluded.seq",
            )
            .bind(role.as_str())
            .bind(seq)
            .execute(&mut *self.reader.tx)
            .await?;
        }
        Ok(())
    }

    /// Takes away events before `seq`, oldest first: at most `limit`, and says how many. The newest one stays.
    pub async fn prune_events(&mut self, seq: u64, limit: u32) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM events WHERE seq IN
                 (SELECT seq FROM events WHERE seq < min(?, (SELECT head FROM log)) ORDER BY seq LIMIT ?)",
        );
        let done = done.bind(i64::try_from(seq).unwrap_or(i64::MAX)).bind(limit);
        Ok(done.execute(&mut *self.reader.tx).await?.rows_affected())
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
        payload: Arc::new(columns.json("payload")?),
        context: columns.json("context")?,
        at: columns.parsed("at")?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn a_time_leads_to_the_first_event_that_is_not_older() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens");
        let at = |millis| Timestamp::from_millis(millis).expect("in range");
        let mut tx = store.write().await.expect("a transaction");
        assert_eq!(tx.first_seq_since(at(0)).await.expect("reads"), 1);
        for millis in [10, 20, 20, 30, 40] {
            let (rooms, payload, context) = (Vec::new(), json!({}), json!({}));
            let draft = Draft { name: "lead:created", rooms, lead_id: None, payload, context, at: at(millis) };
            tx.append(&draft).await.expect("a line");
        }
        for (millis, seq) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (40, 5), (41, 6)] {
            assert_eq!(tx.first_seq_since(at(millis)).await.expect("reads"), seq, "{millis}");
        }
        sqlx::query("DELETE FROM events WHERE seq < 3").execute(&mut *tx.reader.tx).await.expect("pruned");
        for (millis, first) in [(0, 3), (20, 3), (21, 4), (41, 6)] {
            let seq = tx.first_seq_since(at(millis)).await.expect("reads");
            let events = tx.events_after(seq - 1, 1).await.expect("reads");
            assert_eq!(events.first().map_or(6, |event| event.seq), first, "{millis}");
        }
        assert_eq!(tx.event(2).await.expect("reads").map(|event| event.seq), None);
        assert_eq!(tx.event(3).await.expect("reads").map(|event| event.seq), Some(3));
    }

    #[tokio::test]
    async fn events_are_pruned_from_the_oldest_on_but_never_the_newest() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens");
        let mut tx = store.write().await.expect("a transaction");
        assert_eq!((tx.oldest().await.expect("reads"), tx.prune_events(9, 9).await.expect("prunes")), (1, 0));
        let leads = [LeadId(uuid::Uuid::from_u128(1)), LeadId(uuid::Uuid::from_u128(2))];
        for number in 0..10 {
            let (lead_id, at) = (Some(leads[number % 2]), Timestamp::from_millis(0).expect("in range"));
            let (rooms, payload, context) = (Vec::new(), json!({}), json!({}));
            tx.append(&Draft { name: "lead:updated", rooms, lead_id, payload, context, at }).await.expect("a line");
        }
        for (before, limit, pruned, oldest) in [(1, 5, 0, 1), (4, 2, 2, 3), (4, 2, 1, 4), (4, 2, 0, 4)] {
            assert_eq!(tx.prune_events(before, limit).await.expect("prunes"), pruned, "before {before}");
            assert_eq!(tx.oldest().await.expect("reads"), oldest);
        }
        let of_second = tx.lead_events_after(leads[1], 4, 2).await.expect("reads");
        assert_eq!(of_second.iter().map(|event| event.seq).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(tx.prune_events(u64::MAX, 100).await.expect("prunes"), 6);
        assert_eq!((tx.oldest().await.expect("reads"), tx.head().await.expect("reads")), (10, 10));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(
            "EXPLAIN QUERY PLAN SELECT * FROM events WHERE lead_id = ? AND seq > ? ORDER BY seq LIMIT ?",
        )
        .fetch_all(&mut *tx.reader.tx)
        .await
        .expect("explained");
        let plan: Vec<_> = plan.iter().map(|step| step.3.as_str()).collect();
        assert_eq!(plan, ["SEARCH events USING INDEX events_by_lead (lead_id=? AND rowid>?)"]);
    }
}
