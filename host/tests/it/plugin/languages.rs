//! Plugins in JavaScript and Python: run by the same server within the same limits, without grants.
//!
//! `cargo xtask test languages` builds them: the samples in `plugins/`, and in `tests/scripts` two plugins with every
//! hook that do harm if their settings say so.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use leadwire::{
    domain::{counter::Seq, role::Role, time::Timestamp},
    plugin::{Occasion, PluginState, PluginStatus, Plugins, PluginsConfig, Shaped},
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    plugin::hooks::built,
    socket_client::{SocketClient, Transport},
    support::TestApp,
};

const SCRIPTS: [&str; 2] = ["every-hook-js", "every-hook-py"];

/// Compiling the Python interpreter is slow: one test does it, the others use the cache.
static COMPILING: std::sync::Mutex<()> = std::sync::Mutex::new(());

/// Shares the compilation cache of this data directory between all tests and runs.
fn share_cache(data_dir: &Path) {
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("languages-cache");
    fs::create_dir_all(&shared).expect("a folder");
    let state = data_dir.join("plugin-state");
    fs::create_dir_all(&state).expect("a folder");
    std::os::unix::fs::symlink(shared, state.join("cache")).expect("a link");
}

/// One plugin, with these settings.
struct Loaded {
    plugins: Plugins,
    _folder: TempDir,
}

impl Loaded {
    /// Returns `None` if the plugin could not be built.
    fn open(name: &str, settings: &str) -> Option<Self> {
        let bytes = built("lang-plugins", name)?;
        let folder = TempDir::new().expect("a folder");
        let (dir, data_dir) = (folder.path().join("plugins"), folder.path().join("data"));
        fs::create_dir(&dir).expect("a folder");
        fs::write(dir.join(format!("{name}.wasm")), bytes).expect("written");
        fs::write(dir.join(format!("{name}.toml")), settings).expect("written");
        share_cache(&data_dir);
        let _one_at_a_time = COMPILING.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let settings = PluginsConfig { dir: Some(dir), data_dir, ..PluginsConfig::default() };
        let plugins = Plugins::open(settings, Box::new(|_| Vec::new())).expect("opens");
        Some(Self { plugins, _folder: folder })
    }

    fn status(&self) -> PluginStatus {
        self.plugins.status().remove(0)
    }

    fn shape(&self, role: Role) -> Shaped {
        let lead = json!({"id": "0190", "title": "Roof", "email": "bob@example.com", "phone": "+1 555 0100"});
        let (payload, context) = (Arc::new(json!({"lead": lead})), json!({"lead": lead}));
        self.plugins.shape("lead:updated", &payload, &context, &[role]).remove(0).1
    }

    fn sent(&self, role: Role) -> Value {
        match self.shape(role) {
            Shaped::Sent { payload, .. } => Value::clone(&payload),
            held @ Shaped::Held { .. } => panic!("not sent: {held:?}"),
        }
    }

    fn held(&self, role: Role) -> String {
        match self.shape(role) {
            Shaped::Held { reason, .. } => reason,
            sent @ Shaped::Sent { .. } => panic!("not held: {sent:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_javascript_and_a_python_plugin_work_side_by_side_in_one_server() {
    let samples = ["mask-email-js", "card-guard-py"];
    let Some(built) =
        samples.into_iter().map(|name| Some((name, built("lang-plugins", name)?))).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    let begun = Instant::now();
    let app = TestApp::with(|config| {
        share_cache(&config.plugins.data_dir);
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        for (name, bytes) in built {
            let settings = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins").join(name).join("plugin.toml");
            fs::copy(settings, dir.join(format!("{name}.toml"))).expect("copied");
            fs::write(dir.join(format!("{name}.wasm")), bytes).expect("written");
        }
    })
    .await;
    println!("both were loaded after {:?}", begun.elapsed());
    for status in app.app().plugins().status() {
        assert_eq!((status.state, status.reason), (PluginState::Active, None), "{}", status.name);
    }

    let address = app.server.address().to_string();
    let mut viewer = SocketClient::connect(Transport::WebSocket, &address, app.token(Role::Viewer)).await;
    let mut manager = SocketClient::connect(Transport::Polling, &address, app.token(Role::Manager)).await;
    let lead = app
        .lead(json!({
            "title": "Roof", "email": "bob@miller.example", "description": "Pays with 4111 1111 1111 1111, he says.",
        }))
        .await;
    assert_eq!(lead["description"], "Pays with **** 1111, he says.");
    for (client, email) in [(&mut viewer, "b***@miller.example"), (&mut manager, "bob@miller.example")] {
        let event = client.event("lead:created").await;
        assert_eq!((&event["lead"]["email"], &event["lead"]["description"]), (&json!(email), &lead["description"]));
    }
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    for (role, email) in [(Role::Viewer, "b***@miller.example"), (Role::Manager, "bob@miller.example")] {
        assert_eq!(app.client(role).get(&path).await.expect(StatusCode::OK)["email"], email, "{role:?}");
    }
    let note = json!({"type": "NOTE", "body": "card 5555555555554444"});
    let note = app.client(Role::Sales).post(&format!("{path}/activities"), note).await.expect(StatusCode::CREATED);
    assert_eq!(note["body"], "card **** 4444");
    for status in app.app().plugins().status() {
        assert_eq!(status.counts.faults, 0, "{}: {:?}", status.name, status.last_fault);
        assert!(status.counts.calls > 0, "{} was never asked", status.name);
    }
}

#[test]
fn invalid_settings_are_refused_with_the_plugins_message() {
    let cases = [
        ("mask-email-js", "roles = [\"VIEWR\"]", "config.roles[0]: unknown role \"VIEWR\""),
        ("mask-email-js", "role = []", "config.role: unknown setting; expected roles"),
        ("card-guard-py", "action = \"burn\"", "config.action: \"burn\" is not one of mask, refuse"),
        ("card-guard-py", "colour = 1", "config.colour: unknown setting; expected action"),
    ];
    for (name, config, expected) in cases {
        let Some(loaded) = Loaded::open(name, &format!("[config]\n{config}")) else { return };
        let status = loaded.status();
        let reason = status.reason.unwrap_or_default();
        assert_eq!(status.state, PluginState::Refused, "{name} takes {config}");
        assert!(reason.contains(expected), "{name}: {reason:?} does not tell of {expected:?}");
    }
}

#[test]
fn a_script_error_is_stopped_and_reported() {
    // This test checks the reasons, not the time.
    let cases = [
        ("throw", "nobody expects this"),
        ("refuse", "answered with an error: it said no"),
        ("spin", "ran past its deadline of 200 ms"),
        // QuickJS throws an out-of-memory error, and Python aborts.
        ("allocate", "memory"),
    ];
    for name in SCRIPTS {
        for (harm, expected) in cases {
            let settings = format!("timeout_ms = 200\n[config]\nfilter = \"{harm}\"");
            let Some(loaded) = Loaded::open(name, &settings) else { return };
            let held = loaded.held(Role::Viewer);
            assert!(held.contains(expected), "{name}: {held:?} does not tell of {expected:?}");
        }
        let thrown = Loaded::open(name, "[config]\ninit = \"throw\"").map(|loaded| loaded.status());
        let reason = thrown.and_then(|status| status.reason).unwrap_or_default();
        assert!(reason.contains("nobody expects this"), "{name}: {reason:?}");
    }
}

#[test]
fn endless_recursion_in_a_script_fails_and_the_server_continues() {
    for name in SCRIPTS {
        let Some(loaded) = Loaded::open(name, "timeout_ms = 1000\n[config]\nfilter = \"recurse\"") else { return };
        let held = loaded.held(Role::Viewer);
        println!("{name} recurses: {held}");
        assert!(loaded.held(Role::Admin).starts_with("filter"));
    }
}

#[test]
fn a_script_can_log_and_tell_the_time() {
    for (name, harm) in [("every-hook-js", "log"), ("every-hook-py", "log")] {
        let Some(loaded) = Loaded::open(name, &format!("[config]\nfilter = \"{harm}\"\ninit = \"{harm}\"")) else {
            return;
        };
        assert_eq!((loaded.status().state, loaded.status().reason), (PluginState::Active, None), "{name}");
        assert_eq!(loaded.sent(Role::Viewer)["lead"]["email"], "15 letters", "{name}");
    }
}

#[test]
fn a_script_follower_keeps_its_state_and_reports_errors() {
    let (payload, context) = (json!({"lead": {"title": "Roof"}}), json!({"lead": {"title": "Roof"}}));
    let occasion = |name, state| Occasion {
        id: "1",
        seq: Some(Seq(1)),
        at: Timestamp::from_millis(1_767_323_045_678).expect("a time"),
        name,
        payload: &payload,
        context: &context,
        state,
    };
    for name in SCRIPTS {
        let Some(loaded) = Loaded::open(name, "") else { return };
        let followers = loaded.plugins.followers();
        assert_eq!(followers.iter().map(|follower| follower.name.as_str()).collect::<Vec<_>>(), [name]);
        for (state, expected) in [(None, "1"), (Some("1"), "2"), (Some("41"), "42")] {
            let outcome = loaded
                .plugins
                .after(&name.parse().expect("a name"), &occasion("lead:created", state))
                .expect("an answer");
            let outcome = outcome.expect("it wants to be told");
            assert_eq!((outcome.effects.len(), outcome.state.as_deref()), (0, Some(expected)), "{name}");
        }
        let unwanted = loaded
            .plugins
            .after(&name.parse().expect("a name"), &occasion("activity:created", None))
            .expect("an answer");
        assert!(unwanted.is_none(), "{name} is told of what it does not want");

        for (harm, expected) in [("refuse", "it said no"), ("throw", "nobody expects this")] {
            let Some(loaded) = Loaded::open(name, &format!("[config]\nafter = \"{harm}\"")) else { return };
            let failed = loaded
                .plugins
                .after(&name.parse().expect("a name"), &occasion("lead:created", None))
                .expect_err("it fails");
            assert!(failed.to_string().contains(expected), "{name}: {failed} does not tell of {expected:?}");
        }
    }
}

#[test]
fn every_hook_works_in_either_language_well_within_its_limit() {
    for name in SCRIPTS {
        let begun = Instant::now();
        let Some(loaded) = Loaded::open(name, "") else { return };
        let (opened, status) = (begun.elapsed(), loaded.status());
        assert_eq!((status.state, status.reason), (PluginState::Active, None), "{name}");
        for hook in ["authorize", "before", "enrich", "filter", "after"] {
            assert!(status.hooks.contains(&hook), "{name} has no {hook}");
        }
        let viewer = loaded.sent(Role::Viewer);
        assert_eq!((&viewer["lead"]["loud"], &viewer["lead"]["email"]), (&json!("ROOF"), &json!("15 letters")));
        assert_eq!(viewer["lead"].get("phone"), None);
        assert_eq!(loaded.sent(Role::Admin)["lead"]["email"], "bob@example.com");

        const EVENTS: u32 = 500;
        let begun = Instant::now();
        (0..EVENTS).for_each(|_| drop(loaded.sent(Role::Viewer)));
        let took = begun.elapsed() / EVENTS;
        println!("{name}: open after {opened:?}, then {took:?} an event for enrich and filter");
        assert!(took < Duration::from_millis(10), "{took:?}");
        assert_eq!(loaded.status().counts.faults, 0, "{name}: {:?}", loaded.status().last_fault);
    }
}
