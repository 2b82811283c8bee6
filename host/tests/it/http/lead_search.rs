//! Lead search: folding in every script, and no search in hidden fields.

use std::time::{Duration, Instant};

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use sqlx::{Connection, SqliteConnection};

use crate::support::{Client, TestApp};

async fn found(client: &Client, query: &str) -> Vec<String> {
    let leads = client.walk(&format!("/api/leads?sort=title&{query}")).await;
    leads.iter().map(|lead| lead["title"].as_str().expect("a title").to_owned()).collect()
}

fn encoded(text: &str) -> String {
    percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
}

#[tokio::test]
async fn a_search_folds_case_accents_and_forms_in_every_script() {
    let app = TestApp::start().await;
    for (title, company) in [
        ("Müller", "Straße 5"),
        ("ΟΔΟΣ", "Ёлка"),
        ("Łódź", "Ｆｕｌｌ"),
        ("Cafe\u{301}", "İstanbul"),
        ("100% _Sure\\", "x"),
    ] {
        app.lead(json!({"title": title, "company": company})).await;
    }
    let viewer = app.client(Role::Viewer);
    for (search, title) in [
        ("muller", "Müller"),
        ("MU\u{308}LLER", "Müller"),
        ("STRASSE", "Müller"),
        ("οδός", "ΟΔΟΣ"),
        ("елка", "ΟΔΟΣ"),
        ("lodz", "Łódź"),
        ("full", "Łódź"),
        ("CAFÉ", "Cafe\u{301}"),
        ("istanbul", "Cafe\u{301}"),
        ("100%", "100% _Sure\\"),
        ("_sure\\", "100% _Sure\\"),
    ] {
        assert_eq!(found(&viewer, &format!("q={}", encoded(search))).await, [title], "{search}");
    }
    assert!(found(&viewer, "q=m_ller").await.is_empty());
    assert_eq!(found(&viewer, "q=%E2%80%8B").await.len(), 5, "what nobody sees is no search");
}

#[tokio::test]
async fn a_phone_number_is_found_by_its_digits() {
    let app = TestApp::start().await;
    for (title, phone) in [("a", "555 0199"), ("b", "+1 (555) 0199"), ("c", "555-0200")] {
        app.lead(json!({"title": title, "phone": phone, "description": "room 5550199x"})).await;
    }
    let viewer = app.client(Role::Viewer);
    assert_eq!(found(&viewer, "q=555%200199").await, ["a", "b"]);
    assert_eq!(found(&viewer, "q=%2B1555").await, ["b"]);
    assert_eq!(found(&viewer, "q=5550200").await, ["c"]);
    assert_eq!(found(&viewer, "q=0199x").await, ["a", "b", "c"], "other texts are searched as they are");
}

#[tokio::test]
async fn the_search_index_follows_changes_of_a_lead() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Zürich", "company": "Alt"})).await;
    app.lead(json!({"title": "ärger"})).await;
    app.lead(json!({"title": "Zebra"})).await;
    let (admin, path) = (app.client(Role::Admin), format!("/api/leads/{}", lead["id"].as_str().expect("an id")));
    assert_eq!(found(&admin, "").await, ["ärger", "Zebra", "Zürich"], "sorted as it is searched");
    admin.patch(&path, json!({"title": "Örebro", "company": null})).await.expect(StatusCode::OK);
    assert!(found(&admin, "q=zurich").await.is_empty() && found(&admin, "q=alt").await.is_empty());
    assert_eq!(found(&admin, "q=orebro").await, ["Örebro"]);
    admin.delete(&path).await.expect(StatusCode::NO_CONTENT);
    assert!(found(&admin, "q=orebro").await.is_empty());
    admin.post(&format!("{path}/restore"), json!({})).await.expect(StatusCode::OK);
    assert_eq!(found(&admin, "q=orebro").await, ["Örebro"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn leads_of_an_older_version_are_indexed_at_startup() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Größe", "phone": "555 0199"})).await;
    let database = app.dir.path().join("leadwire.db");
    let TestApp { server, dir, .. } = app;
    server.shutdown().await.expect("stops");

    // The state of an older version with many more leads, interrupted during indexing.
    let mut connection = SqliteConnection::connect(database.to_str().expect("utf-8")).await.expect("opens");
    let id = lead["id"].as_str().expect("an id").to_owned();
    for statement in [
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)
         INSERT INTO leads (id, title, status, currency, custom, created_by, version, created_at, updated_at)
         SELECT printf('%08x-0000-7000-8000-000000000000', n), 'Ångström ' || n, 'NEW', 'USD', '{}',
             (SELECT created_by FROM leads LIMIT 1), 1, '2026-01-01T00:00:00.000Z', '2026-01-01T00:00:00.000Z' FROM n",
        "DELETE FROM lead_search",
        "INSERT INTO lead_search (lead_id, title, contact_name, company, email, phone, phone_digits, description)
         SELECT id, 'angstrom', '', '', '', '', '', '' FROM leads
         WHERE id <= '00000bb8-0000-7000-8000-000000000000'",
        "UPDATE lead_search_state SET folding = 0, done = '00000bb8-0000-7000-8000-000000000000'",
    ] {
        sqlx::query(statement).execute(&mut connection).await.expect(statement);
    }
    connection.close().await.expect("closes");

    let begun = Instant::now();
    let app = TestApp::reopen(dir).await;
    let took = begun.elapsed();
    println!("20,000 leads were filled in within {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    let viewer = app.add_user("late", Role::Viewer).await;
    let client = app.with_token(&app.login(&viewer.email).await);
    assert_eq!(client.get(&format!("/api/leads/{id}")).await.expect(StatusCode::OK)["title"], "Größe");
    assert_eq!(found(&client, "q=GROSSE").await, ["Größe"]);
    assert_eq!(found(&client, "q=5550199").await, ["Größe"]);
    let page = client.get("/api/leads?q=angstrom%2020000").await.expect(StatusCode::OK);
    assert_eq!(page["items"].as_array().map(Vec::len), Some(1));
    let all: Vec<Value> = client.walk("/api/leads?q=ANGSTR%C3%96M&limit=200").await;
    assert_eq!(all.len(), 20_000);
}
