//! Faults of filters and enrichers: invalid answers, harmful calls, and the breaker.

use std::time::{Duration, Instant};

use leadwire::{domain::role::Role, plugin::PluginState};
use serde_json::json;

use crate::{
    guest::{Audience, Edit, Guest, Verdict, everyone, remove, set},
    plugin::hooks::{FLOOD, HUGE_LINE, RECURSE, SPIN, WANT_1_GIB, WILD, Yard, payload},
};

#[test]
fn a_failing_filter_withholds_and_a_failing_enricher_is_skipped_unless_configured() {
    let filter = Guest::new("bad").roles(["SALES"]).filtering("", Err("no idea".into())).build();
    let enrich = Guest::new("bad").enriching("", Err("no idea".into())).build();
    let open = |code: &Vec<u8>, toml: &str| Yard::open(&[("bad.wasm", code.clone()), ("bad.toml", toml.into())]);

    let yard = open(&filter, "");
    assert_eq!(yard.held(Role::Sales), "bad: filter answered with an error: no idea");
    assert_eq!(yard.sent(Role::Admin), payload());
    assert_eq!(open(&filter, "on_failure = \"open\"").sent(Role::Sales), payload());
    assert_eq!(open(&enrich, "").sent(Role::Sales), payload());
    assert_eq!(
        open(&enrich, "on_failure = \"closed\"").held(Role::Sales),
        "bad: enrich answered with an error: no idea"
    );
}

#[test]
fn five_consecutive_faults_open_the_breaker() {
    let yard = Yard::open(&[("bad.wasm", Guest::new("bad").filtering("unreachable", Ok(Vec::new())).build())]);
    for _ in 0..8 {
        assert!(yard.held(Role::Admin).contains("trapped: wasm `unreachable` instruction executed"));
    }
    let status = yard.status("bad").expect("known");
    assert_eq!(
        (status.state, status.counts.calls, status.counts.faults, status.counts.skipped),
        (PluginState::Failing, 5, 5, 3)
    );
    assert_eq!(status.last_fault.map(|fault| fault.hook), Some("filter"));
    assert!(yard.plugins.ready().expect_err("not ready").starts_with("plugin bad: filter trapped"));
    let shown = serde_json::to_value(yard.plugins.status()).expect("serialises");
    assert_eq!((&shown[0]["state"], &shown[0]["lastFault"]["hook"]), (&json!("failing"), &json!("filter")));
    let breaker = &shown[0]["breaker"];
    assert_eq!((&breaker["faultsInARow"], &breaker["restMs"]), (&json!(5), &json!(1000)), "{breaker}");
    assert!(breaker["state"] == "open" || breaker["state"] == "half-open", "{breaker}");
    assert_eq!(shown[0]["instances"], json!({"made": 6, "warm": 0, "broken": 5, "aged": 0}));
}

#[test]
fn invalid_answers_are_faults() {
    let viewer = |edits: Vec<Edit>| vec![everyone("VIEWER", edits)];
    let long = "x".repeat(5000);
    let cases: Vec<(Vec<Verdict>, &str)> = vec![
        (vec![], "no verdict for VIEWER"),
        (vec![everyone("VIEWER", []), everyone("VIEWER", [])], "has one already"),
        (vec![everyone("VIEWER", []), everyone("ADMIN", [])], "was not asked"),
        (vec![everyone("viewer", [])], "was not asked"),
        (viewer(vec![remove("lead/email")]), "must start with"),
        (viewer(vec![remove("")]), "must start with"),
        (viewer(vec![remove("/lead/e~mail")]), "\"~\""),
        (viewer(vec![remove(&"/a".repeat(40))]), "deeper than 32"),
        (viewer(vec![remove("/lead/phone")]), "does not list in hides"),
        (viewer(vec![remove("/lead/emails")]), "does not list in hides"),
        (viewer(vec![remove("/seq")]), "/seq is written by the server"),
        (viewer(vec![set("/epoch/x", "1")]), "/epoch/x is written by the server"),
        (viewer(vec![set("/lead/email", "{oops")]), "is not valid JSON"),
        (viewer(vec![set("/lead/email", &"[".repeat(4000))]), "is not valid JSON"),
        (viewer(vec![Edit::Mask("/lead/email".into(), long)]), "4096 are allowed"),
        (viewer(vec![remove("/lead/email"); 1001]), "1000 are allowed"),
        (viewer(vec![set("/lead/email", &format!("\"{}\"", "x".repeat(2 << 20)))]), "trapped"),
        (
            vec![Verdict { role: "VIEWER", audience: Audience::Only(vec!["me".into()]), edits: vec![] }],
            "contains an invalid user id",
        ),
    ];
    for (verdicts, expected) in cases {
        let guest = Guest::new("bad").roles(["VIEWER"]).hides("VIEWER", ["/lead/email"]).filter(verdicts);
        let yard = Yard::open(&[("bad.wasm", guest.build())]);
        assert_eq!(yard.state("bad"), Some(PluginState::Active), "{expected}: {}", yard.reason("bad"));
        let held = yard.held(Role::Viewer);
        assert!(held.contains(expected), "{held:?} does not tell of {expected:?}");
        assert_eq!(yard.sent(Role::Admin), payload());
    }
}

#[test]
fn harmful_calls_are_aborted_and_the_next_instance_works() {
    let cases = [
        (SPIN, "ran past its deadline of 10 ms"),
        (FLOOD, "ran past its deadline of 10 ms"),
        (WANT_1_GIB, "exceeded its memory limit of 64 MiB"),
        (RECURSE, "trapped: call stack exhausted"),
        (WILD, "trapped: out of bounds memory access"),
        (HUGE_LINE, "trapped"),
        ("unreachable", "trapped"),
    ];
    for (harm, expected) in cases {
        // The counter is three after describe, init and hides, and a new instance does not call describe.
        let once = format!("(if (i32.eq (global.get $calls) (i32.const 4)) (then {harm}))");
        let guest = Guest::redactor("bad").filtering(&once, Ok(vec![everyone("VIEWER", [remove("/lead/email")])]));
        let yard = Yard::open(&[("bad.wasm", guest.build())]);
        let started = Instant::now();
        assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None, "a good call, {expected}");
        let held = yard.held(Role::Viewer);
        assert!(held.contains(expected), "{held:?} does not tell of {expected:?}");
        assert!(started.elapsed() < Duration::from_secs(10));
        assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None, "after {expected}");
    }
}
