//! Filters called with one text (`filter-lines`): the same hook in another form.

use std::sync::Arc;

use leadwire::domain::{audience::Audience as Reach, role::Role};
use serde_json::{Value, json};

use crate::{
    guest::{Edit, Guest, everyone, remove},
    plugin::hooks::{Yard, context, lead, only, payload, sent, user_id},
};

/// The lines that a plugin with these fields got for a role; it returns them as the title.
fn asked(fields: &[&str], roles: &[Role]) -> Vec<String> {
    let [first, second] = [fields[0], fields[1]];
    let names: Vec<&'static str> = roles.iter().map(|role| role.as_str()).collect();
    let guest = names
        .iter()
        .fold(Guest::new("guard").fields([first, second]), |guest, role| guest.hides(role, ["/lead/title"]));
    let shown = names.iter().map(|role| everyone(role, [Edit::MaskQuestion("/lead/title".into())]));
    let yard = Yard::open(&[("guard.wasm", guest.filter_by_line(shown).build())]);
    let shaped = yard.plugins.shape("lead:updated", &payload().into(), &context(), roles);
    let text = |(_, shaped)| sent(shaped).0["lead"]["title"].as_str().expect("a text").to_owned();
    shaped.into_iter().map(text).collect()
}

#[test]
fn the_question_has_one_line_for_event_roles_and_each_field() {
    let expected = "lead:updated\nSALES VIEWER\n\"ann@example.com\"\n5000\n";
    let roles = [Role::Sales, Role::Viewer];
    assert_eq!(asked(&["/lead/email", "/lead/valueCents"], &roles), [expected, expected]);
    assert_eq!(asked(&["/lead/none", "/lead/owner"], &[Role::Viewer]), ["lead:updated\nVIEWER\n\nnull\n"]);
    let lines = asked(&["/lead", "/lead/none"], &[Role::Viewer]).remove(0);
    let Ok(whole) = serde_json::from_str::<Value>(lines.lines().nth(2).expect("a line")) else { panic!("{lines}") };
    assert_eq!((whole, lines.lines().count()), (lead(), 4));
}

#[test]
fn client_text_cannot_add_a_line() {
    let guest = Guest::new("guard").roles(["VIEWER"]).fields(["/lead/notes"]).hides("VIEWER", ["/lead/title"]);
    let guest = guest.filter_by_line([everyone("VIEWER", [Edit::MaskQuestion("/lead/title".into())])]);
    let yard = Yard::open(&[("guard.wasm", guest.build())]);
    let notes = "one\ntwo\r\n\u{2028}three\n";
    let payload = Arc::new(json!({"lead": {"title": "Roof", "notes": notes}}));
    let shaped = yard.plugins.shape("lead:updated", &payload, &context(), &[Role::Viewer]).remove(0).1;
    let question = sent(shaped).0["lead"]["title"].as_str().expect("a text").to_owned();
    let lines: Vec<&str> = question.split('\n').collect();
    assert_eq!(lines, ["lead:updated", "VIEWER", &serde_json::to_string(notes).expect("JSON"), ""]);
}

#[test]
fn a_granted_payload_is_passed_beside_the_lines() {
    let guest = Guest::new("guard").roles(["VIEWER"]).whole_payload().hides("VIEWER", ["/lead/title"]);
    let guest = guest.filter_by_line([everyone("VIEWER", [Edit::SetPayloadByLine("/lead/title".into())])]);
    let yard = Yard::open(&[("guard.wasm", guest.build()), ("guard.toml", "grant.whole_payload = true".into())]);
    assert_eq!(yard.sent(Role::Viewer)["lead"]["title"], payload());
}

#[test]
fn verdicts_match_roles_by_order() {
    let guest = Guest::new("guard").roles(["SALES", "VIEWER"]).hides("VIEWER", ["/lead/email"]);
    let verdicts = [only("SALES", &[1]), everyone("VIEWER", [remove("/lead/email")])];
    let yard = Yard::open(&[("guard.wasm", guest.filter_by_line(verdicts).build())]);
    let shaped = yard.plugins.shape("lead:updated", &payload().into(), &context(), &[Role::Viewer, Role::Sales]);
    let by_role = |role| sent(shaped.iter().find(|(of, _)| *of == role).expect("shaped").1.clone());
    assert_eq!(by_role(Role::Sales).1, Reach::Only([user_id(1)].into()));
    assert_eq!(by_role(Role::Viewer).0["lead"].get("email"), None);
}

#[test]
fn a_wrong_number_of_verdicts_withholds_from_all_roles() {
    for (verdicts, reason) in [(0, "0 verdicts for 1 roles"), (2, "2 verdicts for 1 roles")] {
        let guest = Guest::new("guard").roles(["VIEWER"]).filter_by_line(vec![everyone("VIEWER", []); verdicts]);
        let yard = Yard::open(&[("guard.wasm", guest.build())]);
        assert!(yard.held(Role::Viewer).contains(reason), "{}", yard.held(Role::Viewer));
        assert_eq!(yard.sent(Role::Admin), payload());
    }
}

#[test]
fn an_undeclared_edit_is_a_fault_by_line() {
    let guest = Guest::new("guard").roles(["VIEWER"]).hides("VIEWER", ["/lead/email"]);
    let guest = guest.filter_by_line([everyone("VIEWER", [remove("/lead/phone")])]);
    let yard = Yard::open(&[("guard.wasm", guest.build())]);
    assert!(yard.held(Role::Viewer).contains("does not list in hides"), "{}", yard.held(Role::Viewer));
}

#[test]
fn filter_by_line_is_preferred_over_filter() {
    let guest = Guest::new("guard").roles(["VIEWER"]).hides("VIEWER", ["/lead/email", "/lead/phone"]);
    let guest = guest.filter([everyone("VIEWER", [remove("/lead/email")])]);
    let guest = guest.filter_by_line([everyone("VIEWER", [remove("/lead/phone")])]);
    let yard = Yard::open(&[("guard.wasm", guest.build())]);
    assert_eq!(yard.status("guard").expect("known").hooks, ["filter"]);
    let lead = &yard.sent(Role::Viewer)["lead"];
    assert_eq!((lead.get("phone"), &lead["email"]), (None, &json!("ann@example.com")));
}
