//! Effects of plugins (outbox): staged with the plugin's answer, executed once, or parked with the reason of the
//! failure.

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{QueryBuilder, Sqlite, sqlite::SqliteRow};

use crate::{
    domain::{actor::Cause, plugin_name::PluginName, time::Timestamp},
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, json},
    },
};

/// Name of a failed question to a plugin about an occasion. It is not an effect, but parked and retried like one.
pub const QUESTION: &str = "after";
/// Name of a note for people about events that retention deleted before the plugin was asked about them.
pub const GAP: &str = "gap";
/// Name of webhook effects, which are sent concurrently with other effects, in no order.
pub const WEBHOOK: &str = "webhook";

const NO_POSITION: i64 = -1;

/// Each statement repeats the condition of its partial index on `state` literally: without that index, completed
/// effects would be scanned too.
const NEXT: &str = concat!(
    "SELECT ",
    columns!(effects),
    " FROM effects
    WHERE plugin = $1 AND state = 'pending' AND name NOT IN ('webhook', 'after') ORDER BY id LIMIT 1"
);
const DUE: &str = concat!(
    "SELECT ",
    columns!(effects),
    " FROM effects WHERE plugin = $1 AND state = 'pending' AND name = $2 ORDER BY due_at, id LIMIT $3"
);
const RETRY_PARKED: &str = "UPDATE effects SET state = 'pending', attempts = 0, due_at = $1, finished_at = NULL
    WHERE plugin = $2 AND state = 'parked' AND state <> 'done' AND name <> 'gap'";
const COUNT_OPEN: &str = "SELECT count(*) FROM
    (SELECT 1 FROM effects WHERE state <> 'done' AND plugin = $1 AND state IN ('pending', 'parked') LIMIT $2) AS counted";
const OPEN: &str = concat!("SELECT ", columns!(effects), " FROM effects WHERE state <> 'done' AND plugin = ");

/// Effect to be executed for a plugin.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredEffect {
    pub id: i64,
    pub plugin: PluginName,
    pub occasion: String,
    /// Position in the answer; `None` for a row that is not an effect.
    pub position: Option<u32>,
    pub name: String,
    pub input: Map<String, Value>,
    pub cause: Cause,
    /// Time of the occasion.
    pub happened_at: Timestamp,
    pub state: EffectState,
    pub attempts: u32,
    /// Earliest time of the next attempt.
    pub due_at: Timestamp,
    /// Reason why the last attempt failed.
    pub reason: Option<String>,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum EffectState {
    Pending,
    Parked,
    Done,
}

impl EffectState {
    pub const ALL: [Self; 3] = [Self::Pending, Self::Parked, Self::Done];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Parked => "parked",
            Self::Done => "done",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

/// Effect to be inserted: pending, or parked if there is a reason.
struct NewEffect<'a> {
    plugin: &'a str,
    position: i64,
    name: &'a str,
    input: &'a Map<String, Value>,
    cause: &'a Cause,
    happened_at: Timestamp,
    reason: Option<&'a str>,
    at: Timestamp,
}

impl Reader {
    /// Returns the effect of a plugin with that id.
    pub async fn effect(&mut self, plugin: &PluginName, id: i64) -> Result<Option<StoredEffect>> {
        let row = sqlx::query(concat!("SELECT ", columns!(effects), " FROM effects WHERE plugin = $1 AND id = $2"))
            .bind(plugin)
            .bind(id);
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(effect).transpose()
    }

    /// Returns at most `limit` open effects of a plugin in one of the states, oldest first, with ids greater than
    /// `after`.
    pub async fn effects(
        &mut self,
        plugin: &PluginName,
        states: &[EffectState],
        after: Option<i64>,
        limit: u32,
    ) -> Result<Vec<StoredEffect>> {
        let mut query = QueryBuilder::<Sqlite>::new(OPEN);
        query.push_bind(plugin).push(" AND state IN (");
        let mut names = query.separated(", ");
        for state in states {
            names.push_bind(state.as_str());
        }
        query.push(") AND id > ").push_bind(after.unwrap_or(0)).push(" ORDER BY id LIMIT ").push_bind(limit);
        query.build().fetch_all(&mut *self.tx).await?.iter().map(effect).collect()
    }

    /// Number of pending and parked effects of a plugin, counted up to `most`.
    pub async fn open_effects(&mut self, plugin: &PluginName, most: u64) -> Result<u64> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let count: i64 = sqlx::query_scalar(COUNT_OPEN).bind(plugin).bind(most).fetch_one(&mut *self.tx).await?;
        Ok(count as u64)
    }

    /// Next effect to execute for a plugin, excluding webhooks.
    pub async fn next_effect(&mut self, plugin: &PluginName) -> Result<Option<StoredEffect>> {
        let row = sqlx::query(NEXT);
        row.bind(plugin).fetch_optional(&mut *self.tx).await?.as_ref().map(effect).transpose()
    }

    /// Pending effects with that name, earliest due first.
    pub async fn pending_effects(&mut self, plugin: &PluginName, name: &str, limit: u32) -> Result<Vec<StoredEffect>> {
        let rows = sqlx::query(DUE);
        rows.bind(plugin).bind(name).bind(limit).fetch_all(&mut *self.tx).await?.iter().map(effect).collect()
    }
}

impl Tx<'_> {
    /// Stages the effects of an answer; effects of the same occasion that were staged before are left unchanged.
    pub async fn stage<'e>(
        &mut self,
        plugin: &PluginName,
        cause: &Cause,
        effects: impl Iterator<Item = (&'static str, &'e Map<String, Value>)> + Send,
        happened_at: Timestamp,
        at: Timestamp,
    ) -> Result<()> {
        for (position, (name, input)) in effects.enumerate() {
            self.staged = true;
            let (position, reason) = (position as i64, None);
            self.insert_effect(&NewEffect { plugin, position, name, input, cause, happened_at, reason, at }).await?;
        }
        Ok(())
    }

    /// Parks a row that is not an effect: [`QUESTION`] or [`GAP`].
    #[expect(clippy::too_many_arguments, reason = "each is a column")]
    pub async fn park(
        &mut self,
        plugin: &PluginName,
        name: &'static str,
        input: &Map<String, Value>,
        cause: &Cause,
        happened_at: Timestamp,
        reason: &str,
        at: Timestamp,
    ) -> Result<()> {
        let (position, reason) = (NO_POSITION, Some(reason));
        self.insert_effect(&NewEffect { plugin, position, name, input, cause, happened_at, reason, at }).await
    }

    async fn insert_effect(&mut self, new: &NewEffect<'_>) -> Result<()> {
        let state = if new.reason.is_none() { EffectState::Pending } else { EffectState::Parked };
        sqlx::query(
            "INSERT INTO effects (plugin, occasion, position, name, input, cause, happened_at, due_at, created_at,
                 state, reason, finished_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8, $9, $10, $11)
             ON CONFLICT (plugin, occasion, position) DO NOTHING",
        )
        .bind(new.plugin)
        .bind(&new.cause.occasion)
        .bind(new.position)
        .bind(new.name)
        .bind(json(new.input))
        .bind(json(new.cause))
        .bind(new.happened_at.to_string())
        .bind(new.at.to_string())
        .bind(state.as_str())
        .bind(new.reason)
        .bind(new.reason.map(|_| new.at.to_string()))
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(())
    }

    /// Marks a pending effect as done; false when it is no longer pending.
    pub async fn finish_effect(&mut self, id: i64, at: Timestamp) -> Result<bool> {
        let update = sqlx::query(
            "UPDATE effects SET state = 'done', reason = NULL, finished_at = $1 WHERE id = $2 AND state = 'pending'",
        );
        update.bind(at.to_string()).bind(id).execute(&mut *self.reader.tx).await?.at_most_one("effects")
    }

    /// Records a failed attempt, unless the effect is no longer pending. It is due again at the given time; without a
    /// time, it is parked.
    pub async fn fail_effect(
        &mut self,
        id: i64,
        reason: &str,
        again_at: Option<Timestamp>,
        at: Timestamp,
    ) -> Result<()> {
        let state = if again_at.is_some() { EffectState::Pending } else { EffectState::Parked };
        sqlx::query(
            "UPDATE effects SET state = $1, reason = $2, attempts = attempts + 1, due_at = coalesce($3, due_at), finished_at = $4
             WHERE id = $5 AND state = 'pending'",
        )
        .bind(state.as_str())
        .bind(reason)
        .bind(again_at.map(|time| time.to_string()))
        .bind(again_at.is_none().then(|| at.to_string()))
        .bind(id)
        .execute(&mut *self.reader.tx)
        .await?
        .at_most_one("effects")?;
        Ok(())
    }

    /// Makes a parked or waiting effect due at once; false when there is none.
    pub async fn retry_effect(&mut self, plugin: &PluginName, id: i64, at: Timestamp) -> Result<bool> {
        self.staged = true;
        let update = sqlx::query(
            "UPDATE effects SET state = 'pending', attempts = 0, due_at = $1, finished_at = NULL
             WHERE plugin = $2 AND id = $3 AND state <> 'done' AND name <> 'gap'",
        );
        let update = update.bind(at.to_string()).bind(plugin).bind(id);
        update.execute(&mut *self.reader.tx).await?.at_most_one("effects")
    }

    /// Makes all parked effects due at once and returns their number.
    pub async fn retry_effects(&mut self, plugin: &PluginName, at: Timestamp) -> Result<u64> {
        self.staged = true;
        let update = sqlx::query(RETRY_PARKED).bind(at.to_string()).bind(plugin);
        Ok(update.execute(&mut *self.reader.tx).await?.any_number())
    }

    /// Drops an effect that is not done; false when there is none.
    pub async fn drop_effect(&mut self, plugin: &PluginName, id: i64) -> Result<bool> {
        self.staged = true;
        let delete = sqlx::query("DELETE FROM effects WHERE plugin = $1 AND id = $2 AND state <> 'done'");
        delete.bind(plugin).bind(id).execute(&mut *self.reader.tx).await?.at_most_one("effects")
    }

    /// Deletes at most `limit` effects that were done before `since`, and returns their number.
    pub async fn prune_effects(&mut self, since: Timestamp, limit: u32) -> Result<u64> {
        let done = sqlx::query(
            "DELETE FROM effects WHERE id IN
                 (SELECT id FROM effects WHERE state = 'done' AND finished_at < $1 ORDER BY finished_at LIMIT $2)",
        );
        Ok(done.bind(since.to_string()).bind(limit).execute(&mut *self.reader.tx).await?.any_number())
    }
}

fn effect(row: &SqliteRow) -> Result<StoredEffect> {
    let columns = Columns { table: "effects", row };
    Ok(StoredEffect {
        id: columns.integer("id")?,
        plugin: columns.plugin("plugin")?,
        occasion: columns.text("occasion")?,
        position: u32::try_from(columns.integer("position")?).ok(),
        name: columns.text("name")?,
        input: columns.json("input")?,
        cause: columns.json("cause")?,
        happened_at: columns.parsed("happened_at")?,
        state: columns.named("state", EffectState::from_name)?,
        attempts: columns.integer("attempts")? as u32,
        due_at: columns.parsed("due_at")?,
        reason: columns.maybe_text("reason")?,
        created_at: columns.parsed("created_at")?,
    })
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Row};

    use super::*;
    use crate::store::{follower::FOLLOWER_STATS, test_database::TestDatabase};

    #[tokio::test]
    async fn effect_queries_use_indexes_that_skip_completed_effects() {
        let database = TestDatabase::new();
        let store = database.open().await;
        let mut reader = store.read().await.expect("reads");
        let open = format!("{OPEN}? AND state IN (?, ?) AND id > ? ORDER BY id LIMIT ?");
        let queries = [
            (NEXT, "effects_next (plugin=?)"),
            (DUE, "effects_due (plugin=? AND name=?)"),
            (RETRY_PARKED, "effects_open (plugin=? AND state=?)"),
            (&open, "effects_open (plugin=? AND state=?"),
            (FOLLOWER_STATS, "effects_open (plugin=? AND state=?)"),
            (COUNT_OPEN, "effects_open (plugin=? AND state=?)"),
        ];
        for (query, index) in queries {
            let plan = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}")));
            let rows = plan.fetch_all(&mut *reader.tx).await.expect("planned");
            let steps: Vec<String> = rows.iter().map(|row| row.get("detail")).collect();
            let on_effects: Vec<_> = steps.iter().filter(|step| step.contains(" effects ")).collect();
            let is_good = !on_effects.is_empty() && on_effects.iter().all(|step| step.contains(index));
            assert!(is_good, "{query}: {steps:#?}");
        }
    }
}
