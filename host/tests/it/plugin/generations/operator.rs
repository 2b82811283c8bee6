//! Commands of an operator, by HTTP and by command line: rights, refusals and results.

use std::{fs, path::Path};

use leadwire::{
    domain::role::Role,
    plugin::{self, RolloutCommand, RolloutError},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::plugin::{
    explain::leadwire,
    generations::{Server, Yard, first, guard, second, version},
};

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
