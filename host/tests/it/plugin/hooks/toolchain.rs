//! Plugins as toolchains build them: compiled Rust, and imports of WASI.

use leadwire::{domain::role::Role, plugin::PluginState};

use crate::{
    guest::{Guest, set},
    plugin::hooks::{Yard, built, payload, sent},
};

#[test]
fn a_panic_in_a_rust_plugin_is_stopped_and_reported() {
    let Some(hostile) = built("test-plugins", "hostile") else { return };
    let open = |hook: &str, harm: &str| {
        let settings = format!("[config]\n{hook} = \"{harm}\"");
        Yard::open(&[("hostile.wasm", hostile.clone()), ("hostile.toml", settings.into_bytes())])
    };
    let cases = [
        ("panic", "nobody expects this"),
        ("spin", "ran past its deadline"),
        ("allocate", "exceeded its memory limit of 64 MiB"),
        ("recurse", "trapped"),
    ];
    for (harm, expected) in cases {
        let yard = open("init", harm);
        assert_eq!(yard.state("hostile"), Some(PluginState::Refused), "{harm}");
        assert!(
            yard.reason("hostile").contains(expected),
            "{:?} does not tell of {expected:?}",
            yard.reason("hostile")
        );
        let held = open("filter", harm).held(Role::Viewer);
        assert!(held.contains(expected), "{held:?} does not tell of {expected:?}");
    }
    let yard = open("filter", "once");
    assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None);
    assert!(yard.held(Role::Viewer).contains("nobody expects this"));
    assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None);
    assert!(open("fliter", "once").reason("hostile").contains("unknown field `fliter`"));
}

#[test]
fn the_sample_plugins_work() {
    let (Some(redact), Some(score)) = (built("plugins", "redact-contact"), built("plugins", "lead-score")) else {
        return;
    };
    let yard = Yard::open(&[("redact-contact.wasm", redact), ("lead-score.wasm", score)]);
    for name in ["lead:updated", "lead:read"] {
        let (viewer, admin) = (sent(yard.shape_as(name, Role::Viewer)).0, sent(yard.shape_as(name, Role::Admin)).0);
        assert!(["email", "phone", "valueCents"].iter().all(|field| viewer["lead"].get(field).is_none()), "{viewer}");
        assert_eq!(admin["lead"]["email"], "ann@example.com");
        assert!(admin["lead"]["score"].is_u64() && viewer["lead"]["score"] == admin["lead"]["score"], "{admin}");
    }
}

#[test]
fn wasi_is_available_without_capabilities() {
    let code = "
        (drop (call $random))
        (call $environment (i32.const 32))
        (call $directories (i32.const 32))
        (if (i32.load (i32.const 36)) (then unreachable))
        (call $terminal (i32.const 32))
        (if (i32.load8_u (i32.const 32)) (then unreachable))
        (call $write (call $stdout) (i32.const 16) (i32.const 4) (i32.const 32))
        (if (i32.load8_u (i32.const 32)) (then unreachable))";
    let guest = Guest::new("python").with_wasi();
    let yard = Yard::open(&[("python.wasm", guest.clone().enriching(code, Ok(vec![set("/by", "1")])).build())]);
    assert_eq!(yard.state("python"), Some(PluginState::Active), "{}", yard.reason("python"));
    assert_eq!(yard.sent(Role::Admin)["by"], 1, "{:?}", yard.status("python"));
    let exit = guest.enriching("(call $exit (i32.const 0))", Ok(vec![set("/by", "1")]));
    let yard = Yard::open(&[("python.wasm", exit.build())]);
    assert_eq!(yard.sent(Role::Admin), payload());
    assert!(yard.status("python").and_then(|status| status.last_fault).expect("a fault").reason.contains("exit"));
}
