//! Leads on which a filter returns no verdict: they are omitted and reported, and everything else continues.

use std::{
    fs,
    time::{Duration, Instant},
};

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    guest::{Audience, Guest, Verdict, everyone},
    socket_client::{PATIENCE, SocketClient, Transport, until_true},
    support::{Reply, TestApp},
};

/// A filter for a role that fails on every lead whose title begins with X and shows all others.
pub fn picky(name: &str, role: &'static str) -> Guest {
    let is_x = "(i32.eq (i32.load8_u offset=1 (i32.load offset=8 (local.get 2))) (i32.const 88))";
    let code = format!("(if (local.get 3) (then (if {is_x} (then unreachable))))");
    let guest = Guest::new(name).roles([role]).fields(["/context/lead/title"]);
    guest.filtering(&code, Ok(vec![everyone(role, [])]))
}

/// A server with these plugins and a short grace period for sockets.
pub async fn start(guests: &[(&str, Guest)]) -> TestApp {
    TestApp::with(|config| {
        config.socket.held_timeout = Duration::from_millis(300);
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        for (name, guest) in guests {
            fs::write(dir.join(format!("{name}.wasm")), guest.build()).expect("written");
        }
    })
    .await
}

/// A new lead created by the manager, who is not affected by these plugins.
async fn lead(app: &TestApp, title: &str) -> Value {
    app.client(Role::Manager).post("/api/leads", json!({"title": title})).await.expect(StatusCode::CREATED)
}

fn path(lead: &Value) -> String {
    format!("/api/leads/{}", lead["id"].as_str().expect("an id"))
}

fn titles(page: &Value) -> Vec<&str> {
    let items = page["items"].as_array().expect("items").iter();
    items.map(|lead| lead["title"].as_str().expect("a title")).collect()
}

async fn list(app: &TestApp, role: Role, query: &str) -> Value {
    app.client(role).get(&format!("/api/leads?sort=title{query}")).await.expect(StatusCode::OK)
}

#[tokio::test]
async fn a_list_omits_leads_without_a_verdict_and_reports_it() {
    let app = start(&[("v", picky("v", "VIEWER")), ("a", picky("a", "ADMIN"))]).await;
    for title in ["Attic", "X1", "X2", "Yard"] {
        lead(&app, title).await;
    }
    let page = list(&app, Role::Viewer, "").await;
    assert_eq!((titles(&page), &page["withheld"]), (vec!["Attic", "Yard"], &json!(true)));
    let page = list(&app, Role::Admin, "").await;
    assert_eq!(
        (titles(&page), &page["withheld"]),
        (vec!["Attic", "Yard"], &json!(2)),
        "administrators are told how many"
    );
    let page = list(&app, Role::Sales, "").await;
    assert_eq!((titles(&page).len(), page.get("withheld")), (4, None), "nobody asks a plugin about this role");

    // The answer to a search is the same whether or not withheld leads match.
    let (found, other) = (list(&app, Role::Viewer, "&q=X1").await, list(&app, Role::Viewer, "&q=nothing").await);
    assert_eq!((titles(&found), &found), (vec![], &other));
    assert_eq!(found["withheld"], true);

    // Paging continues past it, and each page reports its own omissions.
    let first = list(&app, Role::Admin, "&limit=1").await;
    let cursor = first["nextCursor"].as_str().expect("there is more");
    let second = list(&app, Role::Admin, &format!("&limit=1&cursor={cursor}")).await;
    assert_eq!((titles(&first), first.get("withheld")), (vec!["Attic"], None));
    assert_eq!((titles(&second), &second["withheld"], &second["nextCursor"]), (vec!["Yard"], &json!(2), &Value::Null));
}

#[tokio::test]
async fn a_page_of_only_failing_leads_does_not_affect_other_leads() {
    let app = start(&[("v", picky("v", "VIEWER"))]).await;
    let good = lead(&app, "Attic").await;
    for number in 0..60 {
        lead(&app, &format!("X{number}")).await;
    }
    lead(&app, "Yard").await;
    for (sort, first) in [("title", "Attic"), ("-title", "Yard"), ("title", "Attic")] {
        let page = app.client(Role::Viewer).get(&format!("/api/leads?sort={sort}")).await.expect(StatusCode::OK);
        assert!(titles(&page).contains(&first), "{page}");
        app.client(Role::Viewer).get(&path(&good)).await.expect(StatusCode::OK);
    }
    connect(&app, Role::Viewer).await;
}

#[tokio::test]
async fn a_lead_that_fails_a_filter_is_withheld_and_no_other_lead_is() {
    let app = start(&[("v", picky("v", "VIEWER"))]).await;
    let (good, bad) = (lead(&app, "Attic").await, lead(&app, "X").await);
    let viewer = app.client(Role::Viewer);
    // Many more failures than the breaker's threshold.
    for _ in 0..20 {
        viewer.get(&path(&bad)).await.refused(503, "plugin_unavailable");
    }
    for member in ["activities", "history"] {
        viewer.get(&format!("{}/{member}", path(&bad))).await.refused(503, "plugin_unavailable");
    }
    viewer.get(&path(&good)).await.expect(StatusCode::OK);
    app.client(Role::Manager).get(&path(&bad)).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_administrator_can_update_and_delete_a_withheld_lead_without_seeing_it() {
    let app = start(&[("a", picky("a", "ADMIN")), ("m", picky("m", "MANAGER"))]).await;
    let sales = app.client(Role::Sales);
    let bad = sales.post("/api/leads", json!({"title": "X", "email": "kim@berg.example"})).await;
    let bad = bad.expect(StatusCode::CREATED);
    let (admin, manager, path) = (app.client(Role::Admin), app.client(Role::Manager), path(&bad));
    let withheld = |reply: Reply, version: u64| {
        let etag = reply.header("etag").to_owned();
        let body = reply.expect(StatusCode::OK);
        assert_eq!(body, json!({"id": bad["id"], "version": version, "withheld": true}));
        assert_eq!(etag, format!("\"{version}\""));
    };
    admin.get(&path).await.refused(503, "plugin_unavailable");
    withheld(admin.patch(&path, json!({"source": "web"})).await, 2);
    withheld(admin.post(&format!("{path}/assign"), json!({"ownerId": null})).await, 3);
    admin.delete(&path).await.expect(StatusCode::NO_CONTENT);
    admin.delete(&path).await.refused(404, "lead_not_found");
    withheld(admin.post(&format!("{path}/restore"), json!({})).await, 4);
    let note = admin.post(&format!("{path}/activities"), json!({"type": "NOTE", "body": "who?"})).await;
    let note = note.expect(StatusCode::CREATED);
    assert_eq!(note, json!({"id": note["id"], "withheld": true}));
    let note = format!("/api/activities/{}", note["id"].as_str().expect("an id"));
    admin.patch(&note, json!({"body": "nobody"})).await.expect(StatusCode::OK);
    admin.delete(&note).await.expect(StatusCode::NO_CONTENT);
    let outdated =
        admin.request(reqwest::Method::PATCH, &path).header("if-match", "\"1\"").json(&json!({"title": "A"}));
    let problem = crate::support::send(outdated).await.refused(412, "version_conflict");
    assert_eq!(problem["current"], json!({"id": bad["id"], "version": 4, "withheld": true}));

    // For all other roles, a failing plugin fails closed.
    for reply in [
        manager.patch(&path, json!({"title": "Attic"})).await,
        manager.post(&format!("{path}/assign"), json!({"ownerId": null})).await,
        manager.delete(&path).await,
    ] {
        reply.refused(503, "plugin_unavailable");
    }
    let mended = admin.patch(&path, json!({"title": "Attic"})).await.expect(StatusCode::OK);
    assert_eq!((&mended["title"], &mended["email"]), (&json!("Attic"), &json!("kim@berg.example")));
    manager.delete(&path).await.expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_command_on_a_withheld_lead_returns_its_id_and_version() {
    let app = start(&[("m", picky("m", "MANAGER"))]).await;
    let good = lead(&app, "Attic").await;
    let manager = app.client(Role::Manager);
    let reply = manager.patch(&path(&good), json!({"title": "X"})).await.expect(StatusCode::OK);
    assert_eq!(reply, json!({"id": good["id"], "version": 2, "withheld": true}));
    manager.get(&path(&good)).await.refused(503, "plugin_unavailable");

    // A repeated request gets the same answer and is not executed.
    let once = |title: &'static str| {
        let request = manager.request(reqwest::Method::POST, "/api/leads").header("idempotency-key", "k1");
        crate::support::send(request.json(&json!({"title": title})))
    };
    let made = once("Cellar").await.expect(StatusCode::CREATED);
    app.client(Role::Admin).patch(&path(&made), json!({"title": "X"})).await.expect(StatusCode::OK);
    let again = once("Cellar").await.expect(StatusCode::CREATED);
    assert_eq!(again, json!({"id": made["id"], "version": 1, "withheld": true}));
}

#[tokio::test]
async fn a_user_outside_the_audience_gets_404_and_not_withheld() {
    let nobody =
        Verdict { role: "VIEWER", audience: Audience::Only(vec![uuid::Uuid::nil().to_string()]), edits: vec![] };
    let narrow = Guest::new("narrow").roles(["VIEWER"]).filter([nobody]);
    let app = start(&[("narrow", narrow), ("v", picky("v", "VIEWER"))]).await;
    let bad = lead(&app, "X").await;
    app.client(Role::Viewer).get(&path(&bad)).await.refused(404, "lead_not_found");
    let page = list(&app, Role::Viewer, "").await;
    assert_eq!((titles(&page), page.get("withheld")), (vec![], None));
}

/// Waits until there are this many holds.
pub async fn until_held(app: &TestApp, count: usize) {
    let until = Instant::now() + PATIENCE;
    loop {
        let holds = app.app().store().read().await.expect("a reader").holds().await.expect("reads");
        if holds.len() == count {
            return;
        }
        assert!(Instant::now() < until, "{count} holds expected: {holds:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn connect(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &app.server.address().to_string(), app.token(role)).await
}

async fn rename(app: &TestApp, lead: &Value, title: &str) {
    app.client(Role::Manager).patch(&path(lead), json!({"title": title})).await.expect(StatusCode::OK);
}

#[tokio::test(flavor = "multi_thread")]
async fn sockets_continue_with_other_leads_and_get_sync_reset_after_a_verdict() {
    let app = start(&[("v", picky("v", "VIEWER"))]).await;
    let (bad, good) = (lead(&app, "Attic").await, lead(&app, "Yard").await);
    let (mut viewer, mut manager) = (connect(&app, Role::Viewer).await, connect(&app, Role::Manager).await);
    rename(&app, &bad, "X").await;
    rename(&app, &good, "Yard 2").await;
    assert_eq!(viewer.event("lead:updated").await["lead"]["title"], "Yard 2");
    // Later events of the lead are withheld at once, also for a new connection.
    rename(&app, &bad, "X2").await;
    let mut late = connect(&app, Role::Viewer).await;
    rename(&app, &good, "Yard 3").await;
    for socket in [&mut viewer, &mut late] {
        assert_eq!(socket.event("lead:updated").await["lead"]["title"], "Yard 3");
    }
    for title in ["X", "Yard 2", "X2", "Yard 3"] {
        assert_eq!(manager.event("lead:updated").await["lead"]["title"], title, "nobody else is concerned");
    }
    let plugins = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    let hold = &plugins["holds"][0];
    assert_eq!((&hold["leadId"], &hold["role"], &hold["all"]), (&bad["id"], &json!("VIEWER"), &json!(false)));
    assert_eq!((&hold["plugin"], &hold["firstSeq"], &plugins["holds"][1]), (&json!("v"), &json!(3), &Value::Null));

    rename(&app, &bad, "Attic 2").await;
    for socket in [&mut viewer, &mut late] {
        let reset = socket.event("sync:reset").await;
        assert!(reset["seq"].as_u64() > Some(7), "{reset}");
    }
    let page = list(&app, Role::Viewer, "").await;
    assert_eq!((titles(&page), page.get("withheld")), (vec!["Attic 2", "Yard 3"], None));
    rename(&app, &bad, "Attic 3").await;
    assert_eq!(viewer.event("lead:updated").await["lead"]["title"], "Attic 3");
    let plugins = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    assert_eq!(plugins["holds"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hold_survives_a_restart_and_a_resume_past_it_gets_sync_reset() {
    let app = start(&[("v", picky("v", "VIEWER"))]).await;
    let (bad, good) = (lead(&app, "Attic").await, lead(&app, "Yard").await);
    let mut viewer = connect(&app, Role::Viewer).await;
    rename(&app, &bad, "X").await;
    rename(&app, &good, "Yard 2").await;
    let seen = viewer.event("lead:updated").await;
    drop(viewer);
    let app = app.restart().await;
    let status = app.app().plugins().status().remove(0);
    assert_eq!(
        status.state,
        leadwire::plugin::PluginState::Active,
        "it goes on although its trial met the lead: {status:?}"
    );
    assert!(status.trial.is_some_and(|trial| trial.leads == 2 && trial.failed > 0));

    let resume = async || {
        let auth = json!({"token": app.token(Role::Viewer), "since": seen["seq"], "epoch": seen["epoch"]});
        let address = app.server.address().to_string();
        let mut socket = SocketClient::try_connect(Transport::WebSocket, &address, auth).await.expect("connects");
        (socket.event("connected").await["recovered"].clone(), socket)
    };
    until_held(&app, 1).await;
    let (recovered, mut socket) = resume().await;
    assert_eq!(recovered, true, "nothing has changed for it");
    socket.event("sync:done").await;
    drop(socket);

    rename(&app, &bad, "Attic 2").await;
    until_held(&app, 0).await;
    let (recovered, mut socket) = resume().await;
    assert_eq!(recovered, false);
    socket.event("sync:reset").await;
    rename(&app, &bad, "Attic 3").await;
    assert_eq!(socket.event("lead:updated").await["lead"]["title"], "Attic 3");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lead_deleted_while_withheld_is_gone_after_sync_reset() {
    let app = start(&[("v", picky("v", "VIEWER"))]).await;
    let bad = lead(&app, "Attic").await;
    let mut viewer = connect(&app, Role::Viewer).await;
    rename(&app, &bad, "X").await;
    until_held(&app, 1).await;
    app.client(Role::Admin).delete(&path(&bad)).await.expect(StatusCode::NO_CONTENT);
    viewer.event("sync:reset").await;
    let page = list(&app, Role::Viewer, "").await;
    assert_eq!((titles(&page), page.get("withheld")), (vec![], None));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ack_of_a_command_on_a_withheld_lead_says_withheld() {
    let app = start(&[("m", picky("m", "MANAGER"))]).await;
    let good = lead(&app, "Attic").await;
    let mut manager = connect(&app, Role::Manager).await;
    let ack = manager.call("lead:update", json!({"leadId": good["id"], "patch": {"title": "X"}})).await;
    let withheld = json!({"id": good["id"], "version": 2, "withheld": true});
    assert_eq!((&ack["ok"], &ack["lead"]), (&json!(true), &withheld), "{ack}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_is_tested_on_old_leads_before_activation() {
    let app = TestApp::start().await;
    let bad = lead(&app, "X").await;
    // So many later events that the trial run includes none about that lead.
    let (good, mut manager) = (lead(&app, "Yard").await, connect(&app, Role::Manager).await);
    for number in 0..60 {
        rename(&app, &good, &format!("Yard {number}")).await;
        manager.event("lead:updated").await;
    }
    let dir = app.dir.path().join("plugins");
    fs::write(dir.join("v.wasm"), picky("v", "VIEWER").build()).expect("written");
    let status = || app.app().plugins().status();
    until_true("it is refused", || status().iter().any(|it| it.state == leadwire::plugin::PluginState::Refused)).await;
    let why = status()[0].reason.clone().unwrap_or_default();
    assert!(why.starts_with(&format!("in a trial on lead {}, filter ", bad["id"].as_str().expect("an id"))), "{why}");

    rename(&app, &bad, "Attic").await;
    fs::write(dir.join("v.wasm"), picky("v", "VIEWER").version("1.0.1").build()).expect("written");
    until_true("it is loaded", || status().iter().any(|it| it.state == leadwire::plugin::PluginState::Active)).await;
    let trial = status()[0].trial.clone().expect("there was one");
    assert_eq!((trial.leads, trial.failed), (2, 0));
    let plugins = app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK);
    assert_eq!(plugins["items"][0]["trial"]["leads"], 2);
}
