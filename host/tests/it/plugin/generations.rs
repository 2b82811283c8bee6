//! Reloads held by the gate, rollbacks, and the commands of an operator for both.

use std::{fs, path::Path};

use leadwire::{
    domain::{counter::Seq, event::Event, role::Role, room::Room, time::Timestamp},
    plugin::{
        self, Limits, PluginState, Plugins, PluginsConfig, RolloutCommand, RolloutError, Shaped,
        contract::settings::Gate,
    },
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    guest::{Guest, Outcome, Wants, everyone, remove},
    plugin::explain::leadwire,
    socket_client::PATIENCE,
    support::TestApp,
};

/// Hides these fields from viewers.
fn guard<const N: usize>(version: &str, hidden: [&str; N]) -> Vec<u8> {
    let guest = Guest::new("guard").version(version).roles(["VIEWER"]).hides("VIEWER", hidden);
    guest.filter([everyone("VIEWER", hidden.map(remove))]).build()
}

fn first() -> Vec<u8> {
    guard("1.0.0", ["/lead/email"])
}

/// Hides the phone number as well, from one role of four.
fn second() -> Vec<u8> {
    guard("2.0.0", ["/lead/email", "/lead/phone"])
}

/// A server with a lead, the first guard, and this gate.
struct Server {
    app: TestApp,
    lead: String,
}

impl Server {
    async fn start(max_change: Option<f64>) -> Self {
        let app = TestApp::with(|config| {
            config.plugins.gate.max_change = max_change;
            let dir = config.plugins.dir.as_ref().expect("a plugin folder");
            fs::write(dir.join("guard.wasm"), first()).expect("written");
        })
        .await;
        let lead = app.lead(json!({"title": "Roof", "email": "bob@example.com", "phone": "+47 22 00 00 00"})).await;
        let lead = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
        Self { app, lead }
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.app.dir.path().join("plugins").join(name), bytes).expect("written");
    }

    async fn status(&self) -> Value {
        let mut list = self.app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
        list["items"][0].take()
    }

    /// Waits until the folder was scanned and the guard has the wanted status.
    async fn until(&self, what: &str, is_wanted: impl Fn(&Value) -> bool) -> Value {
        let mut changed = self.app.app().plugins().changed();
        loop {
            let status = self.status().await;
            if is_wanted(&status) {
                return status;
            }
            if timeout(PATIENCE, changed.changed()).await.is_err() {
                panic!("in vain for {what}: {status:#}");
            }
        }
    }

    async fn until_held(&self) -> Value {
        self.until("it to be held", |status| status["candidate"]["state"] == "held").await
    }

    async fn until_version(&self, version: &str) -> Value {
        self.until(version, |status| status["version"] == version).await
    }

    async fn order(&self, order: &str) -> crate::support::Reply {
        self.app.client(Role::Admin).post(&format!("/api/plugins/guard/{order}"), json!({})).await
    }

    /// Returns whether a viewer gets an e-mail address and a phone number.
    async fn shown(&self) -> (bool, bool) {
        let lead = self.app.client(Role::Viewer).get(&self.lead).await.expect(StatusCode::OK);
        (lead.get("email").is_some(), lead.get("phone").is_some())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_that_changes_too_much_is_held_until_it_is_promoted() {
    let server = Server::start(Some(0.2)).await;
    server.put("guard.wasm", second());
    let held = server.until_held().await;
    assert_eq!((&held["version"], &held["state"]), (&json!("1.0.0"), &json!("active")));
    let candidate = &held["candidate"];
    assert_eq!(candidate["version"], "2.0.0");
    let hidden = json!([{"role": "VIEWER", "pointer": "/lead/phone", "change": "hidden", "events": 1, "examples": [{"seq": 1}]}]);
    assert_eq!(candidate["comparison"]["byField"], hidden);
    assert!(held["reason"].as_str().is_some_and(|reason| reason.contains("gate.max_change = 0.2")), "{held}");
    assert_eq!(server.shown().await, (false, true));
    server.app.anonymous().get("/readyz").await.expect(StatusCode::OK);

    let promote = async |hash: &Value| {
        server.app.client(Role::Admin).post("/api/plugins/guard/promote", json!({"hash": hash})).await
    };
    promote(&held["hash"]).await.refused(409, "other_held");
    assert_eq!(server.shown().await, (false, true));
    let promoted = promote(&candidate["hash"]).await.expect(StatusCode::OK);
    assert_eq!((&promoted["version"], &promoted["previous"]["version"]), (&json!("2.0.0"), &json!("1.0.0")));
    assert_eq!(promoted.get("candidate"), None);
    assert_eq!(server.shown().await, (false, false));
    server.order("promote").await.refused(409, "nothing_held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_candidate_is_ignored_until_its_file_changes() {
    let server = Server::start(Some(0.2)).await;
    server.put("guard.wasm", second());
    server.until_held().await;
    let dropped = server.order("drop").await.expect(StatusCode::OK);
    assert_eq!((&dropped["version"], &dropped["candidate"]["state"]), (&json!("1.0.0"), &json!("dropped")));
    server.order("drop").await.refused(409, "nothing_held");
    server.order("promote").await.refused(409, "nothing_held");
    assert_eq!(server.shown().await, (false, true));

    server.put("guard.wasm", guard("1.0.1", ["/lead/email"]));
    let taken = server.until_version("1.0.1").await;
    assert_eq!((taken.get("candidate"), &taken["previous"]["version"]), (None, &json!("1.0.0")));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_holds_new_settings_and_plugin_settings_override_it() {
    let server = Server::start(Some(0.2)).await;
    let strict = guard("2.0.0", []);
    server.put("guard.toml", "[gate]\nmax_change = 1.0\n");
    server.until("the settings", |status| status["generation"] != 1).await;
    server.put("guard.wasm", strict);
    server.until_version("2.0.0").await;
    assert_eq!(server.shown().await, (true, true));

    server.put("guard.toml", "");
    server.until("the server's gate", |status| status["previous"]["version"] == "2.0.0").await;
    server.put("guard.wasm", second());
    server.until_held().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_held_without_an_active_generation() {
    let server = Server::start(Some(0.0)).await;
    server.put("guard.toml", "enabled = false\n");
    server.until("it being disabled", |status| status["state"] == "disabled").await;
    server.put("guard.wasm", second());
    server.put("guard.toml", "enabled = true\n");
    server.until_version("2.0.0").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_restores_the_previous_generation_and_a_second_one_undoes_it() {
    let server = Server::start(None).await;
    server.order("rollback").await.refused(409, "nothing_before");
    server.put("guard.wasm", second());
    let second_hash = server.until_version("2.0.0").await["hash"].clone();
    assert_eq!(server.shown().await, (false, false));

    let back = server.order("rollback").await.expect(StatusCode::OK);
    assert_eq!((&back["version"], &back["rolledBackFrom"]), (&json!("1.0.0"), &second_hash));
    assert_eq!((&back["candidate"]["state"], &back["previous"]["hash"]), (&json!("rolledBack"), &second_hash));
    assert_eq!(server.shown().await, (false, true), "the very next answer");
    let file = fs::read(server.app.dir.path().join("plugins/guard.wasm")).expect("there");
    assert_eq!(file, second(), "the file stays as it is");

    let stale = json!({"from": second_hash});
    let again = server.app.client(Role::Admin).post("/api/plugins/guard/rollback", stale).await;
    again.refused(409, "other_in_force");

    let forward = server.order("rollback").await.expect(StatusCode::OK);
    assert_eq!((&forward["version"], forward.get("rolledBackFrom")), (&json!("2.0.0"), None));
    assert_eq!(forward.get("candidate"), None);
    assert_eq!(server.shown().await, (false, false));

    server.order("rollback").await.expect(StatusCode::OK);
    server.put("guard.wasm", guard("3.0.0", []));
    let third = server.until_version("3.0.0").await;
    assert_eq!((&third["previous"]["version"], third.get("rolledBackFrom")), (&json!("1.0.0"), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_restores_settings() {
    let server = Server::start(None).await;
    server.put("guard.toml", "mode = \"shadow\"\n");
    server.until("it looking on", |status| status["state"] == "shadow").await;
    assert_eq!(server.shown().await, (true, true));
    let back = server.order("rollback").await.expect(StatusCode::OK);
    assert_eq!((&back["state"], &back["mode"]), (&json!("active"), &json!("active")));
    assert_eq!(server.shown().await, (false, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_without_effect_is_refused_with_the_reason_and_changes_nothing() {
    let server = Server::start(Some(0.2)).await;
    server.put("guard.wasm", guard("1.0.1", ["/lead/email"]));
    server.until_version("1.0.1").await;
    server.put("guard.wasm", second());
    server.until_held().await;
    server.put("guard.toml", "enabled = false\n");
    server.until("it being disabled", |status| status["state"] == "disabled").await;
    for order in ["promote", "rollback"] {
        let refused = server.order(order).await.refused(409, "not_in_force");
        let detail = "it would not become active, so nothing was changed: guard.toml says enabled = false";
        assert_eq!(refused["detail"], detail);
    }
    server.put("guard.toml", "");
    server.until("it being enabled", |status| status["state"] == "active").await;
    fs::remove_file(server.app.dir.path().join("plugins/guard.wasm")).expect("removed");
    server.until("it being missed", |status| status["state"] == "missing").await;
    let refused = server.order("rollback").await.refused(409, "not_in_force");
    assert!(refused["detail"].as_str().is_some_and(|detail| detail.contains("its file is missing")), "{refused}");

    server.put("guard.wasm", second());
    let held = server.until_held().await;
    assert_eq!((&held["version"], &held["previous"]["version"]), (&json!("1.0.1"), &json!("1.0.0")));
    assert_eq!(server.order("promote").await.expect(StatusCode::OK)["version"], "2.0.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_promote_and_roll_back_and_only_known_plugins() {
    let server = Server::start(None).await;
    for order in ["promote", "drop", "rollback"] {
        let path = format!("/api/plugins/guard/{order}");
        for role in [Role::Manager, Role::Sales, Role::Viewer] {
            server.app.client(role).post(&path, json!({})).await.refused(403, "forbidden");
        }
        server.app.anonymous().post(&path, json!({})).await.refused(401, "unauthenticated");
        let admin = server.app.client(Role::Admin);
        admin.post(&format!("/api/plugins/nobody/{order}"), json!({})).await.refused(404, "plugin_not_found");
        admin.post(&path, json!({"form": 1})).await.refused(422, "invalid");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replay_compares_with_the_active_generation_and_not_with_the_folder() {
    let server = Server::start(Some(0.2)).await;
    let (dir, file) = (server.app.dir.path().join("plugins"), server.app.dir.path().join("guard.wasm"));
    fs::write(&file, second()).expect("written");
    let replayed = |more: &[&str]| {
        let [file, dir] = [&file, &dir].map(|path| path.to_str().expect("utf-8"));
        let (code, text, errors) =
            leadwire(&server.app, &[&["plugin", "replay", file, "--plugins", dir], more].concat());
        (code.unwrap_or_else(|| panic!("{errors}")), text)
    };
    let replay = |against: &str| {
        let (code, text) = replayed(&["--json", "--against", against]);
        let report: Value = serde_json::from_str(&text).expect("is JSON");
        (code, report["comparedWith"].clone())
    };
    server.put("guard.wasm", second());
    let held = server.until_held().await;
    let first = json!({"version": "1.0.0", "hash": held["hash"]});
    assert_eq!(replay("active"), (1, first.clone()));
    assert_eq!(replay("folder"), (0, json!({"version": "2.0.0", "hash": held["candidate"]["hash"]})));
    assert_eq!(replay("none"), (1, Value::Null));

    let promoted = server.order("promote").await.expect(StatusCode::OK);
    assert_eq!(replay("active"), (0, json!({"version": "2.0.0", "hash": promoted["hash"]})));
    server.order("rollback").await.expect(StatusCode::OK);
    assert_eq!(replay("active"), (1, first.clone()));

    let (_, text) = replayed(&[]);
    let generation = server.app.app().plugins().generation();
    let opponent = format!(
        "compared with guard 1.0.0 (SHA-256 {}) of generation {generation} of the plugins, which is active\n",
        first["hash"].as_str().expect("text")
    );
    assert!(text.contains(&opponent) && text.contains("VIEWER would no longer see /lead/phone in 1 event"), "{text}");
}

/// Runs `leadwire plugin …` while the server runs.
fn command(order: &str, dir: &Path) -> (Option<i32>, String) {
    let mut command = crate::support::leadwire(dir);
    command.arg("plugin").args(order.split(' ')).args(["guard", "--plugins", "plugins", "--data-dir", "data"]);
    let output = command.output().expect("leadwire starts");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code(), String::from_utf8_lossy(&said).trim().to_owned())
}

#[track_caller]
fn confirmed((code, said): (Option<i32>, String), begin: &str) {
    assert!(code == Some(0) && said.starts_with(begin) && said.contains("reports it as active"), "{code:?}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_reaches_a_running_server() {
    let server = Server::start(Some(0.2)).await;
    let dir = server.app.dir.path();
    let nothing_held = (Some(2), "error: plugin guard: no candidate of this plugin is held".to_owned());
    assert_eq!(command("promote", dir), nothing_held);
    server.put("guard.wasm", second());
    server.until_held().await;
    confirmed(command("drop", dir), "dropped the held candidate of plugin guard; the server (pid ");
    server.until("the drop", |status| status["candidate"]["state"] == "dropped").await;
    server.put("guard.wasm", guard("2.0.1", ["/lead/email", "/lead/phone"]));
    let held = server.until_held().await;
    let (hash, in_force) =
        (held["candidate"]["hash"].as_str().expect("a hash"), held["hash"].as_str().expect("a hash"));
    let other = (Some(2), format!("error: plugin guard: another candidate is held: {hash}"));
    assert_eq!(command(&format!("promote --hash {in_force}"), dir), other);
    confirmed(command(&format!("promote --hash {hash}"), dir), "promoted plugin guard; the server (pid ");
    server.until_version("2.0.1").await;
    let other = (Some(2), format!("error: plugin guard: another generation is active: {hash}"));
    assert_eq!(command(&format!("rollback --from {in_force}"), dir), other);
    confirmed(command(&format!("rollback --from {hash}"), dir), "rolled back plugin guard; the server (pid ");
    server.until_version("1.0.0").await;
    assert_eq!(server.shown().await, (false, true));
}

/// Plugins without a server, across restarts, with one recent event about a lead.
struct Yard(TempDir);

impl Yard {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        Self(folder)
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.0.path().join("plugins").join(name), bytes).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.0.path().join("plugins").join(name)).expect("removed");
    }

    fn data(&self) -> std::path::PathBuf {
        self.0.path().join("data")
    }

    fn settings(&self, max_change: Option<f64>) -> PluginsConfig {
        let (dir, data_dir) = (Some(self.0.path().join("plugins")), self.data());
        PluginsConfig { dir, data_dir, gate: Gate { max_change }, ..PluginsConfig::default() }
    }

    fn open(&self, max_change: Option<f64>) -> Plugins {
        self.open_as(self.settings(max_change))
    }

    fn open_as(&self, settings: PluginsConfig) -> Plugins {
        let at = Timestamp::from_millis(0).expect("in range");
        let event = Event {
            seq: Seq(7),
            name: "lead:updated".into(),
            rooms: vec![Room::Everyone],
            lead_id: None,
            payload: payload().into(),
            context: json!({}),
            at,
        };
        Plugins::open(settings, Box::new(move |_| vec![event.clone()])).expect("opens")
    }
}

fn payload() -> Value {
    json!({"lead": {"email": "bob@example.com", "phone": "+47 22 00 00 00"}})
}

fn version(plugins: &Plugins) -> String {
    plugins.status()[0].version.clone().unwrap_or_default()
}

/// Returns whether a viewer gets a phone number; `None` if the event is withheld.
fn shows_phone(plugins: &Plugins) -> Option<bool> {
    match plugins.shape("lead:read", &payload().into(), &json!({}), &[Role::Viewer]).remove(0).1 {
        Shaped::Sent { payload, .. } => Some(payload["lead"].get("phone").is_some()),
        Shaped::Held { .. } => None,
    }
}

#[test]
fn a_file_changed_while_the_server_was_down_is_held_and_stays_held() {
    let yard = Yard::new();
    yard.put("guard.wasm", first());
    drop(yard.open(Some(0.1)));
    yard.put("guard.wasm", second());
    for _ in 0..2 {
        let plugins = yard.open(Some(0.1));
        assert_eq!((version(&plugins).as_str(), shows_phone(&plugins)), ("1.0.0", Some(true)));
        let candidate = plugins.status()[0].candidate.clone().expect("a candidate");
        assert_eq!(candidate.comparison.map(|comparison| comparison.differing), Some(1));
    }
    plugin::shift(yard.settings(Some(0.1)), "guard", &RolloutCommand::Promote { hash: None }).expect("it is held");
    let plugins = yard.open(Some(0.1));
    assert_eq!((version(&plugins).as_str(), shows_phone(&plugins)), ("2.0.0", Some(false)));
}

#[test]
fn a_rollback_survives_a_restart_and_a_missing_file() {
    let yard = Yard::new();
    yard.put("guard.wasm", first());
    drop(yard.open(None));
    yard.put("guard.wasm", second());
    let plugins = yard.open(None);
    let status = plugins.shift("guard", RolloutCommand::RollBack { from: None }).expect("there is one before");
    assert_eq!(status.version.as_deref(), Some("1.0.0"));
    drop(plugins);
    let plugins = yard.open(None);
    assert_eq!((version(&plugins).as_str(), shows_phone(&plugins)), ("1.0.0", Some(true)));
    assert!(plugins.status()[0].rolled_back_from.is_some());
    drop(plugins);

    yard.remove("guard.wasm");
    let plugins = yard.open(None);
    assert_eq!((plugins.status()[0].state, shows_phone(&plugins)), (PluginState::Missing, None));
    drop(plugins);

    yard.put("guard.wasm", second());
    assert_eq!(version(&yard.open(None)), "1.0.0");
    yard.remove("guard.wasm");
    assert!(plugin::forget(&yard.data(), "guard").expect("forgets"));
    yard.put("guard.wasm", second());
    let plugins = yard.open(None);
    assert_eq!(version(&plugins), "2.0.0", "what was removed is forgotten, generations and all");
    assert!(matches!(
        plugins.shift("guard", RolloutCommand::RollBack { from: None }),
        Err(RolloutError::NothingBefore)
    ));
}

#[test]
fn a_rollback_to_deleted_code_is_refused_and_the_active_generation_survives_a_restart() {
    let yard = Yard::new();
    yard.put("guard.wasm", first());
    let plugins = yard.open(None);
    let hash = plugins.status()[0].hash.clone().expect("a hash");
    drop(plugins);
    yard.put("guard.wasm", second());
    let plugins = yard.open(None);
    fs::write(yard.data().join(format!("plugin-state/kept/{hash}.wasm")), "damaged").expect("written");
    let refused =
        plugins.shift("guard", RolloutCommand::RollBack { from: None }).expect_err("there is nothing to bring back");
    assert!(matches!(&refused, RolloutError::NotStored(why) if why.contains("is damaged")), "{refused}");
    for plugins in [plugins, yard.open(None)] {
        let status = plugins.status().remove(0);
        assert_eq!(
            (status.version.as_deref(), status.state),
            (Some("2.0.0"), PluginState::Active),
            "{:?}",
            status.reason
        );
        assert_eq!(shows_phone(&plugins), Some(false));
    }
}

#[test]
fn a_rollback_to_a_generation_that_no_longer_loads_is_refused() {
    let yard = Yard::new();
    yard.put("guard.wasm", first());
    drop(yard.open(None));
    yard.put("guard.wasm", second());
    yard.put("guard.toml", "[limits]\nedits = 9\n");
    let plugins =
        yard.open_as(PluginsConfig { limits: Limits { edits: 0, ..Limits::default() }, ..yard.settings(None) });
    let refused = plugins.shift("guard", RolloutCommand::RollBack { from: None }).expect_err("it may make no edit");
    assert!(matches!(&refused, RolloutError::Useless(why) if why.contains("in a trial on event 7")), "{refused}");
    for plugins in [plugins, yard.open(None)] {
        let status = plugins.status().remove(0);
        assert_eq!(
            (status.version.as_deref(), status.state),
            (Some("2.0.0"), PluginState::Active),
            "{:?}",
            status.reason
        );
        assert_eq!((status.rolled_back_from, status.candidate), (None, None));
    }
}

/// A plugin that wants `notify` and a webhook host, except in its second version.
fn notifier(version: &str) -> Vec<u8> {
    let effects: &[&str] = if version == "2.0.0" { &[] } else { &["notify", "webhook"] };
    let hosts: &[&str] = if effects.is_empty() { &[] } else { &["a.example"] };
    let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    let wants = Wants { events: owned(&["lead:updated"]), effects: owned(effects), webhook_hosts: owned(hosts) };
    Guest::new("guard").version(version).after(wants, Outcome::default()).build()
}

const GRANT: &str = "[grant]\neffects = [\"notify\", \"webhook\"]\nwebhook_hosts = [\"a.example\"]\n";

#[test]
fn a_rollback_does_not_restore_a_revoked_grant() {
    let yard = Yard::new();
    yard.put("guard.toml", format!("order = 1\n{GRANT}"));
    yard.put("guard.wasm", notifier("1.0.0"));
    drop(yard.open(None));
    yard.put("guard.wasm", notifier("2.0.0"));
    drop(yard.open(None));
    yard.put("guard.toml", "order = 1\n");
    let plugins = yard.open(None);
    let back = |plugins: &Plugins| plugins.shift("guard", RolloutCommand::RollBack { from: None });
    let refused = back(&plugins).expect_err("it asks for more").to_string();
    assert!(refused.contains("the effect notify, the effect webhook, webhooks to a.example"), "{refused}");
    assert!(refused.ends_with(&format!("add to guard.toml:\n{}", GRANT.trim_end())), "{refused}");
    assert_eq!(version(&plugins), "2.0.0");
    drop(plugins);

    // Grants make no new generation: the previous one is still available.
    yard.put("guard.toml", format!("order = 1\n{GRANT}"));
    let plugins = yard.open(None);
    assert_eq!(back(&plugins).expect("granted").version.as_deref(), Some("1.0.0"));
    drop(plugins);
    yard.put("guard.toml", "order = 1\n");
    let status = yard.open(None).status().remove(0);
    assert_eq!((status.state, status.version.as_deref()), (PluginState::Refused, None), "taken away, it holds at once");
    yard.put("guard.toml", format!("order = 1\n{GRANT}"));
    assert_eq!(version(&yard.open(None)), "1.0.0");
    yard.put("guard.toml", "order = ");
    assert_eq!(yard.open(None).status().remove(0).state, PluginState::Refused, "what is granted is not known");
}

#[test]
fn a_rolled_back_generation_uses_the_current_networks_and_secret() {
    let (first, second) =
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_bGVhZHdpcmUtd2ViaG9vay10ZXN0LXNlY3JldC0wMQ==");
    let settings = |secret: &str, networks: &str| {
        format!("webhook_secret = \"{secret}\"\n{GRANT}webhook_networks = [{networks}]\n")
    };
    let yard = Yard::new();
    yard.put("guard.toml", settings(first, "\"10.0.0.0/8\""));
    yard.put("guard.wasm", notifier("1.0.0"));
    drop(yard.open(None));
    yard.put("guard.toml", settings(second, ""));
    yard.put("guard.wasm", notifier("2.0.0"));
    let plugins = yard.open(None);
    plugins.shift("guard", RolloutCommand::RollBack { from: None }).expect("granted");
    drop(plugins);
    let granted = |plugins: &Plugins| plugins.webhook_grant(&"guard".parse().expect("a name")).expect("it follows");
    let today = granted(&yard.open(None));
    assert_eq!((today.secret.as_deref(), today.networks.len()), (Some(second), 0));
    yard.put("guard.toml", settings(first, "\"10.1.0.0/16\""));
    let plugins = yard.open(None);
    assert_eq!((version(&plugins).as_str(), granted(&plugins).secret.as_deref()), ("1.0.0", Some(first)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_grant_applies_at_once_to_a_rolled_back_generation() {
    let server = Server::start(None).await;
    server.put("guard.toml", GRANT);
    server.put("guard.wasm", notifier("1.0.0"));
    server.until("the first", |status| status["hooks"][0] == "after").await;
    server.put("guard.wasm", notifier("2.0.0"));
    server.until_version("2.0.0").await;
    let back = server.order("rollback").await.expect(StatusCode::OK);
    assert_eq!((&back["version"], &back["granted"]["effects"][0]), (&json!("1.0.0"), &json!("notify")));
    server.put("guard.toml", "");
    let refused = server.until("the refusal", |status| status["state"] == "refused").await;
    assert!(refused["reason"].as_str().is_some_and(|reason| reason.contains("the effect notify")), "{refused}");
    server.put("guard.toml", GRANT);
    server.until("the grant", |status| status["state"] == "active").await;
    assert_eq!(server.status().await["version"], "1.0.0", "it is still rolled back");
}

#[test]
fn without_a_server_a_command_is_recorded_only_if_it_would_take_effect() {
    let yard = Yard::new();
    let order = |shift: RolloutCommand| plugin::shift(yard.settings(Some(0.1)), "guard", &shift);
    let useless = |shift: RolloutCommand| match order(shift).expect_err("nothing comes of it") {
        RolloutError::Useless(why) => why,
        other => panic!("{other}"),
    };
    yard.put("guard.wasm", first());
    drop(yard.open(None));
    yard.put("guard.wasm", second());
    drop(yard.open(None));
    yard.put("guard.toml", "enabled = false\n");
    assert_eq!(useless(RolloutCommand::RollBack { from: None }), "guard.toml says enabled = false");
    yard.put("guard.toml", "");
    yard.put("guard.wasm", guard("3.0.0", []));
    drop(yard.open(Some(0.1)));
    yard.put("guard.wasm", guard("4.0.0", []));
    assert_eq!(useless(RolloutCommand::Promote { hash: None }), "other files have been put into the plugin directory");
    yard.put("guard.wasm", guard("3.0.0", []));
    order(RolloutCommand::Promote { hash: None }).expect("it is held");
    assert_eq!(version(&yard.open(Some(0.1))), "3.0.0");
}
