//! The plugin as actor: its effects carry its name, and loops between plugins stop.

use std::fs;

use leadwire::domain::{counter::Seq, role::Role};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::{
    effects::execution::{
        GRANT, activities, follower, id, note, parked, put, settled, start, stats, until_followed, with_lead,
    },
    guest::{Guest, Ruling},
    socket_client::{PATIENCE, SocketClient, Transport},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_is_executed_as_the_plugin() {
    let app = start(&[]).await;
    let sales = app.user(Role::Sales).id;
    let effects = vec![
        note(),
        ("lead:update".into(), with_lead("\"patch\":{\"status\":\"CONTACTED\"}")),
        ("lead:assign".into(), with_lead(&format!("\"ownerId\":\"{sales}\""))),
        ("notify".into(), with_lead(&format!("\"userId\":\"{sales}\",\"kind\":\"look_here\""))),
    ];
    fs::write(app.dir.path().join("plugins/helper.toml"), GRANT).expect("written");
    put(&app, "helper.wasm", follower("helper", ["lead:created"], effects).build()).await;
    until_followed(&app, "helper").await;
    let mut socket =
        SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(Role::Sales)).await;
    let lead = app.lead(json!({"title": "Roof"})).await;

    socket.event("lead:created").await;
    let updated = socket.event("lead:updated").await;
    let by = &updated["updatedBy"];
    assert_eq!((&by["email"], &by["role"]), (&json!("helper@plugins"), &json!("PLUGIN")));
    assert_eq!(socket.event("lead:assigned").await["assignedBy"], *by);
    let kinds =
        [socket.event("notification").await["kind"].clone(), socket.event("notification").await["kind"].clone()];
    assert_eq!(kinds, [json!("lead_assigned"), json!("look_here")]);

    settled(&app, "helper").await;
    let activities = activities(&app, &lead).await;
    let creators: Vec<_> = activities.iter().map(|activity| (&activity["type"], &activity["creator"])).collect();
    let creator = json!({"id": by["id"], "name": "helper", "email": "helper@plugins"});
    let expected = ["ASSIGNMENT", "STATUS_CHANGE", "NOTE"].map(|kind| (json!(kind), creator.clone()));
    assert_eq!(creators, expected.iter().map(|(kind, creator)| (kind, creator)).collect::<Vec<_>>());
    let history = app.client(Role::Admin).walk(&format!("/api/leads/{}/history", id(&lead))).await;
    assert_eq!(history[0]["changedBy"], *by);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_account_cannot_sign_in_own_leads_or_be_listed() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    let admin = app.client(Role::Admin);
    let lead = app.lead(json!({"title": "Roof"})).await;
    settled(&app, "helper").await;
    let creator = activities(&app, &lead).await[0]["creator"].clone();
    let plugin = id(&creator);

    let everybody = admin.walk("/api/users").await;
    assert_eq!(everybody.len(), 4, "{everybody:?}");
    let assignable = admin.get("/api/users?assignable=true").await.expect(StatusCode::OK);
    assert_eq!(assignable["items"].as_array().map(Vec::len), Some(3));
    admin.get(&format!("/api/users/{plugin}")).await.refused(404, "user_not_found");
    admin.patch(&format!("/api/users/{plugin}"), json!({"name": "Eve"})).await.refused(404, "user_not_found");
    admin.post(&format!("/api/leads/{}/assign", id(&lead)), json!({"ownerId": plugin})).await.refused(422, "invalid");
    let credentials = json!({"email": "helper@plugins", "password": "correct horse battery"});
    app.anonymous().post("/api/auth/login", credentials).await.refused(401, "invalid_credentials");
    for (email, role) in [("eve@example.com", "PLUGIN"), ("helper@plugins", "ADMIN")] {
        let body = json!({"email": email, "name": "Eve", "role": role, "password": "correct horse battery"});
        admin.post("/api/users", body).await.refused(422, "invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn after_is_not_called_for_the_plugins_own_effects() {
    let app = start(&[("echo", follower("echo", ["*"], vec![note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let stats = settled(&app, "echo").await;
    assert_eq!((activities(&app, &lead).await.len(), stats.stopped), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loop_between_plugins_stops_at_the_fourth_step() {
    let answering = |name| (name, follower(name, ["activity:created"], vec![note()]));
    let app = start(&[answering("ping"), answering("pong")]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}/activities", id(&lead));
    app.client(Role::Admin).post(&path, json!({"type": "NOTE"})).await.expect(StatusCode::CREATED);
    // Each may be behind the other, so one check of each is not enough.
    let until = Instant::now() + PATIENCE;
    loop {
        let (ping, pong) = (settled(&app, "ping").await, settled(&app, "pong").await);
        if ping.head == pong.head && stats(&app, "ping").await.head == pong.head {
            assert_eq!((ping.stopped, pong.stopped), (1, 1));
            break;
        }
        assert!(Instant::now() < until);
    }
    // The first activity, and two chains of four.
    assert_eq!(activities(&app, &lead).await.len(), 9);
    let events = app.app().store().read().await.expect("a reader").events_after(Seq(0), 100).await.expect("events");
    let mut chains: Vec<_> = events.iter().map(|event| event.cause().plugins.join(" ")).collect();
    chains.sort_by_key(|chain| (chain.len(), chain.clone()));
    assert_eq!(chains[8..], ["ping pong ping pong", "pong ping pong ping"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_plugin_may_refuse_an_effect_and_the_plugins_own_before_hook_is_not_called() {
    let refusal = || Ruling::Refuse { code: "no_notes".into(), message: "No notes".into(), field: None };
    let own = follower("helper", ["lead:created"], vec![note()]).before(["activity:create"], refusal());
    let app = start(&[("helper", own)]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    assert_eq!(settled(&app, "helper").await.parked, 0);
    assert_eq!(activities(&app, &lead).await.len(), 1);

    put(&app, "guard.wasm", Guest::new("guard").before(["activity:create"], refusal()).build()).await;
    app.lead(json!({"title": "Barn"})).await;
    assert_eq!(settled(&app, "helper").await.parked, 1);
    assert_eq!(parked(&app, "helper").await[0]["reason"], "No notes");
}
