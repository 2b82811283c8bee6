//! `before` hooks: they accept, amend or refuse a command, over HTTP and sockets alike.

use std::{fs, path::Path};

use leadwire::{
    domain::{counter::Seq, role::Role},
    plugin::PluginState,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    guest::{Edit, Guest, Ruling, everyone, remove, set},
    socket_client::{PATIENCE, SocketClient, Transport},
    support::{TestApp, send},
};

async fn with_plugins(files: &[(&str, Vec<u8>)]) -> TestApp {
    TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        files.iter().for_each(|(name, bytes)| fs::write(dir.join(name), bytes).expect("written"));
    })
    .await
}

async fn with_plugin(guest: Guest) -> TestApp {
    let app = with_plugins(&[("guard.wasm", guest.build())]).await;
    assert_eq!(app.app().plugins().status()[0].state, PluginState::Active, "{:#?}", app.app().plugins().status());
    app
}

fn guard<const N: usize>(commands: [&str; N], ruling: Ruling) -> Guest {
    Guest::new("guard").before(commands, ruling)
}

fn refuse(field: Option<&str>) -> Ruling {
    Ruling::Refuse { code: "not_today".into(), message: "Not on Sundays".into(), field: field.map(Into::into) }
}

fn amend(edits: impl IntoIterator<Item = Edit>) -> Ruling {
    Ruling::Amend(edits.into_iter().collect())
}

/// Number of events written by commands: plugin changes write their own events.
async fn log_head(app: &TestApp) -> usize {
    let events = app.app().store().read().await.expect("a reader").events_after(Seq(0), 1000).await.expect("readable");
    events.iter().filter(|event| event.name != "delivery:switched").count()
}

fn counts(app: &TestApp, name: &str) -> (u64, u64) {
    let status = app.app().plugins().status().into_iter().find(|status| status.name == name).expect("it is known");
    (status.counts.calls, status.counts.faults)
}

async fn socket(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(role)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_the_client_with_the_plugins_code_message_and_field() {
    let app = with_plugin(guard(["lead:create"], refuse(Some("title")))).await;
    let problem = app.client(Role::Admin).post("/api/leads", json!({"title": "Roof"})).await.refused(422, "not_today");
    let errors = json!([{"field": "title", "code": "not_today", "message": "Not on Sundays"}]);
    assert_eq!((&problem["detail"], &problem["errors"]), (&json!("Not on Sundays"), &errors));

    let mut client = socket(&app, Role::Admin).await;
    let ack = client.call("lead:create", json!({"title": "Roof"})).await;
    let error = json!({"message": "Not on Sundays", "code": "not_today", "errors": errors});
    assert_eq!(ack, json!({"ok": false, "error": error}));
    assert_eq!(client.event("error").await["event"], "lead:create");
    assert_eq!((log_head(&app).await, counts(&app, "guard")), (0, (2, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_without_a_field_names_none() {
    let app = with_plugin(guard(["*"], refuse(None))).await;
    let problem = app.client(Role::Admin).post("/api/leads", json!({"title": "Roof"})).await.refused(422, "not_today");
    assert_eq!(problem.get("errors"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_is_called_for_every_command_by_name() {
    let app = TestApp::start().await;
    let (admin, owner) = (app.client(Role::Admin), app.user(Role::Sales).id);
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let note = admin.post(&format!("{path}/activities"), json!({"type": "NOTE", "body": "hi"})).await;
    let note = note.expect(StatusCode::CREATED);
    let activity = format!("/api/activities/{}", note["id"].as_str().expect("an id"));
    let commands = [
        ("lead:create", Method::POST, "/api/leads".to_owned(), json!({"title": "x"})),
        ("lead:update", Method::PATCH, path.clone(), json!({"title": "x"})),
        ("lead:assign", Method::POST, format!("{path}/assign"), json!({"ownerId": owner})),
        ("lead:restore", Method::POST, format!("{path}/restore"), json!({})),
        ("lead:delete", Method::DELETE, path.clone(), json!({})),
        ("activity:create", Method::POST, format!("{path}/activities"), json!({"type": "NOTE", "body": "x"})),
        ("activity:update", Method::PATCH, activity.clone(), json!({"body": "x"})),
        ("activity:delete", Method::DELETE, activity, json!({})),
    ];
    let (file, head) = (app.dir.path().join("plugins/guard.wasm"), log_head(&app).await);
    for (name, ..) in &commands {
        let before = app.app().plugins().generation();
        fs::write(&file, guard([name], refuse(None)).build()).expect("written");
        let mut changed = app.app().plugins().changed();
        while app.app().plugins().generation() == before {
            timeout(PATIENCE, changed.changed()).await.expect("it is taken up").expect("the plugins are there");
        }
        for (asked, method, path, body) in commands.iter().filter(|(asked, ..)| asked == name) {
            let request = admin.request(method.clone(), path);
            let request = if *method == Method::DELETE { request } else { request.json(body) };
            let reply = send(request).await;
            assert_eq!(reply.body["code"], "not_today", "{asked}: {}", reply.body);
        }
    }
    assert_eq!(log_head(&app).await, head, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_no_plugin_wants_runs_without_a_call() {
    let app = with_plugin(guard(["lead:update"], refuse(None))).await;
    app.lead(json!({"title": "Roof"})).await;
    assert_eq!(counts(&app, "guard"), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amendment_is_written_and_emitted() {
    let edits = [set("/input/title", r#""  Barn ""#), Edit::Mask("/input/company".into(), "Acme".into())];
    let app = with_plugin(guard(["lead:create"], amend(edits))).await;
    let mut client = socket(&app, Role::Viewer).await;
    let lead = app.lead(json!({"title": "Roof", "phone": "1"})).await;
    assert_eq!((&lead["title"], &lead["company"], &lead["phone"]), (&json!("Barn"), &json!("Acme"), &json!("1")));
    assert_eq!(client.event("lead:created").await["lead"]["title"], "Barn");
    let ack = socket(&app, Role::Admin).await.call("lead:create", json!({"title": "Roof"})).await;
    assert_eq!(ack["lead"]["title"], "Barn", "{ack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_patch_is_amended_as_a_patch() {
    let edits = [remove("/input/title"), set("/input/company", "\"Acme\"")];
    let app = with_plugin(guard(["lead:update"], amend(edits))).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let lead = app.client(Role::Admin).patch(&path, json!({"title": "Barn", "phone": "1"})).await;
    let lead = lead.expect(StatusCode::OK);
    assert_eq!((&lead["title"], &lead["company"], &lead["phone"]), (&json!("Roof"), &json!("Acme"), &json!("1")));
}

#[tokio::test(flavor = "multi_thread")]
async fn before_is_not_called_for_invalid_commands() {
    let app = with_plugin(guard(["*"], amend([set("/input/title", "\"Barn\"")]))).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let asked = counts(&app, "guard");
    app.client(Role::Viewer).patch(&path, json!({"title": "x"})).await.refused(403, "forbidden");
    let admin = app.client(Role::Admin);
    admin.patch(&path, json!({"title": ""})).await.refused(422, "invalid");
    admin.post("/api/leads", json!({})).await.refused(422, "invalid");
    let nobody = json!({"ownerId": uuid::Uuid::now_v7()});
    admin.post(&format!("{path}/assign"), nobody).await.refused(422, "invalid");
    let outdated = admin.request(Method::PATCH, &path).header("if-match", "\"7\"").json(&json!({"title": "x"}));
    send(outdated).await.refused(412, "version_conflict");
    assert_eq!(counts(&app, "guard"), asked);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_answer_is_a_plugin_fault_and_writes_nothing() {
    let code = |code: &str| Ruling::Refuse { code: code.into(), message: "No".into(), field: None };
    let nobody = format!("\"{}\"", uuid::Uuid::now_v7());
    let bad = [
        ("lead:create", amend([set("/input/email", "\"nobody\"")])),
        ("lead:create", amend([set("/input/colour", "1")])),
        ("lead:create", amend([remove("/input/title")])),
        ("lead:create", amend([set("/title", "\"x\"")])),
        ("lead:create", amend([set("/input", "{}")])),
        ("lead:create", amend([set("/seq", "1")])),
        ("lead:create", amend([set("/input/title", "{")])),
        ("lead:create", code("Not-Today")),
        ("lead:create", code("")),
        ("lead:create", Ruling::Refuse { code: "no".into(), message: " ".into(), field: None }),
        ("lead:update", amend([set("/input/status", "\"OPEN\"")])),
        ("lead:assign", amend([set("/input/ownerId", &nobody)])),
        ("lead:assign", amend([set("/input/ownerId", "\"me\"")])),
        ("lead:delete", amend([set("/input/why", "1")])),
    ];
    let app = TestApp::start().await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let head = log_head(&app).await;
    let admin = app.client(Role::Admin);
    for (index, (command, ruling)) in bad.into_iter().enumerate() {
        let before = app.app().plugins().generation();
        let mut changed = app.app().plugins().changed();
        let guest = guard([command], ruling).version(&format!("1.0.{index}"));
        fs::write(app.dir.path().join("plugins/guard.wasm"), guest.build()).expect("written");
        while app.app().plugins().generation() == before {
            timeout(PATIENCE, changed.changed()).await.expect("it is taken up").expect("the plugins are there");
        }
        let reply = match command {
            "lead:create" => admin.post("/api/leads", json!({"title": "Roof"})).await,
            "lead:update" => admin.patch(&path, json!({"title": "Barn"})).await,
            "lead:assign" => admin.post(&format!("{path}/assign"), json!({"ownerId": app.user(Role::Sales).id})).await,
            _ => admin.delete(&path).await,
        };
        assert_eq!(reply.body["code"], "plugin_unavailable", "{index}: {}", reply.body);
        assert_eq!((reply.status.as_u16(), counts(&app, "guard").1), (503, 1), "{index}");
        let fault = app.app().plugins().status().remove(0).last_fault.expect("a fault");
        assert_eq!(fault.hook, "before", "{index}: {}", fault.reason);
    }
    assert_eq!(log_head(&app).await, head, "nothing was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_plugin_fails_closed_unless_configured_open() {
    let failing = Guest::new("guard").ruling(["lead:*"], "(unreachable)", Ok(Ruling::Accept)).build();
    let app = with_plugins(&[("guard.wasm", failing.clone())]).await;
    let admin = app.client(Role::Admin);
    // More often than the breaker allows calls.
    for _ in 0..7 {
        admin.post("/api/leads", json!({"title": "Roof"})).await.refused(503, "plugin_unavailable");
    }
    let ack = socket(&app, Role::Admin).await.call("lead:create", json!({"title": "Roof"})).await;
    assert_eq!(ack["error"]["code"], "plugin_unavailable", "{ack}");
    let status = app.app().plugins().status().remove(0);
    assert_eq!((status.state, status.holds, &status.hooks[..]), (PluginState::Failing, true, &["before"][..]));
    assert!(app.app().plugins().ready().is_err());
    assert_eq!(log_head(&app).await, 0, "nothing was written");

    let open = b"on_failure = \"open\"\n".to_vec();
    let app = with_plugins(&[("guard.wasm", failing), ("guard.toml", open)]).await;
    app.lead(json!({"title": "Roof"})).await;
    assert_eq!(counts(&app, "guard"), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_of_a_missing_guard_are_refused() {
    let app = with_plugin(guard(["lead:create"], Ruling::Accept)).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let mut changed = app.app().plugins().changed();
    fs::remove_file(app.dir.path().join("plugins/guard.wasm")).expect("removed");
    while app.app().plugins().status()[0].state != PluginState::Missing {
        timeout(PATIENCE, changed.changed()).await.expect("it is missed").expect("the plugins are there");
    }
    let admin = app.client(Role::Admin);
    admin.post("/api/leads", json!({"title": "Roof"})).await.refused(503, "plugin_unavailable");
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    admin.patch(&path, json!({"title": "Barn"})).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn before_hooks_run_in_order_and_see_earlier_amendments() {
    let copy =
        |from: &str, to: &str| amend([Edit::SetFirstField(to.into()), set("/input/source", &format!("{from:?}"))]);
    let first = Guest::new("a-last").fields(["/input/title"]).before(["*"], copy("last", "/input/description"));
    let second = Guest::new("z-first").fields(["/context/user/email"]).before(["*"], copy("first", "/input/title"));
    let app = with_plugins(&[
        ("a-last.wasm", first.build()),
        ("a-last.toml", b"order = 2\n".to_vec()),
        ("z-first.wasm", second.build()),
        ("z-first.toml", b"order = 1\n".to_vec()),
    ])
    .await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    let email = &app.user(Role::Admin).email;
    assert_eq!((&lead["title"], &lead["description"], &lead["source"]), (&json!(email), &json!(email), &json!("last")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_skips_the_remaining_plugins() {
    let files = [
        ("a.wasm", Guest::new("a").before(["*"], refuse(None)).build()),
        ("b.wasm", Guest::new("b").before(["*"], Ruling::Accept).build()),
    ];
    let app = with_plugins(&files).await;
    app.client(Role::Admin).post("/api/leads", json!({"title": "Roof"})).await.refused(422, "not_today");
    assert_eq!((counts(&app, "a"), counts(&app, "b")), ((1, 0), (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_sees_the_stored_lead_and_activity() {
    for (field, seen) in [("/context/lead/title", "Roof"), ("/context/activity/type", "NOTE")] {
        let guest = Guest::new("guard").fields([field]);
        let guest = guest.before(["activity:update"], amend([Edit::SetFirstField("/input/body".into())]));
        let app = with_plugin(guest).await;
        let lead = app.lead(json!({"title": "Roof"})).await;
        let path = format!("/api/leads/{}/activities", lead["id"].as_str().expect("an id"));
        let note = app.client(Role::Sales).post(&path, json!({"type": "NOTE", "body": "hi"})).await;
        let note = note.expect(StatusCode::CREATED);
        let path = format!("/api/activities/{}", note["id"].as_str().expect("an id"));
        let note = app.client(Role::Sales).patch(&path, json!({"body": "x"})).await.expect(StatusCode::OK);
        assert_eq!(note["body"], seen);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_request_calls_no_plugin() {
    let app = with_plugin(guard(["*"], amend([set("/input/title", "\"Barn\"")]))).await;
    let admin = app.client(Role::Admin);
    let create =
        || admin.request(Method::POST, "/api/leads").header("idempotency-key", "k").json(&json!({"title": "Roof"}));
    let first = send(create()).await.expect(StatusCode::CREATED);
    let again = send(create()).await.expect(StatusCode::CREATED);
    assert_eq!((&first["title"], &first["id"]), (&json!("Barn"), &again["id"]));
    assert_eq!(counts(&app, "guard"), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_wants_an_unknown_command_is_refused() {
    let app = with_plugins(&[("guard.wasm", guard(["lead:updated"], Ruling::Accept).build())]).await;
    let status = app.app().plugins().status().remove(0);
    let reason = status.reason.unwrap_or_default();
    assert!(status.state == PluginState::Refused && reason.contains("\"lead:updated\" is not a command"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_made_before_the_hook_was_still_loads_and_works() {
    let old = tempfile::tempdir().expect("a folder");
    let wit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wit/v1/plugin.wit");
    fs::copy(wit, old.path().join("plugin.wit")).expect("copied");
    let guest = Guest::new("guard").hides("VIEWER", ["/lead/email"]).roles(["VIEWER"]);
    let guest = guest.filter([everyone("VIEWER", [remove("/lead/email")])]).build_against(old.path());
    let app = with_plugins(&[("guard.wasm", guest)]).await;
    let lead = app.lead(json!({"title": "Roof", "email": "a@b.example"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let seen = app.client(Role::Viewer).get(&path).await.expect(StatusCode::OK);
    assert_eq!(seen.get("email"), None);
    assert_eq!(app.app().plugins().status()[0].hooks, ["filter"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_commands_that_conflict_are_not_both_accepted() {
    let sample = crate::socket::delivery::sample("validate-lead");
    let app = with_plugins(&[("validate-lead.wasm", sample)]).await;
    for _ in 0..20 {
        let lead = json!({"title": "Roof", "contactName": "Bob", "email": "bob@example.com"});
        let lead = app.lead(lead).await;
        let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
        let (admin, sales) = (app.client(Role::Admin), app.client(Role::Manager));
        let (moved, emptied) = tokio::join!(
            admin.patch(&path, json!({"status": "QUALIFIED"})),
            sales.patch(&path, json!({"email": null})),
        );
        let codes = [moved.status.as_u16(), emptied.status.as_u16()];
        assert!(codes == [200, 422] || codes == [422, 200], "{codes:?} {} {}", moved.body, emptied.body);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sample_requires_fields_per_status_and_normalizes_email_addresses() {
    let sample = crate::socket::delivery::sample("validate-lead");
    let app = with_plugins(&[("validate-lead.wasm", sample)]).await;
    let lead = app.lead(json!({"title": "Roof", "contactName": "Bob"})).await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let sales = app.client(Role::Sales);
    let problem = sales.patch(&path, json!({"status": "QUALIFIED"})).await.refused(422, "email_required");
    assert_eq!(problem["errors"][0]["field"], "email");
    let patch = json!({"status": "QUALIFIED", "email": "Bob@Example.COM"});
    let mut client = socket(&app, Role::Sales).await;
    let ack = client.call("lead:update", json!({"leadId": lead["id"], "patch": patch})).await;
    assert_eq!((&ack["ok"], &ack["lead"]["email"]), (&json!(true), &json!("bob@example.com")), "{ack}");
    let seen: Value = sales.get(&path).await.expect(StatusCode::OK);
    assert_eq!((&seen["status"], &seen["email"]), (&json!("QUALIFIED"), &json!("bob@example.com")));
}

/// One number per country from the metadata of the crate, and one that needs many rules to classify.
#[tokio::test(flavor = "multi_thread")]
async fn the_sample_parses_phone_numbers_of_every_country_within_its_limit() {
    let settings = b"[config]\ndefault_country = \"US\"\n".to_vec();
    let sample = crate::socket::delivery::sample("validate-lead");
    let app = with_plugins(&[("validate-lead.wasm", sample), ("validate-lead.toml", settings)]).await;
    let lead = app.lead(json!({"title": "Roof", "phone": "(202) 555-0143"})).await;
    assert_eq!(lead["phone"], "+12025550143");
    let (path, admin) = (format!("/api/leads/{}", lead["id"].as_str().expect("an id")), app.client(Role::Admin));
    for number in [
        "+44 20 7946 0018",
        "+49 1512 3456789",
        "+1 242 345 6789",
        "+1 869 765 2917",
        "+7 912 345 67 89",
        "+7 710 009 9998",
        "+39 02 1234 5678",
        "+54 9 11 2345 6789",
        "+55 11 96123 4567",
        "+52 222 123 4567",
        "+590 690 00 12 34",
        "+91 81234 56789",
        "+86 131 2345 6789",
        "+33 6 12 34 56 78",
        "+81 90 1234 5678",
        "+61 412 345 678",
        "+27 71 123 4567",
        "+234 802 123 4567",
    ] {
        let seen: Value = admin.patch(&path, json!({"phone": number})).await.expect(StatusCode::OK);
        assert_eq!(seen["phone"], number.replace(' ', ""));
    }
    let problem = admin.patch(&path, json!({"phone": "555 0143"})).await.refused(422, "phone_invalid");
    assert_eq!(problem["errors"][0]["field"], "phone");
    let (_, faults) = counts(&app, "validate-lead");
    assert_eq!(faults, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_refusal_cannot_use_a_server_code() {
    for (code, prefixed) in [("forbidden", "plugin_forbidden"), ("lead_not_found", "plugin_lead_not_found")] {
        let ruling = Ruling::Refuse { code: code.into(), message: "No".into(), field: Some("title".into()) };
        let app = with_plugin(guard(["lead:create"], ruling)).await;
        let problem = app.client(Role::Admin).post("/api/leads", json!({"title": "Roof"})).await.refused(422, prefixed);
        assert_eq!(problem["errors"][0]["code"], prefixed);
        let ack = socket(&app, Role::Admin).await.call("lead:create", json!({"title": "Roof"})).await;
        assert_eq!(ack["error"]["code"], prefixed, "{ack}");
    }
}
