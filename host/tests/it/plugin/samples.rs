//! The sample plugins with effects, in a real server: the affected users see their results.

use std::fs;

use leadwire::{domain::role::Role, plugin::PluginState};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    plugin::hooks::built,
    socket_client::{PATIENCE, SocketClient, Transport},
    support::TestApp,
};

/// Installs a sample with these settings in a running server.
async fn put(app: &TestApp, name: &str, plugin: &[u8], settings: &str) {
    let (folder, mut changed) = (app.dir.path().join("plugins"), app.app().plugins().changed());
    fs::write(folder.join(format!("{name}.toml")), settings).expect("written");
    fs::write(folder.join(format!("{name}.wasm")), plugin).expect("written");
    let is_active = || {
        let status = app.app().plugins().status();
        status
            .iter()
            .any(|plugin| plugin.name == name && plugin.state == PluginState::Active && plugin.reason.is_none())
    };
    while !is_active() {
        let change = timeout(PATIENCE, changed.changed()).await;
        change.unwrap_or_else(|_| panic!("in vain: {:#?}", app.app().plugins().status())).expect("it looks on");
    }
}

async fn connected(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(role)).await
}

/// The next event of that name, skipping others.
async fn next(client: &mut SocketClient, name: &str) -> Value {
    loop {
        let (got, payload) = client.next().await;
        if got == name {
            return payload;
        }
    }
}

fn id(value: &Value) -> &str {
    value["id"].as_str().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn round_robin_assigns_unowned_leads_to_its_users_in_turn() {
    let Some(plugin) = built("plugins", "round-robin") else { return };
    let app = TestApp::start().await;
    let (ann, bob) = (app.user(Role::Sales).id, app.user(Role::Manager).id);
    let settings = format!(
        "[config]\nusers = [\"{ann}\", \"{bob}\"]\nreassign = true\n[grant]\neffects = [\"lead:assign\", \"remind\"]\n"
    );
    put(&app, "round-robin", &plugin, &settings).await;
    let mut sales = connected(&app, Role::Sales).await;
    let mut viewer = connected(&app, Role::Viewer).await;

    let mut leads = Vec::new();
    for owner in [ann, bob, ann] {
        let lead = app.lead(json!({"title": "Roof"})).await;
        let assigned = next(&mut viewer, "lead:assigned").await;
        assert_eq!((id(&assigned["lead"]), &assigned["lead"]["owner"]["id"]), (id(&lead), &json!(owner)));
        let by = &assigned["assignedBy"];
        assert_eq!((&by["email"], &by["role"]), (&json!("round-robin@plugins"), &json!("PLUGIN")));
        leads.push(lead);
    }
    for lead in [&leads[0], &leads[2]] {
        let notice = next(&mut sales, "notification").await;
        assert_eq!((&notice["kind"], &notice["leadId"]), (&json!("lead_assigned"), &lead["id"]));
    }

    // A lead with an owner uses no turn, and one taken from Ann is not assigned to her again.
    let own = sales.call("lead:create", json!({"title": "Mine"})).await;
    assert_eq!(own["lead"]["owner"]["id"], json!(ann), "{own}");
    let path = format!("/api/leads/{}/assign", id(&leads[0]));
    app.client(Role::Admin).post(&path, json!({"ownerId": null})).await.expect(StatusCode::OK);
    assert_eq!(next(&mut viewer, "lead:assigned").await["lead"]["owner"], Value::Null);
    let assigned = next(&mut viewer, "lead:assigned").await;
    assert_eq!((id(&assigned["lead"]), &assigned["lead"]["owner"]["id"]), (id(&leads[0]), &json!(bob)));
    assert_eq!(assigned["previousOwnerId"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn sla_watch_notifies_only_the_owner_of_an_overdue_lead() {
    let Some(plugin) = built("plugins", "sla-watch") else { return };
    let app = TestApp::start().await;
    let manager = app.user(Role::Manager).id;
    // Two seconds.
    let settings = format!(
        "[config]\nminutes = 0.0333\nunowned = [\"{manager}\"]\ntask = true\n\
         [grant]\neffects = [\"notify\", \"activity:create\", \"remind\"]\n"
    );
    put(&app, "sla-watch", &plugin, &settings).await;
    let mut sales = connected(&app, Role::Sales).await;
    let mut manager = connected(&app, Role::Manager).await;

    let mut create = async |title: &str| sales.call("lead:create", json!({"title": title})).await["lead"].clone();
    let (seen, called, waits) = (create("Seen").await, create("Called").await, create("Waits").await);
    let unowned = app.lead(json!({"title": "Nobody's"})).await;
    let admin = app.client(Role::Admin);
    let patch = json!({"status": "CONTACTED"});
    admin.patch(&format!("/api/leads/{}", id(&seen)), patch).await.expect(StatusCode::OK);
    let call = json!({"type": "CALL", "body": "Nobody there"});
    admin.post(&format!("/api/leads/{}/activities", id(&called)), call).await.expect(StatusCode::CREATED);
    sales.subscribe(id(&waits)).await;

    // Reminders fire in order of time: notifications about the first two leads would have arrived.
    let notice = next(&mut sales, "notification").await;
    assert_eq!((&notice["kind"], &notice["leadId"]), (&json!("sla_missed"), &waits["id"]));
    let task = next(&mut sales, "activity:created").await;
    assert_eq!((&task["activity"]["type"], &task["leadId"]), (&json!("TASK"), &waits["id"]));
    assert_eq!(task["createdBy"]["email"], "sla-watch@plugins");
    let notice = next(&mut manager, "notification").await;
    assert_eq!((&notice["kind"], &notice["leadId"]), (&json!("sla_missed"), &unowned["id"]));
}
