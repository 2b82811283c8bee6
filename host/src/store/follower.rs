//! Plugins that follow the log: who they are, how far they are, what they keep and what to remind them of.

use serde_json::{Map, Value};
use sqlx::{Row, sqlite::SqliteRow};
use uuid::Uuid;

use super::{
    Reader, Result, Tx,
    row::{Columns, json},
};
use crate::domain::{
    event::Cause,
    id::{LeadId, UserId},
    role::Role,
    time::Timestamp,
    user::{PLUGIN_DOMAIN, User},
};

/// How far a plugin has followed the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Follower {
    /// The last line that it needs not be asked about any more.
    pub seq: u64,
    /// What it asked to be kept.
    pub state: Option<String>,
}

/// What a plugin asked to be told later.
#[derive(Clone, Debug, PartialEq)]
pub struct Reminder {
    pub key: String,
    /// Another one each time the key is used.
    pub id: Uuid,
    pub due_at: Timestamp,
    pub lead_id: Option<LeadId>,
    pub data: Value,
    pub cause: Cause,
}

/// What there is to tell of a follower.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    pub plugin: String,
    pub seq: u64,
    /// How far the log was at that moment.
    pub head: u64,
    /// Lines that it was not asked about because a chain of plugins was too long.
    pub stopped: u64,
    pub pending: u64,
    pub parked: u64,
    pub reminders: u64,
}

/// `state <> 'done'` is what the partial index of open effects says, without which those that were done are counted over.
pub(super) const STANDINGS: &str = "SELECT f.plugin, f.seq, f.stopped, (SELECT head FROM log) AS head,
    (SELECT count(*) FROM effects WHERE plugin = f.plugin AND state = 'pending' AND state <> 'done') AS pending,
    (SELECT count(*) FROM effects WHERE plugin = f.plugin AND state = 'parked' AND state <> 'done') AS parked,
    (SELECT count(*) FROM reminders WHERE plugin = f.plugin) AS reminders
    FROM followers f ORDER BY f.plugin";

impl Reader {
    /// The plugin as an actor, if it ever followed the log.
    pub async fn plugin_actor(&mut self, id: UserId) -> Result<Option<User>> {
        let row = sqlx::query("SELECT * FROM plugin_actors WHERE id = ?").bind(id.to_string());
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(actor).transpose()
    }

    pub async fn plugin_actor_named(&mut self, name: &str) -> Result<Option<User>> {
        let row = sqlx::query("SELECT * FROM plugin_actors WHERE name = ?").bind(name);
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(actor).transpose()
    }

    /// None when the plugin never followed the log, or was removed since.
    pub async fn follower(&mut self, plugin: &str) -> Result<Option<Follower>> {
        let row = sqlx::query("SELECT seq, state FROM followers WHERE plugin = ?").bind(plugin);
        let Some(row) = row.fetch_optional(&mut *self.tx).await? else { return Ok(None) };
        let columns = Columns { table: "followers", row: &row };
        Ok(Some(Follower { seq: columns.integer("seq")? as u64, state: columns.maybe_text("state")? }))
    }

    /// The reminder that comes due first.
    pub async fn next_reminder(&mut self, plugin: &str) -> Result<Option<Reminder>> {
        let row = sqlx::query("SELECT * FROM reminders WHERE plugin = ? ORDER BY due_at, id LIMIT 1").bind(plugin);
        row.fetch_optional(&mut *self.tx).await?.as_ref().map(reminder).transpose()
    }

    /// Whether a reminder can be set without more than `most` of the plugin's waiting: one takes the place of another
    /// with its key.
    pub async fn has_room_for_reminder(&mut self, plugin: &str, key: &str, most: u64) -> Result<bool> {
        let has_room: i64 = sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM reminders WHERE plugin = ?1 AND key = ?2)
             OR (SELECT count(*) FROM (SELECT 1 FROM reminders WHERE plugin = ?1 LIMIT ?3)) < ?3",
        )
        .bind(plugin)
        .bind(key)
        .bind(i64::try_from(most).unwrap_or(i64::MAX))
        .fetch_one(&mut *self.tx)
        .await?;
        Ok(has_room != 0)
    }

    /// Every plugin that follows the log, by name.
    pub async fn standings(&mut self) -> Result<Vec<Standing>> {
        let rows = sqlx::query(STANDINGS).fetch_all(&mut *self.tx).await?;
        rows.iter().map(standing).collect()
    }
}

impl Tx<'_> {
    /// Lets a plugin follow the log from here on, unless it does so already.
    ///
    /// `id` is for one that never did.
    pub async fn begin_following(&mut self, plugin: &str, id: UserId, at: Timestamp) -> Result<()> {
        sqlx::query("INSERT INTO plugin_actors (id, name, created_at) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(id.to_string())
            .bind(plugin)
            .bind(at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        sqlx::query("INSERT INTO followers (plugin, seq) SELECT ?, head FROM log WHERE true ON CONFLICT DO NOTHING")
            .bind(plugin)
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Moves a plugin's place in the log; false when it is not at `from`, and somebody else moved it.
    pub async fn advance(&mut self, plugin: &str, from: u64, to: u64, stopped: u64) -> Result<bool> {
        let done = sqlx::query("UPDATE followers SET seq = ?, stopped = stopped + ? WHERE plugin = ? AND seq = ?")
            .bind(to as i64)
            .bind(stopped as i64)
            .bind(plugin)
            .bind(from as i64)
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    pub async fn keep_state(&mut self, plugin: &str, state: &str) -> Result<()> {
        sqlx::query("UPDATE followers SET state = ? WHERE plugin = ?")
            .bind(state)
            .bind(plugin)
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Takes the place of an earlier reminder with the same key.
    pub async fn set_reminder(&mut self, plugin: &str, reminder: &Reminder) -> Result<()> {
        self.staged = true;
        sqlx::query(
            "INSERT OR REPLACE INTO reminders (plugin, key, id, due_at, lead_id, data, cause) VALUES (?, ?, ?, ?, ?, ?, ?)",
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

    /// Ends a reminder that came due; false when another one took its place.
    pub async fn take_reminder(&mut self, plugin: &str, id: Uuid) -> Result<bool> {
        let done = sqlx::query("DELETE FROM reminders WHERE plugin = ? AND id = ?")
            .bind(plugin)
            .bind(id.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        Ok(done.rows_affected() > 0)
    }

    /// Forgets what a plugin followed, kept and wanted; what it did stays. False when there was nothing.
    pub async fn forget_follower(&mut self, plugin: &str) -> Result<bool> {
        let mut forgotten = 0;
        for statement in [
            "DELETE FROM reminders WHERE plugin = ?",
            "DELETE FROM effects WHERE plugin = ?",
            "DELETE FROM followers WHERE plugin = ?",
        ] {
            forgotten += sqlx::query(statement).bind(plugin).execute(&mut *self.reader.tx).await?.rows_affected();
        }
        Ok(forgotten > 0)
    }
}

impl Reminder {
    /// What is kept of it once it came due and could not be told.
    pub fn to_input(&self) -> Map<String, Value> {
        let Self { key, id, due_at, lead_id, data, .. } = self;
        let input = serde_json::json!({"key": key, "id": id, "at": due_at, "leadId": lead_id, "data": data});
        let Value::Object(input) = input else { unreachable!("written as an object") };
        input
    }

    /// What `to_input` kept.
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

fn actor(row: &SqliteRow) -> Result<User> {
    let columns = Columns { table: "plugin_actors", row };
    let (name, created_at) = (columns.text("name")?, columns.parsed("created_at")?);
    Ok(User {
        id: columns.parsed("id")?,
        email: format!("{name}{PLUGIN_DOMAIN}"),
        name,
        role: Role::Plugin,
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

fn standing(row: &SqliteRow) -> Result<Standing> {
    let count = |column: &str| -> Result<u64> { Ok(row.try_get::<i64, _>(column)? as u64) };
    Ok(Standing {
        plugin: row.try_get("plugin")?,
        seq: count("seq")?,
        head: count("head")?,
        stopped: count("stopped")?,
        pending: count("pending")?,
        parked: count("parked")?,
        reminders: count("reminders")?,
    })
}
