//! The gate: reloads that change too much are held until an operator decides.

use leadwire::{
    domain::role::Role,
    plugin::{self, RolloutCommand},
};
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::plugin::generations::{Server, Yard, first, guard, second, shows_phone, version};

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
