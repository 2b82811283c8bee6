//! `/api/auth` and access tokens over HTTP.

use std::{num::NonZeroU32, time::Duration};

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use leadwire::{
    auth::settings::{Secret, TrustedKey},
    domain::{role::Role, time::Timestamp},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::{Client, PASSWORD, SECRET, TestApp, send};

const ED_PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIDVGCPRoswzv5WdzNoFH4X3jYXV8ovgdoBIn04oKARN+\n-----END PRIVATE KEY-----\n";
/// The same key as the `x` of a JWK.
const ED_PUBLIC: &str = "BQ_8wD8ATMKSCogZTcxVFRjl8uavW8V-vTepRWpF0TE";

async fn login(app: &TestApp, role: Role) -> Value {
    let body = json!({"email": app.user(role).email, "password": PASSWORD});
    app.anonymous().post("/api/auth/login", body).await.expect(StatusCode::OK)
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a text")
}

async fn refresh(client: &Client, token: &Value) -> crate::support::Reply {
    client.post("/api/auth/refresh", json!({"refreshToken": token})).await
}

#[tokio::test]
async fn a_login_returns_a_token_pair_and_the_user() {
    let app = TestApp::start().await;
    for role in Role::ALL {
        let grant = login(&app, role).await;
        assert_eq!(grant["expiresIn"], 900);
        assert_eq!(grant["user"]["role"], role.as_str());
        assert!(grant["user"].get("passwordHash").is_none());
        let me = app.with_token(text(&grant["accessToken"])).get("/api/auth/me").await;
        assert_eq!(me.header("cache-control"), "no-store");
        assert_eq!(me.expect(StatusCode::OK), grant["user"]);
    }
}

#[tokio::test]
async fn a_failed_login_does_not_disclose_accounts() {
    let app = TestApp::start().await;
    let mut details = Vec::new();
    for (email, password) in [("admin@example.com", "wrong password"), ("nobody@example.com", PASSWORD)] {
        let reply = app.anonymous().post("/api/auth/login", json!({"email": email, "password": password})).await;
        assert!(reply.header("www-authenticate").starts_with("Bearer"));
        details.push(reply.refused(401, "invalid_credentials")["detail"].clone());
    }
    assert_eq!(details[0], details[1]);
}

#[tokio::test]
async fn an_invalid_login_body_is_refused_by_field() {
    let app = TestApp::start().await;
    let body = json!({"email": 7, "password": PASSWORD, "remember": true});
    let problem = app.anonymous().post("/api/auth/login", body).await.refused(422, "invalid");
    let fields: Vec<_> = problem["errors"].as_array().expect("errors").iter().map(|error| &error["field"]).collect();
    assert_eq!(fields, ["email", "remember"]);
}

#[tokio::test]
async fn every_route_requires_a_token() {
    let app = TestApp::start().await;
    let id = uuid::Uuid::nil();
    let routes = [
        (Method::POST, "/api/auth/logout-all".to_owned()),
        (Method::GET, "/api/auth/me".into()),
        (Method::POST, "/api/auth/password".into()),
        (Method::GET, "/api/users".into()),
        (Method::POST, "/api/users".into()),
        (Method::GET, format!("/api/users/{id}")),
        (Method::PATCH, format!("/api/users/{id}")),
        (Method::GET, "/api/leads".into()),
        (Method::POST, "/api/leads".into()),
        (Method::GET, format!("/api/leads/{id}")),
        (Method::PATCH, format!("/api/leads/{id}")),
        (Method::DELETE, format!("/api/leads/{id}")),
        (Method::POST, format!("/api/leads/{id}/restore")),
        (Method::POST, format!("/api/leads/{id}/assign")),
        (Method::GET, format!("/api/leads/{id}/activities")),
        (Method::POST, format!("/api/leads/{id}/activities")),
        (Method::GET, format!("/api/leads/{id}/history")),
        (Method::PATCH, format!("/api/activities/{id}")),
        (Method::DELETE, format!("/api/activities/{id}")),
        (Method::GET, "/api/plugins".into()),
        (Method::GET, "/api/audit".into()),
    ];
    for (method, path) in routes {
        for client in [app.anonymous(), app.with_token("nonsense")] {
            let reply = send(client.request(method.clone(), &path).json(&json!({}))).await;
            assert_eq!(reply.header("www-authenticate"), r#"Bearer realm="leadwire""#);
            reply.refused(401, "unauthenticated");
        }
        let basic = app.anonymous().request(method, &path).header("authorization", "Basic YTpi");
        send(basic).await.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_refresh_rotates_and_two_tabs_get_the_same_successor() {
    let app = TestApp::start().await;
    let (first, client) = (login(&app, Role::Sales).await, app.anonymous());
    let second = refresh(&client, &first["refreshToken"]).await.expect(StatusCode::OK);
    assert_ne!(first["refreshToken"], second["refreshToken"]);
    let other_tab = refresh(&client, &first["refreshToken"]).await.expect(StatusCode::OK);
    assert_eq!(second["refreshToken"], other_tab["refreshToken"]);
    app.with_token(text(&second["accessToken"])).get("/api/auth/me").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_reused_refresh_token_revokes_the_whole_family() {
    let app = TestApp::with(|config| config.auth.refresh_reuse_window = Duration::from_millis(1)).await;
    let (first, client) = (login(&app, Role::Sales).await, app.anonymous());
    let second = refresh(&client, &first["refreshToken"]).await.expect(StatusCode::OK);
    // Within the reuse window it may be answered a few more times.
    let reused = loop {
        let reply = refresh(&client, &first["refreshToken"]).await;
        if reply.status != StatusCode::OK {
            break reply;
        }
    };
    reused.refused(401, "refresh_token_reused");
    refresh(&client, &second["refreshToken"]).await.refused(401, "unauthenticated");
    app.with_token(text(&second["accessToken"])).get("/api/auth/me").await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_logout_ends_one_session_and_logout_all_the_rest() {
    let app = TestApp::start().await;
    let sessions = [login(&app, Role::Viewer).await, login(&app, Role::Viewer).await, login(&app, Role::Viewer).await];
    let clients = sessions.each_ref().map(|session| app.with_token(text(&session["accessToken"])));
    let body = json!({"refreshToken": sessions[0]["refreshToken"]});
    assert_eq!(
        app.anonymous().post("/api/auth/logout", body.clone()).await.expect(StatusCode::NO_CONTENT),
        Value::Null
    );
    app.anonymous().post("/api/auth/logout", body).await.expect(StatusCode::NO_CONTENT);
    clients[0].get("/api/auth/me").await.refused(401, "unauthenticated");
    clients[1].get("/api/auth/me").await.expect(StatusCode::OK);

    send(clients[1].request(Method::POST, "/api/auth/logout-all")).await.expect(StatusCode::NO_CONTENT);
    for client in &clients[1..] {
        client.get("/api/auth/me").await.refused(401, "unauthenticated");
    }
    app.client(Role::Admin).get("/api/auth/me").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_password_change_requires_the_old_one_and_ends_other_sessions() {
    let app = TestApp::start().await;
    let (here, there) = (login(&app, Role::Sales).await, login(&app, Role::Sales).await);
    let client = app.with_token(text(&here["accessToken"]));
    let change = async |current: &str, new: &str| {
        client.post("/api/auth/password", json!({"currentPassword": current, "newPassword": new})).await
    };
    let problem = change("wrong password", "battery staple").await.refused(422, "invalid");
    assert_eq!(problem["errors"][0]["field"], "currentPassword");
    let problem = change(PASSWORD, "short").await.refused(422, "invalid");
    assert_eq!(problem["errors"][0]["field"], "newPassword");
    change(PASSWORD, "battery staple").await.expect(StatusCode::NO_CONTENT);
    client.get("/api/auth/me").await.expect(StatusCode::OK);
    app.with_token(text(&there["accessToken"])).get("/api/auth/me").await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn login_attempts_are_limited_with_retry_after() {
    let app = TestApp::with(|config| {
        config.auth.login_limits.per_account_per_minute = NonZeroU32::new(3).expect("not zero");
    })
    .await;
    let attempt = async |email: &str| {
        app.anonymous().post("/api/auth/login", json!({"email": email, "password": "wrong password"})).await
    };
    for _ in 0..3 {
        attempt("someone@example.com").await.refused(401, "invalid_credentials");
    }
    let reply = attempt("someone@example.com").await;
    let wait: u64 = reply.header("retry-after").parse().expect("seconds");
    assert!((1..=20).contains(&wait), "{wait}");
    reply.refused(429, "rate_limited");
    attempt("someone-else@example.com").await.refused(401, "invalid_credentials");
}

/// Signed by hand, because the server's library is built without this algorithm.
fn hs512(claims: &Value) -> String {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD as BASE64};
    use hmac::{Hmac, KeyInit, Mac};

    let part = |json: &Value| BASE64.encode(json.to_string());
    let signed = format!("{}.{}", part(&json!({"alg": "HS512", "typ": "JWT"})), part(claims));
    let mut mac = Hmac::<sha2::Sha512>::new_from_slice(SECRET.as_bytes()).expect("any key length is valid");
    mac.update(signed.as_bytes());
    format!("{signed}.{}", BASE64.encode(mac.finalize().into_bytes()))
}

#[tokio::test]
async fn forged_tokens_are_refused() {
    let app = TestApp::start().await;
    let grant = login(&app, Role::Admin).await;
    let good = text(&grant["accessToken"]);
    let parts: Vec<&str> = good.split('.').collect();
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let claims = json!({"sub": app.user(Role::Admin).id, "sid": uuid::Uuid::nil(), "iat": 0, "exp": 4_000_000_000_u64, "iss": "leadwire", "aud": "leadwire"});
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let forged = [
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], "A".repeat(43)),
        // A valid signature, but no session.
        jsonwebtoken::encode(&Header::default(), &claims, &key).expect("signs"),
        hs512(&claims),
        format!("{good}{}", "A".repeat(8000)),
    ];
    for token in forged {
        app.with_token(&token).get("/api/auth/me").await.refused(401, "unauthenticated");
    }
}

const ISSUER: &str = "https://sso.example";

/// A server that trusts another issuer's key.
async fn with_trusted_key(change: impl FnOnce(&mut TrustedKey)) -> TestApp {
    let mut key = TrustedKey::new("sso", ED_PUBLIC, ISSUER);
    change(&mut key);
    TestApp::with(|config| config.auth.trusted_keys = vec![key]).await
}

/// A token of that issuer, with some claims changed.
fn foreign(sub: &str, changes: Value) -> String {
    let now = Timestamp::now().seconds();
    let mut claims =
        json!({"sub": sub, "role": "ADMIN", "iat": now, "exp": now + 600, "iss": ISSUER, "aud": "leadwire"});
    for (name, value) in changes.as_object().expect("an object") {
        claims[name] = value.clone();
    }
    let header = Header { kid: Some("sso".into()), ..Header::new(Algorithm::EdDSA) };
    let key = EncodingKey::from_ed_pem(ED_PRIVATE.as_bytes()).expect("a key");
    jsonwebtoken::encode(&header, &claims, &key).expect("signs")
}

async fn me(app: &TestApp, token: &str) -> crate::support::Reply {
    app.with_token(token).get("/api/auth/me").await
}

#[tokio::test]
async fn a_trusted_issuer_identifies_known_users_and_the_role_comes_from_the_database() {
    let app = with_trusted_key(|_| {}).await;
    let sales = app.user(Role::Sales);
    for sub in [sales.id.to_string(), sales.email.clone(), sales.email.to_ascii_uppercase()] {
        assert_eq!(me(&app, &foreign(&sub, json!({}))).await.expect(StatusCode::OK)["role"], "SALES");
    }
    let nobody = uuid::Uuid::nil().to_string();
    me(&app, &foreign(&nobody, json!({}))).await.refused(401, "unauthenticated");
    me(&app, &foreign(&sales.email, json!({"iss": "leadwire"}))).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_trusted_key_is_valid_for_administrators_only_with_that_role() {
    let app = with_trusted_key(|_| {}).await;
    let admin = foreign(&app.user(Role::Admin).email, json!({}));
    me(&app, &admin).await.refused(401, "unauthenticated");
    // Nor for a user who becomes one.
    let sales = app.user(Role::Sales);
    let token = foreign(&sales.email, json!({}));
    me(&app, &token).await.expect(StatusCode::OK);
    let path = format!("/api/users/{}", sales.id);
    app.client(Role::Admin).patch(&path, json!({"role": "ADMIN"})).await.expect(StatusCode::OK);
    me(&app, &token).await.refused(401, "unauthenticated");

    let app = with_trusted_key(|key| key.roles = vec![Role::Admin]).await;
    let admin = foreign(&app.user(Role::Admin).email, json!({}));
    me(&app, &admin).await.expect(StatusCode::OK);
    let sales = foreign(&app.user(Role::Sales).email, json!({}));
    me(&app, &sales).await.refused(401, "unauthenticated");
}

#[tokio::test]
async fn a_token_of_another_issuer_is_limited_to_the_keys_audience_and_max_age() {
    let app = with_trusted_key(|key| {
        key.audience = "crm".into();
        key.max_age = Duration::from_secs(300);
    })
    .await;
    let (sub, now) = (&app.user(Role::Sales).email, Timestamp::now().seconds());
    me(&app, &foreign(sub, json!({"aud": "crm"}))).await.expect(StatusCode::OK);
    for wrong in [
        json!({}),
        json!({"aud": "crm", "iat": now - 301}),
        json!({"aud": "crm", "iat": null}),
        json!({"aud": "crm", "iat": now + 3600}),
        json!({"aud": "crm", "exp": now}),
        json!({"aud": "crm", "exp": null}),
    ] {
        me(&app, &foreign(sub, wrong)).await.refused(401, "unauthenticated");
    }
}

#[tokio::test]
async fn a_password_reset_or_deactivation_invalidates_earlier_tokens_of_other_issuers() {
    let app = with_trusted_key(|_| {}).await;
    let (admin, now) = (app.client(Role::Admin), Timestamp::now().seconds());
    let sales = app.user(Role::Sales);
    let path = format!("/api/users/{}", sales.id);
    let before = foreign(&sales.email, json!({"iat": now - 5}));
    for change in [json!({"password": "battery staple"}), json!({"active": false})] {
        me(&app, &before).await;
        // Issued at the same moment by a clock that is ahead.
        let ahead = foreign(&sales.email, json!({"iat": Timestamp::now().seconds() + 4}));
        admin.patch(&path, change).await.expect(StatusCode::OK);
        admin.patch(&path, json!({"active": true})).await.expect(StatusCode::OK);
        me(&app, &before).await.refused(401, "unauthenticated");
        me(&app, &ahead).await.refused(401, "unauthenticated");
    }
    let is_over = async || {
        let later = foreign(&sales.email, json!({"iat": Timestamp::now().seconds()}));
        me(&app, &later).await.status == 200
    };
    while !is_over().await {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let viewer = app.user(Role::Viewer);
    let before = foreign(&viewer.email, json!({"iat": now - 5}));
    me(&app, &before).await.expect(StatusCode::OK);
    send(app.with_token(&before).request(Method::POST, "/api/auth/logout-all")).await.expect(StatusCode::NO_CONTENT);
    me(&app, &before).await.refused(401, "unauthenticated");
    let manager = app.user(Role::Manager);
    let before = foreign(&manager.email, json!({"iat": now - 5}));
    me(&app, &before).await.expect(StatusCode::OK);
    let body = json!({"currentPassword": PASSWORD, "newPassword": "battery staple"});
    app.client(Role::Manager).post("/api/auth/password", body).await.expect(StatusCode::NO_CONTENT);
    me(&app, &before).await.refused(401, "unauthenticated");
    app.client(Role::Manager).get("/api/auth/me").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_lookalike_address_cannot_sign_in() {
    let app = with_trusted_key(|_| {}).await;
    let kim = app.add_user("kim", Role::Sales).await;
    for alike in ["\u{212a}im@example.com", "kim@exampl\u{435}.com", "k\u{131}m@example.com"] {
        me(&app, &foreign(alike, json!({}))).await.refused(401, "unauthenticated");
        let body = json!({"email": alike, "password": PASSWORD});
        app.anonymous().post("/api/auth/login", body).await.refused(401, "invalid_credentials");
    }
    assert_eq!(me(&app, &foreign("KIM@Example.com", json!({}))).await.expect(StatusCode::OK)["id"], json!(kim.id));
    // Some keyboards compose characters, others do not.
    let body = json!({"email": "J\u{f6}rg@example.com", "name": "J", "role": "SALES", "password": PASSWORD});
    let user = app.client(Role::Admin).post("/api/users", body).await.expect(StatusCode::CREATED);
    assert_eq!(user["email"], "j\u{f6}rg@example.com");
    app.login("jo\u{308}rg@example.com").await;
    // A password in the other form is accepted as well.
    let body = json!({"email": "bo\u{308}b@example.com", "name": "B", "role": "SALES", "password": PASSWORD});
    let user = app.client(Role::Admin).post("/api/users", body).await.expect(StatusCode::CREATED);
    assert_eq!(user["email"], "b\u{f6}b@example.com");
    let body = json!({"email": "jo\u{308}rg@example.com", "name": "J", "role": "SALES", "password": PASSWORD});
    app.client(Role::Admin).post("/api/users", body).await.refused(422, "invalid");
}

#[tokio::test]
async fn tokens_of_the_previous_secret_are_accepted_while_it_is_named() {
    let app = TestApp::with(|config| {
        config.auth.jwt_secret = Some(Secret::new("the secret of today, which is long"));
        config.auth.previous_jwt_secret = Some(Secret::new(SECRET));
    })
    .await;
    let grant = login(&app, Role::Manager).await;
    let mut validation = jsonwebtoken::Validation::new(Algorithm::HS256);
    validation.set_audience(&["leadwire"]);
    let today = jsonwebtoken::DecodingKey::from_secret(b"the secret of today, which is long");
    let claims =
        jsonwebtoken::decode::<Value>(text(&grant["accessToken"]), &today, &validation).expect("signed today").claims;
    for member in ["sub", "sid", "iat", "exp", "iss", "aud"] {
        assert!(!claims[member].is_null(), "{member}: {claims}");
    }
    let old =
        jsonwebtoken::encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).expect("signs");
    app.with_token(&old).get("/api/auth/me").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn a_password_is_accepted_in_every_unicode_form() {
    let app = TestApp::start().await;
    let admin = app.client(Role::Admin);
    let (apart, composed) = ("cafe\u{301}\u{a0}au lait", "caf\u{e9} au lait");
    let account = json!({"email": "zoe@example.com", "name": "Zoe", "role": "SALES", "password": apart});
    admin.post("/api/users", account).await.expect(StatusCode::CREATED);
    for password in [apart, composed] {
        let body = json!({"email": "zoe@example.com", "password": password});
        app.anonymous().post("/api/auth/login", body).await.expect(StatusCode::OK);
    }
    let body = json!({"email": "zoe@example.com", "password": "cafe au lait"});
    app.anonymous().post("/api/auth/login", body).await.refused(401, "invalid_credentials");
    let account = json!({"email": "y@example.com", "name": "Y", "role": "SALES", "password": "tab\tor bell\u{7}"});
    let refused = admin.post("/api/users", account).await.refused(422, "invalid");
    assert_eq!(refused["errors"][0]["code"], "invalid_characters");
    assert_eq!(refused["errors"][0]["field"], "password");
}
