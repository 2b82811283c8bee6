//! Writes of leads: `If-Match`, idempotency keys, and the events and history that they leave.

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    http::leads::{assign, events_since, head, id, path},
    support::{Client, Reply, TestApp, send},
};

async fn patch_if(client: &Client, lead: &Value, if_match: &str, patch: Value) -> Reply {
    send(client.request(Method::PATCH, &path(lead)).header("if-match", if_match).json(&patch)).await
}

async fn post_with_key(client: &Client, path: &str, key: &str, body: Value) -> Reply {
    send(client.request(Method::POST, path).header("idempotency-key", key).json(&body)).await
}

#[tokio::test]
async fn if_match_prevents_lost_updates() {
    let app = TestApp::start().await;
    let client = app.client(Role::Manager);
    let lead = app.lead(json!({"title": "Roof"})).await;
    patch_if(&client, &lead, "\"1\"", json!({"title": "Two"})).await.expect(StatusCode::OK);
    for stale in ["\"1\"", "W/\"2\"", "\"abc\"", "\"1\", \"7\"", "W/\"2\", \"7\""] {
        let problem = patch_if(&client, &lead, stale, json!({"title": "Three"})).await.refused(412, "version_conflict");
        assert_eq!((&problem["current"]["title"], &problem["current"]["version"]), (&json!("Two"), &json!(2)));
    }
    patch_if(&client, &lead, "2", json!({"title": "Three"})).await.refused(400, "malformed");
    patch_if(&client, &lead, "\"1\", \"2\"", json!({"title": "Three"})).await.expect(StatusCode::OK);
    patch_if(&client, &lead, "*", json!({"title": "Four"})).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_assignment_emits_only_lead_assigned_its_activity_and_notification() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let before = head(&app).await;
    let assigned = assign(&app, &lead, json!(app.user(Role::Sales).id)).await;
    assert_eq!(assigned["owner"]["name"], "sales");
    let mut events = events_since(&app, before).await;
    events.sort();
    assert_eq!(events, ["activity:created", "lead:assigned", "notification"]);
    assert_eq!(assign(&app, &lead, Value::Null).await["owner"], Value::Null);
}

#[tokio::test]
async fn the_history_lists_actor_and_change() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    app.client(Role::Manager)
        .patch(&path(&lead), json!({"title": "Attic", "status": "WON"}))
        .await
        .expect(StatusCode::OK);
    assign(&app, &lead, json!(app.user(Role::Sales).id)).await;
    for role in Role::ALL {
        let entries = app.client(role).walk(&format!("{}/history?limit=1", path(&lead))).await;
        let title = entries
            .iter()
            .find(|entry| entry["field"] == "title" && entry["from"] == "Roof")
            .expect("the title changed");
        assert_eq!((&title["to"], &title["changedBy"]["email"]), (&json!("Attic"), &json!("manager@example.com")));
        assert!(entries.iter().any(|entry| entry["field"] == "status" && entry["to"] == "WON"));
        let times: Vec<_> = entries.iter().map(|entry| entry["changedAt"].as_str().expect("a time")).collect();
        assert!(times.is_sorted_by(|newer, older| newer >= older), "newest first: {times:?}");
    }
}

#[tokio::test]
async fn a_request_with_an_idempotency_key_runs_once() {
    let app = TestApp::start().await;
    let client = app.client(Role::Sales);
    let (body, before) = (json!({"title": "Roof"}), head(&app).await);
    let (one, two) = tokio::join!(
        post_with_key(&client, "/api/leads", "key-1", body.clone()),
        post_with_key(&client, "/api/leads", "key-1", body.clone())
    );
    assert_eq!(one.header("location"), two.header("location"));
    let lead = one.expect(StatusCode::CREATED);
    assert_eq!(two.expect(StatusCode::CREATED), lead);
    assert_eq!(head(&app).await, before.next());
    post_with_key(&client, "/api/leads", "key-1", json!({"title": "Attic"}))
        .await
        .refused(422, "idempotency_key_reused");

    let other = post_with_key(&app.client(Role::Manager), "/api/leads", "key-1", body.clone()).await;
    assert_ne!(id(&other.expect(StatusCode::CREATED)), id(&lead), "another user's keys are their own");
    for bad in ["", "with space", &"x".repeat(256)] {
        post_with_key(&client, "/api/leads", bad, body.clone()).await.refused(422, "invalid");
    }
    post_with_key(&client, "/api/leads", &"x".repeat(255), body).await.expect(StatusCode::CREATED);

    let manager = app.client(Role::Manager);
    for (what, body) in
        [("assign", json!({"ownerId": app.user(Role::Sales).id})), ("activities", json!({"type": "NOTE"}))]
    {
        let path = format!("{}/{what}", path(&lead));
        let first = post_with_key(&manager, &path, what, body.clone()).await;
        let again = post_with_key(&manager, &path, what, body).await;
        assert!(first.status.is_success(), "{}", first.body);
        assert_eq!((first.status, first.body), (again.status, again.body));
    }
}

#[tokio::test]
async fn if_match_applies_to_every_write_of_a_lead() {
    let app = TestApp::start().await;
    let (admin, lead) = (app.client(Role::Admin), app.lead(json!({"title": "Roof"})).await);
    admin.patch(&path(&lead), json!({"title": "New roof"})).await.expect(StatusCode::OK);
    let (assigning, restoring) = (format!("{}/assign", path(&lead)), format!("{}/restore", path(&lead)));
    let owner = json!({"ownerId": app.user(Role::Sales).id});
    let call = async |method: Method, path: &str, if_match: &str, body: Value| {
        send(admin.request(method, path).header("if-match", if_match).json(&body)).await
    };

    for outdated in ["\"1\"", "\"1\", \"7\"", "W/\"2\"", "\"x\""] {
        for (method, path, body) in
            [(Method::POST, &assigning, owner.clone()), (Method::DELETE, &path(&lead), json!({}))]
        {
            let refused = call(method, path, outdated, body).await.refused(412, "version_conflict");
            assert_eq!((&refused["current"]["title"], &refused["current"]["version"]), (&json!("New roof"), &json!(2)));
        }
    }
    call(Method::POST, &assigning, "3", owner.clone()).await.refused(400, "malformed");
    let assigned = call(Method::POST, &assigning, "\"2\"", owner).await.expect(StatusCode::OK);
    assert_eq!(assigned["version"], 3);
    call(Method::DELETE, &path(&lead), "\"9\", \"3\"", json!({})).await.expect(StatusCode::NO_CONTENT);

    for outdated in ["\"2\"", "\"1\", \"2\""] {
        let refused = call(Method::POST, &restoring, outdated, json!({})).await.refused(412, "version_conflict");
        assert_eq!(refused["current"]["version"], 3);
        admin.get(&path(&lead)).await.refused(404, "lead_not_found");
    }
    let restored = call(Method::POST, &restoring, "\"2\", \"3\"", json!({})).await.expect(StatusCode::OK);
    assert_eq!(restored["version"], 4);
    // It already exists, with another version.
    call(Method::POST, &restoring, "\"3\"", json!({})).await.refused(412, "version_conflict");
    call(Method::POST, &restoring, "*", json!({})).await.expect(StatusCode::OK);
}
