//! Trigram index of the searched texts, in SQLite's FTS5. PostgreSQL: a GIN index of `pg_trgm` on `lead_search`.
//!
//! Triggers keep it in the transaction that changes a text. It only preselects: whoever uses it compares the texts
//! themselves. So it needs no positions, and only the rarest trigrams of a text have to be looked up.

use std::{collections::BTreeSet, panic::Location, sync::Arc, time::Duration};

use sqlx::{QueryBuilder, Sqlite};
use tokio::time::{Instant, sleep};
use tracing::{debug, info};

use crate::{
    domain::folding::{fold, phone_digits},
    store::{affected::AffectedRows, error::Result, pool::ConnectionPool, transaction::Transaction},
};

/// Number of documents per row of `lead_search`, one for each column of text.
const FIELDS: i64 = 8;
/// Columns of `lead_search`, by the number of their document.
const COLUMNS: [&str; 7] = ["title", "contact_name", "company", "email", "phone", "phone_digits", "description"];
/// Number of the newest rows from which the frequency of a trigram is estimated.
const SAMPLE: i64 = 4096;
/// Maximum number of trigrams of a text whose frequency is estimated.
const MAX_SAMPLED: usize = 16;
/// Maximum number of trigrams of a text that are looked up.
const MAX_LOOKED_UP: usize = 4;

/// Number of rows that one transaction adds to the index.
const BATCH: i64 = 200;
/// Number of pages that one transaction merges.
const PAGES: i64 = 200;
/// Pause before the index is looked at again.
const ROUND: Duration = Duration::from_secs(2);

/// Query of the index: documents that contain all trigrams of one of the groups.
pub(crate) struct TrigramQuery {
    groups: Vec<Vec<String>>,
}

impl TrigramQuery {
    /// Query for a text, if it has trigrams and the index is complete.
    pub(crate) async fn of(tx: &mut Transaction, text: &str) -> Result<Option<Self>> {
        let mut texts = vec![fold(text)];
        texts.extend(phone_digits(text));
        let groups: Vec<Vec<String>> = texts.iter().map(|text| trigrams(text)).collect();
        if groups.iter().any(Vec::is_empty) {
            return Ok(None);
        }
        let (todo, newest): (i64, i64) = sqlx::query_as(
            "SELECT todo, (SELECT coalesce(max(place), 0) FROM lead_search) FROM lead_trigrams_state WHERE id = 1",
        )
        .fetch_one(&mut *tx)
        .await?;
        if todo > 0 {
            return Ok(None);
        }
        let mut rarest = Vec::new();
        for group in groups {
            rarest.push(pick_rarest(tx, group, newest).await?);
        }
        Ok(Some(Self { groups: rarest }))
    }

    /// Adds a query for the place of at most `most` documents; a row has up to one for each field.
    pub(crate) fn push(&self, query: &mut QueryBuilder<Sqlite>, most: u32) {
        let groups: Vec<String> = self.groups.iter().map(|group| format!("({})", group.join(" AND "))).collect();
        query.push(format_args!("SELECT rowid / {FIELDS} AS place FROM lead_trigrams WHERE lead_trigrams MATCH "));
        query.push_bind(groups.join(" OR ")).push(" LIMIT ").push_bind(most);
    }
}

/// Trigrams of a text, quoted; at most [`MAX_SAMPLED`], spread over it.
fn trigrams(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    // A query ends with the first NUL.
    let windows = chars.windows(3).filter(|window| !window.contains(&'\0'));
    let all: BTreeSet<String> = windows.map(|window| window.iter().collect()).collect();
    let step = all.len().div_ceil(MAX_SAMPLED).max(1);
    all.iter().step_by(step).map(|trigram| format!("\"{}\"", trigram.replace('"', "\"\""))).collect()
}

/// Returns the trigrams of a text that are rarest in the newest rows. One that is much more frequent than the rarest
/// excludes little, and costs as much as its documents are many.
async fn pick_rarest(tx: &mut Transaction, trigrams: Vec<String>, newest: i64) -> Result<Vec<String>> {
    let mut counted = Vec::new();
    for trigram in trigrams {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM lead_trigrams WHERE lead_trigrams MATCH $1 AND rowid >= $2")
                .bind(&trigram)
                .bind((newest - SAMPLE) * FIELDS)
                .fetch_one(&mut *tx)
                .await?;
        counted.push((count, trigram));
    }
    counted.sort();
    let most = counted.first().map_or(0, |(least, _)| least * 4);
    let is_rare = |(index, (count, _)): &(usize, (i64, String))| *index == 0 || *count <= most;
    let rare = counted.into_iter().enumerate().filter(is_rare).take(MAX_LOOKED_UP);
    Ok(rare.map(|(_, (_, trigram))| trigram).collect())
}

/// Empties the index, and lets no change of a row reach it until [`restart`].
pub(crate) async fn suspend(tx: &mut sqlx::SqliteConnection) -> Result<()> {
    sqlx::query("INSERT INTO lead_trigrams (lead_trigrams) VALUES ('delete-all')").execute(&mut *tx).await?;
    let suspend = sqlx::query("UPDATE lead_trigrams_state SET todo = $1, purge = 0 WHERE id = 1").bind(i64::MAX);
    suspend.execute(tx).await?.exactly_one("lead_trigrams_state")
}

/// Lets all rows be added to the index again, if it was suspended.
pub(crate) async fn restart(tx: &mut sqlx::SqliteConnection) -> Result<()> {
    sqlx::query(
        "UPDATE lead_trigrams_state SET todo = (SELECT coalesce(max(place), 0) FROM lead_search)
         WHERE id = 1 AND todo = $1",
    )
    .bind(i64::MAX)
    .execute(tx)
    .await?
    .at_most_one("lead_trigrams_state")
    .map(drop)
}

/// Keeps the index: adds rows from before it existed, and merges erased texts out of it.
///
/// Every step is a short transaction, so that commands wait for one step at most. It continues after a restart.
pub(crate) async fn keep(readers: Arc<ConnectionPool>, writer: Arc<ConnectionPool>) {
    let mut added = 0;
    loop {
        let begun = Instant::now();
        let pause = match work(&readers, &writer).await {
            Ok(Step::Added(rows)) => {
                if added == 0 {
                    info!("building the trigram index of leads; until it is complete, searches read the leads");
                }
                added += rows;
                begun.elapsed()
            }
            Ok(Step::Merged) => begun.elapsed(),
            Ok(Step::Idle) => {
                if added > 0 {
                    info!(leads = added, "built the trigram index of leads");
                    added = 0;
                }
                ROUND
            }
            Err(error) => {
                debug!("cannot keep the trigram index, retrying: {error}");
                ROUND
            }
        };
        sleep(pause).await;
    }
}

enum Step {
    Added(i64),
    Merged,
    Idle,
}

/// State of the merge that removes erased texts.
const PURGE_REQUESTED: i64 = 1;
const PURGE_RUNNING: i64 = 2;

/// Does the next piece of work, in a transaction of its own.
async fn work(readers: &Arc<ConnectionPool>, writer: &Arc<ConnectionPool>) -> Result<Step> {
    // Without work, the write lock is not taken.
    if state(&mut readers.begin(Location::caller()).await?).await? == (0, 0) {
        return Ok(Step::Idle);
    }
    let mut tx = writer.begin(Location::caller()).await?;
    let done = step(&mut tx).await?;
    tx.commit(|| ()).await?;
    Ok(done)
}

async fn state(tx: &mut Transaction) -> Result<(i64, i64)> {
    let state = sqlx::query_as("SELECT todo, purge FROM lead_trigrams_state WHERE id = 1");
    Ok(state.fetch_one(tx).await?)
}

async fn step(tx: &mut Transaction) -> Result<Step> {
    let (todo, purge) = state(tx).await?;
    Ok(if todo > 0 {
        add(tx, todo).await?;
        Step::Added(todo.min(BATCH))
    } else if purge > 0 {
        merge(tx, purge).await?;
        Step::Merged
    } else {
        Step::Idle
    })
}

/// Does a piece of the merge that removes erased texts; true if none is left.
pub(crate) async fn purge(tx: &mut Transaction) -> Result<bool> {
    let (_, purge) = state(tx).await?;
    if purge > 0 {
        merge(tx, purge).await?;
    }
    Ok(purge == 0)
}

/// Adds the rows up to the place `todo`.
async fn add(tx: &mut Transaction, todo: i64) -> Result<()> {
    let newest = sqlx::query_scalar("SELECT coalesce(max(place), 0) FROM lead_search");
    let todo = todo.min(newest.fetch_one(&mut *tx).await?);
    let first = (todo - BATCH).max(0);
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO lead_trigrams (rowid, text) SELECT document, text FROM (");
    for (number, column) in COLUMNS.iter().enumerate() {
        query.push(if number > 0 { " UNION ALL " } else { "" });
        query.push(format_args!(
            "SELECT {FIELDS} * place + {number} AS document, {column} AS text FROM lead_search
             WHERE {column} <> '' AND place > {first} AND place <= {todo}"
        ));
    }
    query.push(") AS documents ORDER BY document").build().execute(&mut *tx).await?;
    sqlx::query("UPDATE lead_trigrams_state SET todo = $1 WHERE id = 1")
        .bind(first)
        .execute(tx)
        .await?
        .exactly_one("lead_trigrams_state")
}

/// Merges some pages. The merge of the whole index leaves out what was deleted from it before the merge began.
async fn merge(tx: &mut Transaction, purge: i64) -> Result<()> {
    // A negative number begins the merge of everything.
    let pages = if purge == PURGE_REQUESTED { -PAGES } else { PAGES };
    let before: i64 = sqlx::query_scalar("SELECT total_changes()").fetch_one(&mut *tx).await?;
    sqlx::query("INSERT INTO lead_trigrams (lead_trigrams, rank) VALUES ('merge', $1)")
        .bind(pages)
        .execute(&mut *tx)
        .await?;
    let after: i64 = sqlx::query_scalar("SELECT total_changes()").fetch_one(&mut *tx).await?;
    // The statement counts as one change even if there was nothing to merge.
    let next = if after - before < 2 { 0 } else { PURGE_RUNNING };
    sqlx::query("UPDATE lead_trigrams_state SET purge = $1 WHERE id = 1")
        .bind(next)
        .execute(tx)
        .await?
        .exactly_one("lead_trigrams_state")
}

#[cfg(test)]
mod tests;
