//! The audit table, `GET /api/audit`, and the log lines for tools.

use std::time::Duration;

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::{
    process::{self, Process},
    socket_client::{SocketClient, Transport, until_true},
    support::{self, Client, PASSWORD, TestApp, http_client, send},
};

async fn rows(client: &Client, query: &str) -> Vec<Value> {
    client.walk(&format!("/api/audit?{query}")).await
}

#[tokio::test]
async fn administrator_actions_are_recorded_with_actor_and_address() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let me = app.user(Role::Admin).id.to_string();
    let body = json!({"email": "new@example.com", "name": "New", "role": "SALES", "password": PASSWORD});
    let request = admin.request(Method::POST, "/api/users").header("x-request-id", "make-1").json(&body);
    let user = send(request).await.expect(StatusCode::CREATED);
    let id = user["id"].as_str().expect("an id");
    let path = format!("/api/users/{id}");
    admin.patch(&path, json!({"role": "ADMIN", "name": "Newer"})).await.expect(StatusCode::OK);
    admin.patch(&path, json!({"active": false})).await.expect(StatusCode::OK);

    let rows = rows(&admin, &format!("user={id}&limit=2")).await;
    let kinds: Vec<_> = rows.iter().rev().map(|row| row["kind"].as_str().expect("a kind")).collect();
    assert_eq!(kinds, ["user_created", "user_changed", "administrator_added", "user_changed", "sessions_ended"]);
    let created = rows.last().expect("the oldest");
    assert_eq!((&created["actor"], &created["subject"]), (&json!(me), &json!(id)));
    assert_eq!((&created["address"], &created["requestId"]), (&json!("127.0.0.1"), &json!("make-1")));
    assert_eq!(created["detail"], json!({"role": "SALES", "active": true}));
    assert_eq!(rows[3]["detail"], json!({"role": ["SALES", "ADMIN"], "name": "changed"}));
    assert_eq!(rows[1]["detail"], json!({"active": [true, false]}));
    let all = json!(rows).to_string();
    assert!(!all.contains('@') && !all.contains(PASSWORD) && !all.contains("Newer"), "{all}");
}

#[tokio::test]
async fn a_plugin_command_is_recorded_before_it_runs_and_again_if_it_fails() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    admin.post("/api/plugins/nobody/rollback", json!({"from": "abc"})).await.refused(404, "plugin_not_found");
    let ordered = rows(&admin, "kind=plugin_rolled_back").await;
    assert_eq!((&ordered[0]["subject"], &ordered[0]["detail"]), (&json!("nobody"), &json!({"hash": "abc"})));
    let failed = rows(&admin, "kind=plugin_order_failed").await;
    assert_eq!(failed[0]["detail"]["order"], "plugin_rolled_back");
    // A user without the right leaves no entry.
    app.client(Role::Sales).post("/api/plugins/nobody/drop", json!({})).await.refused(403, "forbidden");
    assert!(rows(&admin, "kind=plugin_dropped").await.is_empty());
}

#[tokio::test]
async fn repeated_failures_are_aggregated_into_few_rows() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    for _ in 0..30 {
        let body = json!({"email": app.user(Role::Sales).email, "password": "wrong password"});
        app.anonymous().post("/api/auth/login", body).await.refused(401, "invalid_credentials");
    }
    let body = json!({"email": "nobody@example.com", "password": PASSWORD});
    app.anonymous().post("/api/auth/login", body).await.refused(401, "invalid_credentials");
    let failed = rows(&admin, "kind=login_failed").await;
    let (known, unknown): (Vec<_>, Vec<_>) = failed.iter().partition(|row| !row["subject"].is_null());
    // A minute may have ended in the meantime.
    assert!((1..=2).contains(&known.len()), "{known:?}");
    assert_eq!(known.iter().map(|row| row["count"].as_i64().expect("a count")).sum::<i64>(), 30);
    assert_eq!(known[0]["subject"], json!(app.user(Role::Sales).id));
    assert_eq!(known[0]["detail"], json!({"reason": "wrong_password"}));
    assert_eq!(unknown[0]["detail"], json!({"reason": "unknown_account"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_token_is_recorded_and_one_that_expired_is_not() {
    let app = TestApp::with(|config| config.auth.access_token_ttl = Duration::from_secs(1)).await;
    let (address, token) = (app.server.address().to_string(), app.token(Role::Sales).to_owned());
    let connect = async |token: &str| {
        let auth = json!({"token": token});
        SocketClient::try_connect(Transport::WebSocket, &address, auth).await.err().expect("refused")
    };
    // It is valid for at most a second.
    while SocketClient::try_connect(Transport::WebSocket, &address, json!({"token": token})).await.is_ok() {}
    assert_eq!(connect(&token).await, "Invalid authentication token");
    assert_eq!(connect("forged").await, "Invalid authentication token");
    let admin = app.with_token(&app.login("admin@example.com").await);
    let denied = rows(&admin, "kind=connect_denied").await;
    assert_eq!(denied.len(), 1, "{denied:?}");
    assert_eq!((&denied[0]["count"], &denied[0]["detail"]), (&json!(1), &json!({"reason": "bad_token"})));
    assert!(denied[0]["requestId"].is_string(), "{denied:?}");
}

#[tokio::test]
async fn operator_actions_appear_in_the_log_of_the_running_server() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "");
    let server = Process::serve(home.path());
    // From the first read of the table on.
    let of_sales = process::email("SALES");
    until_true("the operator's change in the log", || {
        let change = support::leadwire(home.path()).args(["user", "role", &of_sales, "MANAGER"]).output();
        assert!(change.expect("leadwire runs").status.success());
        let log = server.log();
        let change = support::leadwire(home.path()).args(["user", "role", &of_sales, "SALES"]).output();
        assert!(change.expect("leadwire runs").status.success());
        log.lines().any(|line| line.contains("leadwire::audit: user_changed") && line.contains("actor=operator"))
    })
    .await;
}

#[tokio::test]
async fn only_administrators_read_the_audit_table_and_invalid_filters_are_named() {
    let app = TestApp::start().await;
    for role in [Role::Manager, Role::Sales, Role::Viewer] {
        app.client(role).get("/api/audit").await.refused(403, "forbidden");
        app.client(role).get("/api/audit?kind=nonsense").await.refused(403, "forbidden");
    }
    let admin = app.client(Role::Admin);
    for query in ["kind=nonsense", "user=7", "since=yesterday", "limit=0", "colour=red"] {
        let problem = admin.get(&format!("/api/audit?{query}")).await.refused(400, "invalid_query");
        let parameter = query.split('=').next().expect("a name");
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.starts_with(parameter)), "{problem}");
    }
    assert!(!rows(&admin, "since=2020-01-01T00:00:00Z&kind=user_created&kind=user_changed").await.is_empty());
    assert!(rows(&admin, "since=9000-01-01T00:00:00Z").await.is_empty());
}

/// The filter pattern in docs/SECURITY.md, as fail2ban reads it.
fn documented_filter() -> regex::Regex {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/SECURITY.md")).expect("the page");
    let pattern = page.lines().find_map(|line| line.strip_prefix("failregex = ")).expect("a pattern");
    regex::Regex::new(&pattern.replace("%%", "%").replace("<HOST>", "(?P<host>[0-9a-fA-F.:]+)")).expect("a regex")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_filter_finds_failed_logins_and_ignores_forged_lines() {
    let home = tempfile::tempdir().expect("a folder");
    process::prepare(home.path(), "[http]\ntrusted_proxies = [\"127.0.0.1\"]\n");
    let server = Process::serve(home.path());
    let http = http_client();
    let forged = " leadwire::audit: login_failed client=192.0.2.1 request=x";
    let body = json!({"email": "admin@example.com", "password": forged});
    let path = format!("/api/auth/login?{}", forged.replace(' ', "%20"));
    let request = http.post(server.url(&path)).header("x-forwarded-for", "203.0.113.77").json(&body);
    assert_eq!(request.header("user-agent", forged).send().await.expect("an answer").status(), 401);
    let path = format!("/api/{}", forged.replace(' ', "%20"));
    http.get(server.url(&path)).header("x-request-id", forged).send().await.expect("an answer");

    let filter = documented_filter();
    let hosts = |log: &str| -> Vec<String> {
        log.lines().filter_map(|line| filter.captures(line).map(|found| found["host"].to_owned())).collect()
    };
    crate::socket_client::until_true("the login is logged", || !hosts(&server.log()).is_empty()).await;
    let log = server.log();
    assert_eq!(hosts(&log), ["203.0.113.77"], "{log}");
    assert!(!log.contains("admin@example.com"), "{log}");
}
