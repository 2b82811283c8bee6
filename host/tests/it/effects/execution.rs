//! Execution of effects: once, as the plugin, or parked with a visible reason.

mod bounds;

use std::{
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use leadwire::{
    config::Config,
    domain::{counter::Seq, role::Role},
    effects,
    plugin::PluginState,
    server::Server,
    store::follower::FollowerStats,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    effects::webhook::Receiver,
    guest::{FIRST_ID, Guest, Outcome, Ruling, Wants, outcome},
    plugin::explain::leadwire,
    socket_client::{PATIENCE, SocketClient, Transport},
    support::{TestApp, open_store},
};

const NEVER: &str = "2999-01-01T00:00:00Z";
const LONG_AGO: &str = "2020-01-01T00:00:00Z";

fn with_lead(rest: &str) -> String {
    format!("{{\"leadId\":{FIRST_ID},{rest}}}")
}

fn note() -> (String, String) {
    ("activity:create".into(), with_lead("\"type\":\"NOTE\",\"body\":\"by a plugin\""))
}

fn remind(key: &str, at: &str) -> (String, String) {
    ("remind".into(), with_lead(&format!("\"key\":\"{key}\",\"at\":\"{at}\"")))
}

/// A plugin that returns the effects for each of these events.
fn follower<const N: usize>(name: &str, events: [&str; N], effects: Vec<(String, String)>) -> Guest {
    let answer = Outcome { effects, ..outcome([]) };
    Guest::new(name).events([]).fields(["/context/lead/id"]).after(wants(events), answer)
}

fn wants<const N: usize>(events: [&str; N]) -> Wants {
    Wants::new(events, ["notify", "activity:create", "lead:update", "lead:assign", "remind"])
}

const GRANT: &str =
    "grant.effects = [\"notify\", \"activity:create\", \"lead:update\", \"lead:assign\", \"remind\", \"webhook\"]\n";

/// Two attempts with almost no delay between them.
fn quick(config: &mut Config) {
    config.effects = effects::EffectsConfig {
        attempts: 2,
        first_delay: Duration::from_millis(1),
        longest_delay: Duration::from_millis(2),
        ..config.effects
    };
}

async fn start(plugins: &[(&str, Guest)]) -> TestApp {
    let app = TestApp::with(|config| {
        quick(config);
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        for (name, guest) in plugins {
            fs::write(dir.join(format!("{name}.wasm")), guest.build()).expect("written");
            fs::write(dir.join(format!("{name}.toml")), GRANT).expect("written");
        }
    })
    .await;
    for status in app.app().plugins().status() {
        assert_eq!(status.state, PluginState::Active, "{status:#?}");
    }
    app
}

async fn stats(app: &TestApp, plugin: &str) -> FollowerStats {
    let mut stats = app.app().follower_stats().await.expect("stats");
    stats.remove(plugin).unwrap_or_else(|| panic!("{plugin} does not follow"))
}

/// Waits until a plugin's follower is in the wanted state.
async fn until_stats(app: &TestApp, plugin: &str, so: impl Fn(&FollowerStats) -> bool) -> FollowerStats {
    let until = Instant::now() + PATIENCE;
    loop {
        let stats = stats(app, plugin).await;
        if so(&stats) {
            return stats;
        }
        assert!(Instant::now() < until, "{stats:?}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until a plugin has followed the whole log and has no pending effects.
async fn settled(app: &TestApp, plugin: &str) -> FollowerStats {
    until_stats(app, plugin, |stats| stats.seq == stats.head && stats.pending == 0).await
}

/// Puts a file into the plugin folder and waits until it is loaded.
async fn put(app: &TestApp, file: &str, bytes: impl AsRef<[u8]>) {
    let (before, mut changed) = (app.app().plugins().generation(), app.app().plugins().changed());
    fs::write(app.dir.path().join("plugins").join(file), bytes).expect("written");
    while app.app().plugins().generation() == before {
        timeout(PATIENCE, changed.changed()).await.expect("it is taken up").expect("the plugins are there");
    }
}

fn id(lead: &Value) -> &str {
    lead["id"].as_str().expect("an id")
}

async fn activities(app: &TestApp, lead: &Value) -> Vec<Value> {
    app.client(Role::Admin).walk(&format!("/api/leads/{}/activities", id(lead))).await
}

async fn parked(app: &TestApp, plugin: &str) -> Vec<Value> {
    app.client(Role::Admin).walk(&format!("/api/plugins/{plugin}/effects?state=parked")).await
}

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

/// Waits until a newly installed plugin follows the log.
async fn until_followed(app: &TestApp, plugin: &str) {
    let until = Instant::now() + PATIENCE;
    while !app.app().follower_stats().await.expect("stats").contains_key(plugin) {
        assert!(Instant::now() < until, "{plugin} does not follow: {:#?}", app.app().plugins().status());
        sleep(Duration::from_millis(10)).await;
    }
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
async fn an_event_without_an_answer_is_parked_and_blocks_no_other_plugin() {
    let failing = Guest::new("broken").events([]).fields(["/context/lead/id"]);
    let failing = failing.following(wants(["lead:created"]), "", Err("not today".into()));
    let app = start(&[("broken", failing), ("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    settled(&app, "helper").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
    let stats = until_stats(&app, "broken", |stats| stats.parked == 1).await;
    assert_eq!(stats.pending, 0);

    let item = parked(&app, "broken").await.remove(0);
    assert_eq!((&item["name"], &item["index"], &item["input"]["seq"]), (&json!("after"), &Value::Null, &json!(1)));
    assert!(item["reason"].as_str().is_some_and(|reason| reason.contains("not today")), "{item}");

    put(&app, "broken.wasm", follower("broken", ["lead:created"], vec![note()]).build()).await;
    let retried = app.client(Role::Admin).post("/api/plugins/broken/effects/retry", json!({})).await;
    assert_eq!(retried.expect(StatusCode::OK), json!({"retried": 1}));
    until_stats(&app, "broken", |stats| stats.parked == 0 && stats.pending == 0).await;
    assert_eq!(activities(&app, &lead).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_impossible_effect_is_parked_at_once_and_later_effects_run() {
    let nobody = with_lead("\"userId\":\"00000000-0000-0000-0000-000000000000\",\"kind\":\"hello\"");
    let missing = "{\"leadId\":\"00000000-0000-0000-0000-000000000000\",\"type\":\"NOTE\"}";
    let effects = vec![("notify".into(), nobody), ("activity:create".into(), missing.into()), note()];
    let app = start(&[("helper", follower("helper", ["lead:created"], effects))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    assert_eq!(settled(&app, "helper").await.parked, 2);
    assert_eq!(activities(&app, &lead).await.len(), 1);

    let (admin, items) = (app.client(Role::Admin), parked(&app, "helper").await);
    assert_eq!(items[0]["reason"], "userId must be an active user");
    assert_eq!((&items[1]["reason"], &items[1]["attempts"]), (&json!("lead not found"), &json!(1)));
    assert_eq!(items[1]["chain"], json!(["helper"]));
    let of = |item: &Value| format!("/api/plugins/helper/effects/{}", id(item));
    let retried = admin.post(&format!("{}/retry", of(&items[0])), json!({})).await.expect(StatusCode::OK);
    assert_eq!((&retried["state"], &retried["attempts"]), (&json!("pending"), &json!(0)));
    assert_eq!(settled(&app, "helper").await.parked, 2, "it is parked again");
    assert_eq!(admin.delete(&of(&items[0])).await.status, StatusCode::NO_CONTENT);
    admin.delete(&of(&items[0])).await.refused(404, "effect_not_found");
    admin.post(&format!("{}/retry", of(&items[0])), json!({})).await.refused(404, "effect_not_found");
    let one = admin.walk("/api/plugins/helper/effects?limit=1").await;
    assert_eq!(one.iter().map(id).collect::<Vec<_>>(), [id(&items[1])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn plugin_list_shows_parked_effects() {
    let nobody = with_lead("\"userId\":\"00000000-0000-0000-0000-000000000000\",\"kind\":\"hello\"");
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![("notify".into(), nobody)]))]).await;
    app.lead(json!({"title": "Roof"})).await;
    settled(&app, "helper").await;
    let list = |flags: &[&str]| {
        let arguments = [&["plugin", "list", "--plugins", "plugins"][..], flags].concat();
        let (code, stdout, stderr) = leadwire(&app, &arguments);
        assert_eq!(code, Some(0), "{stderr}");
        stdout
    };
    let printed: Value = serde_json::from_str(&list(&["--json"])).expect("JSON");
    let listed = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    assert_eq!(printed["items"][0]["effects"], listed["items"][0]["effects"]);
    assert_eq!(printed["items"][0]["effects"]["parked"], 1);
    assert!(list(&[]).contains("1 parked; GET /api/plugins/helper/effects?state=parked shows why"), "{}", list(&[]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_see_and_retry_effects_and_only_of_followers() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![]))]).await;
    let (admin, manager, path) = (app.client(Role::Admin), app.client(Role::Manager), "/api/plugins/helper/effects");
    manager.get(path).await.refused(403, "forbidden");
    manager.post(&format!("{path}/retry"), json!({})).await.refused(403, "forbidden");
    manager.post(&format!("{path}/1/retry"), json!({})).await.refused(403, "forbidden");
    manager.delete(&format!("{path}/1")).await.refused(403, "forbidden");
    admin.get(&format!("{path}?state=done")).await.refused(400, "invalid_query");
    admin.get("/api/plugins/nobody/effects").await.refused(404, "plugin_not_found");
    admin.delete(&format!("{path}/x")).await.refused(404, "effect_not_found");
    let listed = admin.get("/api/plugins").await.expect(StatusCode::OK);
    let open = json!({"seq": 0, "lag": 0, "pending": 0, "parked": 0, "reminders": 0, "stopped": 0});
    assert_eq!(listed["items"][0]["effects"], open);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_temporary_failure_is_retried_before_it_is_parked() {
    let silent = Guest::new("guard").ruling(["activity:create"], "", Err("not now".into()));
    let app = start(&[("guard", silent), ("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    until_stats(&app, "helper", |stats| stats.parked == 1).await;
    let item = parked(&app, "helper").await.remove(0);
    assert_eq!((&item["attempts"], &item["name"]), (&json!(2), &json!("activity:create")));
    assert_eq!(activities(&app, &lead).await, Vec::<Value>::new());

    put(&app, "guard.wasm", Guest::new("guard").before(["activity:create"], Ruling::Accept).build()).await;
    let path = format!("/api/plugins/helper/effects/{}/retry", id(&item));
    app.client(Role::Admin).post(&path, json!({})).await.expect(StatusCode::OK);
    settled(&app, "helper").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
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

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_fires_once_when_due_and_the_same_key_replaces_it() {
    let effects = vec![remind("soon", NEVER), remind("later", NEVER), remind("soon", LONG_AGO)];
    let answer = Outcome { effects, reminded: vec![note()], ..outcome([]) };
    let guest = Guest::new("clock").events([]).fields(["/context/lead/id"]).after(wants(["lead:created"]), answer);
    let app = start(&[("clock", guest)]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let rung = |stats: &FollowerStats| stats.reminders == 1 && stats.pending == 0 && stats.seq == stats.head;
    until_stats(&app, "clock", rung).await;
    until_stats(&app, "clock", |stats| stats.head > Seq(1)).await;
    settled(&app, "clock").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
    let left = app
        .app()
        .store()
        .read()
        .await
        .expect("a reader")
        .next_reminder(&"clock".parse().expect("a name"))
        .await
        .expect("readable");
    assert_eq!(left.map(|reminder| reminder.key).as_deref(), Some("later"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reenabled_plugin_continues_and_a_removed_one_starts_over() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    put(&app, "helper.toml", format!("enabled = false\n{GRANT}")).await;
    let missed = app.lead(json!({"title": "Roof"})).await;
    put(&app, "helper.toml", GRANT).await;
    settled(&app, "helper").await;
    assert_eq!(activities(&app, &missed).await.len(), 1);

    put(&app, "helper.toml", format!("enabled = false\n{GRANT}")).await;
    let skipped = app.lead(json!({"title": "Barn"})).await;
    let store = app.app().store();
    let mut tx = store.write().await.expect("a transaction");
    assert!(tx.forget_follower(&"helper".parse().expect("a name")).await.expect("forgets"));
    tx.commit().await.expect("commits");
    put(&app, "helper.toml", GRANT).await;
    until_followed(&app, "helper").await;
    let seen = app.lead(json!({"title": "Shed"})).await;
    settled(&app, "helper").await;
    assert_eq!((activities(&app, &skipped).await.len(), activities(&app, &seen).await.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn removing_a_plugin_deletes_its_position_and_reminders_on_a_running_server() {
    let app = start(&[("clock", follower("clock", ["lead:created"], vec![remind("later", NEVER), note()]))]).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    assert_eq!(settled(&app, "clock").await.reminders, 1);
    let (code, _, stderr) = leadwire(&app, &["plugin", "remove", "clock", "--plugins", "plugins"]);
    assert_eq!(code, Some(0), "{stderr}");
    let mut changed = app.app().plugins().changed();
    while !app.app().plugins().followers().is_empty() {
        timeout(PATIENCE, changed.changed()).await.expect("it is taken up").expect("the plugins are there");
    }
    app.lead(json!({"title": "Barn"})).await;
    assert!(app.app().follower_stats().await.expect("stats").is_empty());
    let mut reader = app.app().store().read().await.expect("a reader");
    assert_eq!(reader.next_reminder(&"clock".parse().expect("a name")).await.expect("readable"), None);
    drop(reader);
    let creator = &activities(&app, &lead).await[0]["creator"];
    assert_eq!(creator["email"], "clock@plugins", "what it did stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn pruned_events_leave_a_parked_gap_entry() {
    let app = start(&[("helper", follower("helper", ["lead:created"], vec![note()]))]).await;
    put(&app, "helper.toml", format!("enabled = false\n{GRANT}")).await;
    for title in ["Roof", "Barn"] {
        app.lead(json!({"title": title})).await;
    }
    let shed = app.lead(json!({"title": "Shed"})).await;
    prune(&app, 2).await;
    put(&app, "helper.toml", GRANT).await;
    assert_eq!(settled(&app, "helper").await.parked, 1);
    assert_eq!(activities(&app, &shed).await.len(), 1);
    let item = parked(&app, "helper").await.remove(0);
    assert_eq!((&item["name"], &item["input"]), (&json!("gap"), &json!({"from": 1, "to": 2})));
    let path = format!("/api/plugins/helper/effects/{}", id(&item));
    app.client(Role::Admin).post(&format!("{path}/retry"), json!({})).await.refused(422, "invalid");
    assert_eq!(app.client(Role::Admin).delete(&path).await.status, StatusCode::NO_CONTENT);
}

/// Prunes the first events of the log.
async fn prune(app: &TestApp, up_to: u64) {
    let mut tx = app.app().store().write().await.expect("a transaction");
    assert_eq!(tx.prune_events(Seq(up_to + 1), u32::MAX).await.expect("prunes"), up_to);
    tx.commit().await.expect("commits");
}

/// A plugin that posts each new lead to the receiver, and its grant.
fn poster(receiver: &Receiver) -> (Guest, String) {
    let (address, url) = (receiver.address.to_string(), receiver.url("127.0.0.1"));
    let input = format!("{{\"url\":\"{url}\",\"type\":\"lead.new\",\"data\":{{\"leadId\":{FIRST_ID}}}}}");
    let answer = Outcome { effects: vec![("webhook".into(), input), note()], ..outcome([]) };
    let wants = Wants::new(["lead:created"], ["webhook", "activity:create"]).webhooks_to([&address]);
    let guest = Guest::new("poster").events([]).fields(["/context/lead/id"]).after(wants, answer);
    let settings = format!(
        "webhook_secret = \"whsec_bGVhZHdpcmUtd2ViaG9vay10ZXN0LXNlY3JldC0wMQ==\"\n[grant]\n\
         effects = [\"webhook\", \"activity:create\"]\nwebhook_hosts = [{address:?}]\n\
         webhook_networks = [\"127.0.0.0/8\"]\n"
    );
    (guest, settings)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_retried_with_the_same_id_until_it_is_accepted() {
    let turns = AtomicUsize::new(0);
    let answer = move || match turns.fetch_add(1, Ordering::SeqCst) {
        0 => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::NO_CONTENT,
    };
    let mut receiver = Receiver::answering(answer).await;
    let app = start(&[]).await;
    let (guest, settings) = poster(&receiver);
    fs::write(app.dir.path().join("plugins/poster.toml"), settings).expect("written");
    put(&app, "poster.wasm", guest.build()).await;
    until_followed(&app, "poster").await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let (first, second) = (receiver.next().await, receiver.next().await);
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    let body: Value = serde_json::from_str(&second.body).expect("JSON");
    let expected = json!({"type": "lead.new", "timestamp": lead["createdAt"], "data": {"leadId": lead["id"]}});
    assert_eq!(body, expected);
    assert_eq!(settled(&app, "poster").await.parked, 0);
    assert_eq!(activities(&app, &lead).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_webhook_is_parked_with_the_response_and_blocks_no_other_effect() {
    let receiver = Receiver::answering(|| (StatusCode::GONE, "moved away")).await;
    let app = start(&[]).await;
    let (guest, settings) = poster(&receiver);
    fs::write(app.dir.path().join("plugins/poster.toml"), settings).expect("written");
    put(&app, "poster.wasm", guest.build()).await;
    until_followed(&app, "poster").await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    until_stats(&app, "poster", |stats| stats.parked == 1).await;
    let item = parked(&app, "poster").await.remove(0);
    let reason = item["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("410") && reason.contains("moved away"), "{item}");
    assert_eq!((&item["name"], &item["attempts"]), (&json!("webhook"), &json!(1)));
    settled(&app, "poster").await;
    assert_eq!(activities(&app, &lead).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_not_sent_after_its_grant_is_revoked() {
    let mut receiver = Receiver::answering(|| StatusCode::GONE).await;
    let app = start(&[]).await;
    let (guest, settings) = poster(&receiver);
    fs::write(app.dir.path().join("plugins/poster.toml"), settings).expect("written");
    put(&app, "poster.wasm", guest.build()).await;
    until_followed(&app, "poster").await;
    app.lead(json!({"title": "Roof"})).await;
    receiver.next().await;
    until_stats(&app, "poster", |stats| stats.parked == 1).await;

    let modest = Guest::new("poster").events([]).after(Wants::new(["lead:created"], []), outcome([]));
    put(&app, "poster.wasm", modest.build()).await;
    app.client(Role::Admin).post("/api/plugins/poster/effects/retry", json!({})).await.expect(StatusCode::OK);
    assert_eq!(settled(&app, "poster").await.parked, 1);
    let reason = &parked(&app, "poster").await[0]["reason"];
    assert_eq!(reason, "webhook is no longer granted, or poster no longer requests it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_keeps_its_state_and_position_over_a_restart() {
    let answer = Outcome { effects: vec![remind("later", NEVER)], state: Some("kept".into()), ..outcome([]) };
    let guest = Guest::new("clock").events([]).fields(["/context/lead/id"]).after(wants(["lead:created"]), answer);
    let app = start(&[("clock", guest)]).await;
    app.lead(json!({"title": "Roof"})).await;
    settled(&app, "clock").await;
    let (dir, server) = (app.dir, app.server);
    stop(server).await;
    let store = open_store(dir.path()).await;
    let mut reader = store.read().await.expect("a reader");
    let (head, follower) = (
        reader.head().await.expect("a head"),
        reader.follower(&"clock".parse().expect("a name")).await.expect("readable"),
    );
    assert_eq!(follower.map(|follower| (follower.seq, follower.state)), Some((head, Some("kept".into()))));
    assert!(reader.next_reminder(&"clock".parse().expect("a name")).await.expect("readable").is_some());
}

async fn stop(server: Server) {
    timeout(PATIENCE, server.shutdown()).await.expect("it stops in time").expect("it stops well");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_effect_whose_grant_was_revoked_is_parked() {
    let refuse = Ruling::Refuse { code: "not_today".into(), message: "No".into(), field: None };
    let guard = Guest::new("guard").before(["activity:create"], refuse);
    let app = start(&[("follower", follower("follower", ["lead:created"], vec![note()])), ("guard", guard)]).await;
    app.lead(json!({"title": "Roof"})).await;
    until_stats(&app, "follower", |stats| stats.parked == 1).await;
    assert!(parked(&app, "follower").await[0]["reason"].as_str().expect("a reason").contains("No"));

    // The guard and the grant are gone, and a version that requests less is installed.
    put(&app, "guard.toml", "enabled = false").await;
    let lesser = Guest::new("follower").after(Wants::new(["lead:created"], ["notify"]), outcome([]));
    put(&app, "follower.wasm", lesser.build()).await;
    put(&app, "follower.toml", "grant.effects = [\"notify\"]").await;
    let retry = || async {
        let reply = app.client(Role::Admin).post("/api/plugins/follower/effects/retry", json!({})).await;
        reply.expect(StatusCode::OK);
        settled(&app, "follower").await
    };
    assert_eq!(retry().await.parked, 1);
    let reason = parked(&app, "follower").await[0]["reason"].clone();
    assert_eq!(reason, "activity:create is no longer granted, or follower no longer requests it");

    put(&app, "follower.toml", GRANT).await;
    put(&app, "follower.wasm", follower("follower", ["lead:created"], vec![note()]).build()).await;
    assert_eq!(retry().await.parked, 0);
}
