//! The handshake: the token, the greeting, and the origins of pages.

use leadwire::domain::role::Role;
use reqwest::Method;
use serde_json::json;

use crate::{
    socket::commands::{address, new_lead, patch},
    socket_client::{SocketClient, TRANSPORTS},
    support::TestApp,
};

#[tokio::test(flavor = "multi_thread")]
async fn connect_errors_use_the_texts_of_the_guide() {
    let app = TestApp::start().await;
    let gone = app.add_user("gone", Role::Sales).await;
    let gone_token = app.login(&gone.email).await;
    patch(&app, Role::Admin, &format!("/api/users/{}", gone.id), json!({"active": false})).await;
    let none = "Authentication token required";
    let bad = "Invalid authentication token";
    let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.";
    let cases = [
        ("40".to_owned(), none),
        ("40{}".to_owned(), none),
        (r#"40{"token":null}"#.to_owned(), none),
        (r#"40{"token":""}"#.to_owned(), none),
        (r#"40{"other":1}"#.to_owned(), none),
        (r#"40{"token":7}"#.to_owned(), bad),
        (r#"40{"token":"not a token"}"#.to_owned(), bad),
        (format!(r#"40{{"token":"{unsigned}"}}"#), bad),
        (format!(r#"40{{"token":"{gone_token}"}}"#), bad),
        (r#"40{"token":"#.to_owned(), bad),
    ];
    for transport in TRANSPORTS {
        for (packet, expected) in &cases {
            let refused = SocketClient::open(transport, &address(&app), packet, None).await.err();
            assert_eq!(refused.as_deref(), Some(*expected), "{transport:?} {packet}");
        }
    }
    assert_eq!(app.server.sockets().registry().clients(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn connected_carries_the_user_and_the_log_position() {
    let app = TestApp::start().await;
    new_lead(&app, json!({"title": "One"})).await;
    let id = app.user(Role::Sales).id;
    for transport in TRANSPORTS {
        let auth = json!({"token": app.token(Role::Sales)});
        let mut client = SocketClient::try_connect(transport, &address(&app), auth).await.expect("connects");
        let greeting = client.event("connected").await;
        assert_eq!((&greeting["userId"], &greeting["userRole"]), (&json!(id), &json!("SALES")));
        assert_eq!((&greeting["seq"], &greeting["recovered"]), (&json!(1), &json!(false)));
        for member in ["message", "timestamp", "epoch", "tokenExpiresAt"] {
            assert!(greeting[member].is_string(), "{member} in {greeting}");
        }
        client.expect_silence().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_in_the_authorization_header_is_accepted() {
    let app = TestApp::start().await;
    let header = format!("Bearer {}", app.token(Role::Viewer));
    for transport in TRANSPORTS {
        let client = SocketClient::open(transport, &address(&app), "40", Some(&header)).await;
        client.expect("connects").event("connected").await;
        let basic = SocketClient::open(transport, &address(&app), "40", Some("Basic abc")).await.err();
        assert_eq!(basic.as_deref(), Some("Invalid authentication token"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_allowed_origins_may_poll() {
    let app = TestApp::with(|config| config.http.cors_origins = vec!["https://crm.example".into()]).await;
    let path = "/socket.io/?EIO=4&transport=polling";
    for (origin, allowed) in [("https://crm.example", true), ("https://evil.example", false)] {
        let request = app.anonymous().request(Method::GET, path).header("origin", origin);
        let response = request.send().await.expect("an answer");
        assert_eq!(response.headers().contains_key("access-control-allow-origin"), allowed, "{origin}");
    }
}
