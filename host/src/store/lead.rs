//! Leads: queries, lists and history.

use futures_util::TryStreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{QueryBuilder, Row, Sqlite, sqlite::SqliteRow};

use crate::{
    domain::{
        actor::Actor,
        id::{LeadId, UserId},
        lead::{FieldChange, Lead, LeadFields, LeadStatus},
        policy::Scope,
        time::Timestamp,
    },
    store::{
        dialect,
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, WriteQuery, json},
        search,
    },
};

pub use crate::store::search::SEARCHED;

/// Filter and order of a list of leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LeadFilter {
    /// Set to list only deleted leads; otherwise they are left out.
    pub deleted: bool,
    /// Accepted statuses; all when empty.
    pub statuses: Vec<LeadStatus>,
    pub owner: Option<OwnerFilter>,
    pub source: Option<String>,
    pub created_after: Option<Timestamp>,
    // Omitted when absent, so that cursors issued before this field existed stay valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_before: Option<Timestamp>,
    /// Text that one of the fields contains, ignoring case, accents and Unicode forms.
    pub text: Option<String>,
    pub sort: LeadSort,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum OwnerFilter {
    Unassigned,
    User(UserId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LeadSort {
    pub key: LeadSortKey,
    pub descending: bool,
}

/// Place of the status in the pipeline.
const PIPELINE: &str = "CASE l.status WHEN 'NEW' THEN 0 WHEN 'CONTACTED' THEN 1 WHEN 'QUALIFIED' THEN 2 \
    WHEN 'PROPOSAL' THEN 3 WHEN 'NEGOTIATION' THEN 4 WHEN 'WON' THEN 5 WHEN 'LOST' THEN 6 ELSE 7 END";

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum LeadSortKey {
    UpdatedAt,
    CreatedAt,
    LastActivityAt,
    Title,
    Company,
    // Renamed when the order became that of the pipeline, so that a cursor of the order before is refused.
    #[serde(rename = "Pipeline")]
    Status,
    ValueCents,
}

impl LeadSortKey {
    pub const ALL: [Self; 7] = [
        Self::UpdatedAt,
        Self::CreatedAt,
        Self::LastActivityAt,
        Self::Title,
        Self::Company,
        Self::Status,
        Self::ValueCents,
    ];

    /// Names of the members, in the same order.
    pub const NAMES: [&str; 7] = names!(Self::ALL);

    /// Member of the lead that the list is sorted by.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::UpdatedAt => "updatedAt",
            Self::CreatedAt => "createdAt",
            Self::LastActivityAt => "lastActivityAt",
            Self::Title => "title",
            Self::Company => "company",
            Self::Status => "status",
            Self::ValueCents => "valueCents",
        }
    }

    /// SQL sort expression; never null, so that positions compare.
    fn expression(self) -> &'static str {
        match self {
            Self::UpdatedAt => "l.updated_at",
            Self::CreatedAt => "l.created_at",
            Self::LastActivityAt => dialect::LAST_ACTIVITY,
            Self::Title => "coalesce(s.title, '')",
            Self::Company => "coalesce(s.company, '')",
            Self::Status => PIPELINE,
            Self::ValueCents => "coalesce(l.value_cents, -1)",
        }
    }
}

/// Position in a sorted list: after the lead with this key and id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeadPosition {
    pub key: SortValue,
    pub id: LeadId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum SortValue {
    Number(i64),
    Text(String),
}

/// User whose view of the leads a list shows.
pub struct Viewpoint {
    pub user: UserId,
    pub scope: Scope,
    /// Members of the lead that `text` may search.
    pub searchable: Vec<&'static str>,
}

/// Lead of a list.
pub struct FoundLead {
    pub position: LeadPosition,
    pub lead: Lead,
    /// True if the filter accepts it.
    pub matches: bool,
}

/// One entry of a lead's history.
pub struct HistoryEntry {
    pub id: i64,
    pub field: String,
    pub from: Value,
    pub to: Value,
    pub actor: Value,
    pub at: Timestamp,
}

const SELECT: &str = concat!(
    "SELECT ",
    columns!(leads as l),
    ", o.name AS owner_name, o.email AS owner_email, c.name AS creator_name, c.email AS creator_email"
);
const FROM: &str = " FROM leads l LEFT JOIN users o ON o.id = l.owner_id JOIN users c ON c.id = l.created_by";

impl Reader {
    /// Returns the lead, unless it is deleted.
    pub async fn lead(&mut self, id: LeadId) -> Result<Option<Lead>> {
        self.lead_where(id, "l.deleted_at IS NULL").await
    }

    /// Returns the lead, if it is deleted.
    pub async fn deleted_lead(&mut self, id: LeadId) -> Result<Option<Lead>> {
        self.lead_where(id, "l.deleted_at IS NOT NULL").await
    }

    async fn lead_where(&mut self, id: LeadId, condition: &'static str) -> Result<Option<Lead>> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(FROM).push(" WHERE ").push(condition).push(" AND l.id = ").push_bind(id.to_string());
        let row = query.build().fetch_optional(&mut *self.tx).await?;
        row.as_ref().map(lead).transpose()
    }

    /// Returns those of the leads that exist and are not deleted, in no order.
    pub async fn leads_of(&mut self, ids: &[LeadId]) -> Result<Vec<Lead>> {
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(FROM).push(" WHERE l.deleted_at IS NULL AND l.id IN (");
        let mut list = query.separated(", ");
        for id in ids {
            list.push_bind(id.to_string());
        }
        query.push(")");
        let rows = query.build().fetch_all(&mut *self.tx).await?;
        rows.iter().map(lead).collect()
    }

    /// Returns at most `limit` leads after the position `after`, and true if no more follow. It returns fewer when they
    /// would take more than `max_bytes` of text.
    ///
    /// With `all`, it returns all leads in the viewpoint's scope, each marked whether it matches, so that the duration
    /// reveals nothing; otherwise only those that the filter accepts.
    pub async fn leads(
        &mut self,
        filter: &LeadFilter,
        viewpoint: &Viewpoint,
        after: Option<&LeadPosition>,
        limit: u32,
        max_bytes: usize,
        all: bool,
    ) -> Result<(Vec<FoundLead>, bool)> {
        let key = filter.sort.key.expression();
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(format_args!(", {key} AS sort_key, "));
        if all {
            // A comparison with NULL yields NULL.
            query.push("coalesce(");
            matching(&mut query, filter, viewpoint);
            query.push(", FALSE)");
        } else {
            query.push("TRUE");
        }
        query.push(" AS matches").push(FROM);
        if filter.text.is_some() || matches!(filter.sort.key, LeadSortKey::Title | LeadSortKey::Company) {
            // LEFT JOIN, so that a lead that was written without this program is still listed.
            query.push(" LEFT JOIN lead_search s ON s.lead_id = l.id");
        }
        query.push(if filter.deleted { " WHERE l.deleted_at IS NOT NULL" } else { " WHERE l.deleted_at IS NULL" });
        in_scope(&mut query, viewpoint);
        if !all {
            query.push(" AND ");
            matching(&mut query, filter, viewpoint);
        }
        let (comparison, direction) = if filter.sort.descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(after) = after {
            query.push(format_args!(" AND ({key}, l.id) {comparison} ("));
            match &after.key {
                SortValue::Number(number) => query.push_bind(*number),
                SortValue::Text(text) => query.push_bind(text.clone()),
            };
            query.push(", ").push_bind(after.id.to_string()).push(")");
        }
        query.push(format_args!(" ORDER BY {key} {direction}, l.id {direction} LIMIT ")).push_bind(limit);
        let mut rows = query.build().fetch(&mut *self.tx);
        let (mut leads, mut bytes) = (Vec::new(), 0);
        while let Some(row) = rows.try_next().await? {
            let matches = Columns { table: "leads", row: &row }.flag("matches")?;
            leads.push(FoundLead { position: position(&row, filter.sort.key)?, lead: lead(&row)?, matches });
            bytes += long_texts(&row)?;
            if bytes >= max_bytes {
                return Ok((leads, false));
            }
        }
        let is_last = leads.len() < limit as usize;
        Ok((leads, is_last))
    }

    /// Sample of about `limit` leads at most, spread over the table.
    pub async fn sample_leads(&mut self, limit: u32) -> Result<Vec<Lead>> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM leads WHERE deleted_at IS NULL").fetch_one(&mut *self.tx).await?;
        let every = count / i64::from(limit.max(1)) + 1;
        let mut query = QueryBuilder::<Sqlite>::new(SELECT);
        query.push(FROM).push(
            " WHERE l.id IN (SELECT id FROM
                 (SELECT id, row_number() OVER (ORDER BY created_at, id) AS place FROM leads WHERE deleted_at IS NULL)
                 AS placed WHERE place % ",
        );
        query.push_bind(every).push(" = 0) ORDER BY l.created_at DESC, l.id DESC LIMIT ").push_bind(limit);
        query.build().fetch_all(&mut *self.tx).await?.iter().map(lead).collect()
    }

    /// Returns at most `limit` history entries, newest first, older than `before`.
    pub async fn history(&mut self, id: LeadId, before: Option<i64>, limit: u32) -> Result<Vec<HistoryEntry>> {
        let rows = sqlx::query(concat!(
            "SELECT ",
            columns!(lead_changes),
            " FROM lead_changes WHERE lead_id = $1 AND id < $2 ORDER BY id DESC LIMIT $3"
        ))
        .bind(id.to_string())
        .bind(before.unwrap_or(i64::MAX))
        .bind(limit)
        .fetch_all(&mut *self.tx)
        .await?;
        rows.iter().map(history_entry).collect()
    }
}

/// Adds the condition that `[visibility]` lets the lead be seen.
fn in_scope(query: &mut QueryBuilder<Sqlite>, viewpoint: &Viewpoint) {
    match viewpoint.scope {
        Scope::All => {}
        Scope::Own => {
            query.push(" AND l.owner_id = ").push_bind(viewpoint.user.to_string());
        }
        Scope::OwnAndUnassigned => {
            query.push(" AND (l.owner_id IS NULL OR l.owner_id = ").push_bind(viewpoint.user.to_string()).push(")");
        }
    }
}

/// Adds an expression that is true if the filter accepts a lead.
fn matching(query: &mut QueryBuilder<Sqlite>, filter: &LeadFilter, viewpoint: &Viewpoint) {
    query.push("(TRUE");
    if !filter.statuses.is_empty() {
        query.push(" AND l.status IN (");
        let mut names = query.separated(", ");
        for status in &filter.statuses {
            names.push_bind(status.as_str());
        }
        query.push(")");
    }
    match filter.owner {
        None => {}
        Some(OwnerFilter::Unassigned) => {
            query.push(" AND l.owner_id IS NULL");
        }
        Some(OwnerFilter::User(id)) => {
            query.push(" AND l.owner_id = ").push_bind(id.to_string());
        }
    }
    if let Some(source) = &filter.source {
        query.push(" AND l.source = ").push_bind(source.clone());
    }
    if let Some(time) = filter.created_after {
        query.push(" AND l.created_at > ").push_bind(time.to_string());
    }
    if let Some(time) = filter.created_before {
        query.push(" AND l.created_at < ").push_bind(time.to_string());
    }
    if let Some(text) = &filter.text {
        search::narrow(query, text, &viewpoint.searchable);
    }
    query.push(")");
}

impl Tx<'_> {
    pub async fn insert_lead(&mut self, lead: &Lead) -> Result<()> {
        let insert = sqlx::query(concat!(
            "INSERT INTO leads (",
            columns!(leads written),
            ", id, rev, created_by, created_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)"
        ));
        bind_written(insert, lead)
            .bind(lead.rev)
            .bind(lead.created_by.id.to_string())
            .bind(lead.created_at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        search::save(&mut *self.reader.tx, lead.id, &lead.fields).await
    }

    /// Updates all mutable columns of a lead and increments its `rev`.
    pub async fn save_lead(&mut self, lead: &mut Lead) -> Result<()> {
        walk_step!("save_lead");
        let update = sqlx::query(concat!(
            "UPDATE leads SET (",
            columns!(leads written),
            ") = ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16), rev = rev + 1
             WHERE id = $17 RETURNING rev"
        ));
        let row = bind_written(update, lead).fetch_one(&mut *self.reader.tx).await?;
        lead.rev = Columns { table: "leads", row: &row }.integer("rev")?;
        search::save(&mut *self.reader.tx, lead.id, &lead.fields).await
    }

    /// Deletes (hides) the lead or restores it, and increments its `rev`.
    pub async fn set_lead_deleted(&mut self, lead: &mut Lead, at: Option<Timestamp>) -> Result<()> {
        lead.rev = sqlx::query_scalar("UPDATE leads SET deleted_at = $1, rev = rev + 1 WHERE id = $2 RETURNING rev")
            .bind(at.map(|time| time.to_string()))
            .bind(lead.id.to_string())
            .fetch_one(&mut *self.reader.tx)
            .await?;
        Ok(())
    }

    /// Adds entries to a lead's history.
    pub async fn record(&mut self, id: LeadId, changes: &[FieldChange], actor: &Actor, at: Timestamp) -> Result<()> {
        for change in changes {
            sqlx::query(
                "INSERT INTO lead_changes (lead_id, field, from_value, to_value, actor, changed_at)
                 VALUES ($1, $2, $3, $4, $5, $6)",
            )
            .bind(id.to_string())
            .bind(change.field)
            .bind(change.from.to_string())
            .bind(change.to.to_string())
            .bind(json(actor))
            .bind(at.to_string())
            .execute(&mut *self.reader.tx)
            .await?;
        }
        Ok(())
    }
}

/// Binds the columns of `columns!(leads written)`, then the id.
fn bind_written<'q>(query: WriteQuery<'q>, lead: &'q Lead) -> WriteQuery<'q> {
    let fields = &lead.fields;
    query
        .bind(&fields.title)
        .bind(fields.status.as_str())
        .bind(&fields.contact_name)
        .bind(&fields.company)
        .bind(&fields.email)
        .bind(&fields.phone)
        .bind(&fields.source)
        .bind(fields.value_cents)
        .bind(&fields.currency)
        .bind(&fields.description)
        .bind(&fields.external_id)
        .bind(json(&fields.custom))
        .bind(lead.owner.as_ref().map(|owner| owner.id.to_string()))
        .bind(lead.last_activity_at.map(|time| time.to_string()))
        .bind(lead.version)
        .bind(lead.updated_at.to_string())
        .bind(lead.id.to_string())
}

fn lead(row: &SqliteRow) -> Result<Lead> {
    let columns = Columns { table: "leads", row };
    let fields = LeadFields {
        title: columns.text("title")?,
        status: columns.named("status", LeadStatus::from_name)?,
        contact_name: columns.maybe_text("contact_name")?,
        company: columns.maybe_text("company")?,
        email: columns.maybe_text("email")?,
        phone: columns.maybe_text("phone")?,
        source: columns.maybe_text("source")?,
        value_cents: columns.maybe_integer("value_cents")?,
        currency: columns.text("currency")?,
        description: columns.maybe_text("description")?,
        external_id: columns.maybe_text("external_id")?,
        custom: columns.json("custom")?,
    };
    Ok(Lead {
        id: columns.parsed("id")?,
        fields,
        owner: columns.user("owner_id", "owner")?,
        created_by: columns.required_user("created_by", "creator")?,
        last_activity_at: columns.maybe("last_activity_at")?,
        version: columns.integer("version")?,
        rev: columns.integer("rev")?,
        created_at: columns.parsed("created_at")?,
        updated_at: columns.parsed("updated_at")?,
    })
}

/// Length of the lead's texts that can be long.
fn long_texts(row: &SqliteRow) -> Result<usize> {
    let custom: &str = row.try_get("custom")?;
    let description: Option<&str> = row.try_get("description")?;
    Ok(custom.len() + description.map_or(0, str::len))
}

fn position(row: &SqliteRow, key: LeadSortKey) -> Result<LeadPosition> {
    let columns = Columns { table: "leads", row };
    let value = match key {
        LeadSortKey::ValueCents | LeadSortKey::Status => SortValue::Number(columns.integer("sort_key")?),
        _ => SortValue::Text(columns.text("sort_key")?),
    };
    Ok(LeadPosition { key: value, id: columns.parsed("id")? })
}

fn history_entry(row: &SqliteRow) -> Result<HistoryEntry> {
    let columns = Columns { table: "lead_changes", row };
    Ok(HistoryEntry {
        id: columns.integer("id")?,
        field: columns.text("field")?,
        from: columns.json("from_value")?,
        to: columns.json("to_value")?,
        actor: columns.json("actor")?,
        at: columns.parsed("changed_at")?,
    })
}
