//! Tokens and sessions: their expiry, renewal and end on open sockets.

use std::time::Duration;

use leadwire::domain::{role::Role, time::Timestamp};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::time::{sleep, timeout};

use crate::{
    socket::live::{address, connect, login, text},
    socket_client::{SocketClient, TRANSPORTS, Transport, until_true},
    support::{PASSWORD, TestApp, http_client},
};

/// Maximum time to close a socket whose session ended.
const AT_ONCE: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn every_end_of_a_session_closes_only_its_sockets_at_once() {
    let app = TestApp::with(|config| config.auth.refresh_reuse_window = Duration::from_millis(1)).await;
    let admin = app.client(Role::Admin);
    for transport in TRANSPORTS {
        for end in ["logout", "logout-all", "reuse", "password", "password by an administrator", "deactivation"] {
            let name = format!("{transport:?}-{}", end.replace(' ', "-")).to_lowercase();
            let user = app.add_user(&name, Role::Sales).await;
            let grant = login(&app, &user.email).await;
            let (token, refresh) = (text(&grant, "accessToken"), json!({"refreshToken": grant["refreshToken"]}));
            let other = app.login(&user.email).await;
            let mut socket = connect(&app, transport, token).await;
            let mut others = connect(&app, transport, &other).await;
            let by_other = app.with_token(&other);
            let change = json!({"currentPassword": PASSWORD, "newPassword": "another battery horse"});
            let path = format!("/api/users/{}", user.id);
            let (reply, ends_others) = match end {
                "logout" => (app.anonymous().post("/api/auth/logout", refresh).await, false),
                "logout-all" => (app.with_token(token).post("/api/auth/logout-all", json!({})).await, true),
                "reuse" => {
                    app.anonymous().post("/api/auth/refresh", refresh.clone()).await.expect(StatusCode::OK);
                    sleep(Duration::from_millis(5)).await;
                    (app.anonymous().post("/api/auth/refresh", refresh).await, false)
                }
                "password" => (by_other.post("/api/auth/password", change).await, false),
                "password by an administrator" => {
                    (admin.patch(&path, json!({"password": "another battery horse"})).await, true)
                }
                _ => (admin.patch(&path, json!({"active": false})).await, true),
            };
            let expected = if end == "reuse" { StatusCode::UNAUTHORIZED } else { reply.status };
            assert_eq!(reply.status, expected, "{}", reply.body);
            assert!(end == "reuse" || reply.status.is_success(), "{}", reply.body);
            timeout(AT_ONCE, socket.closed()).await.unwrap_or_else(|_| panic!("{transport:?} after {end}"));
            if ends_others {
                timeout(AT_ONCE, others.closed()).await.unwrap_or_else(|_| panic!("{transport:?} after {end}"));
            } else {
                others.subscribe("still here").await;
            }
            let again = SocketClient::try_connect(transport, &address(&app), json!({"token": token})).await;
            assert_eq!(again.err().as_deref(), Some("Invalid authentication token"), "{transport:?} after {end}");
        }
    }
    let sockets = app.server.sockets();
    until_true("ended polling sessions are forgotten", || sockets.polling_sessions() <= 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_an_ended_polling_session_get_400_and_others_are_unaffected() {
    let app = TestApp::start().await;
    let user = app.add_user("polling", Role::Sales).await;
    let grant = login(&app, &user.email).await;
    let http = http_client();
    let url = format!("{}/socket.io/?EIO=4&transport=polling", app.url);
    let open = http.get(&url).send().await.expect("an answer").text().await.expect("a body");
    let open: Value = serde_json::from_str(&open[1..]).expect("an OPEN packet");
    let url = format!("{url}&sid={}", text(&open, "sid"));
    let post = |body: String| http.post(&url).body(body).send();
    post(format!(r#"40{{"token":"{}"}}"#, text(&grant, "accessToken"))).await.expect("an answer");
    let mut heard = String::new();
    while !heard.contains("connected") {
        heard += &http.get(&url).send().await.expect("an answer").text().await.expect("a body");
    }

    let pending = tokio::spawn(http.get(&url).send());
    until_true("it is connected", || app.server.sockets().registry().clients() == 1).await;
    let logout =
        http.post(format!("{}/api/auth/logout", app.url)).json(&json!({"refreshToken": grant["refreshToken"]}));
    assert_eq!(logout.send().await.expect("an answer").status(), StatusCode::NO_CONTENT);
    let pending = timeout(AT_ONCE, pending).await.expect("at once").expect("no panic").expect("an answer");
    assert_eq!(pending.status(), StatusCode::BAD_REQUEST);
    for _ in 0..2 {
        assert_eq!(post("42[\"x\"]".into()).await.expect("an answer").status(), StatusCode::BAD_REQUEST);
        assert_eq!(http.get(&url).send().await.expect("an answer").status(), StatusCode::BAD_REQUEST);
    }
    until_true("the session is forgotten", || app.server.sockets().polling_sessions() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_gets_auth_expiring_and_is_closed_at_expiry() {
    let app = TestApp::with(|config| config.auth.access_token_ttl = Duration::from_secs(3)).await;
    for transport in TRANSPORTS {
        let token = app.login(&app.user(Role::Viewer).email).await;
        let auth = json!({"token": token});
        let mut socket = SocketClient::try_connect(transport, &address(&app), auth).await.expect("connects");
        let greeting = socket.event("connected").await;
        let expiring = socket.event("auth:expiring").await;
        assert_eq!(expiring, json!({"expiresAt": greeting["tokenExpiresAt"]}));
        socket.closed().await;
        let expires_at: Timestamp = text(&greeting, "tokenExpiresAt").parse().expect("a time");
        let late = Timestamp::now().since(expires_at);
        assert!(late < AT_ONCE && Timestamp::now() >= expires_at, "{late:?}");
        let again = SocketClient::try_connect(transport, &address(&app), json!({"token": token})).await;
        assert_eq!(again.err().as_deref(), Some("Invalid authentication token"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_with_a_refreshed_token_stays_open() {
    let app = TestApp::with(|config| config.auth.access_token_ttl = Duration::from_secs(3)).await;
    let email = &app.user(Role::Sales).email;
    let mut socket = connect(&app, Transport::WebSocket, &app.login(email).await).await;
    socket.event("auth:expiring").await;
    for _ in 0..3 {
        let answer = socket.call("auth:refresh", json!({"token": app.login(email).await})).await;
        assert_eq!(answer["ok"], true, "{answer}");
        let refreshed = socket.event("auth:refreshed").await;
        assert_eq!(refreshed["tokenExpiresAt"], answer["tokenExpiresAt"]);
        assert_eq!(socket.event("auth:expiring").await["expiresAt"], answer["tokenExpiresAt"]);
    }
    socket.subscribe("still here").await;
    socket.closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_good_token_of_the_same_user_replaces_a_sockets_token() {
    let app = TestApp::start().await;
    let user = app.user(Role::Sales);
    let mut socket = connect(&app, Transport::WebSocket, app.token(Role::Sales)).await;
    let ended = login(&app, &user.email).await;
    let logout = json!({"refreshToken": ended["refreshToken"]});
    app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    let (none, bad) = ("Authentication token required", "Invalid authentication token");
    for (payload, message) in [
        (json!({}), none),
        (json!({"token": null}), none),
        (json!({"token": ""}), none),
        (json!({"token": 7}), bad),
        (json!({"token": "not a token"}), bad),
        (json!({"token": ended["accessToken"]}), bad),
        (json!({"token": app.token(Role::Admin)}), bad),
    ] {
        let answer = socket.call("auth:refresh", payload.clone()).await;
        let expected = json!({"message": message, "code": "unauthenticated"});
        assert_eq!(answer, json!({"ok": false, "error": expected}), "{payload}");
        assert_eq!(socket.event("error").await["message"], message);
    }

    // The socket moves to the session of the new token: the end of the old one no longer affects it.
    let (first, second) = (login(&app, &user.email).await, login(&app, &user.email).await);
    let mut moving = connect(&app, Transport::WebSocket, text(&first, "accessToken")).await;
    let answer = moving.call("auth:refresh", json!({"token": second["accessToken"]})).await;
    assert_eq!(answer["ok"], true, "{answer}");
    moving.event("auth:refreshed").await;
    let end = async |grant: &Value| {
        let logout = json!({"refreshToken": grant["refreshToken"]});
        app.anonymous().post("/api/auth/logout", logout).await.expect(StatusCode::NO_CONTENT);
    };
    end(&first).await;
    moving.subscribe("still here").await;
    end(&second).await;
    timeout(AT_ONCE, moving.closed()).await.expect("at once");
}
