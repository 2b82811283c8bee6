//! Filters and enrichers: their edits of events, the fields that they get, and their order.

use std::sync::Arc;

use leadwire::{
    domain::{audience::Audience as Reach, role::Role},
    plugin::{Decision, PluginState, Plugins, Shaped},
};
use serde_json::{Value, json};

use crate::{
    guest::{Audience, Edit, Guest, Verdict, everyone, remove, set},
    plugin::hooks::{Yard, context, lead, only, payload, sent, user, user_id},
};

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
