//! Plugins in shadow mode: their answers are counted and not applied.

use std::{
    fs,
    time::{Duration, Instant},
};

use leadwire::{
    domain::{counter::Seq, event::Event, role::Role, room::Room, time::Timestamp},
    plugin::{PluginState, Plugins, PluginsConfig},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    guest::{Audience, Edit, Guest, Ruling, Verdict, Wants, everyone, outcome, set},
    socket_client::{PATIENCE, SocketClient, Transport},
    support::TestApp,
};

const IN_SHADOW: &str = "mode = \"shadow\"\n";

/// A server with `guard` in shadow mode.
async fn with_shadow(guest: &Guest) -> TestApp {
    with_shadow_granted(guest, "").await
}

async fn with_shadow_granted(guest: &Guest, grant: &str) -> TestApp {
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("guard.wasm"), guest.build()).expect("written");
        fs::write(dir.join("guard.toml"), format!("{IN_SHADOW}{grant}")).expect("written");
    })
    .await;
    let status = status(&app).await;
    assert_eq!((&status["state"], &status["mode"]), (&json!("shadow"), &json!("shadow")), "{status}");
    app
}

/// Status of `guard` for an administrator.
async fn status(app: &TestApp) -> Value {
    let list = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    list["items"].as_array().expect("items").iter().find(|item| item["name"] == "guard").cloned().unwrap_or_default()
}

/// The report of the shadow once it meets a condition: it is updated in the background.
async fn report(app: &TestApp, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let report = status(app).await["shadow"].take();
        if is_wanted(&report) {
            return report;
        }
        assert!(started.elapsed() < PATIENCE, "in vain: {report:#}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Counts of one question for one role.
fn answers(report: &Value, question: &str, role: Role) -> Value {
    let rows = report["questions"].as_array().into_iter().flatten();
    let row = rows.clone().find(|row| row["question"] == question && row["role"] == role.as_str());
    row.cloned().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redactor_in_shadow_mode_hides_nothing_and_counts_per_role() {
    let app = with_shadow(&Guest::redactor("guard")).await;
    let mut viewer =
        SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(Role::Viewer)).await;
    let lead = app.lead(json!({"title": "Roof", "email": "bob@example.com"})).await;
    app.lead(json!({"title": "Barn"})).await;
    assert_eq!(viewer.event("lead:created").await["lead"]["email"], "bob@example.com");
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let seen = app.client(Role::Viewer).get(&path).await.expect(StatusCode::OK);
    assert_eq!(seen["email"], "bob@example.com");
    app.client(Role::Viewer).get("/api/leads?q=bob@example.com").await.expect(StatusCode::OK);

    let report = report(&app, |report| report["events"]["events"] == 2).await;
    let hidden = json!({"role": "VIEWER", "pointer": "/lead/email", "change": "hidden", "events": 2,
        "examples": [{"seq": 1}, {"seq": 2}]});
    assert_eq!(report["events"]["byField"], json!([hidden]));
    let changed: Vec<_> = report["events"]["byEvent"].as_array().expect("rows").iter().collect();
    let by_role =
        |role: Role| changed.iter().find(|row| row["role"] == role.as_str()).map(|row| row["changed"].clone());
    assert_eq!(
        Role::ALL.map(by_role),
        [Some(json!(0)), Some(json!(0)), Some(json!(0)), Some(json!(2))],
        "the administrator, manager, sales and viewer"
    );
    assert_eq!((&report["dropped"], &report["events"]["differing"]), (&json!(0), &json!(2)));
    assert!(!report.to_string().contains("bob@"), "no values in a report");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_narrower_audience_in_shadow_mode_counts_as_hidden() {
    let nobody = Verdict { role: "SALES", audience: Audience::Nobody, edits: Vec::new() };
    let app = with_shadow(&Guest::new("guard").roles(["SALES"]).filter([nobody])).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    app.client(Role::Sales).get(&path).await.expect(StatusCode::OK);
    let report = report(&app, |report| report["events"]["events"] == 1).await;
    let rows = report["events"]["byEvent"].as_array().expect("rows");
    let hidden: Vec<_> = rows.iter().filter(|row| row["hidden"] == 1).map(|row| &row["role"]).collect();
    assert_eq!(hidden, ["SALES"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_amendments_in_shadow_mode_are_counted_and_not_applied() {
    let refusal = Ruling::Refuse { code: "no".into(), message: "no".into(), field: None };
    let app = with_shadow(&Guest::new("guard").before(["lead:create"], refusal)).await;
    app.lead(json!({"title": "Roof"})).await;
    let counts = report(&app, |report| answers(report, "lead:create", Role::Admin)["refused"] == 1).await;
    assert_eq!(answers(&counts, "lead:create", Role::Admin)["asked"], 1);

    let app =
        with_shadow(&Guest::new("guard").before(["*"], Ruling::Amend(vec![set("/input/title", "\"Barn\"")]))).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    assert_eq!(lead["title"], "Roof");
    let path = format!("/api/leads/{}/activities", lead["id"].as_str().expect("an id"));
    let note = json!({"type": "NOTE", "body": "hello"});
    app.client(Role::Sales).post(&path, note).await.expect(StatusCode::CREATED);
    let counts = report(&app, |report| answers(report, "activity:create", Role::Sales)["asked"] == 1).await;
    assert_eq!(answers(&counts, "lead:create", Role::Admin)["changed"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_in_shadow_mode_is_counted_and_not_applied() {
    let app = with_shadow(&Guest::new("guard").authorize(Some("closed"))).await;
    let mut client =
        SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(Role::Sales)).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let ack = client.call("lead:subscribe", json!({"leadId": lead["id"]})).await;
    assert_eq!(ack["ok"], true, "{ack}");
    let is_wanted = |report: &Value| answers(report, "subscribe", Role::Sales)["denied"] == 1;
    let report = report(&app, is_wanted).await;
    assert_eq!(answers(&report, "connect", Role::Sales)["denied"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn effects_in_shadow_mode_are_counted_by_name_and_not_executed() {
    let wants = Wants::new(["lead:*"], ["notify", "activity:create"]);
    let wanted = [("notify", r#"{"text": "hi"}"#), ("activity:create", "{}"), ("notify", r#"{"text": "ho"}"#)];
    let guest = Guest::new("guard").after(wants, outcome(wanted));
    let app = with_shadow_granted(&guest, "grant.effects = [\"notify\", \"activity:create\"]\n").await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let report = report(&app, |report| report["after"]["asked"] == 1).await;
    let effects = json!({"notify": 2, "activity:create": 1});
    assert_eq!((&report["after"]["effects"], &report["after"]["faulted"]), (&effects, &json!(0)));
    assert!(app.app().plugins().followers().is_empty(), "nobody else asks it");
    let activities = format!("/api/leads/{}/activities", lead["id"].as_str().expect("an id"));
    assert_eq!(app.client(Role::Admin).walk(&activities).await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_plugin_in_shadow_mode_withholds_nothing_and_opens_its_breaker() {
    let app = with_shadow(&Guest::new("guard").filtering("unreachable", Ok(Vec::new()))).await;
    let viewer = app.client(Role::Viewer);
    for _ in 0..6 {
        app.lead(json!({"title": "Roof"})).await;
    }
    assert_eq!(viewer.walk("/api/leads").await.len(), 6);
    let report = report(&app, |report| report["events"]["events"] == 6).await;
    assert!(report["events"]["byEvent"].as_array().expect("rows").iter().all(|row| row["held"] == 6), "{report:#}");
    // Faults about leads count if no other call succeeds for a while.
    let status = loop {
        app.lead(json!({"title": "Roof"})).await;
        let status = status(&app).await;
        if status["state"] == "failing" {
            break status;
        }
    };
    assert_eq!(status["holds"], json!(false));
    viewer.get("/readyz").await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn switching_to_shadow_mode_withholds_nothing() {
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("guard.wasm"), Guest::redactor("guard").build()).expect("written");
    })
    .await;
    let lead = app.lead(json!({"title": "Roof", "email": "bob@example.com"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let viewer = app.client(Role::Viewer);
    assert_eq!(viewer.get(&path).await.expect(StatusCode::OK).get("email"), None);

    let dir = app.dir.path().join("plugins");
    let mut changed = app.app().plugins().changed();
    let state = || app.app().plugins().status().first().map(|status| status.state);
    fs::write(dir.join("guard.toml"), IN_SHADOW).expect("written");
    while state() != Some(PluginState::Shadow) {
        tokio::time::timeout(PATIENCE, changed.changed())
            .await
            .expect("it is taken up")
            .expect("the plugins are there");
    }
    assert_eq!(viewer.get(&path).await.expect(StatusCode::OK)["email"], "bob@example.com");
    fs::remove_file(dir.join("guard.wasm")).expect("removed");
    while state().is_some() {
        tokio::time::timeout(PATIENCE, changed.changed())
            .await
            .expect("it is taken up")
            .expect("the plugins are there");
    }
    viewer.get(&path).await.expect(StatusCode::OK);
    viewer.get("/readyz").await.expect(StatusCode::OK);
}

#[test]
fn a_plugin_in_shadow_mode_sees_shaped_events_and_does_not_change_other_counts() {
    let score = Guest::new("score").enrich([set("/lead/score", "7")]);
    let copy = Guest::new("guard").roles(["VIEWER"]).fields(["/lead/score"]).hides("VIEWER", ["/lead/copy"]);
    let copy = copy.filter([everyone("VIEWER", [Edit::SetFirstField("/lead/copy".into())])]);
    let (_folder, plugins) = open(&[("score.wasm", score.build()), ("guard.wasm", copy.build())]);
    plugins.show_event(&event(1));
    let report = waited(&plugins, |report| report["events"]["events"] == 1);
    let shown: Vec<_> = report["events"]["byField"].as_array().into_iter().flatten().collect();
    assert_eq!((shown.len(), &shown[0]["pointer"], &shown[0]["change"]), (1, &json!("/lead/copy"), &json!("shown")));
    let score = plugins.status().into_iter().find(|status| status.name == "score").expect("known");
    assert_eq!(score.counts.calls, 0);
}

#[test]
fn a_slow_plugin_in_shadow_mode_delays_nothing_and_skipped_events_are_counted() {
    let slow = Guest::new("guard").filtering("(loop (br 0))", Ok(Vec::new()));
    let (_folder, plugins) = open(&[("guard.wasm", slow.build())]);
    let started = Instant::now();
    for seq in 1..=1000 {
        plugins.show_event(&event(seq));
    }
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
    let count = |value: &Value| value.as_u64().unwrap_or_default();
    let report = waited(&plugins, |report| count(&report["dropped"]) + count(&report["events"]["events"]) == 1000);
    assert!(count(&report["dropped"]) > 0 && count(&report["events"]["events"]) > 0, "{report:#}");
}

/// Plugins without a server; `guard` is in shadow mode.
fn open(files: &[(&str, Vec<u8>)]) -> (tempfile::TempDir, Plugins) {
    let folder = tempfile::TempDir::new().expect("a folder");
    let dir = folder.path().join("plugins");
    fs::create_dir(&dir).expect("a folder");
    files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).expect("written"));
    fs::write(dir.join("guard.toml"), IN_SHADOW).expect("written");
    let settings = PluginsConfig { dir: Some(dir), data_dir: folder.path().join("data"), ..PluginsConfig::default() };
    let plugins = Plugins::open(settings, Box::new(|_| Vec::new())).expect("opens");
    (folder, plugins)
}

fn event(seq: u64) -> Event {
    let at = Timestamp::from_millis(0).expect("in range");
    let (payload, context) = (json!({"lead": {"title": "Roof"}}), json!({}));
    Event {
        seq: Seq(seq),
        name: "lead:updated".into(),
        rooms: vec![Room::Everyone],
        lead_id: None,
        payload: payload.into(),
        context,
        at,
    }
}

fn waited(plugins: &Plugins, is_wanted: impl Fn(&Value) -> bool) -> Value {
    let started = Instant::now();
    loop {
        let status = plugins.status().into_iter().find(|status| status.name == "guard").expect("known");
        let report = serde_json::to_value(&status.shadow).expect("serialises");
        if is_wanted(&report) {
            return report;
        }
        assert!(started.elapsed() < PATIENCE, "in vain: {report:#}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
