//! Followers: plugins that follow the log, with their position, their state and their reminders.

use serde_json::{Map, Value};
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use crate::{
    domain::{
        actor::{ActorAccount, ActorKind, Cause},
        counter::Seq,
        id::{LeadId, UserId},
        plugin_name::PluginName,
        time::Timestamp,
        user::PLUGIN_DOMAIN,
    },
    store::{
        affected::AffectedRows,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, json},
    },
};

/// Position of a plugin in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerPosition {
    /// Last event that it need not be asked about any more.
    pub seq: Seq,
    /// State that the plugin asked to keep.
    pub state: Option<String>,
}

/// Reminder that a plugin requested for later.
#[derive(Clone, Debug, PartialEq)]
pub struct Reminder {
    pub key: String,
    /// A new id each time the key is used.
    pub id: Uuid,
    pub due_at: Timestamp,
    pub lead_id: Option<LeadId>,
    pub data: Value,
    pub cause: Cause,
}

/// Progress of a follower, and the number of its open effects and reminders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerStats {
    pub plugin: PluginName,
    pub seq: Seq,
    /// Head of the log at the time of the query.
    pub head: Seq,
    /// Number of events that it was not asked about because the chain of plugins was too long.
    pub stopped: u64,
    pub pending: u64,
    pub parked: u64,
    pub reminders: u64,
}

/// `state <> 'done'` is the condition of the partial index of open effects; without it, completed effects would be
/// scanned too.
pub(crate) const FOLLOWER_STATS: &str = "SELECT f.plugin, f.seq, f.stopped, (SELECT head FROM log) AS head,
    (SELECT count(*) FROM effects WHERE plugin = f.plugin AND state = 'pending' AND state <> 'done') AS pending,
    (SELECT count(*) FROM effects WHERE plugin = f.plugin AND state = 'parked' AND state <> 'done') AS parked,
    (SELECT count(*) FROM reminders WHERE plugin = f.plugin) AS reminders
    FROM followers f ORDER BY f.plugin";

impl Reader {
    /// Returns the plugin as an actor, if it ever followed the log.
    pub async fn plugin_actor(&mut self, id: UserId) -> Result<Option<ActorAccount>> {
        let row = sqlx::query(concat!("SELECT ", columns!(plugin_actors), " FROM plugin_actors WHERE id = $1"))
            .bind(id.to_string());
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(actor).transpose()
    }

    pub async fn plugin_actor_named(&mut self, name: &str) -> Result<Option<ActorAccount>> {
        let row =
            sqlx::query(concat!("SELECT ", columns!(plugin_actors), " FROM plugin_actors WHERE name = $1")).bind(name);
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(actor).transpose()
    }

    /// `None` when the plugin never followed the log, or was removed since.
    pub async fn follower(&mut self, plugin: &PluginName) -> Result<Option<FollowerPosition>> {
        let row = sqlx::query("SELECT seq, state FROM followers WHERE plugin = $1").bind(plugin);
        let Some(row) = row.fetch_optional(&mut *self.tx).await? else { return Ok(None) };
        let columns = Columns { table: "followers", row: &row };
        Ok(Some(FollowerPosition { seq: columns.seq("seq")?, state: columns.maybe_text("state")? }))
    }

    /// Reminder that comes due first.
    pub async fn next_reminder(&mut self, plugin: &PluginName) -> Result<Option<Reminder>> {
        let row = sqlx::query(concat!(
            "SELECT ",
            columns!(reminders),
            " FROM reminders WHERE plugin = $1 ORDER BY due_at, id LIMIT 1"
        ))
        .bind(plugin);
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(reminder).transpose()
    }

    /// True if a reminder can be set without exceeding `most` waiting ones: a reminder replaces another one with its
    /// key.
    pub async fn has_room_for_reminder(&mut self, plugin: &PluginName, key: &str, most: u64) -> Result<bool> {
        let has_room = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM reminders WHERE plugin = $1 AND key = $2)
             OR (SELECT count(*) FROM (SELECT 1 FROM reminders WHERE plugin = $1 LIMIT $3) AS waiting) < $3",
        )
        .bind(plugin)
        .bind(key)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(has_room)
    }

    /// Statistics of every plugin that follows the log, by name.
    pub async fn follower_stats(&mut self) -> Result<Vec<FollowerStats>> {
        let rows = sqlx::query(FOLLOWER_STATS).fetch_all(&mut *self.tx).await?;
        rows.iter().map(stats).collect()
    }
}

impl Tx<'_> {
    /// Makes a plugin follow the log from here on, unless it does so already.
    ///
    /// `id` becomes the id of its actor if it never followed the log before.
    pub async fn begin_following(&mut self, plugin: &PluginName, id: UserId, at: Timestamp) -> Result<()> {
        sqlx::query("INSERT INTO plugin_actors (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING")
            .bind(id.to_string())
            .bind(plugin)
            .bind(at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        sqlx::query("INSERT INTO followers (plugin, seq) SELECT $1, head FROM log WHERE true ON CONFLICT DO NOTHING")
            .bind(plugin)
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Advances a plugin's position in the log; false when it is not at `from`, because somebody else moved it.
    pub async fn advance(&mut self, plugin: &PluginName, from: Seq, to: Seq, stopped: u64) -> Result<bool> {
        sqlx::query("UPDATE followers SET seq = $1, stopped = stopped + $2 WHERE plugin = $3 AND seq = $4")
            .bind(to)
            .bind(stopped as i64)
            .bind(plugin)
            .bind(from)
            .execute(&mut *self.reader.tx)
            .await?
            .at_most_one("followers")
    }

    pub async fn keep_state(&mut self, plugin: &PluginName, state: &str) -> Result<()> {
        sqlx::query("UPDATE followers SET state = $1 WHERE plugin = $2")
            .bind(state)
            .bind(plugin)
            .execute(&mut *self.reader.tx)
            .await?
            .exactly_one("followers")
    }

    /// Sets a reminder; it replaces an earlier one with the same key.
    pub async fn set_reminder(&mut self, plugin: &PluginName, reminder: &Reminder) -> Result<()> {
        self.staged = true;
        sqlx::query(
            "INSERT INTO reminders (plugin, key, id, due_at, lead_id, data, cause) VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (plugin, key) DO UPDATE SET id = excluded.id, due_at = excluded.due_at,
                 lead_id = excluded.lead_id, data = excluded.data, cause = excluded.cause",
        )
        .bind(plugin)
        .bind(&reminder.key)
        .bind(reminder.id.to_string())
        .bind(reminder.due_at.to_string())
        .bind(reminder.lead_id.map(|id| id.to_string()))
        .bind(reminder.data.to_string())
        .bind(json(&reminder.cause))
        .execute(&mut *self.reader.tx)
        .await?;
        Ok(())
    }

    /// Removes a reminder that came due; false when another one has replaced it.
    pub async fn take_reminder(&mut self, plugin: &PluginName, id: Uuid) -> Result<bool> {
        sqlx::query("DELETE FROM reminders WHERE plugin = $1 AND id = $2")
            .bind(plugin)
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?
            .at_most_one("reminders")
    }

    /// Deletes a plugin's position, state, effects and reminders; changes that it made stay. False when there was
    /// nothing.
    pub async fn forget_follower(&mut self, plugin: &PluginName) -> Result<bool> {
        let mut forgotten = 0;
        for statement in [
            "DELETE FROM reminders WHERE plugin = $1",
            "DELETE FROM effects WHERE plugin = $1",
            "DELETE FROM followers WHERE plugin = $1",
        ] {
            forgotten += sqlx::query(statement).bind(plugin).execute(&mut *self.reader.tx).await?.any_number();
        }
        Ok(forgotten > 0)
    }
}

impl Reminder {
    /// Stored form of a reminder that came due and could not be delivered.
    pub fn to_input(&self) -> Map<String, Value> {
        let Self { key, id, due_at, lead_id, data, .. } = self;
        let input = serde_json::json!({"key": key, "id": id, "at": due_at, "leadId": lead_id, "data": data});
        let Value::Object(input) = input else { unreachable!("written as an object") };
        input
    }

    /// Restores a reminder from the form of `to_input`.
    pub fn from_input(input: &Map<String, Value>, cause: Cause) -> Option<Self> {
        let member = |name: &str| input.get(name).cloned().unwrap_or_default();
        Some(Self {
            key: serde_json::from_value(member("key")).ok()?,
            id: serde_json::from_value(member("id")).ok()?,
            due_at: serde_json::from_value(member("at")).ok()?,
            lead_id: serde_json::from_value(member("leadId")).ok()?,
            data: member("data"),
            cause,
        })
    }
}

fn actor(row: &SqliteRow) -> Result<ActorAccount> {
    let columns = Columns { table: "plugin_actors", row };
    let (name, created_at) = (columns.text("name")?, columns.parsed("created_at")?);
    Ok(ActorAccount {
        id: columns.parsed("id")?,
        email: format!("{name}{PLUGIN_DOMAIN}"),
        name,
        kind: ActorKind::Plugin,
        active: true,
        created_at,
        updated_at: created_at,
    })
}

fn reminder(row: &SqliteRow) -> Result<Reminder> {
    let columns = Columns { table: "reminders", row };
    Ok(Reminder {
        key: columns.text("key")?,
        id: columns.parsed("id")?,
        due_at: columns.parsed("due_at")?,
        lead_id: columns.maybe("lead_id")?,
        data: columns.json("data")?,
        cause: columns.json("cause")?,
    })
}

fn stats(row: &SqliteRow) -> Result<FollowerStats> {
    let count = |column: &str| -> Result<u64> { Ok(row.try_get::<i64, _>(column)? as u64) };
    Ok(FollowerStats {
        plugin: row.try_get("plugin")?,
        seq: row.try_get("seq")?,
        head: row.try_get("head")?,
        stopped: count("stopped")?,
        pending: count("pending")?,
        parked: count("parked")?,
        reminders: count("reminders")?,
    })
}
