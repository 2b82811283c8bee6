//! Reloads: invalid, replaced, missing and restored files of plugins.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use leadwire::{
    domain::{counter::Generation, role::Role},
    plugin::{self, Decision, PluginState, Shaped},
};

use crate::{
    guest::{Guest, set},
    plugin::hooks::{RECURSE, SPIN, WANT_1_GIB, Yard, context, event, payload, sent, user},
};

/// Invalid files in the folder, and the reported reasons.
fn bad_files() -> Vec<(&'static str, Vec<u8>, &'static str)> {
    let good = Guest::redactor("guard").version("2.0.0");
    let built = good.build();
    let sockets = r#"(component (import "wasi:sockets/tcp@0.2.0" (instance)))"#;
    vec![
        ("a text file", b"Dear server, please load me".to_vec(), "not WebAssembly"),
        ("an empty file", Vec::new(), "empty"),
        ("a torn file", built[..built.len() / 2].to_vec(), "cut short or damaged"),
        ("a core module", wat::parse_str("(module)").expect("valid"), "core module"),
        (
            "sockets",
            wat::parse_str(sockets).expect("valid"),
            "wasi:sockets/tcp@0.2.0: a plugin may not reach the network",
        ),
        ("no plugin", wat::parse_str("(component)").expect("valid"), "does not export leadwire:plugin/lifecycle@1.0.0"),
        ("no hook", Guest::new("guard").build(), "exports no hook"),
        ("panics in init", good.clone().initialising("unreachable").build(), "init trapped"),
        ("spins in init", good.clone().initialising(SPIN).build(), "init ran past its deadline of 1000 ms"),
        ("wants 1 GiB", good.clone().initialising(WANT_1_GIB).build(), "init exceeded its memory limit of 64 MiB"),
        ("traps in describe", good.clone().describing("unreachable").build(), "describe trapped"),
        (
            "refuses",
            good.clone().refusing_config("config.roles is missing").build(),
            "configuration: config.roles is missing",
        ),
        ("another name", Guest::redactor("other").build(), "calls itself \"other\": its file must be named other.wasm"),
        ("no version", good.clone().version("two").build(), "not a semantic version"),
        ("bad events", good.clone().events(["connect"]).build(), "reserved by Socket.IO"),
        ("bad roles", good.clone().roles(["BOSS"]).build(), "\"BOSS\" is not a role"),
        ("bad fields", good.clone().fields(["email"]).build(), "must start with"),
        ("bad hides", good.clone().hides("VIEWER", ["/seq"]).build(), "hides gave an invalid answer"),
        (
            "faults on what happened",
            good.filtering(RECURSE, Ok(vec![])).build(),
            "in a trial on event 7 (lead:updated), filter trapped",
        ),
    ]
}

#[test]
fn an_invalid_file_is_refused_with_the_reason() {
    for (what, bytes, expected) in bad_files() {
        let yard = Yard::open_with(&[("guard.wasm", bytes)], vec![event(7)]);
        assert_eq!(yard.state("guard"), Some(PluginState::Refused), "{what}");
        assert!(
            yard.reason("guard").contains(expected),
            "{what}: {:?} does not tell of {expected:?}",
            yard.reason("guard")
        );
        // It never hid anything, so nothing is withheld.
        assert_eq!(yard.sent(Role::Viewer), payload());
    }
}

#[tokio::test]
async fn an_invalid_replacement_keeps_the_active_plugin_and_reports_the_reason() {
    let good = Guest::redactor("guard").build();
    let yard = Yard::open_with(&[("guard.wasm", good.clone())], vec![event(7)]);
    let generation = yard.plugins.generation();
    for (what, bytes, expected) in bad_files() {
        yard.put("guard.wasm", &bytes);
        let refused = |yard: &Yard| {
            let candidate = yard.status("guard").and_then(|status| status.candidate);
            candidate.is_some_and(|candidate| candidate.reason.contains(expected))
        };
        yard.until(what, refused).await;
        assert_eq!(yard.state("guard"), Some(PluginState::Active), "{what}");
        assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None, "{what}");
        assert_eq!(yard.plugins.generation(), generation, "{what}");
        assert!(yard.plugins.ready().is_ok(), "{what}");
    }
    yard.put("guard.toml", "enabeld = true");
    yard.until("a bad setting", |yard| yard.reason("guard").contains("did you mean enabled?")).await;
    yard.remove("guard.toml");
    yard.put("guard.wasm", good);
    yard.until("the good file", |yard| yard.status("guard").is_some_and(|status| status.candidate.is_none())).await;
    assert_eq!(yard.plugins.generation(), generation);
}

#[tokio::test]
async fn a_new_build_or_setting_applies_to_the_next_event() {
    let tag =
        |version: &str| Guest::new("tag").version(version).enrich([set("/by", &format!("\"{version}\""))]).build();
    let yard = Yard::open(&[("tag.wasm", tag("1.0.0"))]);
    assert_eq!(yard.sent(Role::Admin)["by"], "1.0.0");
    let version = |yard: &Yard| yard.status("tag").and_then(|status| status.version);

    yard.put("tag.wasm", tag("2.0.0"));
    yard.until("the second version", |yard| version(yard).as_deref() == Some("2.0.0")).await;
    assert_eq!(yard.sent(Role::Admin)["by"], "2.0.0");
    assert_eq!(
        (yard.plugins.generation(), yard.status("tag").and_then(|status| status.generation)),
        (Generation(2), Some(Generation(2)))
    );

    yard.put("tag.toml", "enabled = false");
    yard.until("it being disabled", |yard| yard.state("tag") == Some(PluginState::Disabled)).await;
    assert_eq!(yard.sent(Role::Admin), payload());

    yard.remove("tag.toml");
    yard.until("it being enabled", |yard| yard.state("tag") == Some(PluginState::Active)).await;
    yard.remove("tag.wasm");
    yard.until("it being gone, for it held nothing back", |yard| yard.status("tag").is_none()).await;
    assert_eq!(yard.sent(Role::Admin), payload());
}

#[tokio::test]
async fn a_missing_plugin_withholds_payloads_until_it_is_restored_or_removed() {
    let good = Guest::redactor("guard").build();
    let yard = Yard::open(&[("guard.wasm", good.clone())]);
    yard.remove("guard.wasm");
    yard.until("the loss", |yard| yard.state("guard") == Some(PluginState::Missing)).await;
    assert!(yard.held(Role::Viewer).contains("run `leadwire plugin remove guard`"));
    assert!(matches!(yard.shape_as("lead:read", Role::Viewer), Shaped::Held { .. }));
    assert_eq!(yard.sent(Role::Admin), payload());
    assert!(yard.plugins.hidden(Role::Viewer).covers("/lead/email"));
    assert!(yard.plugins.ready().is_err());

    yard.put("guard.wasm", &good);
    yard.until("its return", |yard| yard.state("guard") == Some(PluginState::Active)).await;
    assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None);

    yard.remove("guard.wasm");
    yard.until("the loss", |yard| yard.state("guard") == Some(PluginState::Missing)).await;
    assert!(plugin::forget(&yard.data_dir(), "guard").expect("forgets"));
    yard.until("its removal", |yard| yard.status("guard").is_none()).await;
    assert_eq!(yard.sent(Role::Viewer), payload());
    assert!(!plugin::forget(&yard.data_dir(), "guard").expect("forgets"));
}

#[test]
fn tombstones_survive_a_restart() {
    let guard = Guest::redactor("guard").build();
    let door = Guest::new("door").authorize(None).build();
    let score = Guest::new("score").enrich([]).build();
    let yard = Yard::open(&[("guard.wasm", guard), ("door.wasm", door), ("score.wasm", score)]);
    for name in ["guard.wasm", "door.wasm", "score.wasm"] {
        yard.remove(name);
    }
    let yard = yard.reopen();
    assert!(yard.held(Role::Viewer).starts_with("guard: its file is missing"));
    assert_eq!(yard.plugins.authorize_connect(&user(Role::Admin)).expect_err("closed").plugin, "door");
    assert_eq!(yard.state("score"), None, "an enricher holds nothing back");

    yard.put("guard.wasm", "a torn file");
    let yard = yard.reopen();
    assert_eq!(yard.state("guard"), Some(PluginState::Refused));
    assert!(yard.held(Role::Viewer).contains("not WebAssembly"));
    assert!(yard.status("guard").is_some_and(|status| status.holds));

    yard.remove("guard.wasm");
    yard.put("guard.toml", "on_missing = \"unload\"");
    yard.put("door.toml", "enabled = false");
    let yard = yard.reopen();
    assert_eq!(yard.sent(Role::Viewer), payload());
    assert_eq!(yard.plugins.authorize_connect(&user(Role::Admin)), Ok(Decision::Allow));
    assert!(yard.plugins.ready().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn swaps_under_load_lose_no_call_and_leak_no_field() {
    let guard = |version: &str| Guest::redactor("guard").version(version).build();
    let yard = Yard::open(&[("guard.wasm", guard("1.0.0"))]);
    let done = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..2)
        .map(|_| {
            let (plugins, done) = (yard.plugins.clone(), done.clone());
            tokio::task::spawn_blocking(move || {
                let mut calls = 0_u64;
                while !done.load(Relaxed) {
                    let shaped =
                        plugins.shape("lead:updated", &payload().into(), &context(), &[Role::Viewer]).remove(0).1;
                    assert_eq!(sent(shaped).0["lead"].get("email"), None);
                    calls += 1;
                    std::thread::yield_now();
                }
                calls
            })
        })
        .collect();
    let torn = guard("9.9.9");
    for patch in 1..=6 {
        let version = format!("1.0.{patch}");
        yard.put("guard.wasm", &torn[..torn.len() - patch]);
        yard.until("the torn file", |yard| yard.status("guard").is_some_and(|status| status.candidate.is_some())).await;
        yard.put("guard.wasm", guard(&version));
        let is_there = |yard: &Yard| yard.status("guard").and_then(|status| status.version) == Some(version.clone());
        yard.until(&version, is_there).await;
    }
    done.store(true, Relaxed);
    for caller in callers {
        assert!(caller.await.expect("no caller failed") > 0);
    }
    assert_eq!(yard.plugins.generation(), Generation(7));
    assert_eq!(yard.status("guard").map(|status| status.counts.faults), Some(0));
}
