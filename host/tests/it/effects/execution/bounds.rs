//! Limits of pending and parked effects per plugin: excess is reported, and nothing stored is lost.

use std::fs;

use leadwire::{domain::role::Role, plugin::PluginState};
use reqwest::StatusCode;
use serde_json::json;

use crate::{
    effects::execution::{GRANT, NEVER, follower, id, parked, put, quick, remind, settled, stats, until_stats},
    support::TestApp,
};

/// An effect that is parked at once.
fn futile() -> (String, String) {
    ("activity:create".into(), "{\"leadId\":\"00000000-0000-0000-0000-000000000000\",\"type\":\"NOTE\"}".into())
}

/// A plugin that returns these effects for each new lead, within these limits.
async fn bounded(limits: &str, effects: Vec<(String, String)>) -> TestApp {
    let app = TestApp::with(|config| {
        quick(config);
        config.metrics.listen = Some(([127, 0, 0, 1], 0).into());
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("helper.wasm"), follower("helper", ["lead:created"], effects).build()).expect("written");
        fs::write(dir.join("helper.toml"), format!("{GRANT}{limits}\n")).expect("written");
    })
    .await;
    let status = app.app().plugins().status().remove(0);
    assert_eq!(status.state, PluginState::Active, "{status:#?}");
    app
}

fn calls(app: &TestApp) -> u64 {
    app.app().plugins().status()[0].counts.calls
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_beyond_open_effects_is_parked_and_the_next_event_waits() {
    let app = bounded("limits.open_effects = 4", vec![futile(), futile(), futile()]).await;
    app.lead(json!({"title": "One"})).await;
    assert_eq!(settled(&app, "helper").await.parked, 3);

    app.lead(json!({"title": "Two"})).await;
    until_stats(&app, "helper", |stats| stats.parked == 4 && stats.seq == stats.head).await;
    let question = parked(&app, "helper").await.pop().expect("four are parked");
    assert_eq!((&question["name"], &question["input"]["event"]), (&json!("after"), &json!("lead:created")));
    let reason = "open effect limit reached: 3 more with 3 pending or parked (limits.open_effects = 4)";
    assert_eq!(question["reason"], reason);

    let before = calls(&app);
    app.lead(json!({"title": "Three"})).await;
    until_stats(&app, "helper", |_| calls(&app) > before + 5).await;
    let stuck = stats(&app, "helper").await;
    assert_eq!((stuck.pending, stuck.parked), (0, 4));
    assert!(stuck.seq < stuck.head, "{stuck:?}");

    put(&app, "helper.toml", format!("{GRANT}limits.open_effects = 20\n")).await;
    assert_eq!(settled(&app, "helper").await.parked, 7);
    app.client(Role::Admin).post("/api/plugins/helper/effects/retry", json!({})).await.expect(StatusCode::OK);
    until_stats(&app, "helper", |stats| stats.pending == 0 && stats.parked == 9).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_plugin_continues_after_parked_effects_are_deleted() {
    let app = bounded("limits.open_effects = 2", vec![futile(), futile()]).await;
    app.lead(json!({"title": "One"})).await;
    assert_eq!(settled(&app, "helper").await.parked, 2);
    app.lead(json!({"title": "Two"})).await;
    until_stats(&app, "helper", |stats| stats.parked == 2 && stats.seq < stats.head).await;

    let admin = app.client(Role::Admin);
    for item in parked(&app, "helper").await {
        assert_eq!(
            admin.delete(&format!("/api/plugins/helper/effects/{}", id(&item))).await.status,
            StatusCode::NO_CONTENT
        );
    }
    settled(&app, "helper").await;
    let left = parked(&app, "helper").await;
    // It may have been called between the two, and then the event is parked.
    assert!(
        !left.is_empty() && left.iter().all(|item| item["occasion"].as_str().is_some_and(|it| it.ends_with(":2"))),
        "{left:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reminder_beyond_the_limit_is_parked_unless_it_replaces_another() {
    let effects = ["a", "b", "c", "a"].map(|key| remind(key, NEVER)).to_vec();
    let app = bounded("limits.reminders = 2", effects).await;
    app.lead(json!({"title": "One"})).await;
    let stats = settled(&app, "helper").await;
    assert_eq!((stats.reminders, stats.parked), (2, 1));
    let item = parked(&app, "helper").await.remove(0);
    assert_eq!((&item["input"]["key"], &item["attempts"]), (&json!("c"), &json!(1)));
    assert_eq!(item["reason"], "reminder limit reached (limits.reminders = 2)");

    let url = format!("http://{}/metrics", app.server.metrics_address().expect("a port"));
    let metrics = crate::support::http_client().get(url).send().await.expect("an answer").text().await.expect("text");
    for line in [
        "leadwire_plugin_effects{plugin=\"helper\",state=\"parked\"} 1\n",
        "leadwire_plugin_effects{plugin=\"helper\",state=\"pending\"} 0\n",
        "leadwire_plugin_reminders{plugin=\"helper\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
}
