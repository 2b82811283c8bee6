//! Leads: rows and history.

use serde_json::Value;
use sqlx::{Encode, QueryBuilder, Sqlite, Type, sqlite::SqliteRow};

use crate::{
    domain::{
        actor::Actor,
        folding::fold,
        id::LeadId,
        lead::{FieldChange, Lead, LeadFields, LeadStatus},
        time::Timestamp,
    },
    store::{
        error::Result,
        handle::{Reader, Tx},
        row::{Columns, json},
        search::{self, FoldedTexts},
    },
};

/// One entry of a lead's history.
pub struct HistoryEntry {
    pub id: i64,
    pub field: String,
    pub from: Value,
    pub to: Value,
    pub actor: Value,
    pub at: Timestamp,
}

pub(crate) const SELECT: &str = concat!(
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

impl Tx<'_> {
    pub async fn insert_lead(&mut self, lead: &Lead) -> Result<()> {
        let texts = FoldedTexts::of(lead.id, &lead.fields);
        let insert = sqlx::query(concat!(
            "INSERT INTO leads (",
            columns!(leads written),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20,
                 $21, $22)"
        ));
        let fields = &lead.fields;
        insert
            .bind(lead.id.to_string())
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
            .bind(lead.created_by.id.to_string())
            .bind(lead.last_activity_at.map(|time| time.to_string()))
            .bind(lead.version)
            .bind(lead.rev)
            .bind(lead.created_at.to_string())
            .bind(lead.updated_at.to_string())
            .bind(&texts.title)
            .bind(&texts.company)
            .execute(&mut *self.reader.tx)
            .await?;
        search::save(&mut *self.reader.tx, &texts).await
    }

    /// Updates the columns of a lead that differ from `before`, and increments its `rev`.
    ///
    /// SQLite rewrites each index with a column that the statement names, changed or not.
    pub async fn save_lead(&mut self, before: &Lead, lead: &mut Lead) -> Result<()> {
        walk_step!("save_lead");
        let texts = search::differ(&before.fields, &lead.fields).then(|| FoldedTexts::of(lead.id, &lead.fields));
        let mut query = QueryBuilder::<Sqlite>::new("UPDATE leads SET rev = rev + 1");
        push_changes(&mut query, before, lead);
        if let Some(texts) = &texts {
            push_change(&mut query, "title_key", &fold(&before.fields.title), &texts.title);
            let company = before.fields.company.as_deref().map(fold).unwrap_or_default();
            push_change(&mut query, "company_key", &company, &texts.company);
        }
        query.push(" WHERE id = ").push_bind(lead.id.to_string()).push(" RETURNING rev");
        let row = query.build().fetch_one(&mut *self.reader.tx).await?;
        lead.rev = Columns { table: "leads", row: &row }.integer("rev")?;
        match &texts {
            Some(texts) => search::save(&mut *self.reader.tx, texts).await,
            None => Ok(()),
        }
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

/// Adds the assignments of the columns that changed.
fn push_changes(query: &mut QueryBuilder<Sqlite>, before: &Lead, lead: &Lead) {
    let (old, new) = (&before.fields, &lead.fields);
    push_change(query, "title", &old.title, &new.title);
    push_change(query, "status", &old.status.as_str(), &new.status.as_str());
    push_change(query, "contact_name", &old.contact_name, &new.contact_name);
    push_change(query, "company", &old.company, &new.company);
    push_change(query, "email", &old.email, &new.email);
    push_change(query, "phone", &old.phone, &new.phone);
    push_change(query, "source", &old.source, &new.source);
    push_change(query, "value_cents", &old.value_cents, &new.value_cents);
    push_change(query, "currency", &old.currency, &new.currency);
    push_change(query, "description", &old.description, &new.description);
    push_change(query, "external_id", &old.external_id, &new.external_id);
    if old.custom != new.custom {
        query.push(", custom = ").push_bind(json(&new.custom));
    }
    let owner = |lead: &Lead| lead.owner.as_ref().map(|owner| owner.id.to_string());
    push_change(query, "owner_id", &owner(before), &owner(lead));
    let activity = |lead: &Lead| lead.last_activity_at.map(|time| time.to_string());
    push_change(query, "last_activity_at", &activity(before), &activity(lead));
    push_change(query, "version", &before.version, &lead.version);
    push_change(query, "updated_at", &before.updated_at.to_string(), &lead.updated_at.to_string());
}

/// Adds the assignment of a column, if its value changed.
fn push_change<T>(query: &mut QueryBuilder<Sqlite>, column: &str, old: &T, new: &T)
where
    T: PartialEq + Clone + for<'q> Encode<'q, Sqlite> + Type<Sqlite> + Send + 'static,
{
    if old != new {
        query.push(format_args!(", {column} = ")).push_bind(new.clone());
    }
}

pub(crate) fn lead(row: &SqliteRow) -> Result<Lead> {
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
