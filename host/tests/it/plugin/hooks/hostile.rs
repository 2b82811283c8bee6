//! Harmful components and invalid answers: each kind in each hook. The effect of a fault is defined per hook; other
//! plugins are unaffected.

use std::time::{Duration, Instant};

use leadwire::{
    domain::{counter::Seq, role::Role, time::Timestamp},
    plugin::{Breaker, Decision, Occasion, PluginState, ProposedCommand, Ruling as Ruled, Shaped},
};

use crate::{
    guest::{Audience, Edit, Guest, Outcome, Ruling, Verdict, Wants, everyone, outcome, remove, set},
    plugin::hooks::{FLOOD, HUGE_LINE, RECURSE, SPIN, WANT_1_GIB, WILD, Yard, context, payload, user},
};

/// A hook, a plugin that fails in it, and the effect of its faults.
struct Hook {
    name: &'static str,
    /// The plugin `bad` whose hook runs this code first.
    guest: fn(code: &str) -> Guest,
    /// Calls the hook and returns the result for the caller: `Ok` if the caller continues without the plugin.
    ask: fn(&Yard) -> Result<(), String>,
    /// True if the caller continues without it.
    is_open: bool,
}

const HOOKS: [Hook; 6] = [
    Hook {
        name: "authorize",
        guest: |code| Guest::new("bad").authorizing(code, None),
        ask: |yard| match yard.plugins.authorize_connect(&user(Role::Sales)) {
            Ok(Decision::Allow) => Ok(()),
            Ok(denied) => panic!("the plugin never denies: {denied:?}"),
            Err(unavailable) => Err(unavailable.reason),
        },
        is_open: false,
    },
    Hook {
        name: "before",
        guest: |code| Guest::new("bad").ruling(["lead:create"], code, Ok(Ruling::Accept)),
        ask: |yard| {
            let (name, actor, input) = ("lead:create", &user(Role::Sales).into(), serde_json::Map::new());
            let question = ProposedCommand { name, actor, input, lead: None, activity: None };
            match yard.plugins.before(&question, |_| Ok(())) {
                Ok(Ruled::Accepted) => Ok(()),
                Ok(ruled) => panic!("the plugin only accepts: {ruled:?}"),
                Err(unavailable) => Err(unavailable.reason),
            }
        },
        is_open: false,
    },
    Hook {
        name: "enrich",
        guest: |code| Guest::new("bad").enriching(code, Ok(Vec::new())),
        ask: |yard| {
            assert_eq!(yard.sent(Role::Admin), payload());
            Ok(())
        },
        is_open: true,
    },
    Hook {
        name: "filter",
        guest: |code| Guest::new("bad").roles(["VIEWER"]).filtering(code, Ok(vec![everyone("VIEWER", [])])),
        ask: shape_for_viewer,
        is_open: false,
    },
    Hook {
        name: "after",
        guest: |code| Guest::new("bad").following(Wants::new(["lead:*"], []), code, Ok(Outcome::default())),
        ask: |yard| {
            let (payload, context, at) = (payload(), context(), Timestamp::from_millis(0).expect("in range"));
            let (name, payload, context) = ("lead:updated", &payload, &context);
            let occasion = Occasion { id: "e/7", seq: Some(Seq(7)), at, name, payload, context, state: None };
            match yard.plugins.after(&"bad".parse().expect("a name"), &occasion) {
                Ok(Some(_)) => Ok(()),
                Ok(None) => panic!("the plugin wants such events"),
                Err(error) => Err(error.to_string()),
            }
        },
        is_open: false,
    },
    Hook {
        name: "filter",
        guest: |code| Guest::new("bad").roles(["VIEWER"]).filtering_by_line(code, Ok(vec![everyone("VIEWER", [])])),
        ask: shape_for_viewer,
        is_open: false,
    },
];

fn shape_for_viewer(yard: &Yard) -> Result<(), String> {
    match yard.shape(Role::Viewer) {
        Shaped::Sent { .. } => Ok(()),
        Shaped::Held { reason, .. } => Err(reason),
    }
}

/// A guard beside the failing plugin: its hidden fields stay hidden.
fn beside(bad: &Guest, settings: &str) -> Yard {
    let guard = Guest::new("guard")
        .roles(["SALES"])
        .hides("SALES", ["/lead/email"])
        .filter([everyone("SALES", [remove("/lead/email")])]);
    let files = [("bad.wasm", bad.build()), ("bad.toml", settings.into()), ("guard.wasm", guard.build())];
    let yard = Yard::open(&files);
    for name in ["bad", "guard"] {
        assert_eq!(yard.state(name), Some(PluginState::Active), "{}", yard.reason(name));
    }
    yard
}

fn assert_guarded(yard: &Yard) {
    assert_eq!(yard.sent(Role::Sales)["lead"].get("email"), None);
    let guard = yard.status("guard").expect("known");
    assert_eq!((guard.state, guard.counts.faults), (PluginState::Active, 0));
}

/// An answer that is an error, whose text begins at `start` and is `length` bytes long.
fn error_at(start: i64, length: i64) -> String {
    format!(
        "(i32.store8 (i32.const 32) (i32.const 1))
         (i32.store (i32.const 36) (i32.const {start}))
         (i32.store (i32.const 40) (i32.const {length}))
         (return (i32.const 32))"
    )
}

/// Harmful code, with a part of the error that the operator sees.
fn harms() -> Vec<(&'static str, String, &'static str)> {
    vec![
        ("spins", SPIN.into(), "ran past its deadline of 10 ms"),
        ("floods the log", FLOOD.into(), "ran past its deadline of 10 ms"),
        ("writes a line of a megabyte", HUGE_LINE.into(), "trapped"),
        ("allocates", WANT_1_GIB.into(), "exceeded its memory limit of 64 MiB"),
        ("recurses", RECURSE.into(), "call stack exhausted"),
        ("reads where there is nothing", WILD.into(), "out of bounds memory access"),
        ("traps", "unreachable".into(), "trapped"),
        ("answers beyond its memory", "(return (i32.const -16))".into(), "trapped"),
        ("answers at a crooked place", "(return (i32.const 33))".into(), "not aligned"),
        (
            "answers with a case that there is not",
            "(i32.store8 (i32.const 32) (i32.const 9)) (return (i32.const 32))".into(),
            "trapped",
        ),
        ("answers with a text beyond its memory", error_at(-8, 100), "trapped"),
        ("answers with a text longer than its memory", error_at(64, 0x7fff_ffff), "trapped"),
        (
            "answers with what is no UTF-8",
            format!("(i32.store8 (i32.const 50) (i32.const 255)) {}", error_at(50, 1)),
            "trapped: invalid utf-8",
        ),
        ("answers with 10 MB", format!("(drop (memory.grow (i32.const 200))) {}", error_at(0, 10 << 20)), "trapped"),
    ]
}

fn harmed(hook: &Hook) {
    for (what, code, expected) in harms() {
        let yard = beside(&(hook.guest)(&code), "");
        let started = Instant::now();
        let outcome = (hook.ask)(&yard);
        let case = format!("{} {what}", hook.name);
        assert!(started.elapsed() < Duration::from_secs(10), "{case}");
        assert_eq!(outcome.is_ok(), hook.is_open, "{case}: {outcome:?}");
        let status = yard.status("bad").expect("known");
        let fault = status.last_fault.unwrap_or_else(|| panic!("{case}: no fault"));
        assert_eq!(fault.hook, hook.name, "{case}");
        assert!(fault.reason.contains(expected), "{case}: {:?} does not tell of {expected:?}", fault.reason);
        let instances = status.instances.expect("loaded");
        assert_eq!((instances.broken, instances.warm), (1, 0), "{case}: such an instance is not asked again");
        assert_guarded(&yard);
    }
}

#[test]
fn a_harmful_authorize_denies() {
    harmed(&HOOKS[0]);
}

#[test]
fn a_harmful_before_blocks_the_command() {
    harmed(&HOOKS[1]);
}

#[test]
fn a_harmful_enrich_is_skipped() {
    harmed(&HOOKS[2]);
}

#[test]
fn a_harmful_filter_withholds() {
    harmed(&HOOKS[3]);
}

#[test]
fn a_harmful_after_is_retried() {
    harmed(&HOOKS[4]);
}

#[test]
fn a_harmful_filter_by_line_withholds() {
    harmed(&HOOKS[5]);
}

#[test]
fn a_trap_on_the_thousandth_call_fails_only_that_call() {
    for hook in &HOOKS {
        // `init` and the calls made once after it count as well, at most three.
        let code = "(if (i32.eq (global.get $calls) (i32.const 1000)) (then unreachable))";
        let yard = beside(&(hook.guest)(code), "");
        let failed = (1..=1200).filter(|_| (hook.ask)(&yard).is_err()).count();
        assert_eq!(failed, usize::from(!hook.is_open), "{}", hook.name);
        let status = yard.status("bad").expect("known");
        assert_eq!(
            (status.state, status.counts.calls, status.counts.faults),
            (PluginState::Active, 1200, 1),
            "{}",
            hook.name
        );
        assert_eq!(status.breaker.map(|breaker| breaker.state), Some(Breaker::Closed));
        assert_eq!(status.instances.map(|instances| instances.broken), Some(1));
        assert_guarded(&yard);
    }
}

#[test]
fn an_open_breaker_skips_calls_until_its_rest_ends_and_then_allows_one() {
    for hook in &HOOKS {
        let yard = beside(&(hook.guest)("unreachable"), "[limits]\nrest_ms = 60000\nfaults_in_a_row = 3");
        for _ in 0..10 {
            assert_eq!((hook.ask)(&yard).is_ok(), hook.is_open, "{}", hook.name);
        }
        let status = yard.status("bad").expect("known");
        assert_eq!(
            (status.state, status.counts.calls, status.counts.skipped),
            (PluginState::Failing, 3, 7),
            "{}",
            hook.name
        );
        let breaker = status.breaker.expect("loaded");
        assert_eq!((breaker.state, breaker.faults_in_a_row, breaker.rest_ms), (Breaker::Open, 3, Some(60_000)));
        assert_guarded(&yard);

        let yard =
            beside(&(hook.guest)("unreachable"), "[limits]\nrest_ms = 1\nlongest_rest_ms = 1\nfaults_in_a_row = 1");
        let asked = (0..3).filter(|_| {
            std::thread::sleep(Duration::from_millis(2));
            let before = yard.status("bad").map(|status| status.counts.calls);
            assert_eq!((hook.ask)(&yard).is_ok(), hook.is_open, "{}", hook.name);
            yard.status("bad").map(|status| status.counts.calls) != before
        });
        assert_eq!(asked.count(), 3, "{}: a probe after each rest", hook.name);
    }
}

#[test]
fn an_out_of_bounds_allocation_is_detected_when_arguments_are_passed() {
    // `init` still gets its settings; from then on every allocation is invalid.
    let lie = "(if (i32.gt_u (global.get $calls) (i32.const 0)) (then (return (i32.const -8))))";
    for hook in &HOOKS {
        let yard = beside(&(hook.guest)("").reallocating(lie), "");
        assert_eq!((hook.ask)(&yard).is_ok(), hook.is_open, "{}", hook.name);
        let fault = yard.status("bad").and_then(|status| status.last_fault).expect("a fault");
        assert!(fault.reason.starts_with("trapped"), "{}: {}", hook.name, fault.reason);
        assert_guarded(&yard);
    }
}

/// Placeholder for invalid UTF-8 in an answer of a guest.
const TORN: &str = "\u{ffff}";

#[test]
fn invalid_answers_are_faults_in_every_hook() {
    let edits = |edits: Vec<Edit>| Guest::new("bad").enriching("", Ok(edits));
    let rules = |ruling: Ruling| Guest::new("bad").before(["lead:create"], ruling);
    let refuses =
        |code: &str, message: &str| rules(Ruling::Refuse { code: code.into(), message: message.into(), field: None });
    let follows = |effects: Vec<(String, String)>| {
        let wants = Wants::new(["lead:*"], ["notify"]);
        Guest::new("bad").following(wants, "", Ok(Outcome { effects, ..Outcome::default() }))
    };
    let notify = |input: &str| ("notify".to_owned(), input.to_owned());
    let [authorize, before, enrich, _, after, _] = &HOOKS;
    let cases: Vec<(&Hook, Guest, &str)> = vec![
        (authorize, Guest::new("bad").authorize(Some(&"x".repeat(5000))), "4096 are allowed"),
        (authorize, Guest::new("bad").authorize(Some(TORN)), "invalid utf-8"),
        (before, refuses("Not Snake", "no"), "snake_case"),
        (before, refuses("no", " "), "without a message"),
        (before, refuses("no", TORN), "invalid utf-8"),
        (before, rules(Ruling::Amend(vec![set("/context/user/role", "\"ADMIN\"")])), "not below /input"),
        (before, rules(Ruling::Amend(vec![set("/input", "{}")])), "not below /input"),
        (before, rules(Ruling::Amend(vec![set("/input/title", "{oops")])), "is not valid JSON"),
        (before, rules(Ruling::Amend(vec![set("/input/title", &format!("\"{TORN}\""))])), "invalid utf-8"),
        (enrich, edits(vec![set("/seq", "1")]), "/seq is written by the server"),
        (enrich, edits(vec![remove("/epoch")]), "/epoch is written by the server"),
        (enrich, edits(vec![set("/lead/x", "1 2")]), "is not valid JSON"),
        (enrich, edits(vec![set("/lead/x", &"[".repeat(1000))]), "is not valid JSON"),
        (enrich, edits(vec![set(&format!("/lead/{TORN}"), "1")]), "invalid utf-8"),
        (enrich, edits(vec![remove("/lead/x"); 1001]), "1000 are allowed"),
        (after, follows(vec![notify("{oops")]), "not a JSON object"),
        (after, follows(vec![notify("[]")]), "not a JSON object"),
        (after, follows(vec![notify(TORN)]), "invalid utf-8"),
        (after, follows(vec![("lead:update".into(), "{}".into())]), "does not list in wants"),
        (after, follows(vec![("format-disk".into(), "{}".into())]), "unknown effect"),
        (after, follows(vec![notify("{}"); 65]), "64 are allowed"),
        (after, follows(vec![notify(&format!("{{\"x\":\"{}\"}}", "x".repeat(70_000)))]), "65536 are allowed"),
    ];
    for (hook, guest, expected) in cases {
        let yard = beside(&guest, "grant.effects = [\"notify\"]");
        assert_eq!((hook.ask)(&yard).is_ok(), hook.is_open, "{}: {expected}", hook.name);
        let fault = yard.status("bad").and_then(|status| status.last_fault).expect("a fault");
        assert!(fault.reason.contains(expected), "{}: {:?} does not tell of {expected:?}", hook.name, fault.reason);
        assert_guarded(&yard);
    }
}

#[test]
fn a_filter_must_answer_for_the_asked_roles_in_utf_8() {
    let viewer = |edits: Vec<Edit>| vec![everyone("VIEWER", edits)];
    let torn_user = Verdict { role: "VIEWER", audience: Audience::Only(vec![TORN.into()]), edits: Vec::new() };
    let cases = [
        (vec![], "no verdict for VIEWER"),
        (vec![everyone("VIEWER", []), everyone("VIEWER", [])], "has one already"),
        (vec![everyone("VIEWER", []), everyone("SALES", [])], "was not asked"),
        (vec![everyone(TORN, [])], "invalid utf-8"),
        (viewer(vec![remove(TORN)]), "invalid utf-8"),
        (viewer(vec![Edit::Mask("/lead/email".into(), TORN.into())]), "invalid utf-8"),
        (viewer(vec![set("/lead/email", TORN)]), "invalid utf-8"),
        (vec![torn_user], "invalid utf-8"),
    ];
    for (verdicts, expected) in cases {
        let guest = Guest::new("bad").roles(["VIEWER"]).hides("VIEWER", ["/lead/email"]).filter(verdicts);
        let yard = beside(&guest, "");
        assert!(
            yard.held(Role::Viewer).contains(expected),
            "{} does not tell of {expected:?}",
            yard.held(Role::Viewer)
        );
        assert_guarded(&yard);
    }
}

#[test]
fn answers_of_describe_are_checked() {
    let filter = |guest: Guest| guest.filter([]);
    let cases = [
        (filter(Guest::new("bad").events(["newListener"])), "reserved by Socket.IO"),
        (filter(Guest::new("bad").events([TORN])), "invalid utf-8"),
        (filter(Guest::new("bad").fields(["/context/secrets"])), "does not exist"),
        (filter(Guest::new("bad").hides("BOSS", ["/lead"])), "is not a role"),
        (filter(Guest::new("bad").hides("VIEWER", [TORN])), "invalid utf-8"),
        (filter(Guest::new("bad").describing("(return (i32.const -4))")), "describe trapped"),
        (Guest::new("bad").before(["lead:explode"], Ruling::Accept), "is not a command"),
        (Guest::new("bad").after(Wants::new(["disconnect"], []), outcome([])), "reserved by Socket.IO"),
        (Guest::new("bad").after(Wants::new(["lead:*"], ["format-disk"]), outcome([])), "unknown effect"),
    ];
    for (guest, expected) in cases {
        let yard = Yard::open(&[("bad.wasm", guest.build())]);
        assert_eq!(yard.state("bad"), Some(PluginState::Refused), "{expected}");
        assert!(yard.reason("bad").contains(expected), "{:?} does not tell of {expected:?}", yard.reason("bad"));
    }
}
