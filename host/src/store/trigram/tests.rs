//! Tests of the trigram index: it holds exactly the trigrams of the texts, whatever happens to them.

use std::collections::BTreeSet;

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use sqlx::Row;
use uuid::Uuid;

use super::*;
use crate::{
    domain::{
        id::{LeadId, UserId},
        lead::{Lead, LeadFields},
        role::Role,
        time::Timestamp,
        user::{User, UserRef},
    },
    store::{
        handle::{Store, Tx},
        test_database::TestDatabase,
    },
};

fn owner() -> User {
    let (email, name, at) = ("ann@example.com".into(), "Ann".into(), Timestamp::from_millis(0).expect("in range"));
    User { id: UserId(Uuid::nil()), email, name, role: Role::Sales, active: true, created_at: at, updated_at: at }
}

fn lead(number: u128, title: &str) -> Lead {
    let body =
        json!({"title": title, "phone": "+1 555 0199", "description": "Wants an offer \"soon\", 100% \u{1f600}"});
    let at = owner().created_at;
    Lead {
        id: LeadId(Uuid::from_u128(number)),
        fields: LeadFields::parse(body.as_object().expect("an object").clone()).expect("valid"),
        owner: None,
        created_by: UserRef::from(&owner()),
        last_activity_at: None,
        version: 1,
        rev: 1,
        created_at: at,
        updated_at: at,
    }
}

async fn store_with(database: &TestDatabase, leads: &[Lead]) -> Store {
    let store = database.open().await;
    let mut tx = store.write().await.expect("a transaction");
    tx.insert_user(&owner(), "").await.expect("inserts");
    for lead in leads {
        tx.insert_lead(lead).await.expect("inserts");
    }
    tx.commit().await.expect("commits");
    store
}

/// Trigrams and their documents, in the index and in the texts.
async fn contents(tx: &mut Tx<'_>) -> [BTreeSet<(String, i64)>; 2] {
    let tx = &mut *tx.reader.tx;
    sqlx::query("CREATE VIRTUAL TABLE IF NOT EXISTS temp.trigrams USING fts5vocab (main, lead_trigrams, instance)")
        .execute(&mut *tx)
        .await
        .expect("creates");
    let indexed: Vec<(String, i64)> =
        sqlx::query_as("SELECT term, doc FROM temp.trigrams").fetch_all(&mut *tx).await.expect("reads");
    let mut written = BTreeSet::new();
    let texts = format!("SELECT place, {} FROM lead_search", COLUMNS.join(", "));
    for row in sqlx::query(sqlx::AssertSqlSafe(texts)).fetch_all(&mut *tx).await.expect("reads") {
        for (number, column) in COLUMNS.iter().enumerate() {
            let document = row.get::<i64, _>("place") * FIELDS + number as i64;
            let chars: Vec<char> = row.get::<String, _>(*column).chars().collect();
            written.extend(chars.windows(3).map(|window| (window.iter().collect(), document)));
        }
    }
    [indexed.into_iter().collect(), written]
}

async fn finish(store: &Store) {
    loop {
        let mut tx = store.write().await.expect("a transaction");
        let done = step(&mut tx.reader.tx).await.expect("works");
        tx.commit().await.expect("commits");
        if matches!(done, Step::Idle) {
            return;
        }
    }
}

async fn pages(tx: &mut Tx<'_>) -> Vec<Vec<u8>> {
    let pages = sqlx::query_scalar("SELECT block FROM lead_trigrams_data ORDER BY id");
    pages.fetch_all(&mut *tx.reader.tx).await.expect("reads")
}

#[tokio::test]
async fn a_change_of_no_text_writes_nothing_to_the_index() {
    let database = TestDatabase::new();
    let before = lead(1, "New roof");
    let store = store_with(&database, std::slice::from_ref(&before)).await;
    let mut tx = store.write().await.expect("a transaction");
    let old = pages(&mut tx).await;
    let mut changed = Lead { version: 2, ..before.clone() };
    changed.fields.value_cents = Some(5);
    tx.save_lead(&before, &mut changed).await.expect("saves");
    assert_eq!(pages(&mut tx).await, old);
    let previous = changed.clone();
    changed.fields.title = "Other roof".into();
    tx.save_lead(&previous, &mut changed).await.expect("saves");
    tx.commit().await.expect("commits");
    let mut tx = store.write().await.expect("a transaction");
    assert_ne!(pages(&mut tx).await, old);
    let [indexed, written] = contents(&mut tx).await;
    assert_eq!(indexed, written);
}

#[tokio::test]
async fn an_erased_text_leaves_no_trigram_in_the_index() {
    let database = TestDatabase::new();
    let store = store_with(&database, &[lead(1, "Secretive wish")]).await;
    let mut tx = store.write().await.expect("a transaction");
    let mut changed = lead(1, "Kryptonite");
    tx.save_lead(&lead(1, "Secretive wish"), &mut changed).await.expect("saves");
    tx.commit().await.expect("commits");
    let mut tx = store.write().await.expect("a transaction");
    tx.erase_lead(changed.id).await.expect("erases");
    tx.commit().await.expect("commits");
    store.purge_texts().await.expect("merges");
    let mut tx = store.write().await.expect("a transaction");
    let pages = pages(&mut tx).await.concat();
    for trace in ["ecr", "cre", "ypt"] {
        assert!(!pages.windows(3).any(|part| part == trace.as_bytes()), "{trace} is still in the index");
    }
    let [indexed, written] = contents(&mut tx).await;
    assert!(indexed.is_empty() && written.is_empty());
}

/// Rows are added from the last to the first, while others are written, changed and erased.
#[tokio::test]
async fn an_index_that_is_built_beside_changes_is_complete() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let database = TestDatabase::new();
    let mut leads: Vec<Lead> = (0..500).map(|number| lead(number, &format!("Roof {number}"))).collect();
    let store = store_with(&database, &leads).await;
    let mut tx = store.write().await.expect("a transaction");
    sqlx::query("INSERT INTO lead_trigrams (lead_trigrams) VALUES ('delete-all')")
        .execute(&mut *tx.reader.tx)
        .await
        .expect("empties");
    let suspend = sqlx::query("UPDATE lead_trigrams_state SET todo = 500").execute(&mut *tx.reader.tx).await;
    suspend.expect("suspends").exactly_one("lead_trigrams_state").expect("one row");
    tx.commit().await.expect("commits");

    for round in 0.. {
        let mut tx = store.write().await.expect("a transaction");
        if state(&mut tx.reader.tx).await.expect("reads") == (0, 0) {
            break;
        }
        step(&mut tx.reader.tx).await.expect("works");
        for _ in 0..20 {
            let index = rng.random_range(0..leads.len());
            if rng.random_bool(0.2) {
                tx.erase_lead(leads.swap_remove(index).id).await.expect("erases");
            } else {
                let mut changed = leads[index].clone();
                changed.fields.title = format!("Wall {}", rng.random_range(0..1000));
                tx.save_lead(&leads[index], &mut changed).await.expect("saves");
                leads[index] = changed;
            }
        }
        let new = lead(1000 + round, "Window");
        tx.insert_lead(&new).await.expect("inserts");
        leads.push(new);
        if round > 4 {
            tx.commit().await.expect("commits");
            break;
        }
        tx.commit().await.expect("commits");
    }
    finish(&store).await;
    let mut tx = store.write().await.expect("a transaction");
    let [indexed, written] = contents(&mut tx).await;
    assert_eq!(indexed, written, "seed {seed}");
}
