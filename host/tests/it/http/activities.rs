//! Activities, for every role.

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{TestApp, send};

fn list(lead: &Value) -> String {
    format!("/api/leads/{}/activities", lead["id"].as_str().expect("an id"))
}

fn path(activity: &Value) -> String {
    format!("/api/activities/{}", activity["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn each_role_has_the_rights_of_the_contract() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let note = json!({"type": "NOTE", "body": "Called twice"});
    for role in Role::ALL {
        let client = app.client(role);
        let theirs = app.client(if role == Role::Manager { Role::Admin } else { Role::Manager });
        let theirs = theirs.post(&list(&lead), note.clone()).await.expect(StatusCode::CREATED);
        let reply = client.post(&list(&lead), note.clone()).await;
        if role == Role::Viewer {
            reply.refused(403, "forbidden");
        } else {
            assert_eq!(reply.header("location"), path(&reply.body));
            let own = reply.expect(StatusCode::CREATED);
            assert_eq!(own["creator"]["id"], app.user(role).id.to_string());
            let changed = client.patch(&path(&own), json!({"body": "Called thrice"})).await.expect(StatusCode::OK);
            assert_eq!((&changed["body"], &changed["type"]), (&json!("Called thrice"), &json!("NOTE")));
            client.delete(&path(&own)).await.expect(StatusCode::NO_CONTENT);
            client.delete(&path(&own)).await.refused(404, "activity_not_found");
        }
        let (changed, deleted) =
            (client.patch(&path(&theirs), json!({"body": "Mine"})).await, client.delete(&path(&theirs)).await);
        if matches!(role, Role::Admin | Role::Manager) {
            changed.expect(StatusCode::OK);
            deleted.expect(StatusCode::NO_CONTENT);
        } else {
            changed.refused(403, "forbidden");
            deleted.refused(403, "forbidden");
        }
        client.get(&list(&lead)).await.expect(StatusCode::OK);
    }
}

#[tokio::test]
async fn activities_written_by_the_server_cannot_be_changed() {
    let app = TestApp::start().await;
    let (admin, lead) = (app.client(Role::Admin), app.lead(json!({"title": "Roof"})).await);
    admin
        .patch(&format!("/api/leads/{}", lead["id"].as_str().expect("an id")), json!({"status": "WON"}))
        .await
        .expect(StatusCode::OK);
    let activities = admin.walk(&list(&lead)).await;
    assert_eq!((activities.len(), &activities[0]["type"]), (1, &json!("STATUS_CHANGE")));
    assert_eq!(activities[0]["meta"], json!({"from": "NEW", "to": "WON"}));
    for role in Role::ALL {
        app.client(role).patch(&path(&activities[0]), json!({"body": "Lost"})).await.refused(403, "forbidden");
        app.client(role).delete(&path(&activities[0])).await.refused(403, "forbidden");
    }
    for kind in ["STATUS_CHANGE", "ASSIGNMENT", "note", ""] {
        admin.post(&list(&lead), json!({"type": kind})).await.refused(422, "invalid");
    }
}

#[tokio::test]
async fn invalid_activity_fields_are_named() {
    let app = TestApp::start().await;
    let (client, lead) = (app.client(Role::Sales), app.lead(json!({"title": "Roof"})).await);
    let body = json!({"body": 7, "dueAt": "soon", "leadId": lead["id"]});
    let problem = client.post(&list(&lead), body).await.refused(422, "invalid");
    let mut fields: Vec<_> =
        problem["errors"].as_array().expect("errors").iter().map(|error| error["field"].as_str()).collect();
    fields.sort_unstable();
    assert_eq!(fields, [Some("body"), Some("dueAt"), Some("leadId"), Some("type")]);
    let task = json!({"type": "TASK", "dueAt": "2030-01-01T12:00:00+02:00", "meta": {"a": 1}});
    let task = client.post(&list(&lead), task).await.expect(StatusCode::CREATED);
    assert_eq!((&task["dueAt"], &task["leadId"]), (&json!("2030-01-01T10:00:00.000Z"), &lead["id"]));
    let lead = client.get(&format!("/api/leads/{}", lead["id"].as_str().expect("an id"))).await.expect(StatusCode::OK);
    assert_eq!(lead["lastActivityAt"], task["createdAt"]);
}

#[tokio::test]
async fn activities_are_listed_newest_first_and_once() {
    let app = TestApp::start().await;
    let (client, lead) = (app.client(Role::Sales), app.lead(json!({"title": "Roof"})).await);
    let mut written = Vec::new();
    for number in 0..23 {
        let body = json!({"type": "NOTE", "body": number.to_string()});
        written.push(client.post(&list(&lead), body).await.expect(StatusCode::CREATED)["id"].clone());
    }
    written.reverse();
    let disturb = async {
        for _ in 0..10 {
            client.post(&list(&lead), json!({"type": "CALL"})).await.expect(StatusCode::CREATED);
        }
    };
    let reader = app.client(Role::Viewer);
    let query = format!("{}?limit=4", list(&lead));
    let (found, ()) = tokio::join!(reader.walk(&query), disturb);
    let notes: Vec<_> =
        found.iter().filter(|activity| activity["type"] == "NOTE").map(|activity| activity["id"].clone()).collect();
    assert_eq!(notes, written);
}

#[tokio::test]
async fn activities_are_deleted_and_restored_with_their_lead() {
    let app = TestApp::start().await;
    let (admin, lead) = (app.client(Role::Admin), app.lead(json!({"title": "Roof"})).await);
    let note = admin.post(&list(&lead), json!({"type": "NOTE"})).await.expect(StatusCode::CREATED);
    let address = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    admin.delete(&address).await.expect(StatusCode::NO_CONTENT);
    admin.get(&list(&lead)).await.refused(404, "lead_not_found");
    admin.patch(&path(&note), json!({"body": "x"})).await.refused(404, "activity_not_found");
    admin.post(&list(&lead), json!({"type": "NOTE"})).await.refused(404, "lead_not_found");
    send(admin.request(Method::POST, &format!("{address}/restore"))).await.expect(StatusCode::OK);
    assert_eq!(admin.walk(&list(&lead)).await.last(), Some(&note));
    admin.patch("/api/activities/7", json!({})).await.refused(404, "activity_not_found");
}

#[tokio::test]
async fn the_location_of_a_new_activity_resolves() {
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let admin = app.client(Role::Admin);
    let list = format!("/api/leads/{}/activities", lead["id"].as_str().expect("an id"));
    let made = admin.post(&list, json!({"type": "NOTE", "body": "hello"})).await;
    let location = made.header("location").to_owned();
    let made = made.expect(StatusCode::CREATED);
    assert_eq!(app.client(Role::Viewer).get(&location).await.expect(StatusCode::OK), made);
    app.anonymous().get(&location).await.refused(401, "unauthenticated");
    admin.delete(&format!("/api/leads/{}", lead["id"].as_str().expect("an id"))).await.expect(StatusCode::NO_CONTENT);
    admin.get(&location).await.refused(404, "activity_not_found");
}
