//! Fields of a lead: stored exactly, changed by a merge patch, or refused by name.

use std::collections::BTreeMap;

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    http::leads::{events_since, head, path},
    support::{TestApp, send},
};

#[tokio::test]
async fn a_new_lead_has_a_location_an_etag_and_all_contract_fields() {
    let app = TestApp::start().await;
    let reply = app.client(Role::Sales).post("/api/leads", json!({"title": "Roof"})).await;
    assert_eq!(reply.header("location"), path(&reply.body));
    assert_eq!(reply.header("etag"), "\"1\"");
    let lead = reply.expect(StatusCode::CREATED);
    let members: Vec<_> = lead.as_object().expect("an object").keys().map(String::as_str).collect();
    let mut expected = vec![
        "id",
        "title",
        "status",
        "owner",
        "contactName",
        "company",
        "email",
        "phone",
        "source",
        "valueCents",
        "currency",
        "description",
        "custom",
        "createdBy",
        "lastActivityAt",
        "version",
        "rev",
        "createdAt",
        "updatedAt",
    ];
    let mut found = members.clone();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(lead["owner"]["email"], "sales@example.com", "a sales user owns what they make");
    let read = app.client(Role::Viewer).get(&path(&lead)).await;
    assert_eq!(read.header("etag"), "\"1\"");
    assert_eq!(read.expect(StatusCode::OK), lead);
    assert_eq!(app.lead(json!({"title": "Roof"})).await["owner"], Value::Null);
}

#[tokio::test]
async fn invalid_lead_fields_are_named() {
    let app = TestApp::start().await;
    let client = app.client(Role::Manager);
    let codes = |problem: Value| -> BTreeMap<String, String> {
        let errors = problem["errors"].as_array().expect("errors").clone();
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        errors.iter().map(|error| (text(&error["field"]), text(&error["code"]))).collect()
    };
    let body = json!({"status": "OPEN", "ownerId": app.user(Role::Sales).id, "colour": "red", "valueCents": "12"});
    let found = codes(client.post("/api/leads", body).await.refused(422, "invalid"));
    let expected = [
        ("colour", "unknown_field"),
        ("ownerId", "read_only"),
        ("status", "unknown_value"),
        ("title", "required"),
        ("valueCents", "wrong_type"),
    ];
    assert_eq!(found, expected.map(|(field, code)| (field.to_owned(), code.to_owned())).into());

    let lead = app.lead(json!({"title": "Roof"})).await;
    let found = codes(client.patch(&path(&lead), json!({"title": null, "id": 1})).await.refused(422, "invalid"));
    assert_eq!(found.into_keys().collect::<Vec<_>>(), ["id", "title"]);
    let assign = format!("{}/assign", path(&lead));
    for body in [
        json!({}),
        json!({"ownerId": "nobody"}),
        json!({"ownerId": uuid::Uuid::nil()}),
        json!({"ownerId": null, "x": 1}),
    ] {
        client.post(&assign, body).await.refused(422, "invalid");
    }
}

#[tokio::test]
async fn an_unknown_lead_returns_404() {
    let app = TestApp::start().await;
    let client = app.client(Role::Admin);
    for id in [uuid::Uuid::nil().to_string(), "7".into(), "%00".into(), "x".repeat(2000)] {
        let path = format!("/api/leads/{id}");
        client.get(&path).await.refused(404, "lead_not_found");
        client.patch(&path, json!({"title": "Roof"})).await.refused(404, "lead_not_found");
        client.delete(&path).await.refused(404, "lead_not_found");
        client.post(&format!("{path}/restore"), json!({})).await.refused(404, "lead_not_found");
        client.post(&format!("{path}/assign"), json!({"ownerId": null})).await.refused(404, "lead_not_found");
        client.get(&format!("{path}/activities")).await.refused(404, "lead_not_found");
        client.get(&format!("{path}/history")).await.refused(404, "lead_not_found");
    }
}

#[tokio::test]
async fn a_patch_merges_once_and_bumps_the_version() {
    let app = TestApp::start().await;
    let client = app.client(Role::Manager);
    let lead = app.lead(json!({"title": "Roof", "email": "a@b.example", "custom": {"a": 1, "b": 2}})).await;
    let before = head(&app).await;
    let reply = client.patch(&path(&lead), json!({"email": null, "custom": {"b": null}})).await;
    assert_eq!(reply.header("etag"), "\"2\"");
    let after = reply.expect(StatusCode::OK);
    assert_eq!((&after["email"], &after["custom"], &after["version"]), (&Value::Null, &json!({"a": 1}), &json!(2)));
    assert_eq!(events_since(&app, before).await, ["lead:updated"]);

    let again = client.patch(&path(&lead), json!({"email": null, "title": "Roof"})).await;
    assert_eq!(again.expect(StatusCode::OK), after, "a patch that changes nothing writes nothing");
    assert_eq!(head(&app).await, before.next());
    let kind = ("content-type", "application/merge-patch+json");
    let merge = client.request(Method::PATCH, &path(&lead)).header(kind.0, kind.1).body(r#"{"phone": "1"}"#);
    assert_eq!(send(merge).await.expect(StatusCode::OK)["phone"], "1");
}

#[tokio::test]
async fn a_lead_keeps_the_id_that_it_has_in_another_system() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let lead = app.lead(json!({"title": "Roof", "externalId": "hub-7"})).await;
    assert_eq!(lead["externalId"], "hub-7");
    assert_eq!(app.lead(json!({"title": "Door"})).await.get("externalId"), None, "left out where there is none");
    let changed = admin.patch(&path(&lead), json!({"externalId": "hub-8"})).await.expect(StatusCode::OK);
    assert_eq!(changed["externalId"], "hub-8");
    let removed = admin.patch(&path(&lead), json!({"externalId": null})).await.expect(StatusCode::OK);
    assert_eq!(removed.get("externalId"), None);
    let history = admin.walk(&format!("{}/history", path(&lead))).await;
    let values: Vec<_> = history.iter().map(|entry| (&entry["from"], &entry["to"])).collect();
    assert_eq!(values, [(&json!("hub-8"), &Value::Null), (&json!("hub-7"), &json!("hub-8"))]);
}

#[tokio::test]
async fn numbers_are_stored_exactly_or_refused_by_path() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let post = async |body: String| {
        let request = admin.request(Method::POST, "/api/leads").header("content-type", "application/json").body(body);
        request.send().await.expect("is answered")
    };
    let kept = r#"{"a":9007199254740993,"b":18446744073709551615,"c":-9223372036854775808,"d":[0.1,1e3,2.50]}"#;
    let answer = post(format!(r#"{{"title":"Roof","custom":{kept}}}"#)).await;
    assert_eq!(answer.status(), 201);
    let lead: Value = answer.json().await.expect("a lead");
    let read = admin.request(Method::GET, &path(&lead)).send().await.expect("is answered").text().await.expect("text");
    for number in ["9007199254740993", "18446744073709551615", "-9223372036854775808", "0.1,1000.0,2.5"] {
        assert!(read.contains(number), "{number}: {read}");
    }
    for (number, field) in [
        (r#"{"x":18446744073709551616}"#, "custom.x"),
        (r#"{"x":{"y":[1,123456789012345678901234567890]}}"#, "custom.x.y.1"),
        (r#"{"x":0.12345678901234567890123}"#, "custom.x"),
    ] {
        let answer = post(format!(r#"{{"title":"Roof","custom":{number}}}"#)).await;
        assert_eq!(answer.status(), 422, "{number}");
        let problem: Value = answer.json().await.expect("a problem");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
        assert_eq!(problem["errors"][0]["code"], "inexact_number", "{problem}");
    }
}

#[tokio::test]
async fn invisible_text_counts_as_empty() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    for blank in ["\u{200b}", " \u{2060}\u{feff} ", "\u{3164}", "\u{ad}", "\u{2800}"] {
        let refused = admin.post("/api/leads", json!({"title": blank})).await.refused(422, "invalid");
        assert_eq!(
            refused["errors"][0],
            json!({"field": "title", "code": "too_short", "message": "title must not be empty"})
        );
        assert_eq!(app.lead(json!({"title": "Roof", "company": blank})).await["company"], Value::Null);
    }
    assert_eq!(app.lead(json!({"title": "👩\u{200d}👧"})).await["title"], "👩\u{200d}👧");
}
