//! Rooms and visibility: the sockets that an event reaches.

use leadwire::domain::{
    policy::{Scope, Visibility},
    role::Role,
};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    socket::commands::{address, connect, new_lead, patch, post},
    socket_client::{SocketClient, TRANSPORTS, Transport},
    support::{PASSWORD, TestApp},
};

#[tokio::test(flavor = "multi_thread")]
async fn one_change_reaches_each_socket_once_in_any_combination_of_rooms() {
    let app = TestApp::start().await;
    let lead = new_lead(&app, json!({"title": "Roof"})).await;
    for transport in TRANSPORTS {
        let mut clients = Vec::new();
        for role in Role::ALL {
            // A separate session: a shared one would restore the subscriptions of its lost sockets.
            let token = app.login(&app.user(role).email).await;
            let mut client = SocketClient::connect(transport, &address(&app), &token).await;
            client.subscribe(&lead).await;
            clients.push(client);
        }
        let title = format!("{transport:?}");
        patch(&app, Role::Manager, &format!("/api/leads/{lead}"), json!({"title": title})).await;
        for client in &mut clients {
            let event = client.event("lead:updated").await;
            assert_eq!(event["lead"]["title"], title);
            assert_eq!((&event["changes"], &event["updatedBy"]["role"]), (&json!(["title"]), &json!("MANAGER")));
            assert!(event["seq"].is_u64() && event["epoch"].is_string() && event["timestamp"].is_string(), "{event}");
            client.expect_silence().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn activities_reach_only_subscribers_of_the_lead() {
    let app = TestApp::start().await;
    let lead = new_lead(&app, json!({"title": "Roof"})).await;
    let (mut follower, mut other) = (connect(&app, Role::Viewer).await, connect(&app, Role::Viewer).await);
    follower.subscribe(&lead).await;
    let note = json!({"type": "NOTE", "body": "called back"});
    post(&app, Role::Sales, &format!("/api/leads/{lead}/activities"), note).await;
    let event = follower.event("activity:created").await;
    assert_eq!((&event["leadId"], &event["activity"]["body"]), (&json!(lead), &json!("called back")));
    other.expect_silence().await;

    follower.emit("lead:unsubscribe", json!({"leadId": lead}));
    follower.event("lead:unsubscribed").await;
    post(&app, Role::Sales, &format!("/api/leads/{lead}/activities"), json!({"type": "CALL"})).await;
    follower.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn visibility_narrows_events_and_revokes_lost_leads() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let (mut sales, mut viewer) = (connect(&app, Role::Sales).await, connect(&app, Role::Viewer).await);
    let me = app.user(Role::Sales).id;
    let lead = new_lead(&app, json!({"title": "Not theirs"})).await;
    // The room does not disclose the lead; its events are not for this user.
    sales.subscribe(&lead).await;
    post(&app, Role::Admin, &format!("/api/leads/{lead}/activities"), json!({"type": "NOTE"})).await;
    sales.expect_silence().await;
    viewer.event("lead:created").await;

    post(&app, Role::Admin, &format!("/api/leads/{lead}/assign"), json!({"ownerId": me})).await;
    sales.event("lead:assigned").await;
    sales.event("activity:created").await;
    assert_eq!(sales.event("notification").await["kind"], "lead_assigned");
    post(&app, Role::Admin, &format!("/api/leads/{lead}/assign"), json!({"ownerId": null})).await;
    assert_eq!(sales.event("lead:revoked").await["leadId"], json!(lead));
    assert_eq!(sales.event("notification").await["kind"], "lead_unassigned");
    sales.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_change_is_announced_and_applies_from_its_position_in_the_log() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let user = app.add_user("moving", Role::Viewer).await;
    let token = app.login(&user.email).await;
    let mut client = SocketClient::connect(Transport::WebSocket, &address(&app), &token).await;
    new_lead(&app, json!({"title": "Seen by a viewer"})).await;
    client.event("lead:created").await;
    patch(&app, Role::Admin, &format!("/api/users/{}", user.id), json!({"role": "SALES"})).await;
    assert_eq!(client.event("session:updated").await["userRole"], "SALES");
    client.event("sync:reset").await;
    new_lead(&app, json!({"title": "Not theirs"})).await;
    client.expect_silence().await;
    assert_eq!(client.call("lead:create", json!({"title": "Mine"})).await["ok"], true);
    client.event("lead:created").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ended_session_gets_nothing_more() {
    let app = TestApp::start().await;
    let login = json!({"email": app.user(Role::Sales).email, "password": PASSWORD});
    let grant = app.anonymous().post("/api/auth/login", login).await.expect(StatusCode::OK);
    let token = grant["accessToken"].as_str().expect("a token");
    let mut ended = SocketClient::connect(Transport::WebSocket, &address(&app), token).await;
    let mut other = connect(&app, Role::Sales).await;
    let logout = json!({"refreshToken": grant["refreshToken"]});
    app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    new_lead(&app, json!({"title": "Later"})).await;
    other.event("lead:created").await;
    ended.ended_in_silence().await;
}
