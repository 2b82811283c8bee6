//! Presence: online users and viewers of leads, who gets the lists, how soon and how often.

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use leadwire::{
    config::Config,
    domain::{policy::Scope, role::Role},
    plugin::PluginState,
};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    guest::{Audience, Guest, Verdict, everyone, remove},
    socket_client::{PATIENCE, SocketClient, TRANSPORTS, Transport, until_true},
    support::{Client, TestApp},
};

/// Longer than any test takes: nothing that happens depends on it.
const NEVER: Duration = Duration::from_secs(60 * 60);
/// Too short to wait for.
const AT_ONCE: Duration = Duration::from_millis(10);

/// A server with this grace period and interval.
async fn server(grace: Duration, interval: Duration) -> TestApp {
    server_with(grace, interval, |_| {}).await
}

async fn server_with(grace: Duration, interval: Duration, change: impl FnOnce(&mut Config)) -> TestApp {
    TestApp::with(|config| {
        (config.presence.grace, config.presence.interval) = (grace, interval);
        change(config);
    })
    .await
}

async fn new_lead(app: &TestApp) -> String {
    app.lead(json!({"title": "Roof"})).await["id"].as_str().expect("an id").to_owned()
}

async fn connect(app: &TestApp, transport: Transport, token: &str) -> SocketClient {
    SocketClient::connect(transport, &app.server.address().to_string(), token).await.hearing_viewers()
}

async fn join(app: &TestApp, role: Role) -> SocketClient {
    connect(app, Transport::WebSocket, app.token(role)).await
}

/// Connects in a new login session without lost subscriptions.
async fn join_anew(app: &TestApp, transport: Transport, role: Role) -> SocketClient {
    connect(app, transport, &app.login(&app.user(role).email).await).await
}

/// Payload of `lead:viewers` with the first users of these roles as viewers; they are named after their roles.
fn viewers(app: &TestApp, lead: &str, roles: &[Role]) -> Value {
    let person = |role: &Role| json!({"id": app.user(*role).id, "name": app.user(*role).name});
    json!({"leadId": lead, "users": roles.iter().map(person).collect::<Vec<_>>(), "total": roles.len()})
}

/// The next `lead:viewers`, skipping other events.
async fn next_list(client: &mut SocketClient) -> Value {
    loop {
        let (name, payload) = client.next().await;
        if name == "lead:viewers" {
            return payload;
        }
    }
}

/// Subscribes and takes the following list.
async fn look(client: &mut SocketClient, lead: &str) -> Value {
    client.subscribe(lead).await;
    client.event("lead:viewers").await
}

/// Online users according to `GET /api/presence`.
async fn online(client: &Client) -> Vec<String> {
    let answer = client.get("/api/presence").await.expect(StatusCode::OK);
    let users = answer["users"].as_array().expect("users");
    users.iter().map(|user| user["name"].as_str().expect("a name").to_owned()).collect()
}

async fn until_online(client: &Client, expected: &[&str]) {
    let waiting = async {
        while online(client).await != expected {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{expected:?} are not those who are online"));
}

#[tokio::test(flavor = "multi_thread")]
async fn viewers_of_a_lead_get_lead_viewers_when_others_come_and_go() {
    let app = server(NEVER, AT_ONCE).await;
    let head = *app.app().store().appended().borrow();
    for transport in TRANSPORTS {
        let lead = new_lead(&app).await;
        let mut sales = join_anew(&app, transport, Role::Sales).await;
        sales.emit("lead:subscribe", json!({"leadId": lead.to_uppercase()}));
        sales.event("lead:subscribed").await;
        assert_eq!(sales.event("lead:viewers").await, viewers(&app, &lead, &[Role::Sales]), "neither seq nor epoch");

        let mut admin = join_anew(&app, transport, Role::Admin).await;
        let both = viewers(&app, &lead, &[Role::Admin, Role::Sales]);
        assert_eq!(look(&mut admin, &lead).await, both, "by name");
        assert_eq!(sales.event("lead:viewers").await, both);
        assert_eq!(look(&mut admin, &lead).await, both, "who asks again is told again");

        admin.call("lead:unsubscribe", json!({"leadId": lead})).await;
        admin.event("lead:unsubscribed").await;
        assert_eq!(
            sales.event("lead:viewers").await,
            viewers(&app, &lead, &[Role::Sales]),
            "at once, not after the grace"
        );
        admin.expect_silence().await;
        sales.call("lead:unsubscribe", json!({"leadId": lead})).await;
    }
    assert_eq!(*app.app().store().appended().borrow(), head.forward(2), "the log knows of the leads alone");
    until_true("nothing of it is kept", || app.server.sockets().viewers().watched() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_with_several_sockets_is_listed_once() {
    let app = server(NEVER, AT_ONCE).await;
    let lead = new_lead(&app).await;
    let (mut first, mut second) = (join(&app, Role::Sales).await, join(&app, Role::Sales).await);
    look(&mut first, &lead).await;
    let mut admin = join(&app, Role::Admin).await;
    let both = viewers(&app, &lead, &[Role::Admin, Role::Sales]);
    assert_eq!(look(&mut admin, &lead).await, both);
    assert_eq!(look(&mut second, &lead).await, both);
    first.call("lead:unsubscribe", json!({"leadId": lead})).await;
    // A list caused by the user who stays would arrive first.
    let mut viewer = join(&app, Role::Viewer).await;
    let three = viewers(&app, &lead, &[Role::Admin, Role::Sales, Role::Viewer]);
    assert_eq!(look(&mut viewer, &lead).await, three);
    assert_eq!(admin.event("lead:viewers").await, three);
    second.call("lead:unsubscribe", json!({"leadId": lead})).await;
    assert_eq!(admin.event("lead:viewers").await, viewers(&app, &lead, &[Role::Admin, Role::Viewer]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_change_is_sent_at_once_and_the_next_after_the_interval() {
    let app = server(NEVER, NEVER).await;
    let lead = new_lead(&app).await;
    let mut admin = join(&app, Role::Admin).await;
    look(&mut admin, &lead).await;
    let mut manager = join(&app, Role::Manager).await;
    look(&mut manager, &lead).await;
    assert_eq!(admin.event("lead:viewers").await, viewers(&app, &lead, &[Role::Admin, Role::Manager]));
    let mut sales = join(&app, Role::Sales).await;
    let three = viewers(&app, &lead, &[Role::Admin, Role::Manager, Role::Sales]);
    assert_eq!(look(&mut sales, &lead).await, three, "who begins to look is told at once");
    admin.expect_silence().await;
    manager.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_within_the_interval_are_sent_as_one_list() {
    let app = server(NEVER, Duration::from_secs(2)).await;
    let lead = new_lead(&app).await;
    let mut admin = join(&app, Role::Admin).await;
    look(&mut admin, &lead).await;
    let mut manager = join(&app, Role::Manager).await;
    look(&mut manager, &lead).await;
    admin.event("lead:viewers").await;
    let sent = Instant::now();

    let (mut sales, mut viewer) = (join(&app, Role::Sales).await, join(&app, Role::Viewer).await);
    look(&mut sales, &lead).await;
    sales.call("lead:unsubscribe", json!({"leadId": lead})).await;
    look(&mut viewer, &lead).await;
    assert_eq!(
        admin.event("lead:viewers").await,
        viewers(&app, &lead, &[Role::Admin, Role::Manager, Role::Viewer]),
        "who came and went is not spoken of"
    );
    assert!(sent.elapsed() >= Duration::from_millis(1900), "{:?}", sent.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_user_is_listed_until_the_grace_period_ends() {
    const GRACE: Duration = Duration::from_millis(400);
    let app = server(GRACE, AT_ONCE).await;
    for transport in TRANSPORTS {
        let lead = new_lead(&app).await;
        let mut admin = join_anew(&app, transport, Role::Admin).await;
        look(&mut admin, &lead).await;
        let mut sales = join_anew(&app, transport, Role::Sales).await;
        look(&mut sales, &lead).await;
        admin.event("lead:viewers").await;
        let lost = Instant::now();
        match transport {
            Transport::WebSocket | Transport::Upgraded => drop(sales),
            Transport::Polling => sales.lose().await,
        }
        assert_eq!(admin.event("lead:viewers").await, viewers(&app, &lead, &[Role::Admin]));
        assert!(lost.elapsed() >= GRACE, "{:?}", lost.elapsed());
        until_online(&app.client(Role::Viewer), &["admin"]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_reconnects_within_the_grace_period_stays_listed() {
    let app = server(NEVER, AT_ONCE).await;
    let lead = new_lead(&app).await;
    let mut admin = join(&app, Role::Admin).await;
    look(&mut admin, &lead).await;
    let mut sales = join(&app, Role::Sales).await;
    let both = look(&mut sales, &lead).await;
    assert_eq!(admin.event("lead:viewers").await, both);
    let since = |answer: &Value| answer["users"][1]["since"].clone();
    let before = app.client(Role::Sales).get("/api/presence").await.expect(StatusCode::OK);
    drop(sales);
    until_true("the server has noticed", || app.server.sockets().registry().clients() == 1).await;
    let mut again = join(&app, Role::Sales).await;
    again.event("lead:subscribed").await;
    assert_eq!(again.event("lead:viewers").await, both);
    let after = app.client(Role::Sales).get("/api/presence").await.expect(StatusCode::OK);
    assert_eq!(since(&after), since(&before));

    let mut viewer = join(&app, Role::Viewer).await;
    let three = look(&mut viewer, &lead).await;
    assert_eq!(admin.event("lead:viewers").await, three, "nothing was said in between");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clean_disconnect_leaves_the_lead_at_once_and_stays_online_for_the_grace_period() {
    let app = server(NEVER, AT_ONCE).await;
    let lead = new_lead(&app).await;
    let mut admin = join(&app, Role::Admin).await;
    look(&mut admin, &lead).await;
    let mut sales = join(&app, Role::Sales).await;
    look(&mut sales, &lead).await;
    admin.event("lead:viewers").await;
    sales.send("41");
    assert_eq!(admin.event("lead:viewers").await, viewers(&app, &lead, &[Role::Admin]));
    assert_eq!(online(&app.client(Role::Admin)).await, ["admin", "sales"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_signed_in_user_may_list_who_is_online() {
    let app = server(AT_ONCE, AT_ONCE).await;
    let client = app.client(Role::Viewer);
    assert!(online(&client).await.is_empty());
    let (sales, first, second) =
        (join(&app, Role::Sales).await, join(&app, Role::Admin).await, join(&app, Role::Admin).await);
    until_online(&client, &["admin", "sales"]).await;
    let answer = client.get("/api/presence").await.expect(StatusCode::OK);
    let entry = &answer["users"][1];
    let expected = json!({"id": app.user(Role::Sales).id, "name": "sales", "online": true, "since": entry["since"]});
    assert_eq!(entry, &expected, "and no more than that");
    assert!(entry["since"].as_str().is_some_and(|since| since.ends_with('Z')), "{entry}");
    drop(first);
    drop(sales);
    until_online(&client, &["admin"]).await;
    drop(second);
    until_online(&client, &[]).await;

    app.anonymous().get("/api/presence").await.refused(401, "unauthenticated");
    client.get("/api/presence?lead=1").await.refused(400, "invalid_query");
}

#[tokio::test(flavor = "multi_thread")]
async fn users_who_may_not_see_a_lead_neither_get_its_viewers_nor_are_listed() {
    let app = server_with(NEVER, AT_ONCE, |config| config.visibility.sales = Scope::Own).await;
    let lead = new_lead(&app).await;
    let by_http = format!("/api/presence?leadId={lead}");
    let (mut sales, mut admin) = (join(&app, Role::Sales).await, join(&app, Role::Admin).await);
    sales.subscribe(&lead).await;
    let alone = viewers(&app, &lead, &[Role::Admin]);
    assert_eq!(look(&mut admin, &lead).await, alone);
    sales.expect_silence().await;
    app.client(Role::Sales).get(&by_http).await.refused(404, "lead_not_found");
    assert_eq!(app.client(Role::Viewer).get(&by_http).await.expect(StatusCode::OK), alone);
    for nothing in ["0190a8c1-7b4e-7c3a-9f11-3a5d0c6f2b10", "lead-123"] {
        let path = format!("/api/presence?leadId={nothing}");
        app.client(Role::Admin).get(&path).await.refused(404, "lead_not_found");
    }

    // The lead becomes visible and is hidden again.
    let assign = async |owner: Value| {
        let path = format!("/api/leads/{lead}/assign");
        app.client(Role::Admin).post(&path, json!({"ownerId": owner})).await.expect(StatusCode::OK);
    };
    assign(json!(app.user(Role::Sales).id)).await;
    let both = viewers(&app, &lead, &[Role::Admin, Role::Sales]);
    assert_eq!((next_list(&mut admin).await, next_list(&mut sales).await), (both.clone(), both));
    assign(Value::Null).await;
    assert_eq!(next_list(&mut admin).await, alone);
    while sales.next().await.0 != "lead:revoked" {}
    sales.event("notification").await;
    let mut manager = join(&app, Role::Manager).await;
    look(&mut manager, &lead).await;
    assert_eq!(next_list(&mut admin).await, viewers(&app, &lead, &[Role::Admin, Role::Manager]));
    sales.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_and_unknown_leads_have_no_viewers_until_restored() {
    let app = server(NEVER, AT_ONCE).await;
    let (lead, admin) = (new_lead(&app).await, app.client(Role::Admin));
    let path = format!("/api/leads/{lead}");
    admin.delete(&path).await.expect(StatusCode::NO_CONTENT);
    let mut sales = join(&app, Role::Sales).await;
    sales.subscribe(&lead).await;
    let restore = format!("{path}/restore");
    admin.post(&restore, json!({})).await.expect(StatusCode::OK);
    assert_eq!(next_list(&mut sales).await, viewers(&app, &lead, &[Role::Sales]));
    // A hidden lead and an unknown one are indistinguishable.
    sales.subscribe("0190a8c1-7b4e-7c3a-9f11-3a5d0c6f2b10").await;
    sales.subscribe("lead-123").await;
    let mut viewer = join(&app, Role::Viewer).await;
    look(&mut viewer, &lead).await;
    assert_eq!(next_list(&mut sales).await, viewers(&app, &lead, &[Role::Sales, Role::Viewer]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_who_loses_the_session_account_or_visibility_is_no_longer_a_viewer() {
    let app = server_with(NEVER, AT_ONCE, |config| config.visibility.viewer = Scope::Own).await;
    let (lead, root) = (new_lead(&app).await, app.client(Role::Admin));
    let mut admin = join(&app, Role::Admin).await;
    let alone = look(&mut admin, &lead).await;
    for end in ["logout", "deactivation", "role"] {
        let user = app.add_user(end, Role::Sales).await;
        let token = app.login(&user.email).await;
        let mut socket = connect(&app, Transport::WebSocket, &token).await;
        assert_eq!(look(&mut socket, &lead).await["total"], 2);
        assert_eq!(next_list(&mut admin).await["total"], 2);
        let path = format!("/api/users/{}", user.id);
        match end {
            "logout" => {
                app.with_token(&token).post("/api/auth/logout-all", json!({})).await.expect(StatusCode::NO_CONTENT);
            }
            "deactivation" => drop(root.patch(&path, json!({"active": false})).await.expect(StatusCode::OK)),
            _ => drop(root.patch(&path, json!({"role": "VIEWER"})).await.expect(StatusCode::OK)),
        }
        assert_eq!(next_list(&mut admin).await, alone, "{end}");
        let is_online = online(&root).await.iter().any(|name| name == end);
        assert_eq!(is_online, end != "deactivation", "{end}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_viewer_is_announced() {
    let app = server(NEVER, AT_ONCE).await;
    let lead = new_lead(&app).await;
    let mut admin = join(&app, Role::Admin).await;
    look(&mut admin, &lead).await;
    let path = format!("/api/users/{}", app.user(Role::Admin).id);
    app.client(Role::Admin).patch(&path, json!({"name": "Ann"})).await.expect(StatusCode::OK);
    assert_eq!(next_list(&mut admin).await["users"][0]["name"], "Ann");
    assert_eq!(online(&app.client(Role::Admin)).await, ["Ann"]);
}

/// A server with a plugin of that name.
async fn with_plugin(guest: &Guest) -> (TestApp, PathBuf) {
    let app = server_with(NEVER, AT_ONCE, |config| {
        let dir = config.plugins.dir.as_ref().expect("a plugin folder");
        fs::write(dir.join("guard.wasm"), guest.build()).expect("written");
    })
    .await;
    let file = app.dir.path().join("plugins/guard.wasm");
    (app, file)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_hides_viewer_fields_from_a_role() {
    let guest = Guest::new("guard").events(["lead:viewers"]).roles(["VIEWER"]).hides("VIEWER", ["/users"]);
    let (app, _) = with_plugin(&guest.filter([everyone("VIEWER", [remove("/users")])])).await;
    let lead = new_lead(&app).await;
    let (mut viewer, mut admin) = (join(&app, Role::Viewer).await, join(&app, Role::Admin).await);
    assert_eq!(look(&mut viewer, &lead).await, json!({"leadId": lead, "total": 1}));
    let both = viewers(&app, &lead, &[Role::Admin, Role::Viewer]);
    assert_eq!(look(&mut admin, &lead).await, both);
    let count = json!({"leadId": lead, "total": 2});
    assert_eq!(viewer.event("lead:viewers").await, count);

    let by_http = format!("/api/presence?leadId={lead}");
    assert_eq!(app.client(Role::Manager).get(&by_http).await.expect(StatusCode::OK), both);
    assert_eq!(app.client(Role::Viewer).get(&by_http).await.expect(StatusCode::OK), count);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_without_the_viewer_list_is_still_listed() {
    let nobody = Verdict { role: "SALES", audience: Audience::Nobody, edits: Vec::new() };
    let (app, _) = with_plugin(&Guest::new("guard").events(["lead:viewers"]).roles(["SALES"]).filter([nobody])).await;
    let lead = new_lead(&app).await;
    let (mut sales, mut admin) = (join(&app, Role::Sales).await, join(&app, Role::Admin).await);
    sales.subscribe(&lead).await;
    assert_eq!(look(&mut admin, &lead).await, viewers(&app, &lead, &[Role::Admin, Role::Sales]));
    sales.expect_silence().await;
    let by_http = format!("/api/presence?leadId={lead}");
    app.client(Role::Sales).get(&by_http).await.refused(403, "forbidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_user_from_whom_a_plugin_hides_the_lead_is_not_a_viewer() {
    let nobody = Verdict { role: "SALES", audience: Audience::Nobody, edits: Vec::new() };
    let (app, _) = with_plugin(&Guest::new("guard").events(["lead:read"]).roles(["SALES"]).filter([nobody])).await;
    let lead = new_lead(&app).await;
    let (mut sales, mut admin) = (join(&app, Role::Sales).await, join(&app, Role::Admin).await);
    sales.subscribe(&lead).await;
    assert_eq!(look(&mut admin, &lead).await, viewers(&app, &lead, &[Role::Admin]));
    sales.expect_silence().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_withheld_viewer_list_is_sent_once_the_plugin_answers_and_delays_no_other_role() {
    let (app, file) = with_plugin(&Guest::redactor("guard")).await;
    let lead = new_lead(&app).await;
    fs::remove_file(&file).expect("removed");
    let plugins = app.app().plugins().clone();
    until_true("the plugin is missed", || plugins.status().iter().any(|plugin| plugin.state == PluginState::Missing))
        .await;
    let (mut viewer, mut admin) = (join(&app, Role::Viewer).await, join(&app, Role::Admin).await);
    viewer.subscribe(&lead).await;
    assert_eq!(look(&mut admin, &lead).await, viewers(&app, &lead, &[Role::Admin]));
    viewer.expect_silence().await;
    let by_http = format!("/api/presence?leadId={lead}");
    app.client(Role::Viewer).get(&by_http).await.refused(503, "plugin_unavailable");

    fs::write(&file, Guest::redactor("guard").build()).expect("written");
    let both = viewers(&app, &lead, &[Role::Admin, Role::Viewer]);
    assert_eq!(viewer.event("lead:viewers").await, both);
    assert_eq!(admin.event("lead:viewers").await, both);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_subscribes_is_sent_in_few_lists() {
    let app = server(NEVER, Duration::from_secs(1)).await;
    let lead = new_lead(&app).await;
    let mut watcher = join(&app, Role::Admin).await;
    look(&mut watcher, &lead).await;
    let mut sockets = Vec::new();
    for role in Role::ALL.iter().cycle().take(200) {
        sockets.push(join(&app, *role).await);
    }
    let start = Instant::now();
    sockets.iter().for_each(|socket| socket.emit("lead:subscribe", json!({"leadId": lead})));
    for socket in &mut sockets {
        socket.event("lead:subscribed").await;
        socket.event("lead:viewers").await;
    }
    let (all, mut lists) = (viewers(&app, &lead, &Role::ALL), 1);
    while watcher.event("lead:viewers").await != all {
        lists += 1;
    }
    watcher.expect_silence().await;
    let allowed = start.elapsed().as_secs() + 2;
    assert!(lists <= allowed, "{lists} lists, {allowed} allowed");
}
