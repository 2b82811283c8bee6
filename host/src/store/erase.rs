//! Erasure of a person: rows are deleted, events of the log are blanked in place, so that no seq is missing.
//!
//! Every connection uses `secure_delete`, so that pages retain nothing. Only the write-ahead log still contains old
//! versions of pages; [`Store::truncate_wal`] empties it.

use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use sqlx::{AssertSqlSafe, ConnectOptions, Row, sqlite::SqliteConnectOptions};
use tokio::time::{Instant, sleep};
use unicode_normalization::UnicodeNormalization;

use crate::{
    domain::{
        folding::fold,
        id::{LeadId, UserId},
        lead::Lead,
        user::User,
    },
    store::{
        error::Result,
        handle::{Reader, Store, Tx},
        pool::PATIENCE,
    },
};

/// Name of a blanked event. It has no room, so it is sent to nobody.
pub const BLANKED: &str = "log:blanked";

/// Columns that may contain a copy of a user's name and address, as JSON.
const COPIES: [(&str, &str); 10] = [
    ("events", "payload"),
    ("events", "context"),
    ("idempotency_keys", "outcome"),
    ("lead_changes", "from_value"),
    ("lead_changes", "to_value"),
    ("lead_changes", "actor"),
    ("effects", "input"),
    ("effects", "cause"),
    ("reminders", "data"),
    ("audit", "detail"),
];

/// Columns that may mention a person, each with the expression for the id of its lead.
const MENTIONS: [(&str, &str, &str); 13] = [
    ("leads", "title", "id"),
    ("leads", "contact_name", "id"),
    ("leads", "email", "id"),
    ("leads", "description", "id"),
    ("leads", "custom", "id"),
    ("activities", "body", "lead_id"),
    ("activities", "meta", "lead_id"),
    ("lead_changes", "from_value", "lead_id"),
    ("lead_changes", "to_value", "lead_id"),
    ("events", "payload", "lead_id"),
    ("effects", "input", "NULL"),
    ("followers", "state", "NULL"),
    ("audit", "detail", "NULL"),
];
/// Maximum number of mentions listed per column.
pub const MAX_NAMED: usize = 100;

/// Counts of what was erased with leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Erased {
    pub leads: u64,
    pub activities: u64,
    pub changes: u64,
    /// Blanked events of the log.
    pub events: u64,
    pub idempotency_outcomes: u64,
    pub effects: u64,
    pub reminders: u64,
    /// Rows of other tables.
    pub others: u64,
}

impl Erased {
    /// Adds two counts.
    pub fn and(self, other: Self) -> Self {
        Self {
            leads: self.leads + other.leads,
            activities: self.activities + other.activities,
            changes: self.changes + other.changes,
            events: self.events + other.events,
            idempotency_outcomes: self.idempotency_outcomes + other.idempotency_outcomes,
            effects: self.effects + other.effects,
            reminders: self.reminders + other.reminders,
            others: self.others + other.others,
        }
    }
}

/// Place that still mentions a person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mention {
    pub table: &'static str,
    pub column: &'static str,
    pub lead_id: Option<String>,
}

/// Possible spellings of a text after SQLite's `lower`, which changes only ASCII, as a JSON list.
fn spellings(text: &str) -> String {
    let cases = [text.to_owned(), text.to_lowercase(), text.to_uppercase()];
    let forms = cases.iter().flat_map(|text| [text.nfc().collect::<String>(), text.nfd().collect()]);
    let mut spellings: Vec<String> = forms.map(|text| text.to_ascii_lowercase()).collect();
    spellings.sort();
    spellings.dedup();
    json!(spellings).to_string()
}

impl Reader {
    /// Leads with this e-mail address, including deleted ones. Case and Unicode normal form are ignored.
    pub async fn leads_with_email(&mut self, email: &str) -> Result<Vec<LeadId>> {
        let same = |text: &str| -> String { text.nfc().flat_map(char::to_lowercase).collect() };
        // Equal folded texts may still be different addresses: accents count.
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT leads.id, leads.email FROM leads JOIN lead_search s ON s.lead_id = leads.id
             WHERE s.email = $1 AND leads.email IS NOT NULL ORDER BY leads.id",
        )
        .bind(fold(email))
        .fetch_all(&mut *self.tx)
        .await?;
        let theirs = rows.iter().filter(|(_, stored)| same(stored) == same(email));
        Ok(theirs.filter_map(|(id, _)| id.parse().ok()).collect())
    }

    /// Returns the lead, deleted or not.
    pub async fn any_lead(&mut self, id: LeadId) -> Result<Option<Lead>> {
        match self.lead(id).await? {
            Some(lead) => Ok(Some(lead)),
            None => self.deleted_lead(id).await,
        }
    }

    async fn has_table(&mut self, name: &str) -> Result<bool> {
        let count: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = $1")
            .bind(name)
            .fetch_one(&mut *self.tx)
            .await?;
        Ok(count > 0)
    }

    /// Places that still contain a text, ignoring case.
    pub async fn mentions(&mut self, text: &str) -> Result<Vec<Mention>> {
        let spellings = spellings(text);
        let mut found = Vec::new();
        for (table, column, lead) in MENTIONS {
            if !self.has_table(table).await? {
                continue;
            }
            let query = format!(
                "SELECT DISTINCT {lead} FROM {table}
                 WHERE EXISTS (SELECT 1 FROM json_each($1) WHERE instr(lower({column}), value) > 0) LIMIT {MAX_NAMED}"
            );
            let rows = sqlx::query(AssertSqlSafe(query)).bind(&spellings).fetch_all(&mut *self.tx).await?;
            for row in rows {
                found.push(Mention { table, column, lead_id: row.try_get(0)? });
            }
        }
        Ok(found)
    }
}

impl Tx<'_> {
    /// Erases a lead with everything that belongs to it or was derived from it.
    pub async fn erase_lead(&mut self, id: LeadId) -> Result<Erased> {
        let id = id.to_string();
        let of_lead = "(instr(input, $1) > 0
            OR occasion IN (SELECT l.epoch || ':' || e.seq FROM events e, log l WHERE e.lead_id = $1))";
        let done = format!("UPDATE effects SET input = '{{}}', reason = NULL WHERE state = 'done' AND {of_lead}");
        let open = format!("DELETE FROM effects WHERE state <> 'done' AND {of_lead}");
        let effects = self.of(&done, &id).await? + self.of(&open, &id).await?;
        let reminders = "DELETE FROM reminders WHERE lead_id = $1 OR instr(data, $1) > 0 OR instr(key, $1) > 0";
        let reminders = self.of(reminders, &id).await?;

        // The key stays, or a repeated request would create the lead again.
        let outcomes = "UPDATE idempotency_keys SET outcome = '\"deleted\"' WHERE instr(outcome, $1) > 0";
        let idempotency_outcomes = self.of(outcomes, &id).await?;
        let blank = format!(
            "UPDATE events SET name = '{BLANKED}', rooms = '[]', payload = '{{}}', context = '{{}}', lead_id = NULL
             WHERE lead_id = $1"
        );
        let events = self.of(&blank, &id).await?;

        let activities = self.of("DELETE FROM activities WHERE lead_id = $1", &id).await?;
        let changes = self.of("DELETE FROM lead_changes WHERE lead_id = $1", &id).await?;
        let mut others = 0;
        for table in self.tables_about_leads().await? {
            let delete = match table.as_str() {
                // A hold of all leads of a role outlives the lead that it is judged by; its reason may quote that lead.
                "holds" => {
                    self.of("UPDATE holds SET reason = '' WHERE lead_id = $1", &id).await?;
                    "DELETE FROM holds WHERE lead_id = $1 AND NOT is_all".to_owned()
                }
                table => format!("DELETE FROM \"{table}\" WHERE lead_id = $1"),
            };
            others += self.of(&delete, &id).await?;
        }
        let leads = self.of("DELETE FROM leads WHERE id = $1", &id).await?;
        self.staged = true;
        Ok(Erased { leads, activities, changes, events, idempotency_outcomes, effects, reminders, others })
    }

    /// Replaces the name and address of a user, as given by `old`, in every stored copy. Returns the number of changed
    /// values.
    pub async fn scrub_user(&mut self, old: &User, email: &str, name: &str) -> Result<u64> {
        let (id, old_email) = (old.id.to_string(), &old.email);
        let scrub = Scrub { id: &id, old_email, old_name: &old.name, email, name };
        // The server's text about an assignment contains the name of the owner.
        let bodies = sqlx::query(
            "UPDATE activities SET body = replace(body, $1, $2)
             WHERE type = 'ASSIGNMENT' AND instr(meta, $3) > 0 AND instr(body, $1) > 0",
        );
        let bodies = bodies.bind(&old.name).bind(name).bind(&id).execute(&mut *self.reader.tx).await?;
        let mut scrubbed = bodies.rows_affected();
        for (table, column) in COPIES {
            if !self.has_table(table).await? {
                continue;
            }
            let query = format!(
                "SELECT rowid, {column} FROM {table}
                 WHERE instr({column}, $1) > 0
                    OR EXISTS (SELECT 1 FROM json_each($2) WHERE instr(lower({column}), value) > 0)"
            );
            let query = sqlx::query(AssertSqlSafe(query)).bind(&id).bind(spellings(old_email));
            let rows = query.fetch_all(&mut *self.reader.tx).await?;
            for row in rows {
                let (rowid, text): (i64, String) = (row.try_get(0)?, row.try_get(1)?);
                let Ok(mut value) = serde_json::from_str::<Value>(&text) else { continue };
                if !scrub.run(&mut value) {
                    continue;
                }
                let update = format!("UPDATE {table} SET {column} = $1 WHERE rowid = $2");
                let update = sqlx::query(AssertSqlSafe(update)).bind(value.to_string()).bind(rowid);
                update.execute(&mut *self.reader.tx).await?;
                scrubbed += 1;
            }
        }
        Ok(scrubbed)
    }

    /// Deletes the sessions of a user, and the networks that they signed in from.
    pub async fn delete_sessions(&mut self, user: UserId) -> Result<()> {
        for table in ["sessions", "known_networks"] {
            if self.has_table(table).await? {
                self.of(&format!("DELETE FROM {table} WHERE user_id = $1"), &user.to_string()).await?;
            }
        }
        Ok(())
    }

    /// Tables with a `lead_id` column, except those that are handled individually.
    async fn tables_about_leads(&mut self) -> Result<Vec<String>> {
        let tables = sqlx::query_scalar(
            "SELECT DISTINCT m.name FROM sqlite_schema m, pragma_table_info(m.name) c
             WHERE m.type = 'table' AND c.name = 'lead_id'
             AND m.name NOT IN ('activities', 'events', 'lead_changes', 'reminders')",
        );
        Ok(tables.fetch_all(&mut *self.reader.tx).await?)
    }

    async fn of(&mut self, statement: &str, id: &str) -> Result<u64> {
        let statement = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(id);
        Ok(statement.execute(&mut *self.reader.tx).await?.rows_affected())
    }
}

/// Replacement of one user's name and address in JSON.
struct Scrub<'a> {
    id: &'a str,
    old_email: &'a str,
    old_name: &'a str,
    email: &'a str,
    name: &'a str,
}

impl Scrub<'_> {
    /// Returns true if something was replaced.
    fn run(&self, value: &mut Value) -> bool {
        match value {
            Value::String(text) if text.eq_ignore_ascii_case(self.old_email) => {
                self.email.clone_into(text);
                true
            }
            Value::Array(items) => self.run_each(items.iter_mut()),
            Value::Object(members) => {
                let found = self.user(members) | self.assignment(members);
                self.run_each(members.values_mut()) | found
            }
            _ => false,
        }
    }

    /// Visits every value; `any` would stop at the first replacement.
    fn run_each<'v>(&self, values: impl Iterator<Item = &'v mut Value>) -> bool {
        let mut found = false;
        values.for_each(|value| found |= self.run(value));
        found
    }

    /// Scrubs an object that represents the user.
    fn user(&self, members: &mut Map<String, Value>) -> bool {
        if members.get("id").is_none_or(|id| id != self.id) {
            return false;
        }
        let mut found = false;
        for (key, new) in [("email", self.email), ("name", self.name)] {
            if let Some(Value::String(text)) = members.get_mut(key).filter(|old| *old != new) {
                new.clone_into(text);
                found = true;
            }
        }
        found
    }

    /// Scrubs an activity that records an assignment from or to the user.
    fn assignment(&self, members: &mut Map<String, Value>) -> bool {
        let is_theirs = members.get("type").is_some_and(|kind| kind == "ASSIGNMENT")
            && ["fromOwnerId", "toOwnerId"]
                .iter()
                .any(|key| members.get("meta").is_some_and(|meta| meta[*key] == self.id));
        match members.get_mut("body") {
            Some(Value::String(body)) if is_theirs && body.contains(self.old_name) => {
                *body = body.replace(self.old_name, self.name);
                true
            }
            _ => false,
        }
    }
}

impl Store {
    /// Empties the write-ahead log, so that it contains no earlier version of a page. False when a reader used it for
    /// too long.
    pub async fn truncate_wal(&self) -> Result<bool> {
        let options = SqliteConnectOptions::new().filename(self.opener.file.path()).busy_timeout(PATIENCE);
        let mut connection = options.connect().await?;
        let end = Instant::now() + PATIENCE;
        loop {
            let row = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
            let is_busy: i64 = row.try_get(0)?;
            if is_busy == 0 || Instant::now() > end {
                return Ok(is_busy == 0);
            }
            sleep(Duration::from_millis(50)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_erasure_removes_a_user_by_id_and_address_and_no_others() {
        let mut value = json!({
            "lead": {"owner": {"id": "1", "name": "Ann", "email": "ann@example.com"}, "title": "Ann's roof"},
            "by": ["ANN@example.com", "bob@example.com"],
            "told": {"type": "ASSIGNMENT", "body": "Assigned to Ann", "meta": {"toOwnerId": "1"}},
            "other": {"id": "2", "name": "Ann", "email": "bob@example.com"},
        });
        let (email, name) = ("gone@erased.invalid", "Erased");
        let scrub = Scrub { id: "1", old_email: "ann@example.com", old_name: "Ann", email, name };
        assert!(scrub.run(&mut value));
        assert_eq!(
            value,
            json!({
                "lead": {"owner": {"id": "1", "name": "Erased", "email": "gone@erased.invalid"}, "title": "Ann's roof"},
                "by": ["gone@erased.invalid", "bob@example.com"],
                "told": {"type": "ASSIGNMENT", "body": "Assigned to Erased", "meta": {"toOwnerId": "1"}},
                "other": {"id": "2", "name": "Ann", "email": "bob@example.com"},
            })
        );
        assert!(!scrub.run(&mut value));
    }
}
