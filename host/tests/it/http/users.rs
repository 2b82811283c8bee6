//! `/api/users`: administration of accounts.

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{PASSWORD, TestApp, send};

fn newcomer() -> Value {
    json!({"email": "New@Example.com", "name": "Newcomer", "role": "SALES", "password": PASSWORD})
}

fn path(user: &Value) -> String {
    format!("/api/users/{}", user["id"].as_str().expect("an id"))
}

#[tokio::test]
async fn only_administrators_manage_users() {
    let app = TestApp::start().await;
    let someone = format!("/api/users/{}", app.user(Role::Sales).id);
    for role in [Role::Manager, Role::Sales, Role::Viewer] {
        let client = app.client(role);
        client.get("/api/users").await.refused(403, "forbidden");
        client.post("/api/users", newcomer()).await.refused(403, "forbidden");
        client.post("/api/users", json!({})).await.refused(403, "forbidden");
        client.get(&someone).await.refused(403, "forbidden");
        client.patch(&someone, json!({"role": "ADMIN"})).await.refused(403, "forbidden");
        client.get("/api/plugins").await.refused(403, "forbidden");
    }
    let admin = app.client(Role::Admin);
    assert_eq!(admin.walk("/api/users?limit=1").await.len(), 4);
    assert_eq!(admin.get(&someone).await.expect(StatusCode::OK)["email"], "sales@example.com");
    admin.get("/api/users/7").await.refused(404, "user_not_found");
    assert!(admin.get("/api/plugins").await.expect(StatusCode::OK)["items"].is_array());
}

#[tokio::test]
async fn a_new_account_can_sign_in_at_once() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let reply = admin.post("/api/users", newcomer()).await;
    assert_eq!(reply.header("location"), path(&reply.body));
    let user = reply.expect(StatusCode::CREATED);
    assert_eq!((&user["email"], &user["active"]), (&json!("new@example.com"), &json!(true)));
    assert!(!user.to_string().contains("assword"), "{user}");
    app.login("new@example.com").await;
    let problem = admin.post("/api/users", newcomer()).await.refused(422, "invalid");
    assert_eq!(
        problem["errors"][0],
        json!({"field": "email", "code": "taken", "message": problem["errors"][0]["message"]})
    );
    let problem = admin
        .post("/api/users", json!({"email": "x", "role": "KING", "password": "short"}))
        .await
        .refused(422, "invalid");
    let fields: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["email", "name", "role", "password"]);
}

#[tokio::test]
async fn an_account_is_created_once_per_idempotency_key() {
    let app = TestApp::start().await;
    let make = async |body: Value| {
        let request = app.client(Role::Admin).request(Method::POST, "/api/users").header("idempotency-key", "one");
        send(request.json(&body)).await
    };
    let first = make(newcomer()).await.expect(StatusCode::CREATED);
    assert_eq!(make(newcomer()).await.expect(StatusCode::CREATED), first);
    let mut other = newcomer();
    other["name"] = "Other".into();
    make(other).await.refused(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_role_change_applies_to_the_next_request() {
    let app = TestApp::start().await;
    let (admin, sales) = (app.client(Role::Admin), app.client(Role::Sales));
    let path = format!("/api/users/{}", app.user(Role::Sales).id);
    let before = sales.post("/api/leads", json!({"title": "Roof"})).await;
    before.expect(StatusCode::CREATED);
    assert_eq!(admin.patch(&path, json!({"role": "VIEWER"})).await.expect(StatusCode::OK)["role"], "VIEWER");
    sales.post("/api/leads", json!({"title": "Roof"})).await.refused(403, "forbidden");
    assert_eq!(sales.get("/api/auth/me").await.expect(StatusCode::OK)["role"], "VIEWER");
}

#[tokio::test]
async fn a_deactivated_account_is_refused_at_once() {
    let app = TestApp::start().await;
    let (admin, sales) = (app.client(Role::Admin), app.client(Role::Sales));
    let path = format!("/api/users/{}", app.user(Role::Sales).id);
    admin.patch(&path, json!({"active": false})).await.expect(StatusCode::OK);
    sales.get("/api/auth/me").await.refused(401, "unauthenticated");
    let body = json!({"email": "sales@example.com", "password": PASSWORD});
    app.anonymous().post("/api/auth/login", body).await.refused(401, "invalid_credentials");
    admin.patch(&path, json!({"active": true})).await.expect(StatusCode::OK);
    sales.get("/api/auth/me").await.refused(401, "unauthenticated");
    app.login("sales@example.com").await;
}

#[tokio::test]
async fn a_password_set_by_the_administrator_ends_the_users_sessions() {
    let app = TestApp::start().await;
    let path = format!("/api/users/{}", app.user(Role::Viewer).id);
    app.client(Role::Admin).patch(&path, json!({"password": "battery staple"})).await.expect(StatusCode::OK);
    app.client(Role::Viewer).get("/api/auth/me").await.refused(401, "unauthenticated");
    let body = json!({"email": "viewer@example.com", "password": "battery staple"});
    app.anonymous().post("/api/auth/login", body).await.expect(StatusCode::OK);
}

#[tokio::test]
async fn the_last_administrator_cannot_be_removed() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let path = format!("/api/users/{}", app.user(Role::Admin).id);
    for patch in [json!({"role": "SALES"}), json!({"active": false})] {
        admin.patch(&path, patch).await.refused(422, "invalid");
    }
    for patch in [json!({"email": null}), json!({"colour": 1}), json!({"email": "sales@example.com"})] {
        admin.patch(&path, patch).await.refused(422, "invalid");
    }
}

#[tokio::test]
async fn everyone_may_list_assignable_users() {
    let app = TestApp::start().await;
    for role in Role::ALL {
        let page = app.client(role).get("/api/users?assignable=true").await.expect(StatusCode::OK);
        let items = page["items"].as_array().expect("items");
        assert!(items.iter().all(|user| user.as_object().expect("an object").keys().eq(["id", "name"])));
        let names: Vec<_> = items.iter().map(|user| &user["name"]).collect();
        assert_eq!(names, ["admin", "manager", "sales"]);
        app.client(role).get("/api/users?assignable=maybe").await.refused(400, "invalid_query");
    }
}
