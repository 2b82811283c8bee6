//! Limits and counters of a plugin, and the time that a call takes.

use std::{sync::Arc, time::Duration};

use leadwire::{
    domain::role::Role,
    plugin::{Limits, PluginsConfig},
};
use serde_json::json;

use crate::{
    guest::{Guest, everyone, remove},
    plugin::hooks::{Yard, context, lead},
};

#[test]
fn plugin_limits_override_server_limits_and_are_reported() {
    let edits = || [remove("/lead/email"), remove("/lead/phone")];
    let guard = |name| {
        let hides = ["/lead/email", "/lead/phone"];
        Guest::new(name).roles(["VIEWER"]).hides("VIEWER", hides).filter([everyone("VIEWER", edits())]).build()
    };
    let limits = Limits { edits: 1, faults_in_a_row: 2, ..Limits::default() };
    let own = "timeout_ms = 70\n[limits]\nedits = 2\n";
    let files = [("own.wasm", guard("own")), ("own.toml", own.into()), ("strict.wasm", guard("strict"))];
    let yard = Yard::open_as(&files, Vec::new(), |settings| PluginsConfig { limits, ..settings });
    for _ in 0..3 {
        assert!(yard.held(Role::Viewer).contains("2 edits; 1 are allowed"));
    }
    let status = |name: &str| serde_json::to_value(yard.status(name)).expect("serialises");
    let (own, strict) = (status("own"), status("strict"));
    assert_eq!((&own["limits"]["edits"], &strict["limits"]["edits"]), (&json!(2), &json!(1)));
    assert_eq!((&own["limits"]["timeoutMs"], &strict["limits"]["timeoutMs"]), (&json!(70), &json!(10)));
    assert_eq!((&own["state"], &own["counts"]["faults"]), (&json!("active"), &json!(0)));
    assert_eq!((&strict["state"], &strict["counts"]["skipped"]), (&json!("failing"), &json!(1)));
    let names: Vec<&String> = own["limits"].as_object().expect("an object").keys().collect();
    assert!(names.contains(&&"longestRestMs".to_owned()) && names.len() == 20, "{names:?}");
}

#[test]
fn an_instance_is_replaced_after_its_maximum_calls_and_after_a_trap() {
    let count = "(call $count (i32.const 24) (i32.const 1) (f64.const 1))";
    let guest = Guest::new("old").enriching(count, Ok(Vec::new())).build();
    let yard = Yard::open(&[("old.wasm", guest), ("old.toml", b"[limits]\ncalls_per_instance = 10".into())]);
    for _ in 0..95 {
        yard.sent(Role::Admin);
    }
    let status = yard.status("old").expect("known");
    let instances = status.instances.expect("loaded");
    assert_eq!((instances.broken, instances.warm, status.metrics["n"]), (0, 1, 95.0));
    // Each handles nine events: `init` counts as a call.
    assert!((9..=11).contains(&instances.aged), "{instances:?}");
    assert_eq!(instances.made, instances.aged + 2, "those, the warm one, and the one that described itself");
}

#[test]
fn excess_log_lines_and_counters_are_dropped_and_reported() {
    let line = "(call $log (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4))";
    let count = |name: usize| format!("(call $count (i32.const {name}) (i32.const 1) (f64.const 1))");
    // Address 16 holds "info".
    let code = line.repeat(5) + &count(16) + &count(17) + &count(18);
    let yard = Yard::open(&[
        ("loud.wasm", Guest::new("loud").enriching(&code, Ok(Vec::new())).build()),
        ("loud.toml", b"[limits]\nlog_lines_per_second = 2\nmetrics = 1".into()),
    ]);
    yard.sent(Role::Admin);
    let status = yard.status("loud").expect("known");
    let dropped = status.dropped.expect("loaded");
    assert_eq!((status.metrics.keys().next().map(String::as_str), dropped.metrics), (Some("i"), 2));
    assert!((1..=3).contains(&dropped.log_lines), "{dropped:?}");
}

#[test]
fn plugin_counters_are_in_the_status() {
    let code = "(call $count (i32.const 24) (i32.const 1) (f64.const 2.5))";
    let yard = Yard::open(&[("sum.wasm", Guest::new("sum").enriching(code, Ok(Vec::new())).build())]);
    yard.sent(Role::Admin);
    yard.sent(Role::Admin);
    assert_eq!(yard.status("sum").map(|status| status.metrics["n"]), Some(5.0));
}

#[test]
fn a_warm_filter_takes_microseconds_and_an_unwanted_event_almost_nothing() {
    const CALLS: u32 = 20_000;
    let verdicts = ["MANAGER", "SALES", "VIEWER"].map(|role| everyone(role, []));
    let guest = Guest::new("fast")
        .events(["lead:updated"])
        .roles(["MANAGER", "SALES", "VIEWER"])
        .fields(["/lead/email", "/lead/phone"])
        .filter(verdicts);
    let yard = Yard::open(&[("fast.wasm", guest.build())]);
    let (payload, context) = (Arc::new(json!({"lead": lead()})), context());
    let time = |name: &str| {
        // CPU time of the thread, independent of other load on the machine.
        let start = cpu_time::ThreadTime::now();
        for _ in 0..CALLS {
            yard.plugins.shape(name, &payload, &context, &[Role::Manager, Role::Sales, Role::Viewer]);
        }
        start.elapsed() / CALLS
    };
    time("lead:updated");
    let (wanted, unwanted) = (time("lead:updated"), time("user:created"));
    println!("filter, 3 roles, 2 fields: {wanted:?} an event; an event nobody wants: {unwanted:?}");
    assert!(wanted < Duration::from_millis(1) && unwanted < wanted);
    assert_eq!(yard.status("fast").map(|status| status.counts.instances), Some(2), "describe's, and a warm one");
}
