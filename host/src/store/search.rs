//! Search index of leads: a row of folded texts per lead, for search and sorting, written in the same transaction.

use sqlx::{Connection, Executor, QueryBuilder, Row, Sqlite, SqliteConnection, sqlite::SqliteRow};
use tracing::info;

use crate::{
    domain::{
        folding::{FOLDING, digits, fold, phone_digits},
        id::LeadId,
        lead::LeadFields,
    },
    store::{
        affected::AffectedRows,
        dialect::{self, push_contains},
        error::Result,
        transaction::Transaction,
        trigram,
    },
};

/// Number of leads that one transaction fills in.
const BATCH: u32 = 1000;
/// Number of rows per statement.
const ROWS: usize = 200;

/// Searchable fields: the lead's member, and the column with the folded text.
pub(crate) const SEARCHED: [(&str, &str); 6] = [
    ("title", "s.title"),
    ("contactName", "s.contact_name"),
    ("company", "s.company"),
    ("email", "s.email"),
    ("phone", "s.phone"),
    ("description", "s.description"),
];

/// Folded texts of one lead.
pub(crate) struct FoldedTexts {
    lead: String,
    pub(crate) title: String,
    contact_name: String,
    pub(crate) company: String,
    email: String,
    phone: String,
    phone_digits: String,
    description: String,
}

impl FoldedTexts {
    pub(crate) fn of(id: LeadId, fields: &LeadFields) -> Self {
        let LeadFields { title, contact_name, company, email, phone, description, .. } = fields;
        Self::from_texts(
            id.to_string(),
            title,
            [contact_name, company, email, phone, description].map(Option::as_deref),
        )
    }

    fn from_row(row: &SqliteRow) -> Result<Self> {
        let text = |column: &str| row.try_get::<Option<&str>, _>(column);
        let texts = [text("contact_name")?, text("company")?, text("email")?, text("phone")?, text("description")?];
        Ok(Self::from_texts(row.try_get("id")?, row.try_get("title")?, texts))
    }

    fn from_texts(lead: String, title: &str, texts: [Option<&str>; 5]) -> Self {
        let phone_digits = texts[3].map(digits).unwrap_or_default();
        let [contact_name, company, email, phone, description] = texts.map(|text| text.map(fold).unwrap_or_default());
        Self { lead, title: fold(title), contact_name, company, email, phone, phone_digits, description }
    }
}

/// True if a searched text differs.
pub(crate) fn differ(before: &LeadFields, after: &LeadFields) -> bool {
    let texts = |fields: &LeadFields| {
        let LeadFields { title, contact_name, company, email, phone, description, .. } = fields.clone();
        (title, contact_name, company, email, phone, description)
    };
    texts(before) != texts(after)
}

/// Number of leads, roughly: those erased since then count too.
pub(crate) async fn size(tx: &mut Transaction) -> Result<i64> {
    let newest = sqlx::query_scalar("SELECT coalesce(max(place), 0) FROM lead_search");
    Ok(newest.fetch_one(tx).await?)
}

/// Writes the search row of a lead.
pub(crate) async fn save<'e>(executor: impl Executor<'e, Database = Sqlite>, texts: &FoldedTexts) -> Result<()> {
    write(executor, std::slice::from_ref(texts)).await
}

async fn write<'e>(executor: impl Executor<'e, Database = Sqlite>, rows: &[FoldedTexts]) -> Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO lead_search (lead_id, title, contact_name, company, email, phone, phone_digits, description) ",
    );
    query.push_values(rows, |mut values, row| {
        values
            .push_bind(&row.lead)
            .push_bind(&row.title)
            .push_bind(&row.contact_name)
            .push_bind(&row.company)
            .push_bind(&row.email)
            .push_bind(&row.phone)
            .push_bind(&row.phone_digits)
            .push_bind(&row.description);
    });
    // Most changes do not affect these texts, and the page of an equal row need not be written.
    query.push(
        " ON CONFLICT (lead_id) DO UPDATE SET title = excluded.title, contact_name = excluded.contact_name,
             company = excluded.company, email = excluded.email, phone = excluded.phone,
             phone_digits = excluded.phone_digits, description = excluded.description
         WHERE (lead_search.title, lead_search.contact_name, lead_search.company, lead_search.email, lead_search.phone,
                 lead_search.phone_digits, lead_search.description)
             <> (excluded.title, excluded.contact_name, excluded.company, excluded.email, excluded.phone,
                 excluded.phone_digits, excluded.description)",
    );
    query.build().execute(executor).await?;
    Ok(())
}

/// Restricts a query to leads of which a field contains the text; `searchable` lists the fields that may be searched.
pub(crate) fn narrow(query: &mut QueryBuilder<Sqlite>, text: &str, searchable: &[&'static str]) {
    let (folded, digits) = (fold(text), phone_digits(text));
    // Not just the condition, which would let SQLite read `s` before the leads that it is joined to.
    query.push(" AND coalesce((FALSE");
    for (field, column) in SEARCHED.iter().filter(|(field, _)| searchable.contains(field)) {
        query.push(" OR ");
        push_contains(query, column, folded.clone());
        if let (&"phone", Some(digits)) = (field, &digits) {
            query.push(" OR ");
            push_contains(query, "s.phone_digits", digits.clone());
        }
    }
    query.push("), FALSE)");
}

/// Creates the search rows of leads that have none, or have one from a program with another folding version.
///
/// It can be interrupted and continues where it stopped.
pub(crate) async fn fill(connection: &mut SqliteConnection) -> Result<()> {
    let mut filled = 0;
    loop {
        let mut tx = connection.begin_with(dialect::BEGIN_WRITE).await?;
        let (folding, target, done): (i64, i64, String) =
            sqlx::query_as("SELECT folding, target, done FROM lead_search_state WHERE id = 1")
                .fetch_one(&mut *tx)
                .await?;
        if folding == FOLDING {
            break;
        }
        let done = if target == FOLDING {
            done
        } else {
            // Adding rows afterwards is cheaper than a change of each.
            trigram::suspend(&mut tx).await?;
            String::new()
        };
        let leads = sqlx::query(
            "SELECT id, title, contact_name, company, email, phone, description FROM leads WHERE id > $1
             ORDER BY id LIMIT $2",
        )
        .bind(&done)
        .bind(BATCH)
        .fetch_all(&mut *tx)
        .await?;
        let rows = leads.iter().map(FoldedTexts::from_row).collect::<Result<Vec<_>>>()?;
        for rows in rows.chunks(ROWS) {
            write(&mut *tx, rows).await?;
        }
        if let Some(last) = rows.last() {
            sqlx::query(
                "UPDATE leads SET title_key = s.title, company_key = s.company FROM lead_search s
                 WHERE s.lead_id = leads.id AND leads.id > $1 AND leads.id <= $2
                   AND (leads.title_key, leads.company_key) <> (s.title, s.company)",
            )
            .bind(&done)
            .bind(&last.lead)
            .execute(&mut *tx)
            .await?
            .any_number();
        }
        if filled == 0 && rows.len() == BATCH as usize {
            info!("building the lead search index");
        }
        filled += rows.len();
        let is_last = rows.len() < BATCH as usize;
        sqlx::query("UPDATE lead_search_state SET folding = $1, target = $2, done = $3 WHERE id = 1")
            .bind(if is_last { FOLDING } else { folding })
            .bind(FOLDING)
            .bind(rows.last().filter(|_| !is_last).map(|row| row.lead.as_str()).unwrap_or_default())
            .execute(&mut *tx)
            .await?
            .exactly_one("lead_search_state")?;
        if is_last {
            trigram::restart(&mut tx).await?;
        }
        tx.commit().await?;
    }
    if filled > 0 {
        info!(leads = filled, "built the lead search index");
    }
    Ok(())
}
