//! Event log: every event in commit order, numbered without gaps.
//!
//! `append` increments one counter row inside the transaction, so the order of seqs is the order of commits.

use std::sync::Arc;

use crate::{
    domain::{
        counter::Seq,
        event::{Event, NewEvent, Resets},
        id::{Epoch, LeadId, UserId},
        role::Role,
        room::Room,
        time::Timestamp,
    },
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, json},
    },
};

/// Query for the seq of the oldest event that is kept.
macro_rules! oldest {
    () => {
        "(SELECT coalesce(min(seq), (SELECT head + 1 FROM log)) FROM events)"
    };
}

impl Reader {
    /// Newest seq.
    pub async fn head(&mut self) -> Result<Seq> {
        Ok(sqlx::query_scalar("SELECT head FROM log").fetch_one(&mut *self.tx).await?)
    }

    /// Returns at most `limit` events after `seq`, oldest first.
    pub async fn events_after(&mut self, seq: Seq, limit: u32) -> Result<Vec<Event>> {
        let rows =
            sqlx::query(concat!("SELECT ", columns!(events), " FROM events WHERE seq > $1 ORDER BY seq LIMIT $2"))
                .bind(seq)
                .bind(limit)
                .fetch_all(&mut *self.tx)
                .await?;
        rows.iter().map(|row| event(&Columns { table: "events", row })).collect()
    }

    /// Returns at most `limit` events about a lead after `seq`, oldest first.
    pub async fn lead_events_after(&mut self, lead: LeadId, seq: Seq, limit: u32) -> Result<Vec<Event>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(events),
            " FROM events WHERE lead_id = $1 AND seq > $2 ORDER BY seq LIMIT $3"
        ))
        .bind(lead.to_string())
        .bind(seq)
        .bind(limit)
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(|row| event(&Columns { table: "events", row })).collect()
    }

    /// Seq of the oldest stored event, or of the first event to come.
    pub async fn oldest(&mut self) -> Result<Seq> {
        let oldest = sqlx::query_scalar(concat!("SELECT ", oldest!()));
        Ok(oldest.fetch_one(&mut *self.tx).await?)
    }

    /// Newest event after which a client of each role has to fetch again. Roles without such an event are left out.
    pub async fn resets(&mut self) -> Result<Vec<(Role, Seq)>> {
        let rows = sqlx::query(concat!("SELECT ", columns!(delivery_resets), " FROM delivery_resets ORDER BY role"))
            .fetch_all(&mut *self.tx)
            .await?;
        let reset = |row| {
            let columns = Columns { table: "delivery_resets", row };
            Ok((columns.parsed("role")?, columns.seq("seq")?))
        };
        rows.iter().map(reset).collect()
    }

    /// Seq of the newest reset line of a role; 0 without one.
    pub async fn newest_reset(&mut self, role: Role) -> Result<Seq> {
        let seq = sqlx::query_scalar("SELECT seq FROM delivery_resets WHERE role = $1").bind(role.as_str());
        Ok(seq.fetch_optional(&mut *self.tx).await?.unwrap_or_default())
    }

    /// Oldest event that is kept, newest event that changed what the user may see, and newest reset line of the role.
    pub async fn recovery_bounds(&mut self, user: UserId, role: Role) -> Result<(Seq, Seq, Seq)> {
        let bounds: (Seq, Option<Seq>, Option<Seq>) = sqlx::query_as(concat!(
            "SELECT ",
            oldest!(),
            ", (SELECT rights_seq FROM users WHERE id = $1), (SELECT seq FROM delivery_resets WHERE role = $2)"
        ))
        .bind(user.to_string())
        .bind(role.as_str())
        .fetch_one(&mut *self.tx)
        .await?;
        Ok((bounds.0, bounds.1.unwrap_or_default(), bounds.2.unwrap_or_default()))
    }

    pub async fn event(&mut self, seq: Seq) -> Result<Option<Event>> {
        let row = sqlx::query(concat!("SELECT ", columns!(events), " FROM events WHERE seq = $1"))
            .bind(seq)
            .fetch_optional(&mut *self.tx)
            .await?;
        row.map(|row| event(&Columns { table: "events", row: &row })).transpose()
    }

    /// Seq of the first event at or after `at`, or of the next event to come.
    ///
    /// It assumes that events are ordered by time; this holds unless the clock was set back.
    pub async fn first_seq_since(&mut self, at: Timestamp) -> Result<Seq> {
        let head = self.head().await?;
        let (mut low, mut high) = (Seq::START, head.next());
        // Invariant: every event up to `low` is older, none from `high` on is.
        while low.next() < high {
            let middle = low.forward(high.since(low) / 2);
            let found: Option<(Seq, String)> =
                sqlx::query_as("SELECT seq, at FROM events WHERE seq >= $1 ORDER BY seq LIMIT 1")
                    .bind(middle)
                    .fetch_optional(&mut *self.tx)
                    .await?;
            match found {
                // The text of a timestamp sorts like the time.
                Some((seq, time)) if time < at.to_string() => low = seq,
                _ => high = middle,
            }
        }
        Ok(high)
    }

    /// Returns the newest `limit` events, oldest first.
    pub async fn recent_events(&mut self, limit: u32) -> Result<Vec<Event>> {
        let head = self.head().await?;
        self.events_after(head.back(limit.into()), limit).await
    }
}

impl Tx<'_> {
    /// Generates a new epoch.
    pub(crate) async fn renew_epoch(&mut self) -> Result<Epoch> {
        let epoch = Epoch::generate();
        let update = sqlx::query("UPDATE log SET epoch = $1").bind(&epoch);
        update.execute(&mut *self.reader.tx).await?.exactly_one("log")?;
        Ok(epoch)
    }

    /// Appends an event to the log and returns its seq.
    pub async fn append(&mut self, draft: &NewEvent) -> Result<Seq> {
        walk_step!("append");
        let seq: Seq =
            sqlx::query_scalar("UPDATE log SET head = head + 1 RETURNING head").fetch_one(&mut *self.reader.tx).await?;
        let rooms: Vec<String> = draft.rooms.iter().map(Room::to_string).collect();
        sqlx::query(
            "INSERT INTO events (seq, name, rooms, lead_id, payload, context, at) VALUES ($1, $2, $3, $4, $5, $6, $7)",
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
        self.appended = Some(seq);
        self.events += 1;
        Ok(seq)
    }

    /// Records whom a reset event concerns, for as long as a client may return from before it.
    async fn note_resets(&mut self, seq: Seq, resets: &Resets) -> Result<()> {
        let roles = match resets {
            Resets::Roles(roles) => roles,
            Resets::User(user) => {
                sqlx::query("UPDATE users SET rights_seq = $1 WHERE id = $2")
                    .bind(seq)
                    .bind(user.to_string())
                    .execute(&mut *self.reader.tx)
                    .await?
                    .exactly_one("users")?;
                return Ok(());
            }
        };
        for role in roles {
            sqlx::query(
                "INSERT INTO delivery_resets (role, seq) VALUES ($1, $2)
                 ON CONFLICT (role) DO UPDATE SET seq = excluded.seq",
            )
            .bind(role.as_str())
            .bind(seq)
            .execute(&mut *self.reader.tx)
            .await?;
        }
        Ok(())
    }

    /// Deletes at most `limit` events before `seq`, oldest first, and returns their number. The newest event stays.
    pub async fn prune_events(&mut self, seq: Seq, limit: u32) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM events WHERE seq IN
                 (SELECT seq FROM events WHERE seq < $1 AND seq < (SELECT head FROM log) ORDER BY seq LIMIT $2)",
        );
        let done = done.bind(seq).bind(limit);
        Ok(done.execute(&mut *self.reader.tx).await?.any_number())
    }
}

fn event(columns: &Columns<'_>) -> Result<Event> {
    let rooms: Vec<String> = columns.json("rooms")?;
    let rooms = rooms.iter().map(|room| room.parse().map_err(|error| columns.corrupt("rooms", &error)));
    Ok(Event {
        seq: columns.seq("seq")?,
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
    use crate::store::test_database::TestDatabase;

    #[tokio::test]
    async fn a_time_resolves_to_the_first_event_at_or_after_it() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let at = |millis| Timestamp::from_millis(millis).expect("in range");
        let mut tx = store.write().await.expect("a transaction");
        assert_eq!(tx.first_seq_since(at(0)).await.expect("reads"), Seq(1));
        for millis in [10, 20, 20, 30, 40] {
            let (rooms, payload, context) = (Vec::new(), json!({}), json!({}));
            let draft = NewEvent { name: "lead:created", rooms, lead_id: None, payload, context, at: at(millis) };
            tx.append(&draft).await.expect("a line");
        }
        for (millis, seq) in [(0, 1), (10, 1), (11, 2), (20, 2), (21, 4), (40, 5), (41, 6)] {
            assert_eq!(tx.first_seq_since(at(millis)).await.expect("reads"), Seq(seq), "{millis}");
        }
        sqlx::query("DELETE FROM events WHERE seq < 3").execute(&mut *tx.reader.tx).await.expect("pruned");
        for (millis, first) in [(0, 3), (20, 3), (21, 4), (41, 6)] {
            let seq = tx.first_seq_since(at(millis)).await.expect("reads");
            let events = tx.events_after(seq.before(), 1).await.expect("reads");
            assert_eq!(events.first().map_or(6, |event| event.seq.0), first, "{millis}");
        }
        assert_eq!(tx.event(Seq(2)).await.expect("reads").map(|event| event.seq), None);
        assert_eq!(tx.event(Seq(3)).await.expect("reads").map(|event| event.seq), Some(Seq(3)));
    }

    #[tokio::test]
    async fn events_are_pruned_oldest_first_but_never_the_newest() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        assert_eq!((tx.oldest().await.expect("reads"), tx.prune_events(Seq(9), 9).await.expect("prunes")), (Seq(1), 0));
        let leads = [LeadId(uuid::Uuid::from_u128(1)), LeadId(uuid::Uuid::from_u128(2))];
        for number in 0..10 {
            let (lead_id, at) = (Some(leads[number % 2]), Timestamp::from_millis(0).expect("in range"));
            let (rooms, payload, context) = (Vec::new(), json!({}), json!({}));
            tx.append(&NewEvent { name: "lead:updated", rooms, lead_id, payload, context, at }).await.expect("a line");
        }
        for (before, limit, pruned, oldest) in [(1, 5, 0, 1), (4, 2, 2, 3), (4, 2, 1, 4), (4, 2, 0, 4)] {
            assert_eq!(tx.prune_events(Seq(before), limit).await.expect("prunes"), pruned, "before {before}");
            assert_eq!(tx.oldest().await.expect("reads"), Seq(oldest));
        }
        let of_second = tx.lead_events_after(leads[1], Seq(4), 2).await.expect("reads");
        assert_eq!(of_second.iter().map(|event| event.seq.0).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(tx.prune_events(Seq(u64::MAX), 100).await.expect("prunes"), 6);
        assert_eq!((tx.oldest().await.expect("reads"), tx.head().await.expect("reads")), (Seq(10), Seq(10)));
        let plan: Vec<(i64, i64, i64, String)> = sqlx::query_as(
            "EXPLAIN QUERY PLAN SELECT * FROM events WHERE lead_id = $1 AND seq > $2 ORDER BY seq LIMIT $3",
        )
        .fetch_all(&mut *tx.reader.tx)
        .await
        .expect("explained");
        let plan: Vec<_> = plan.iter().map(|step| step.3.as_str()).collect();
        assert_eq!(plan, ["SEARCH events USING INDEX events_by_lead (lead_id=? AND rowid>?)"]);
    }
}
