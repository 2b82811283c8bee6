//! Behaviour common to all routes: refusals, limits, headers.

use std::time::Duration;

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{Reply, TestApp, send};

async fn raw_body(app: &TestApp, kind: &str, body: impl Into<reqwest::Body>) -> Reply {
    send(app.client(Role::Admin).request(Method::POST, "/api/leads").header("content-type", kind).body(body)).await
}

#[tokio::test]
async fn unknown_routes_and_methods_return_a_problem() {
    let app = TestApp::start().await;
    let client = app.client(Role::Admin);
    for path in ["/", "/api/", "/api/lead", "/api/leads/", "/api/leads/x/y/z", "/api/../etc", "/nothing", "/api/%ff"] {
        client.get(path).await.refused(404, "not_found");
    }
    let reply = client.delete("/api/leads").await;
    let mut allowed: Vec<_> = reply.header("allow").split(',').map(str::trim).collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    reply.refused(405, "method_not_allowed");
    client.get("/api/auth/login").await.refused(405, "method_not_allowed");
}

#[tokio::test]
async fn a_body_that_is_not_a_json_object_is_refused() {
    let app = TestApp::start().await;
    let deep = format!("{{\"custom\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let malformed: [&[u8]; 9] = [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\"x\"",
        b"\xff\xfe",
        b"{\"title\":\"\\ud800\"}",
        b"{\"title\":1e999}",
        deep.as_bytes(),
    ];
    for body in malformed {
        raw_body(&app, "application/json", body.to_vec()).await.refused(400, "malformed");
    }
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "multipart/form-data"] {
        raw_body(&app, kind, r#"{"title":"Roof"}"#).await.refused(415, "unsupported_media_type");
    }
    for kind in ["application/json", "Application/JSON; charset=utf-8"] {
        let twice = r#"{"title":"Roof","title":"Attic"}"#;
        assert_eq!(raw_body(&app, kind, twice).await.expect(StatusCode::CREATED)["title"], "Attic");
    }
}

#[tokio::test]
async fn a_body_that_is_too_long_is_refused() {
    let app = TestApp::with(|config| config.http.body_limit = 1000).await;
    let body = |chars: usize| json!({"title": "Roof", "description": "x".repeat(chars)}).to_string();
    raw_body(&app, "application/json", body(900)).await.expect(StatusCode::CREATED);
    raw_body(&app, "application/json", body(1000)).await.refused(413, "payload_too_large");
}

/// The start of the response to a request whose body stops after its first byte.
async fn answer_to_half_a_request(app: &TestApp) -> String {
    let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
    let head =
        "POST /api/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.expect("writes");
    let mut answer = vec![0; 13];
    stream.read_exact(&mut answer).await.expect("is answered");
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn slow_bodies_and_slow_requests_time_out() {
    let slow_body = TestApp::with(|config| config.http.body_timeout = Duration::from_millis(50)).await;
    assert_eq!(answer_to_half_a_request(&slow_body).await, "HTTP/1.1 408 ");
    let slow_request = TestApp::with(|config| config.http.request_timeout = Duration::from_secs(2)).await;
    assert_eq!(answer_to_half_a_request(&slow_request).await, "HTTP/1.1 503 ");
}

#[tokio::test]
async fn every_response_has_a_request_id_and_api_responses_are_not_cached() {
    let app = TestApp::start().await;
    let with_id =
        async |path: &str, id: &str| send(app.anonymous().request(Method::GET, path).header("x-request-id", id)).await;
    assert_eq!(with_id("/api/leads", "trace-1.2_3").await.refused(401, "unauthenticated")["requestId"], "trace-1.2_3");
    for odd in ["", "with space", "<script>", &"x".repeat(129)] {
        let reply = with_id("/healthz", odd).await;
        let id = reply.header("x-request-id");
        assert_ne!(id, odd);
        id.parse::<uuid::Uuid>().expect("a new id");
    }
    for reply in [
        app.anonymous().get("/api/leads").await,
        app.anonymous().get("/api/nothing").await,
        app.client(Role::Viewer).get("/api/leads").await,
    ] {
        assert_eq!(reply.header("cache-control"), "no-store");
    }
}

#[tokio::test]
async fn only_pages_of_the_configured_origins_may_call() {
    let preflight = async |app: &TestApp, origin: &str| {
        let request = app.anonymous().request(Method::OPTIONS, "/api/leads");
        let request = request.header("origin", origin).header("access-control-request-method", "PATCH");
        let reply =
            send(request.header("access-control-request-headers", "authorization,if-match,idempotency-key")).await;
        reply.headers.get("access-control-allow-origin").map(|value| value.to_str().expect("text").to_owned())
    };
    let closed = TestApp::start().await;
    assert_eq!(preflight(&closed, "https://crm.example").await, None);
    let some = TestApp::with(|config| config.http.cors_origins = vec!["https://crm.example".into()]).await;
    assert_eq!(preflight(&some, "https://crm.example").await.as_deref(), Some("https://crm.example"));
    assert_eq!(preflight(&some, "https://evil.example").await, None);
    let open = TestApp::with(|config| config.http.cors_origins = vec!["*".into()]).await;
    assert_eq!(preflight(&open, "https://any.example").await.as_deref(), Some("*"));
    for path in ["/api/leads", "/socket.io/?EIO=4&transport=polling"] {
        let request = open.anonymous().request(Method::GET, path).header("origin", "https://any.example");
        let headers = request.send().await.expect("is answered").headers().clone();
        let origins: Vec<_> = headers.get_all("access-control-allow-origin").iter().collect();
        assert_eq!(origins, ["*"], "{path}");
        let exposed = headers["access-control-expose-headers"].to_str().expect("text");
        assert!(exposed.contains("etag"), "{path}: {exposed}");
    }
}

#[tokio::test]
async fn long_responses_are_compressed_if_the_client_accepts_it() {
    let app = TestApp::start().await;
    app.lead(json!({"title": "Roof", "description": "x".repeat(5000)})).await;
    let request = app.client(Role::Viewer).request(Method::GET, "/api/leads").header("accept-encoding", "gzip");
    let response = request.send().await.expect("is answered");
    assert_eq!(response.headers()["content-encoding"], "gzip");
    let bytes = response.bytes().await.expect("is answered whole");
    assert!(bytes.starts_with(&[0x1f, 0x8b]) && bytes.len() < 2000, "{} bytes", bytes.len());
}

#[tokio::test]
async fn health_and_readiness_need_no_token() {
    let app = TestApp::start().await;
    assert_eq!(app.anonymous().get("/healthz").await.expect(StatusCode::OK), json!({"status": "ok"}));
    let ready = app.anonymous().get("/readyz").await.expect(StatusCode::OK);
    assert_eq!(
        ready,
        json!({"status": "ready", "checks": {
            "serving": "ok", "database": "ok", "file": "ok", "writes": "ok", "pages": "ok", "log": "ok", "plugins": "ok",
        }})
    );
    assert_eq!(app.client(Role::Admin).get("/api/plugins").await.expect(StatusCode::OK)["items"], Value::Array(vec![]));
}
