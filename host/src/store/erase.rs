//! Erasure of a person: rows are deleted, events of the log are blanked in place, so that no seq is missing.
//!
//! Every connection uses `secure_delete`, so that pages retain nothing. Only the write-ahead log still contains old
//! versions of pages; [`Store::truncate_wal`](crate::store::Store::truncate_wal) empties it.

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::{AssertSqlSafe, QueryBuilder, Row, Sqlite, sqlite::SqliteRow};
use unicode_normalization::UnicodeNormalization;

use crate::{
    domain::{
        folding::fold,
        id::{LeadId, UserId},
        lead::Lead,
        user::User,
    },
    store::{
        affected::AffectedRows,
        dialect::{self, push_contains},
        error::Result,
        handle::{Reader, Store, Tx},
        trigram,
    },
};

/// Name of a blanked event. It has no room, so it is sent to nobody.
pub const BLANKED: &str = "log:blanked";

/// Columns that may contain a copy of a user's name and address, as JSON, each with the key of its table.
const COPIES: [(&str, &str, TableKey); 10] = [
    ("events", "payload", TableKey::Number("seq")),
    ("events", "context", TableKey::Number("seq")),
    ("idempotency_keys", "outcome", TableKey::Texts("user_id", "key")),
    ("lead_changes", "from_value", TableKey::Number("id")),
    ("lead_changes", "to_value", TableKey::Number("id")),
    ("lead_changes", "actor", TableKey::Number("id")),
    ("effects", "input", TableKey::Number("id")),
    ("effects", "cause", TableKey::Number("id")),
    ("reminders", "data", TableKey::Texts("plugin", "key")),
    ("audit", "detail", TableKey::Number("id")),
];

/// Columns of a primary key.
#[derive(Clone, Copy)]
enum TableKey {
    Number(&'static str),
    Texts(&'static str, &'static str),
}

/// Columns that may mention a person, each with the expression for the id of its lead.
const MENTIONS: [(&str, &str, &str); 14] = [
    ("leads", "title", "id"),
    ("leads", "contact_name", "id"),
    ("leads", "email", "id"),
    ("leads", "description", "id"),
    ("leads", "external_id", "id"),
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
/// Tables with a `lead_id` column that `erase_lead` handles individually.
const HANDLED: [&str; 4] = ["activities", "events", "lead_changes", "reminders"];
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

/// Possible spellings of a text after the database's `lower`, which changes only ASCII.
fn spellings(text: &str) -> Vec<String> {
    let cases = [text.to_owned(), text.to_lowercase(), text.to_uppercase()];
    let forms = cases.iter().flat_map(|text| [text.nfc().collect::<String>(), text.nfd().collect()]);
    let mut spellings: Vec<String> = forms.map(|text| text.to_ascii_lowercase()).collect();
    spellings.sort();
    spellings.dedup();
    spellings
}

/// Adds the condition that a column contains one of the spellings, ignoring case.
fn push_mentions(query: &mut QueryBuilder<Sqlite>, column: &str, spellings: &[String]) {
    query.push("(FALSE");
    for spelling in spellings {
        query.push(" OR ");
        push_contains(query, &format!("lower({column})"), spelling.clone());
    }
    query.push(")");
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

    /// Places that still contain a text, ignoring case.
    pub async fn mentions(&mut self, text: &str) -> Result<Vec<Mention>> {
        let spellings = spellings(text);
        let mut found = Vec::new();
        for (table, column, lead) in MENTIONS {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT DISTINCT ");
            query.push(lead).push(" FROM ").push(table).push(" WHERE ");
            push_mentions(&mut query, column, &spellings);
            query.push(format_args!(" LIMIT {MAX_NAMED}"));
            for row in query.build().fetch_all(&mut *self.tx).await? {
                found.push(Mention { table, column, lead_id: row.try_get(0)? });
            }
        }
        Ok(found)
    }
}

impl Store {
    /// Removes erased texts from the search index, in short transactions. It writes the index anew, and is done in the
    /// background too.
    pub async fn purge_texts(&self) -> Result<()> {
        loop {
            let mut tx = self.write().await?;
            let is_done = trigram::purge(&mut tx.reader.tx).await?;
            tx.commit().await?;
            if is_done {
                return Ok(());
            }
        }
    }
}

impl Tx<'_> {
    /// Erases a lead with everything that belongs to it or was derived from it.
    pub async fn erase_lead(&mut self, id: LeadId) -> Result<Erased> {
        let id = id.to_string();
        let of_lead = concat!(
            "(",
            contains!("input", "$1"),
            " OR occasion IN (SELECT l.epoch || ':' || e.seq FROM events e, log l WHERE e.lead_id = $1))"
        );
        let done = format!("UPDATE effects SET input = '{{}}', reason = NULL WHERE state = 'done' AND {of_lead}");
        let open = format!("DELETE FROM effects WHERE state <> 'done' AND {of_lead}");
        let effects = self.change_any(&done, &id).await? + self.change_any(&open, &id).await?;
        let reminders = concat!(
            "DELETE FROM reminders WHERE lead_id = $1 OR ",
            contains!("data", "$1"),
            " OR ",
            contains!("key", "$1")
        );
        let reminders = self.change_any(reminders, &id).await?;

        // The key stays, or a repeated request would create the lead again.
        let outcomes =
            concat!("UPDATE idempotency_keys SET outcome = '\"deleted\"' WHERE ", contains!("outcome", "$1"));
        let idempotency_outcomes = self.change_any(outcomes, &id).await?;
        let blank = format!(
            "UPDATE events SET name = '{BLANKED}', rooms = '[]', payload = '{{}}', context = '{{}}', lead_id = NULL
             WHERE lead_id = $1"
        );
        let events = self.change_any(&blank, &id).await?;

        let activities = self.change_any("DELETE FROM activities WHERE lead_id = $1", &id).await?;
        let changes = self.change_any("DELETE FROM lead_changes WHERE lead_id = $1", &id).await?;
        let mut others = 0;
        let tables: Vec<String> =
            sqlx::query_scalar(dialect::TABLES_ABOUT_LEADS).fetch_all(&mut *self.reader.tx).await?;
        for table in tables.iter().filter(|table| !HANDLED.contains(&table.as_str())) {
            let delete = match table.as_str() {
                // A hold of all leads of a role outlives the lead that it is judged by; its reason may quote that lead.
                "holds" => {
                    self.change_any("UPDATE holds SET reason = '' WHERE lead_id = $1", &id).await?;
                    "DELETE FROM holds WHERE lead_id = $1 AND NOT is_all".to_owned()
                }
                table => format!("DELETE FROM \"{table}\" WHERE lead_id = $1"),
            };
            others += self.change_any(&delete, &id).await?;
        }
        let leads = self.change_any("DELETE FROM leads WHERE id = $1", &id).await?;
        self.staged = true;
        Ok(Erased { leads, activities, changes, events, idempotency_outcomes, effects, reminders, others })
    }

    /// Replaces the name and address of a user, as given by `old`, in every stored copy. Returns the number of changed
    /// values.
    pub async fn scrub_user(&mut self, old: &User, email: &str, name: &str) -> Result<u64> {
        let (id, old_email) = (old.id.to_string(), &old.email);
        let scrub = Scrub { id: &id, old_email, old_name: &old.name, email, name };
        // The server's text about an assignment contains the name of the owner.
        let bodies = sqlx::query(concat!(
            "UPDATE activities SET body = replace(body, $1, $2) WHERE type = 'ASSIGNMENT' AND ",
            contains!("meta", "$3"),
            " AND ",
            contains!("body", "$1")
        ));
        let bodies = bodies.bind(&old.name).bind(name).bind(&id).execute(&mut *self.reader.tx).await?;
        let mut scrubbed = bodies.any_number();
        let spellings = spellings(old_email);
        for (table, column, key) in COPIES {
            let mut query = QueryBuilder::<Sqlite>::new("SELECT ");
            query.push(key.columns()).push(", ").push(column).push(" FROM ").push(table).push(" WHERE ");
            push_contains(&mut query, column, id.clone());
            query.push(" OR ");
            push_mentions(&mut query, column, &spellings);
            for row in query.build().fetch_all(&mut *self.reader.tx).await? {
                let text: &str = row.try_get(column)?;
                let Ok(mut value) = serde_json::from_str::<Value>(text) else { continue };
                if !scrub.run(&mut value) {
                    continue;
                }
                let mut update = QueryBuilder::<Sqlite>::new("UPDATE ");
                update.push(table).push(" SET ").push(column).push(" = ").push_bind(value.to_string()).push(" WHERE ");
                key.push_equals(&mut update, &row)?;
                update.build().execute(&mut *self.reader.tx).await?.exactly_one(table)?;
                scrubbed += 1;
            }
        }
        Ok(scrubbed)
    }

    /// Deletes the sessions of a user, and the networks that they signed in from.
    pub async fn delete_sessions(&mut self, user: UserId) -> Result<()> {
        for table in ["sessions", "known_networks"] {
            self.change_any(&format!("DELETE FROM {table} WHERE user_id = $1"), &user.to_string()).await?;
        }
        Ok(())
    }

    /// Runs a statement about one id and returns the number of rows that it changed, which may be any.
    async fn change_any(&mut self, statement: &str, id: &str) -> Result<u64> {
        let statement = sqlx::query(AssertSqlSafe(statement.to_owned())).bind(id);
        Ok(statement.execute(&mut *self.reader.tx).await?.any_number())
    }
}

impl TableKey {
    /// List of the columns, for a SELECT.
    fn columns(self) -> String {
        match self {
            Self::Number(column) => column.to_owned(),
            Self::Texts(first, second) => format!("{first}, {second}"),
        }
    }

    /// Adds the condition that the key is that of `row`.
    fn push_equals(self, query: &mut QueryBuilder<Sqlite>, row: &SqliteRow) -> Result<()> {
        match self {
            Self::Number(column) => {
                query.push(column).push(" = ").push_bind(row.try_get::<i64, _>(column)?);
            }
            Self::Texts(first, second) => {
                query.push(first).push(" = ").push_bind(row.try_get::<String, _>(first)?);
                query.push(" AND ").push(second).push(" = ").push_bind(row.try_get::<String, _>(second)?);
            }
        }
        Ok(())
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
