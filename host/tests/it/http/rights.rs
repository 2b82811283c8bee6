//! Rights are checked again at the write: a caller who lost them after the request head changes nothing.

use std::{collections::BTreeSet, time::Duration};

use leadwire::{
    domain::{role::Role, user::User},
    transport::http,
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Client, PASSWORD, TestApp, send};

/// A plugin that is registered as a follower only in the database.
const PLUGIN: &str = "echo";

/// One write route with a valid body; null if it reads none.
struct Route {
    method: Method,
    /// Path as in the router.
    path: &'static str,
    body: Value,
}

/// All routes that write as a caller.
fn routes() -> Vec<Route> {
    let note = json!({"type": "NOTE", "body": "hello"});
    let account = json!({"email": "backdoor@example.com", "name": "B", "role": "ADMIN", "password": PASSWORD});
    let rows = [
        (Method::POST, "/api/auth/logout-all", json!({})),
        (Method::POST, "/api/auth/password", json!({"currentPassword": PASSWORD, "newPassword": "battery staple"})),
        (Method::POST, "/api/users", account),
        (Method::PATCH, "/api/users/{id}", json!({"active": true, "role": "ADMIN"})),
        (Method::POST, "/api/leads", json!({"title": "Roof"})),
        (Method::PATCH, "/api/leads/{id}", json!({"title": "Taken over"})),
        (Method::DELETE, "/api/leads/{id}", Value::Null),
        (Method::POST, "/api/leads/{id}/restore", Value::Null),
        (Method::POST, "/api/leads/{id}/assign", json!({"ownerId": null})),
        (Method::POST, "/api/leads/{id}/activities", note),
        (Method::PATCH, "/api/activities/{id}", json!({"body": "changed"})),
        (Method::DELETE, "/api/activities/{id}", Value::Null),
        (Method::POST, "/api/plugins/{name}/promote", json!({})),
        (Method::POST, "/api/plugins/{name}/drop", json!({})),
        (Method::POST, "/api/plugins/{name}/rollback", json!({})),
        (Method::POST, "/api/plugins/{name}/effects/retry", Value::Null),
        (Method::POST, "/api/plugins/{name}/effects/{id}/retry", Value::Null),
        (Method::DELETE, "/api/plugins/{name}/effects/{id}", Value::Null),
    ];
    rows.into_iter().map(|(method, path, body)| Route { method, path, body }).collect()
}

/// The write routes with a caller, according to the contract.
fn written_routes() -> BTreeSet<(String, String)> {
    let document: Value = serde_json::from_str(&http::openapi()).expect("JSON");
    let mut found = BTreeSet::new();
    for (path, item) in document["paths"].as_object().expect("paths") {
        for (method, operation) in item.as_object().expect("operations") {
            if method != "get" && operation["security"].is_array() {
                found.insert((method.to_uppercase(), path.clone()));
            }
        }
    }
    found
}

#[test]
fn every_write_route_is_in_the_table() {
    let tried = routes().into_iter().map(|route| (route.method.to_string(), route.path.to_owned())).collect();
    assert_eq!(written_routes(), tried, "left: the contract; right: the table above");
}

/// A server with a second administrator to remove, and resources to write to.
struct Scene {
    app: TestApp,
    lead: String,
    activity: String,
}

impl Scene {
    async fn open() -> Self {
        let app = TestApp::start().await;
        app.app().follow(&PLUGIN.parse().expect("a name")).await.expect("follows");
        let (lead, activity) = (String::new(), String::new());
        let mut scene = Self { app, lead, activity };
        scene.furnish().await;
        scene
    }

    async fn furnish(&mut self) {
        let admin = self.app.client(Role::Admin);
        let lead = self.app.lead(json!({"title": "Roof"})).await;
        self.lead = lead["id"].as_str().expect("an id").to_owned();
        let path = format!("/api/leads/{}/activities", self.lead);
        let activity = admin.post(&path, json!({"type": "NOTE", "body": "hello"})).await.expect(StatusCode::CREATED);
        self.activity = activity["id"].as_str().expect("an id").to_owned();
    }

    fn path(&self, route: &Route, victim: &User) -> String {
        let id = match route.path.split('/').nth(2) {
            Some("users") => victim.id.to_string(),
            Some("leads") => self.lead.clone(),
            Some("activities") => self.activity.clone(),
            _ => "1".into(),
        };
        route.path.replace("{name}", PLUGIN).replace("{id}", &id)
    }

    /// All server state that such a request could change.
    async fn state(&self) -> Value {
        let admin = self.app.client(Role::Admin);
        let mut users = admin.walk("/api/users").await;
        users.iter_mut().for_each(|user| user["updatedAt"] = Value::Null);
        let activities = admin.walk(&format!("/api/leads/{}/activities", self.lead)).await;
        json!([users, admin.walk("/api/leads").await, activities])
    }
}

/// A request whose head was checked and whose body is still missing.
struct Begun(TcpStream, String);

impl Begun {
    async fn begin(app: &TestApp, token: &str, method: &Method, path: &str, body: &Value) -> Self {
        let body = body.to_string();
        let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: leadwire\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\nexpect: 100-continue\r\nconnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.expect("sends the head");
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await.expect("an answer to the head"));
        }
        let answer = String::from_utf8(answer).expect("text");
        // It is sent when the handler reads the body, which happens after the caller was checked.
        assert!(answer.starts_with("HTTP/1.1 100"), "{method} {path}: {answer}");
        Self(stream, body)
    }

    /// Sends the body; returns the status of the response.
    async fn end(mut self) -> u16 {
        self.0.write_all(self.1.as_bytes()).await.expect("sends the body");
        let mut answer = String::new();
        self.0.read_to_string(&mut answer).await.expect("an answer");
        answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_else(|| panic!("no status: {answer}"))
    }
}

/// Removal of an administrator by another one.
#[derive(Clone, Copy, Debug)]
enum Removal {
    Deactivated,
    /// A new password.
    SignedOut,
    Demoted,
}

impl Removal {
    fn patch(self) -> Value {
        match self {
            Self::Deactivated => json!({"active": false}),
            Self::SignedOut => json!({"password": "another password"}),
            Self::Demoted => json!({"role": "VIEWER"}),
        }
    }

    /// Expected status of the request in progress.
    fn expected(self, route: &Route) -> u16 {
        match self {
            Self::Deactivated | Self::SignedOut => 401,
            // Allowed for everyone on their own account.
            Self::Demoted if route.path.starts_with("/api/auth/") => 204,
            Self::Demoted => 403,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_arrives_after_deactivation_changes_nothing() {
    let scene = Scene::open().await;
    let admin = scene.app.client(Role::Admin);
    for (number, route) in routes().iter().filter(|route| !route.body.is_null()).enumerate() {
        for removal in [Removal::Deactivated, Removal::SignedOut, Removal::Demoted] {
            let victim = scene.app.add_user(&format!("victim-{number}-{removal:?}").to_lowercase(), Role::Admin).await;
            let token = scene.app.login(&victim.email).await;
            let path = scene.path(route, &victim);
            let begun = Begun::begin(&scene.app, &token, &route.method, &path, &route.body).await;
            admin.patch(&format!("/api/users/{}", victim.id), removal.patch()).await.expect(StatusCode::OK);
            let before = scene.state().await;
            assert_eq!(begun.end().await, removal.expected(route), "{} {path}, {removal:?}", route.method);
            assert_eq!(scene.state().await, before, "{} {path}, {removal:?}", route.method);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queued_write_after_deactivation_changes_nothing() {
    let scene = Scene::open().await;
    for (number, route) in routes().iter().enumerate() {
        let victim = scene.app.add_user(&format!("victim-{number}"), Role::Admin).await;
        let client = scene.app.with_token(&scene.app.login(&victim.email).await);
        let path = scene.path(route, &victim);
        let store = scene.app.app().store();
        let mut tx = store.write().await.expect("the write lock");
        let request = tokio::spawn(request(client, route.method.clone(), path.clone(), route.body.clone()));
        // Long enough for it to be checked and to wait for the lock; a later one is refused at its head.
        tokio::time::sleep(Duration::from_millis(50)).await;
        tx.save_user(&User { active: false, ..victim }).await.expect("saves");
        tx.commit().await.expect("commits");
        let before = scene.state().await;
        assert_eq!(request.await.expect("no panic"), 401, "{} {path}", route.method);
        assert_eq!(scene.state().await, before, "{} {path}", route.method);
    }
}

async fn request(client: Client, method: Method, path: String, body: Value) -> u16 {
    let request = client.request(method, &path);
    let request = if body.is_null() { request } else { request.json(&body) };
    send(request).await.status.as_u16()
}

#[tokio::test(flavor = "multi_thread")]
async fn accounts_waiting_for_password_hashing_are_not_created_after_deactivation() {
    let app = TestApp::with(|config| config.auth.password_hash.memory_kib = 19 * 1024).await;
    let victim = app.add_user("victim", Role::Admin).await;
    let client = app.with_token(&app.login(&victim.email).await);
    let admin = app.client(Role::Admin);
    let made: Vec<_> = (0..40)
        .map(|number| {
            let email = format!("backdoor-{number}@example.com");
            let body = json!({"email": email, "name": "B", "role": "ADMIN", "password": PASSWORD});
            tokio::spawn(request(client.clone(), Method::POST, "/api/users".into(), body))
        })
        .collect();
    admin.patch(&format!("/api/users/{}", victim.id), json!({"active": false})).await.expect(StatusCode::OK);
    let accounts = admin.walk("/api/users").await.len();
    let mut refused = 0;
    for request in made {
        refused += usize::from(request.await.expect("no panic") == 401);
    }
    assert_eq!(admin.walk("/api/users").await.len(), accounts, "none is made after the answer");
    assert!(refused > 0, "the backlog was longer than the deactivation");
}
