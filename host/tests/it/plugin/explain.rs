//! Explanations of events, computed with the plugins of that time instead of the active ones.

use std::{fs, time::Duration};

use leadwire::{domain::role::Role, plugin::PluginState};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    guest::{Audience, Guest, Verdict, everyone, remove},
    socket::delivery::sample,
    socket_client::{SocketClient, Transport},
    support::{self, TestApp},
};

const PATIENCE: Duration = Duration::from_secs(60);

async fn start(guest: &Guest, name: &str) -> TestApp {
    TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join(format!("{name}.wasm")), guest.build()).expect("written");
    })
    .await
}

async fn connect(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(role)).await
}

/// Waits until a plugin is in this state, with this version if it has one.
async fn until(app: &TestApp, name: &str, state: PluginState, version: &str) {
    let plugins = app.app().plugins();
    let mut changed = plugins.changed();
    let is_it = |status: &leadwire::plugin::PluginStatus| {
        status.name == name && status.state == state && status.version.as_deref() == Some(version)
    };
    let waiting = async {
        while !plugins.status().iter().any(is_it) {
            changed.changed().await.expect("the plugins are there");
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("in vain: {:#?}", plugins.status()));
}

async fn rename(app: &TestApp, lead: &Value, title: &str) {
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    app.client(Role::Admin).patch(&path, json!({"title": title})).await.expect(StatusCode::OK);
}

async fn explain(app: &TestApp, seq: u64, whom: &str) -> Value {
    app.client(Role::Admin).get(&format!("/api/events/{seq}/explain?{whom}")).await.expect(StatusCode::OK)
}

pub fn hiding(pointer: &'static str, version: &str) -> Guest {
    Guest::new("guard")
        .version(version)
        .roles(["VIEWER"])
        .hides("VIEWER", [pointer])
        .filter([everyone("VIEWER", [remove(pointer)])])
}

/// Runs a command on the files of a server; returns its exit code, stdout and stderr.
pub fn leadwire(app: &TestApp, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = support::leadwire(app.dir.path());
    command.args(arguments);
    command
        .arg("--database")
        .arg(app.dir.path().join("leadwire.db"))
        .arg("--data-dir")
        .arg(app.dir.path().join("data"));
    let output = command.output().expect("runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("utf-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_explained_by_the_plugins_that_shaped_it_also_after_a_restart() {
    let app = start(&hiding("/lead/email", "1.0.0"), "guard").await;
    let mut viewer = connect(&app, Role::Viewer).await;
    let lead = app.lead(json!({"title": "Roof", "email": "a@b.example", "phone": "+1 555"})).await;
    viewer.event("lead:created").await;
    rename(&app, &lead, "Barn").await;
    let before = viewer.event("lead:updated").await;
    fs::write(app.dir.path().join("plugins/guard.wasm"), hiding("/lead/phone", "2.0.0").build()).expect("written");
    until(&app, "guard", PluginState::Active, "2.0.0").await;
    viewer.event("sync:reset").await;
    rename(&app, &lead, "Shed").await;
    let after = viewer.event("lead:updated").await;
    drop(viewer);

    let check = async |app: &TestApp| {
        let explanation = explain(app, 2, "role=VIEWER").await;
        assert_eq!(
            (&explanation["outcome"], &explanation["audience"], &explanation["exact"]),
            (&json!("sent"), &json!("everyone"), &json!(true))
        );
        assert_eq!((&explanation["payload"], explanation["payload"]["lead"].get("email")), (&before, None));
        assert_eq!(
            (&explanation["generation"], &explanation["inUseSince"], &explanation["changedSince"]),
            (&json!(1), &json!(1), &json!(true))
        );
        let step = &explanation["steps"][0];
        assert_eq!(
            (&step["plugin"], &step["version"], &step["hook"]),
            (&json!("guard"), &json!("1.0.0"), &json!("filter"))
        );
        assert_eq!(
            (&step["edits"], &step["generation"]),
            (&json!([{"edit": "remove", "pointer": "/lead/email"}]), &json!(1))
        );
        assert_eq!(explanation["plugins"][0]["hash"], step["hash"]);

        let explanation = explain(app, 4, "role=VIEWER").await;
        assert_eq!((&explanation["payload"], explanation["payload"]["lead"].get("phone")), (&after, None));
        assert_eq!(
            (&explanation["generation"], &explanation["inUseSince"], &explanation["changedSince"]),
            (&json!(2), &json!(4), &json!(false))
        );
        assert_eq!((&explanation["steps"][0]["version"], &explanation["steps"][1]), (&json!("2.0.0"), &Value::Null));

        let explanation = explain(app, 4, "role=SALES").await;
        assert_eq!((&explanation["steps"], &explanation["payload"]["lead"]["phone"]), (&json!([]), &json!("+1 555")));
    };
    check(&app).await;
    let app = app.restart().await;
    check(&app).await;
    let plugins = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    assert_eq!((&plugins["generation"], &plugins["items"][0]["generation"]), (&json!(2), &json!(2)));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_administrators_may_explain_and_invalid_parameters_are_named() {
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof"})).await;
    for role in [Role::Manager, Role::Sales, Role::Viewer] {
        app.client(role).get("/api/events/1/explain?role=ADMIN").await.refused(403, "forbidden");
    }
    app.anonymous().get("/api/events/1/explain?role=ADMIN").await.refused(401, "unauthenticated");
    let admin = app.client(Role::Admin);
    let user = app.user(Role::Sales).id;
    for (query, named) in [
        ("", "role"),
        ("role=BOSS", "role"),
        ("userId=me", "userId"),
        (&format!("role=SALES&userId={user}"), "role"),
        ("role=SALES&when=now", "when"),
    ] {
        let refusal = admin.get(&format!("/api/events/1/explain?{query}")).await.refused(400, "invalid_query");
        assert!(
            refusal["detail"].as_str().is_some_and(|detail| detail.starts_with(&format!("{named}: "))),
            "{refusal}"
        );
    }
    for seq in ["0", "999", "first", "-1", "99999999999999999999"] {
        admin.get(&format!("/api/events/{seq}/explain?role=SALES")).await.refused(404, "event_not_found");
    }
    let nobody = "userId=018f3f3e-0000-7000-8000-000000000001";
    admin.get(&format!("/api/events/1/explain?{nobody}")).await.refused(404, "user_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audience_after_plugins_and_visibility_is_explained_per_user() {
    let app = TestApp::start().await;
    let me = app.user(Role::Sales).id;
    let other = app.add_user("other", Role::Sales).await;
    let config = format!("[config.territories]\n\"{me}\" = [\"north\"]\n\"{}\" = [\"south\"]\n", other.id);
    let dir = app.dir.path().join("plugins");
    fs::write(dir.join("territory.toml"), config).expect("written");
    fs::write(dir.join("territory.wasm"), sample("territory")).expect("written");
    let version = "0.1.0";
    until(&app, "territory", PluginState::Active, version).await;
    let mut north = connect(&app, Role::Sales).await;
    let lead = app.lead(json!({"title": "Roof", "custom": {"territory": "north"}})).await;
    north.event("lead:created").await;
    let path = format!("/api/leads/{}", lead["id"].as_str().expect("an id"));
    let moved = json!({"custom": {"territory": "south"}});
    app.client(Role::Admin).patch(&path, moved).await.expect(StatusCode::OK);
    let revoked = north.event("lead:revoked").await;

    let explanation = explain(&app, 1, &format!("userId={me}")).await;
    assert_eq!(
        (&explanation["outcome"], &explanation["audience"]),
        (&json!("sent"), &json!({"only": [me]})),
        "{explanation}"
    );
    let explanation = explain(&app, 1, &format!("userId={}", other.id)).await;
    assert_eq!((&explanation["outcome"], &explanation["payload"]), (&json!("withheld"), &Value::Null));
    let explanation = explain(&app, 2, &format!("userId={me}")).await;
    assert_eq!((&explanation["outcome"], &explanation["payload"]), (&json!("revoked"), &revoked));
    let explanation = explain(&app, 2, "role=SALES").await;
    assert_eq!(
        (&explanation["audience"], &explanation["revoked"]["audience"]),
        (&json!({"only": [other.id]}), &json!({"only": [me]}))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_shows_denials_visibility_and_use_of_random_numbers() {
    let app = TestApp::with(|config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        let denial = Verdict { role: "VIEWER", audience: Audience::Nobody, edits: vec![] };
        let guest =
            Guest::new("dice").roles(["VIEWER"]).with_wasi().filtering("(drop (call $random))", Ok(vec![denial]));
        fs::write(dir.join("dice.wasm"), guest.build()).expect("written");
        config.visibility.sales = leadwire::domain::policy::Scope::Own;
    })
    .await;
    let mut admin = connect(&app, Role::Admin).await;
    app.lead(json!({"title": "Roof"})).await;
    admin.event("lead:created").await;
    // The current configuration does not matter.
    let app = app.restart().await;

    let explanation = explain(&app, 1, "role=VIEWER").await;
    assert_eq!(
        (&explanation["outcome"], &explanation["payload"], &explanation["exact"]),
        (&json!("withheld"), &Value::Null, &json!(false))
    );
    let step = &explanation["steps"][0];
    assert_eq!((&step["audience"], &step["reason"]), (&json!("nobody"), &json!("not theirs")));
    assert_eq!(step["mayDiffer"], true);
    assert!(
        explanation["notes"][0].as_str().is_some_and(|note| note.contains("dice asked for the time")),
        "{explanation}"
    );

    let explanation = explain(&app, 1, "role=SALES").await;
    let narrowed = json!([{"by": "visibility", "scope": "own", "audience": "nobody"}]);
    assert_eq!((&explanation["outcome"], &explanation["steps"]), (&json!("withheld"), &narrowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_withheld_by_a_missing_plugin_is_explained_as_held() {
    let app = start(&hiding("/lead/email", "1.0.0"), "guard").await;
    let mut admin = connect(&app, Role::Admin).await;
    let lead = app.lead(json!({"title": "Roof"})).await;
    admin.event("lead:created").await;
    fs::remove_file(app.dir.path().join("plugins/guard.wasm")).expect("removed");
    until(&app, "guard", PluginState::Missing, "1.0.0").await;
    rename(&app, &lead, "Barn").await;
    admin.event("lead:updated").await;
    // The missing plugin makes a new set, which became active with event 2.
    let explanation = explain(&app, 3, "role=VIEWER").await;
    assert_eq!((&explanation["outcome"], &explanation["payload"]), (&json!("held"), &Value::Null), "{explanation}");
    let step = &explanation["steps"][0];
    assert_eq!((&step["plugin"], &step["held"], &step["version"]), (&json!("guard"), &json!(true), &json!("1.0.0")));
    assert!(step["fault"].as_str().is_some_and(|fault| fault.contains("its file is missing")), "{step}");
    assert_eq!(explain(&app, 3, "role=SALES").await["outcome"], "sent");
}

#[tokio::test(flavor = "multi_thread")]
async fn explanations_use_the_configured_plugin_limits() {
    let app = TestApp::with(|config| {
        config.plugins.limits.edits = 0;
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("guard.wasm"), hiding("/lead/email", "1.0.0").build()).expect("written");
    })
    .await;
    let mut admin = connect(&app, Role::Admin).await;
    app.lead(json!({"title": "Roof"})).await;
    admin.event("lead:created").await;
    let explanation = explain(&app, 1, "role=VIEWER").await;
    let fault = explanation["steps"][0]["fault"].as_str().unwrap_or_default();
    assert!(explanation["outcome"] == "held" && fault.contains("edits"), "{explanation}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_stored_plugin_file_cannot_explain() {
    let app = start(&hiding("/lead/email", "1.0.0"), "guard").await;
    app.lead(json!({"title": "Roof", "email": "a@b.example"})).await;
    app.client(Role::Admin).get("/readyz").await.expect(StatusCode::OK);
    let pool =
        sqlx::SqlitePool::connect(app.dir.path().join("leadwire.db").to_str().expect("utf-8")).await.expect("opens");
    let other = hiding("/lead/phone", "1.0.0").build();
    sqlx::query("UPDATE plugin_files SET bytes = ?").bind(other).execute(&pool).await.expect("written");
    pool.close().await;
    let reply = app.client(Role::Admin).get("/api/events/1/explain?role=VIEWER").await;
    let problem = reply.expect(StatusCode::CONFLICT);
    assert_eq!(problem["code"], "not_explained");
    assert!(
        problem["detail"].as_str().is_some_and(|detail| detail.contains("guard") && detail.contains("is damaged")),
        "{problem}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_explains_while_the_server_runs() {
    let app = start(&hiding("/lead/email", "1.0.0"), "guard").await;
    let mut viewer = connect(&app, Role::Viewer).await;
    app.lead(json!({"title": "Roof", "email": "a@b.example"})).await;
    let live = viewer.event("lead:created").await;
    let run = |arguments: &[&str]| leadwire(&app, &[&["explain"], arguments].concat());
    let (code, text, errors) = run(&["1", "--role", "viewer"]);
    assert_eq!((code, errors.as_str()), (Some(0), ""));
    assert!(text.contains("VIEWER got it: everyone of the role\n"), "{text}");
    assert!(
        text.contains("  1. guard 1.0.0 (filter, generation 1): everyone of the role; remove /lead/email\n"),
        "{text}"
    );
    assert!(text.contains("\"title\": \"Roof\"") && !text.contains("a@b.example"), "{text}");

    let (code, text, _) = run(&["1", "--user", "viewer@example.com", "--json"]);
    let explanation: Value = serde_json::from_str(&text).expect("is JSON");
    assert_eq!(
        (code, &explanation["payload"], &explanation["userId"]),
        (Some(0), &live, &json!(app.user(Role::Viewer).id))
    );

    let refused = |arguments: &[&str], why: &str| {
        let (code, text, errors) = run(arguments);
        assert_eq!((code, text.as_str()), (Some(2), ""));
        assert!(errors.contains(why), "{errors}");
    };
    refused(&["7", "--role", "VIEWER"], "error: there is no event 7: the log ends at 1");
    refused(&["1", "--role", "BOSS"], "\"BOSS\" is not a role");
    refused(&["1", "--user", "me@example.com"], "there is no account \"me@example.com\"");
    refused(&["1"], "--role");
}
