//! The contract as data: the documents that are served are those that are committed, and commands tell their `seq`.

use std::{collections::BTreeSet, fs, path::Path};

use leadwire::{
    domain::role::Role,
    transport::{http, socket},
};
use reqwest::{Method, StatusCode, header::HeaderValue};
use serde_json::{Map, Value, json};

use crate::{
    socket_client::{SocketClient, Transport},
    support::{Reply, TestApp, http_client, send},
};

fn committed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(name);
    fs::read_to_string(path).expect("a committed document")
}

fn seq(reply: &Reply) -> u64 {
    reply.header("leadwire-seq").parse().expect("a number")
}

#[tokio::test]
async fn the_served_documents_are_the_committed_ones() {
    for (name, text) in [("openapi.json", http::openapi()), ("asyncapi.json", socket::asyncapi())] {
        assert!(committed(name) == text, "docs/{name} is outdated: run cargo xtask docs");
    }
    let app = TestApp::start().await;
    let anonymous = app.anonymous();
    let served = anonymous.get("/api/openapi.json").await.expect(StatusCode::OK);
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served, serde_json::from_str::<Value>(&http::openapi()).expect("JSON"));
    let served = anonymous.get("/api/asyncapi.json").await.expect(StatusCode::OK);
    assert_eq!(served["asyncapi"], "3.0.0");

    let about = anonymous.get("/api").await.expect(StatusCode::OK);
    assert_eq!((&about["name"], &about["mode"]), (&json!("leadwire"), &json!("production")));
    let version = served["info"]["version"].as_str().and_then(|version| version.strip_suffix(".0"));
    assert_eq!(about["contract"].as_str(), version);
    assert!(about["features"].as_array().is_some_and(|features| features.contains(&json!("resume"))), "{about}");
}

#[test]
fn schemas_in_both_documents_are_equal_and_every_reference_leads_somewhere() {
    let [openapi, asyncapi] =
        [http::openapi(), socket::asyncapi()].map(|text| serde_json::from_str::<Value>(&text).expect("JSON"));
    let schemas = |document: &Value| -> Map<String, Value> {
        document["components"]["schemas"].as_object().expect("schemas").clone()
    };
    let ours = schemas(&openapi);
    for (name, schema) in schemas(&asyncapi) {
        assert_eq!(ours.get(&name), Some(&schema), "{name}");
    }
    for document in [&openapi, &asyncapi] {
        let mut pointers = BTreeSet::new();
        references(document, &mut pointers);
        for pointer in pointers {
            let target = pointer.strip_prefix('#').and_then(|pointer| document.pointer(pointer));
            assert!(target.is_some(), "{pointer} leads nowhere");
        }
    }
}

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            found.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| references(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_commands_tell_the_seq_of_their_last_event() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let address = app.server.address().to_string();
    let mut socket = SocketClient::connect(Transport::WebSocket, &address, app.token(Role::Viewer)).await;

    let create = || {
        let request = admin.request(Method::POST, "/api/leads").header("idempotency-key", "one");
        send(request.json(&json!({"title": "Roof"})))
    };
    let created = create().await;
    let event = socket.event("lead:created").await;
    assert_eq!(json!(seq(&created)), event["seq"]);
    let path = created.header("location").to_owned();

    let note = admin.post(&format!("{path}/activities"), json!({"type": "NOTE"})).await;
    let changed = admin.patch(&path, json!({"title": "Door"})).await;
    let event = socket.event("lead:updated").await;
    assert!(seq(&created) < seq(&note) && seq(&note) < seq(&changed));
    assert_eq!(json!(seq(&changed)), event["seq"]);

    assert_eq!(seq(&create().await), seq(&created), "a repeated request tells the seq of the first");
    let unchanged = admin.patch(&path, json!({"title": "Door"})).await;
    assert_eq!(seq(&unchanged), seq(&changed), "without an event, it is the head of the log");

    let assigned = admin.post(&format!("{path}/assign"), json!({"ownerId": app.user(Role::Sales).id})).await;
    let event = socket.event("lead:assigned").await;
    assert!(json!(seq(&assigned)).as_u64() >= event["seq"].as_u64(), "the notification comes after it");
    let deleted = admin.delete(&path).await;
    assert_eq!(deleted.status, StatusCode::NO_CONTENT);
    assert_eq!(json!(seq(&deleted)), socket.event("lead:deleted").await["seq"]);
    let read = admin.get("/api/leads").await;
    assert!(!read.headers.contains_key("leadwire-seq"), "only commands have a seq");
}

#[tokio::test]
async fn files_for_front_ends_are_served_with_tags_and_the_package_for_good() {
    let app = TestApp::start().await;
    let page = read(&format!("{}/client/", app.url), None).await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.headers["content-security-policy"].to_str().is_ok_and(|policy| policy.contains("default-src 'none'")));
    let text = page.body.as_str().expect("text").to_owned();
    let paths: Vec<&str> = text.split("href=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert!(paths.contains(&"/api/openapi.json"), "{paths:?}");
    for path in paths.iter().filter(|path| !path.starts_with("/api/")) {
        let file = read(&format!("{}{path}", app.url), None).await;
        assert_eq!(file.status, StatusCode::OK, "{path}");
        let is_package = path.ends_with(".tgz");
        assert_eq!(file.headers["cache-control"].to_str().expect("text").contains("immutable"), is_package, "{path}");
        let again = read(&format!("{}{path}", app.url), file.headers.get("etag")).await;
        assert_eq!((again.status, again.body), (StatusCode::NOT_MODIFIED, json!("")), "{path}");
    }
    app.anonymous().get("/client/nothing.js").await.refused(404, "not_found");
}

async fn read(url: &str, known: Option<&HeaderValue>) -> Reply {
    let request = http_client().get(url);
    let request = known.into_iter().fold(request, |request, tag| request.header("if-none-match", tag));
    let response = request.send().await.expect("is answered");
    let (status, headers) = (response.status(), response.headers().clone());
    let body = String::from_utf8_lossy(&response.bytes().await.expect("a body")).into_owned();
    Reply { status, headers, body: body.into() }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_keyed_command_refuses_another_request_and_shows_nothing_after_an_erasure() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let sales = app.user(Role::Sales).id;
    let keyed = |what: &str, key: &str, body: Value| {
        let request = admin.request(Method::POST, &format!("{path}/{what}")).header("idempotency-key", key);
        send(request.json(&body))
    };
    let repeated = [
        ("assign", "one", json!({"ownerId": sales})),
        ("activities", "two", json!({"type": "NOTE", "body": "hello"})),
        ("restore", "three", json!({})),
    ];
    for (what, key, body) in &repeated {
        if *what == "restore" {
            assert_eq!(admin.delete(&path).await.status, StatusCode::NO_CONTENT);
        }
        let first = keyed(what, key, body.clone()).await;
        assert!(first.status.is_success(), "{what}: {}", first.body);
        assert_eq!(seq(&keyed(what, key, body.clone()).await), seq(&first), "{what}");
    }
    keyed("assign", "two", json!({"ownerId": null})).await.refused(422, "idempotency_key_reused");
    keyed("activities", "one", json!({"type": "CALL"})).await.refused(422, "idempotency_key_reused");
    keyed("restore", "one", json!({})).await.refused(422, "idempotency_key_reused");

    admin.delete(&format!("{path}?erase=true")).await.expect(StatusCode::OK);
    for (what, key, body) in repeated {
        let again = keyed(what, key, body).await;
        assert_eq!(again.status, StatusCode::NO_CONTENT, "{what}: {}", again.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn subscribers_are_sent_changed_and_deleted_activities() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let lead = app.lead(json!({"title": "Roof"})).await["id"].clone();
    let address = app.server.address().to_string();
    let mut socket = SocketClient::connect(Transport::WebSocket, &address, app.token(Role::Viewer)).await;
    socket.subscribe(lead.as_str().expect("an id")).await;
    let path = format!("/api/leads/{}/activities", lead.as_str().expect("an id"));
    let note = admin.post(&path, json!({"type": "NOTE"})).await.expect(StatusCode::CREATED)["id"].clone();
    socket.event("activity:created").await;

    let path = format!("/api/activities/{}", note.as_str().expect("an id"));
    let changed = admin.patch(&path, json!({"body": "called back"})).await;
    let event = socket.event("activity:updated").await;
    assert_eq!((&event["activity"]["body"], &event["seq"]), (&json!("called back"), &json!(seq(&changed))));
    let deleted = admin.delete(&path).await;
    let event = socket.event("activity:deleted").await;
    assert_eq!((&event["activityId"], &event["seq"]), (&note, &json!(seq(&deleted))));
}
