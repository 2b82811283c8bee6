//! Execution of effects: once, as the plugin, or parked with a visible reason.

mod actor;
mod bounds;
mod parking;
mod position;
mod webhooks;

use std::{fs, time::Duration};

use leadwire::{config::Config, domain::role::Role, effects, plugin::PluginState, store::follower::FollowerStats};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout};

use crate::{
    guest::{FIRST_ID, Guest, Outcome, Wants, outcome},
    socket_client::PATIENCE,
    support::TestApp,
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

/// Waits until a newly installed plugin follows the log.
async fn until_followed(app: &TestApp, plugin: &str) {
    let until = Instant::now() + PATIENCE;
    while !app.app().follower_stats().await.expect("stats").contains_key(plugin) {
        assert!(Instant::now() < until, "{plugin} does not follow: {:#?}", app.app().plugins().status());
        sleep(Duration::from_millis(10)).await;
    }
}
