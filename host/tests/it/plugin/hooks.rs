//! Plugins: their edits of events, the effect of their failures, and reloads.

mod by_line;
mod hostile;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use leadwire::{
    domain::{
        audience::Audience as Reach,
        counter::{Generation, Seq},
        event::Event,
        id::UserId,
        role::Role,
        room::Room,
        time::Timestamp,
        user::User,
    },
    plugin::{self, Decision, Limits, PluginState, PluginStatus, Plugins, PluginsConfig, Shaped, TriedOn},
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::guest::{Audience, Edit, Guest, Verdict, everyone, remove, set};

/// A plugin folder and the plugins loaded from it.
struct Yard {
    folder: TempDir,
    plugins: Plugins,
}

/// Initial files.
type Files<'a> = &'a [(&'a str, Vec<u8>)];

impl Yard {
    fn open(files: Files<'_>) -> Self {
        Self::open_with(files, Vec::new())
    }

    fn open_with(files: Files<'_>, recent: Vec<Event>) -> Self {
        Self::open_as(files, recent, |settings| settings)
    }

    fn open_as(files: Files<'_>, recent: Vec<Event>, change: impl FnOnce(PluginsConfig) -> PluginsConfig) -> Self {
        let folder = TempDir::new().expect("a folder");
        fs::create_dir(folder.path().join("plugins")).expect("a folder");
        for (name, bytes) in files {
            fs::write(folder.path().join("plugins").join(name), bytes).expect("written");
        }
        let plugins = open(&folder, recent, change);
        Self { folder, plugins }
    }

    fn reopen(self) -> Self {
        let Self { folder, plugins } = self;
        drop(plugins);
        let plugins = open(&folder, Vec::new(), |settings| settings);
        Self { folder, plugins }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("plugins").join(name)
    }

    fn data_dir(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) {
        fs::write(self.path(name), bytes).expect("written");
    }

    fn remove(&self, name: &str) {
        fs::remove_file(self.path(name)).expect("removed");
    }

    fn status(&self, name: &str) -> Option<PluginStatus> {
        self.plugins.status().into_iter().find(|status| status.name == name)
    }

    fn state(&self, name: &str) -> Option<PluginState> {
        self.status(name).map(|status| status.state)
    }

    fn reason(&self, name: &str) -> String {
        self.status(name).and_then(|status| status.reason).unwrap_or_default()
    }

    /// Waits until the folder has been scanned and `holds` is true.
    async fn until(&self, what: &str, mut holds: impl FnMut(&Self) -> bool) {
        let mut changed = self.plugins.changed();
        let waiting = async {
            while !holds(self) {
                changed.changed().await.expect("the plugins are held");
            }
        };
        if tokio::time::timeout(Duration::from_secs(60), waiting).await.is_err() {
            panic!("in vain for {what}: {:#?}", self.plugins.status());
        }
    }

    fn shape(&self, role: Role) -> Shaped {
        self.shape_as("lead:updated", role)
    }

    fn shape_as(&self, name: &str, role: Role) -> Shaped {
        let mut shaped = self.plugins.shape(name, &payload().into(), &context(), &[role]);
        shaped.pop().expect("one for the role").1
    }

    fn sent(&self, role: Role) -> Value {
        sent(self.shape(role)).0
    }

    fn held(&self, role: Role) -> String {
        match self.shape(role) {
            Shaped::Held { plugin, reason, .. } => format!("{plugin}: {reason}"),
            sent @ Shaped::Sent { .. } => panic!("not held: {sent:?}"),
        }
    }
}

fn open(folder: &TempDir, recent: Vec<Event>, change: impl FnOnce(PluginsConfig) -> PluginsConfig) -> Plugins {
    let (dir, data_dir) = (Some(folder.path().join("plugins")), folder.path().join("data"));
    let settings = change(PluginsConfig { dir, data_dir, ..PluginsConfig::default() });
    let recent = move |tried_on| match tried_on {
        TriedOn::Recent(count) => recent.iter().take(count).cloned().collect(),
        TriedOn::Leads(_) => Vec::new(),
    };
    Plugins::open(settings, Box::new(recent)).expect("opens")
}

fn sent(shaped: Shaped) -> (Value, Reach) {
    match shaped {
        Shaped::Sent { payload, audience } => (Value::clone(&payload), audience),
        held @ Shaped::Held { .. } => panic!("not sent: {held:?}"),
    }
}

fn lead() -> Value {
    json!({"id": "0190", "title": "Roof", "email": "ann@example.com", "phone": "+1 555", "valueCents": 5000, "owner": null})
}

fn payload() -> Value {
    json!({"lead": lead(), "changes": ["title", "email"], "timestamp": "2024-01-01T00:00:00.000Z"})
}

fn context() -> Value {
    json!({"lead": lead(), "before": {"title": "Barn"}})
}

fn event(seq: u64) -> Event {
    let at = Timestamp::from_millis(0).expect("in range");
    let (payload, context) = (payload().into(), context());
    Event {
        seq: Seq(seq),
        name: "lead:updated".into(),
        rooms: vec![Room::Everyone],
        lead_id: None,
        payload,
        context,
        at,
    }
}

fn user(role: Role) -> User {
    let at = Timestamp::from_millis(0).expect("in range");
    let (email, name) = ("ann@example.com".into(), "Ann".into());
    User { id: user_id(1), email, name, role, active: true, created_at: at, updated_at: at }
}

fn user_id(number: u8) -> UserId {
    format!("00000000-0000-7000-8000-0000000000{number:02}").parse().expect("an id")
}

fn only(role: &'static str, users: &[u8]) -> Verdict {
    let users = users.iter().map(|number| user_id(*number).to_string()).collect();
    Verdict { role, audience: Audience::Only(users), edits: Vec::new() }
}

#[test]
fn without_plugins_payloads_are_unchanged() {
    let plugins = Plugins::none();
    let whole = Arc::new(payload());
    let shaped = plugins.shape("lead:updated", &whole, &context(), &Role::ALL);
    assert_eq!(shaped.len(), 4);
    for (_, shaped) in shaped {
        assert!(matches!(&shaped, Shaped::Sent { payload, .. } if Arc::ptr_eq(payload, &whole)), "not even copied");
        assert_eq!(sent(shaped), (payload(), Reach::Everyone));
    }
    assert_eq!(plugins.authorize_connect(&user(Role::Viewer)), Ok(Decision::Allow));
    assert!(plugins.ready().is_ok() && plugins.status().is_empty());
}

#[test]
fn a_filter_hides_from_its_roles_and_roles_with_equal_edits_share_a_payload() {
    let yard = Yard::open(&[("guard.wasm", Guest::redactor("guard").build())]);
    let whole = Arc::new(payload());
    let shaped = yard.plugins.shape("lead:updated", &whole, &context(), &Role::ALL);
    let payloads: Vec<&Arc<Value>> = shaped
        .iter()
        .map(|(_, shaped)| match shaped {
            Shaped::Sent { payload, .. } => payload,
            held @ Shaped::Held { .. } => panic!("not sent: {held:?}"),
        })
        .collect();
    let [admin, manager, _, viewer] = payloads[..] else { panic!("four roles") };
    assert!(Arc::ptr_eq(admin, manager) && Arc::ptr_eq(admin, &whole));
    assert_eq!(*whole, payload());
    assert_eq!(viewer.pointer("/lead/email"), None);
    assert_eq!(viewer["changes"], json!(["title"]), "what is hidden is not named either");
    assert!(yard.plugins.hidden(Role::Viewer).covers("/lead/email") && yard.plugins.hidden(Role::Sales).is_empty());
}

#[test]
fn hidden_fields_appear_in_no_server_activity_and_in_no_nested_value() {
    let guard = Guest::new("guard")
        .roles(["VIEWER"])
        .hides("VIEWER", ["/lead/status", "/lead/custom/secret"])
        .filter([everyone("VIEWER", [])]);
    let yard = Yard::open(&[("guard.wasm", guard.build())]);
    let change = Arc::new(json!({"activity": {"type": "STATUS_CHANGE"}, "leadId": "0190"}));
    let (_, reach) = sent(yard.plugins.shape("activity:created", &change, &context(), &[Role::Viewer]).remove(0).1);
    assert_eq!(reach, Reach::Nobody);
    let (_, reach) = sent(yard.plugins.shape("activity:created", &change, &context(), &[Role::Sales]).remove(0).1);
    assert_eq!(reach, Reach::Everyone);
    let mut custom = json!({"secret": 1, "open": 2});
    yard.plugins.hidden(Role::Viewer).prune("/lead/custom", &mut custom);
    assert_eq!(custom, json!({"open": 2}));
}

#[test]
fn filters_run_after_enrichers_in_any_file_order() {
    let filter = |name| {
        Guest::new(name)
            .roles(["SALES"])
            .fields(["/lead/score"])
            .hides("SALES", ["/lead/seen"])
            .filter([everyone("SALES", [Edit::SetFirstField("/lead/seen".into())])])
    };
    let score =
        Guest::new("middle").enrich([set("/lead/score", "7"), set("/nowhere/at/all", "1"), remove("/lead/none")]);
    let yard = Yard::open(&[
        ("a-filter.wasm", filter("a-filter").build()),
        ("middle.wasm", score.build()),
        ("z-filter.wasm", filter("z-filter").build()),
    ]);
    let sent = yard.sent(Role::Sales);
    assert_eq!((&sent["lead"]["score"], &sent["lead"]["seen"]), (&json!(7), &json!(7)));
    assert_eq!(yard.sent(Role::Admin)["lead"].get("seen"), None);
}

#[test]
fn a_filter_cannot_restore_what_another_removed() {
    let hider = Guest::redactor("hider");
    let setter = Guest::new("setter").roles(["VIEWER"]).hides("VIEWER", ["/lead"]).filter([everyone(
        "VIEWER",
        [set("/lead", r#"{"email": "leak@example.com"}"#), set("/lead/email", "\"leak\"")],
    )]);
    for order in ["1", "-1"] {
        let yard = Yard::open(&[
            ("hider.wasm", hider.build()),
            ("hider.toml", format!("order = {order}").into_bytes()),
            ("setter.wasm", setter.build()),
        ]);
        assert_eq!(yard.sent(Role::Viewer)["lead"].get("email"), None);
    }
}

#[test]
fn a_plugin_gets_only_its_declared_fields() {
    let field = |pointer: &str| {
        let guest =
            Guest::new("reader").fields(["/lead/missing", pointer]).enrich([Edit::SetFirstField("/seen".into())]);
        let yard = Yard::open(&[("reader.wasm", guest.build())]);
        yard.sent(Role::Admin)["seen"].clone()
    };
    assert_eq!(field("/lead/email"), "ann@example.com");
    assert_eq!(field("/lead/owner"), Value::Null);
    assert_eq!(field("/context/before/title"), "Barn");
    assert_eq!(field("/context/lead"), lead());
}

#[test]
fn whole_payloads_require_a_grant() {
    let guest = Guest::new("reader").whole_payload().enrich([Edit::SetPayload("/copy".into())]).build();
    let yard = Yard::open(&[("reader.wasm", guest.clone())]);
    assert_eq!(yard.state("reader"), Some(PluginState::Refused));
    assert!(yard.reason("reader").ends_with("add to reader.toml:\n[grant]\nwhole_payload = true"));
    let yard = Yard::open(&[("reader.wasm", guest), ("reader.toml", b"grant.whole_payload = true".into())]);
    assert_eq!(yard.sent(Role::Admin)["copy"], payload());
}

#[test]
fn audiences_intersect_and_deny_wins() {
    let narrow = |name: &str, users: &[u8]| Guest::new(name).roles(["SALES"]).filter([only("SALES", users)]).build();
    let nobody = Verdict { role: "SALES", audience: Audience::Nobody, edits: Vec::new() };
    let mut files = vec![("a.wasm", narrow("a", &[1, 2])), ("b.wasm", narrow("b", &[2, 3]))];
    assert_eq!(sent(Yard::open(&files).shape(Role::Sales)).1, Reach::Only([user_id(2)].into()));
    files.push(("c.wasm", Guest::new("c").roles(["SALES"]).filtering("unreachable", Ok(Vec::new())).build()));
    assert!(Yard::open(&files).held(Role::Sales).starts_with("c: filter trapped"));
    files.push(("d.wasm", Guest::new("d").roles(["SALES"]).filter([nobody]).build()));
    assert_eq!(sent(Yard::open(&files).shape(Role::Sales)).1, Reach::Nobody);
}

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

/// Requests 1 GiB like most allocators: a refusal ends in a trap.
const WANT_1_GIB: &str = "(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable))";
const SPIN: &str = "(loop (br 0))";
const FLOOD: &str = "(loop (call $log (i32.const 16) (i32.const 4) (i32.const 16) (i32.const 4)) (br 0))";
const HUGE_LINE: &str = "(call $log (i32.const 16) (i32.const 4) (i32.const 0) (i32.const 1100000))";
const RECURSE: &str = "(drop (call $recurse (i32.const 0)))";
const WILD: &str = "(drop (i32.load (i32.const -4)))";

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

#[test]
fn authorize_denies_with_its_reason_and_fails_closed() {
    let room = Room::Lead("0190".into());
    let open = |guests: &[(&'static str, Guest)]| {
        let files: Vec<(&str, Vec<u8>)> = guests.iter().map(|(file, guest)| (*file, guest.build())).collect();
        Yard::open(&files).plugins
    };
    let allow = ("allow.wasm", Guest::new("allow").fields(["/context/user/email"]).authorize(None));
    let deny = ("deny.wasm", Guest::new("deny").authorize(Some("Not on Sundays")));
    let plugins = open(std::slice::from_ref(&allow));
    assert_eq!(plugins.authorize_subscribe(&user(Role::Sales), &room, Some(&lead())), Ok(Decision::Allow));
    let plugins = open(&[allow, deny]);
    assert_eq!(plugins.authorize_connect(&user(Role::Sales)), Ok(Decision::Deny("Not on Sundays".into())));
    assert_eq!(
        plugins.authorize_subscribe(&user(Role::Sales), &room, None),
        Ok(Decision::Deny("Not on Sundays".into()))
    );
    let long = ("long.wasm", Guest::new("long").authorize(Some(&"x".repeat(5000))));
    let plugins = open(&[long]);
    assert!(plugins.authorize_connect(&user(Role::Sales)).expect_err("a fault").reason.contains("4096 are allowed"));
}

/// A plugin that `cargo xtask test` has built beforehand.
pub fn built(folder: &str, name: &str) -> Option<Vec<u8>> {
    let target = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("..");
    let samples = std::env::var_os("LEADWIRE_TEST_PLUGINS").filter(|_| folder == "plugins").map(PathBuf::from);
    let file = samples.unwrap_or_else(|| target.join(folder)).join(format!("{name}.wasm"));
    let bytes = fs::read(&file).ok();
    if bytes.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{} is missing: run cargo xtask test build", file.display());
        println!("skipped: {} is missing: run cargo xtask test build", file.display());
    }
    bytes
}

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

#[test]
fn plugin_counters_are_in_the_status() {
    let code = "(call $count (i32.const 24) (i32.const 1) (f64.const 2.5))";
    let yard = Yard::open(&[("sum.wasm", Guest::new("sum").enriching(code, Ok(Vec::new())).build())]);
    yard.sent(Role::Admin);
    yard.sent(Role::Admin);
    assert_eq!(yard.status("sum").map(|status| status.metrics["n"]), Some(5.0));
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
