//! Lists of leads: filters, order and pages.

use std::collections::BTreeMap;

use leadwire::domain::{lead::LeadStatus, role::Role};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    http::leads::{id, path},
    support::TestApp,
};

#[tokio::test]
async fn lists_are_filtered_and_sorted() {
    let app = TestApp::start().await;
    for (title, status, source, value) in
        [("Ash", "NEW", "web", 3), ("beech", "WON", "fair", 1), ("Cedar", "LOST", "web", 2)]
    {
        let body = json!({"title": title, "status": status, "source": source, "valueCents": value, "company": format!("{title} Ltd")});
        app.lead(body).await;
    }
    let mine = app
        .client(Role::Sales)
        .post("/api/leads", json!({"title": "Mine", "status": "WON"}))
        .await
        .expect(StatusCode::CREATED);
    let client = app.client(Role::Viewer);
    let owner = app.user(Role::Sales).id;
    let since = mine["createdAt"].as_str().expect("a time").replace('+', "%2B");
    let cases = [
        ("sort=title".to_owned(), vec!["Ash", "beech", "Cedar", "Mine"]),
        ("sort=-title".into(), vec!["Mine", "Cedar", "beech", "Ash"]),
        ("sort=createdAt".into(), vec!["Ash", "beech", "Cedar", "Mine"]),
        (String::new(), vec!["Mine", "Cedar", "beech", "Ash"]),
        ("status=WON&sort=title".into(), vec!["beech", "Mine"]),
        ("status=WON&status=LOST&sort=title".into(), vec!["beech", "Cedar", "Mine"]),
        ("source=web&sort=-valueCents".into(), vec!["Ash", "Cedar"]),
        (format!("ownerId={owner}"), vec!["Mine"]),
        ("ownerId=none&sort=title".into(), vec!["Ash", "beech", "Cedar"]),
        ("q=BEECH".into(), vec!["beech"]),
        ("q=%25".into(), vec![]),
        ("q=_".into(), vec![]),
        ("q=ltd&sort=title".into(), vec!["Ash", "beech", "Cedar"]),
        (format!("createdAfter={since}"), vec![]),
        ("createdAfter=2020-01-01T00:00:00Z&limit=200&sort=title".into(), vec!["Ash", "beech", "Cedar", "Mine"]),
        (
            "status=&ownerId=&source=&q=&createdAfter=&sort=-updatedAt&limit=50&cursor=".into(),
            vec!["Mine", "Cedar", "beech", "Ash"],
        ),
    ];
    for (query, titles) in cases {
        let page = client.get(&format!("/api/leads?{query}")).await.expect(StatusCode::OK);
        let found: Vec<_> = page["items"].as_array().expect("items").iter().map(|lead| &lead["title"]).collect();
        assert_eq!(found, titles, "{query}");
        assert_eq!(page["nextCursor"], Value::Null);
    }
}

#[tokio::test]
async fn an_invalid_query_is_refused_by_parameter() {
    let app = TestApp::start().await;
    for _ in 0..2 {
        app.lead(json!({"title": "Roof"})).await;
    }
    let client = app.client(Role::Viewer);
    let page = client.get("/api/leads?limit=1&sort=title").await.expect(StatusCode::OK);
    let cursor = page["nextCursor"].as_str().expect("a cursor");
    let wrong = [
        ("colour=red".to_owned(), "colour"),
        ("limit=0".into(), "limit"),
        ("limit=201".into(), "limit"),
        ("limit=-1".into(), "limit"),
        ("limit=many".into(), "limit"),
        ("limit=1&limit=2".into(), "limit"),
        ("status=OPEN".into(), "status"),
        ("ownerId=me".into(), "ownerId"),
        ("createdAfter=yesterday".into(), "createdAfter"),
        ("sort=colour".into(), "sort"),
        ("sort=--title".into(), "sort"),
        (format!("q={}", "x".repeat(201)), "q"),
        ("cursor=nonsense".into(), "cursor"),
        ("cursor=%00".into(), "cursor"),
        (format!("cursor={cursor}&sort=-title"), "cursor"),
        (format!("cursor={cursor}"), "cursor"),
        (format!("cursor={}", "A".repeat(4000)), "cursor"),
    ];
    for (query, name) in wrong {
        let problem = client.get(&format!("/api/leads?{query}")).await.refused(400, "invalid_query");
        assert!(problem["detail"].as_str().expect("a text").contains(name), "{query}: {problem}");
    }
}

#[tokio::test]
async fn unchanged_leads_appear_exactly_once_while_paging() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let mut leads = Vec::new();
    for number in 0..60 {
        // Titles and values repeat, so that the order needs its tie-break.
        let body = json!({"title": format!("Lead {}", number % 7), "valueCents": number % 5, "company": (number % 3 == 0).then_some("Acme")});
        leads.push(app.lead(body).await);
    }
    let (moving, still) = leads.split_at(20);
    for sort in ["-updatedAt", "updatedAt", "title", "-valueCents", "company", "lastActivityAt", "-createdAt", "status"]
    {
        let walk = async { app.client(Role::Viewer).walk(&format!("/api/leads?limit=7&sort={sort}")).await };
        let disturb = async {
            for (number, lead) in moving.iter().enumerate() {
                let (title, value) = (format!("{sort} {}", number % 9), number % 4 + 100);
                admin.patch(&path(lead), json!({"title": title, "valueCents": value})).await.expect(StatusCode::OK);
                admin
                    .post("/api/leads", json!({"title": format!("Lead {}", number % 7)}))
                    .await
                    .expect(StatusCode::CREATED);
            }
        };
        let (found, ()) = tokio::join!(walk, disturb);
        let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
        for lead in &found {
            *seen.entry(id(lead)).or_default() += 1;
        }
        for lead in still {
            assert_eq!(seen.get(id(lead)), Some(&1), "{sort}: {}", lead["title"]);
        }
    }
}

#[tokio::test]
async fn sorting_by_status_follows_the_pipeline() {
    let app = TestApp::start().await;
    for status in LeadStatus::NAMES.iter().rev() {
        app.lead(json!({"title": status, "status": status})).await;
    }
    let sorted = async |query: &str| -> Vec<String> {
        let leads = app.client(Role::Viewer).walk(&format!("/api/leads?limit=3&sort={query}")).await;
        leads.iter().map(|lead| lead["status"].as_str().expect("a status").to_owned()).collect()
    };
    assert_eq!(sorted("status").await, LeadStatus::NAMES);
    let mut backwards = LeadStatus::NAMES;
    backwards.reverse();
    assert_eq!(sorted("-status").await, backwards);
}

#[tokio::test]
async fn lists_filter_by_dates_and_several_statuses() {
    let app = TestApp::start().await;
    for (title, status) in [("a", "NEW"), ("b", "WON"), ("c", "LOST")] {
        app.lead(json!({"title": title, "status": status})).await;
    }
    let viewer = app.client(Role::Viewer);
    let titles = async |query: &str| {
        let leads = viewer.walk(&format!("/api/leads?sort=title&{query}")).await;
        leads.iter().map(|lead| lead["title"].as_str().expect("a title").to_owned()).collect::<String>()
    };
    assert_eq!(titles("status=NEW,WON").await, "ab");
    assert_eq!(titles("status=NEW,WON&status=LOST").await, "abc");
    viewer.get("/api/leads?status=NEW,OPEN").await.refused(400, "invalid_query");
    assert_eq!(titles("createdAfter=2020-01-01").await, "abc");
    assert_eq!(titles("createdBefore=2020-01-01").await, "");
    assert_eq!(titles("createdAfter=2020-01-01&createdBefore=9999-12-31").await, "abc");
    assert_eq!(titles("createdBefore=2020-01-01T00:00:00%2B02:00").await, "");
    let lead = viewer.walk("/api/leads?q=a&sort=title").await.remove(0);
    let at = lead["createdAt"].as_str().expect("a time");
    assert!(!titles(&format!("createdBefore={at}")).await.contains('a'), "not the moment itself");
    assert!(!titles(&format!("createdAfter={at}")).await.contains('a'), "not the moment itself");
    for wrong in ["2020-13-01", "2020-1-1", "20200101", "1969-12-31", "10000-01-01", "2020-01-01T"] {
        for parameter in ["createdAfter", "createdBefore"] {
            viewer.get(&format!("/api/leads?{parameter}={wrong}")).await.refused(400, "invalid_query");
        }
    }
}
