//! Rollbacks: the previous generation is restored, also over a restart, or the rollback is refused.

use std::fs;

use leadwire::{
    domain::role::Role,
    plugin::{self, Limits, PluginState, PluginsConfig, RolloutCommand, RolloutError},
};
use reqwest::StatusCode;
use serde_json::json;

use crate::plugin::generations::{Server, Yard, first, guard, second, shows_phone, version};

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
