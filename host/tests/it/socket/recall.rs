//! Replay to a reconnecting client: nothing about leads that are hidden from it today.

use std::{collections::BTreeMap, fs};

use leadwire::{
    domain::{
        counter::Seq,
        policy::{Scope, Visibility},
        role::Role,
        user::User,
    },
    plugin::PluginState,
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    guest::Guest,
    socket::delivery::sample,
    socket_client::{SocketClient, TRANSPORTS, Transport, until_true},
    support::TestApp,
};

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

fn id(lead: &Value) -> String {
    lead["id"].as_str().expect("an id").to_owned()
}

/// Events that a socket gets when it resumes from that seq: the name and payload of each.
async fn replayed(app: &TestApp, token: &str, since: u64) -> BTreeMap<u64, (String, Value)> {
    let auth = json!({"token": token, "since": since, "epoch": app.app().store().epoch()});
    let mut socket = SocketClient::try_connect(Transport::WebSocket, &address(app), auth).await.expect("connects");
    assert_eq!(socket.event("connected").await["recovered"], true);
    until_done(&mut socket).await
}

async fn until_done(socket: &mut SocketClient) -> BTreeMap<u64, (String, Value)> {
    let mut lines = BTreeMap::new();
    loop {
        match socket.next().await {
            (name, _) if name == "sync:done" => return lines,
            (name, payload) => drop(lines.insert(payload["seq"].as_u64().expect("a seq"), (name, payload))),
        }
    }
}

fn names(lines: &BTreeMap<u64, (String, Value)>) -> Vec<(u64, &str)> {
    lines.iter().map(|(seq, (name, _))| (*seq, name.as_str())).collect()
}

async fn assign(app: &TestApp, lead: &str, owner: Option<&User>) {
    let body = json!({"ownerId": owner.map(|user| user.id)});
    app.client(Role::Admin).post(&format!("/api/leads/{lead}/assign"), body).await.expect(StatusCode::OK);
}

async fn note(app: &TestApp, lead: &str, text: &str) {
    let body = json!({"type": "NOTE", "body": text});
    app.client(Role::Admin).post(&format!("/api/leads/{lead}/activities"), body).await.expect(StatusCode::CREATED);
}

/// Shows each user only the leads of one territory.
async fn with_territories(app: &TestApp, territories: &[(&User, &str)]) {
    let dir = app.dir.path().join("plugins");
    let territory = |(user, name): &(&User, &str)| format!("\"{}\" = [\"{name}\"]\n", user.id);
    let config: String = territories.iter().map(territory).collect();
    fs::write(dir.join("territory.toml"), format!("[config.territories]\n{config}")).expect("written");
    fs::write(dir.join("territory.wasm"), sample("territory")).expect("written");
    let plugins = app.app().plugins();
    until_true("the plugin is in force", || plugins.status().iter().any(|status| status.state == PluginState::Active))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn earlier_events_of_a_lead_hidden_today_are_not_replayed() {
    let visibility = Visibility { sales: Scope::OwnAndUnassigned, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let other = app.add_user("other", Role::Sales).await;
    let lead = id(&app.lead(json!({"title": "Secret", "email": "secret@example.com"})).await);
    let gone = id(&app.lead(json!({"title": "Secret", "phone": "secret"})).await);
    let known = id(&app.lead(json!({"title": "Known"})).await);
    let path = format!("/api/leads/{lead}");
    app.client(Role::Admin).patch(&path, json!({"title": "Secret still"})).await.expect(StatusCode::OK);
    assign(&app, &lead, Some(&other)).await;
    app.client(Role::Admin).delete(&format!("/api/leads/{gone}")).await.expect(StatusCode::NO_CONTENT);

    let lines = replayed(&app, app.token(Role::Sales), 0).await;
    let expected = [(1, "revoked"), (2, "revoked"), (3, "created"), (4, "revoked"), (5, "revoked"), (8, "deleted")];
    let expected: Vec<(u64, String)> = expected.map(|(seq, name)| (seq, format!("lead:{name}"))).into();
    assert_eq!(names(&lines), expected.iter().map(|(seq, name)| (*seq, name.as_str())).collect::<Vec<_>>());
    assert_eq!(lines[&1].1["leadId"], json!(lead));
    assert!(lines.values().all(|(_, payload)| !payload.to_string().to_lowercase().contains("secret")), "{lines:?}");
    // Users who see the lead get the event unchanged.
    let lines = replayed(&app, &app.login(&other.email).await, 0).await;
    assert_eq!(lines[&1].1["lead"]["email"], "secret@example.com");
    let lines = replayed(&app, app.token(Role::Manager), 0).await;
    let expected: [&str; 6] =
        ["lead:created", "lead:revoked", "lead:created", "lead:updated", "lead:assigned", "lead:deleted"];
    assert_eq!(lines.values().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), expected);
    assert_eq!(lines[&3].1["lead"]["id"], json!(known));

    // A lead that was taken away and given back is replayed in full.
    assign(&app, &lead, None).await;
    let lines = replayed(&app, app.token(Role::Sales), 0).await;
    assert_eq!((lines[&1].0.as_str(), lines[&1].1["lead"]["title"].as_str()), ("lead:created", Some("Secret")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_replays_no_activities_of_a_lead_hidden_today() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let (me, other) = (app.user(Role::Sales).clone(), app.add_user("other", Role::Sales).await);
    let lead = id(&app.lead(json!({"title": "Roof"})).await);
    assign(&app, &lead, Some(&me)).await;
    note(&app, &lead, "secret").await;
    assign(&app, &lead, Some(&other)).await;
    for transport in TRANSPORTS {
        let mut socket = SocketClient::connect(transport, &address(&app), app.token(Role::Sales)).await;
        socket.call("lead:subscribe", json!({"leadId": lead, "since": 0})).await;
        // Past events of a hidden lead are not replayed.
        assert_eq!(socket.event("lead:subscribed").await["leadId"], json!(lead));
        socket.expect_silence().await;
        // Otherwise the next socket of the session inherits it.
        socket.call("lead:unsubscribe", json!({"leadId": lead})).await;
    }
    let mut socket = SocketClient::connect(Transport::WebSocket, &address(&app), &app.login(&other.email).await).await;
    socket.call("lead:subscribe", json!({"leadId": lead, "since": 5})).await;
    assert_eq!(socket.event("lead:subscribed").await["leadId"], json!(lead));
    assert_eq!(socket.event("lead:assigned").await["seq"], 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn followers_of_a_reassigned_lead_get_no_activities() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let (me, other) = (app.user(Role::Sales).clone(), app.add_user("other", Role::Sales).await);
    let lead = id(&app.lead(json!({"title": "Roof"})).await);
    assign(&app, &lead, Some(&me)).await;
    note(&app, &lead, "secret").await;
    let since_begin = json!({"seq": 0, "epoch": app.app().store().epoch()});
    for transport in TRANSPORTS {
        // Each socket has a separate session, so that it follows only what it subscribes to.
        // The note is older than the subscription, and its lead is visible at that moment.
        let mut socket = SocketClient::connect(transport, &address(&app), &app.login(&me.email).await).await;
        socket.subscribe(&lead).await;
        assign(&app, &lead, Some(&other)).await;
        let taken = socket.event("lead:revoked").await["seq"].as_u64().expect("a seq");
        socket.event("notification").await;
        assert_eq!(socket.call("sync:since", since_begin.clone()).await["recovered"], true);
        let lines = until_done(&mut socket).await;
        assert!(lines.values().all(|(name, _)| name != "activity:created"), "{lines:?}");
        assert!(lines.contains_key(&2) && lines.keys().all(|seq| *seq < taken), "it was told of the others: {lines:?}");

        // A lead that was taken away and given back is replayed in full.
        assign(&app, &lead, Some(&me)).await;
        let mut socket = SocketClient::connect(transport, &address(&app), &app.login(&me.email).await).await;
        socket.subscribe(&lead).await;
        socket.call("sync:since", since_begin.clone()).await;
        let lines = until_done(&mut socket).await;
        assert_eq!(lines[&5].1["activity"]["body"], "secret");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_a_plugin_hides_today_are_not_replayed() {
    let app = TestApp::start().await;
    let other = app.add_user("other", Role::Sales).await;
    with_territories(&app, &[(app.user(Role::Sales), "north"), (&other, "south")]).await;
    let lead = app.lead(json!({"title": "Secret", "custom": {"territory": "north"}})).await;
    let path = format!("/api/leads/{}", id(&lead));
    let moved = json!({"custom": {"territory": "south"}});
    app.client(Role::Admin).patch(&path, moved).await.expect(StatusCode::OK);
    app.client(Role::Admin).patch(&path, json!({"title": "Secret still"})).await.expect(StatusCode::OK);

    let lines = replayed(&app, app.token(Role::Sales), 0).await;
    assert_eq!(names(&lines), [(1, "lead:revoked"), (2, "lead:revoked")]);
    let lines = replayed(&app, &app.login(&other.email).await, 0).await;
    assert_eq!(names(&lines), [(2, "lead:updated"), (3, "lead:updated")], "the first was not for them");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reassignment_is_one_event_and_revokes_only_users_who_saw_the_lead() {
    let visibility = Visibility { sales: Scope::OwnAndUnassigned, viewer: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let (first, second) = (app.add_user("first", Role::Sales).await, app.add_user("second", Role::Sales).await);
    let mut sockets = Vec::new();
    for email in [&first.email, &second.email, &app.user(Role::Viewer).email] {
        sockets.push(SocketClient::connect(Transport::WebSocket, &address(&app), &app.login(email).await).await);
    }
    let [owner, loser, never]: &mut [SocketClient; 3] = (&mut *sockets).try_into().expect("three");
    let lead = id(&app.lead(json!({"title": "Roof"})).await);
    owner.event("lead:created").await;
    loser.event("lead:created").await;
    assign(&app, &lead, Some(&first)).await;
    assert_eq!(owner.event("lead:assigned").await["seq"], 2);
    let revoked = loser.event("lead:revoked").await;
    assert_eq!((&revoked["leadId"], &revoked["seq"], revoked.get("lead")), (&json!(lead), &json!(2), None));
    assert_eq!(owner.event("notification").await["seq"], 4, "the log has no line for who lost it");
    // Reassigned: only the previous owner gets `lead:revoked`.
    assign(&app, &lead, Some(&second)).await;
    assert_eq!(owner.event("lead:revoked").await["seq"], 5);
    assert_eq!(loser.event("lead:assigned").await["lead"]["owner"]["id"], json!(second.id));
    never.expect_silence().await;
    assert_eq!(*app.app().store().appended().borrow(), Seq(8));
}

#[tokio::test(flavor = "multi_thread")]
async fn revocation_uses_plugins_and_visibility_together() {
    let visibility = Visibility { sales: Scope::Own, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let (me, other) = (app.user(Role::Sales).clone(), app.add_user("other", Role::Sales).await);
    with_territories(&app, &[(&me, "north"), (&other, "north")]).await;
    let mut socket = SocketClient::connect(Transport::WebSocket, &address(&app), app.token(Role::Sales)).await;
    let lead = id(&app.lead(json!({"title": "Roof", "custom": {"territory": "north"}})).await);
    assign(&app, &lead, Some(&me)).await;
    assert_eq!(socket.event("lead:assigned").await["seq"], 2);
    socket.event("notification").await;
    let moved = json!({"custom": {"territory": "south"}});
    app.client(Role::Admin).patch(&format!("/api/leads/{lead}"), moved).await.expect(StatusCode::OK);
    assert_eq!(socket.event("lead:revoked").await["seq"], 5);
    // `[visibility]` allowed it until now, but no plugin showed it to them: they lose nothing.
    assign(&app, &lead, Some(&other)).await;
    socket.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lead_revoked_events_of_older_logs_are_replayed_unchanged() {
    use leadwire::domain::{event::NewEvent, room::Room, time::Timestamp};

    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let mut tx = app.app().store().write().await.expect("a transaction");
    let (lead_id, at) = (id(&lead).parse().ok(), Timestamp::now());
    let rooms = vec![Room::User(app.user(Role::Sales).id)];
    let payload = json!({"leadId": lead["id"], "timestamp": at});
    tx.append(&NewEvent { name: "lead:revoked", rooms, lead_id, payload, context: json!({}), at })
        .await
        .expect("a line");
    tx.commit().await.expect("commits");
    let lines = replayed(&app, app.token(Role::Sales), 0).await;
    assert_eq!(names(&lines), [(1, "lead:created"), (2, "lead:revoked")]);
    assert_eq!(names(&replayed(&app, app.token(Role::Viewer), 0).await), [(1, "lead:created")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_reports_the_live_verdict_and_that_of_a_replay_now() {
    let visibility = Visibility { sales: Scope::OwnAndUnassigned, ..Visibility::default() };
    let app = TestApp::with(|config| config.visibility = visibility).await;
    let other = app.add_user("other", Role::Sales).await;
    let late = async || app.add_user("late", Role::Sales).await;
    let lead = id(&app.lead(json!({"title": "Roof"})).await);
    note(&app, &lead, "hello").await;
    assign(&app, &lead, Some(&other)).await;
    let gone = id(&app.lead(json!({"title": "Barn"})).await);
    app.client(Role::Admin).delete(&format!("/api/leads/{gone}")).await.expect(StatusCode::NO_CONTENT);
    let explain = async |seq: u64, whom: String| -> Value {
        app.client(Role::Admin).get(&format!("/api/events/{seq}/explain?{whom}")).await.expect(StatusCode::OK)
    };
    let (me, late) = (app.user(Role::Sales).id, late().await.id);
    for (seq, whom, live, replay, reason) in [
        (1, format!("userId={me}"), "sent", "revoked", Some("the lead is hidden now")),
        (1, format!("userId={}", other.id), "sent", "sent", None),
        (1, format!("userId={late}"), "sent", "reset", Some("the user has had the rights of today since event 7")),
        (1, "role=SALES".into(), "sent", "sent", None),
        (2, format!("userId={me}"), "sent", "withheld", Some("the lead is hidden now")),
        (3, format!("userId={me}"), "revoked", "revoked", None),
        (6, "role=MANAGER".into(), "sent", "revoked", Some("the lead is deleted")),
        (7, "role=MANAGER".into(), "sent", "sent", None),
    ] {
        let explanation = explain(seq, whom.clone()).await;
        let verdicts = (explanation["outcome"].as_str(), explanation["replay"]["outcome"].as_str());
        assert_eq!(verdicts, (Some(live), Some(replay)), "{seq} {whom}: {explanation}");
        assert_eq!(explanation["replay"]["reason"].as_str(), reason, "{seq} {whom}");
    }
    // Events that no replay can reach are marked.
    fs::write(app.dir.path().join("plugins/guard.wasm"), Guest::redactor("guard").build()).expect("written");
    let plugins = app.app().plugins();
    until_true("the plugin is in force", || plugins.status().iter().any(|status| status.state == PluginState::Active))
        .await;
    let explanation = explain(1, "role=SALES".into()).await;
    assert_eq!((&explanation["outcome"], &explanation["replay"]["outcome"]), (&json!("sent"), &json!("reset")));
}
