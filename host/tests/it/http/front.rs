//! Checks before routing: malformed requests, other origins, and headers of every response.

use std::time::Duration;

use leadwire::domain::role::Role;
use reqwest::{Method, StatusCode, header::HeaderMap};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    connect_async,
    tungstenite::{self, client::IntoClientRequest},
};

use crate::support::{TestApp, http_client};

const SOON: Duration = Duration::from_secs(20);
const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Sends bytes; returns the answer until the server closes.
async fn exchange(app: &TestApp, request: &str) -> String {
    let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
    stream.write_all(request.as_bytes()).await.expect("writes");
    let mut answer = Vec::new();
    timeout(SOON, stream.read_to_end(&mut answer)).await.expect("closes in time").expect("reads");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn headers(app: &TestApp, method: Method, path: &str, origin: Option<&str>) -> (StatusCode, HeaderMap) {
    let mut request = app.client(Role::Admin).request(method, path);
    if let Some(origin) = origin {
        request = request.header("origin", origin).header("access-control-request-method", "PATCH");
    }
    let response = request.send().await.expect("is answered");
    (response.status(), response.headers().clone())
}

fn listed<'h>(headers: &'h HeaderMap, name: &str) -> Vec<&'h str> {
    headers.get_all(name).iter().flat_map(|line| line.to_str().expect("text").split(',').map(str::trim)).collect()
}

#[tokio::test]
async fn every_response_disables_content_sniffing() {
    let app = TestApp::with(|config| {
        config.metrics.listen = Some(([127, 0, 0, 1], 0).into());
        config.http.cors_origins = vec!["https://crm.example".into()];
    })
    .await;
    let answers = [
        (Method::GET, "/api/leads", 200),
        (Method::GET, "/nothing", 404),
        (Method::DELETE, "/api/leads", 405),
        (Method::GET, "/healthz", 200),
        (Method::OPTIONS, "/api/leads", 200),
        (Method::GET, POLLING, 200),
        (Method::GET, "/socket.io/?EIO=4&transport=polling&sid=nobody", 400),
        (Method::GET, "/socket.io/?EIO=4&transport=websocket=x", 400),
    ];
    for (method, path, status) in answers {
        let origin = (method == Method::OPTIONS).then_some("https://crm.example");
        let (found, headers) = headers(&app, method, path, origin).await;
        assert_eq!(found.as_u16(), status, "{path}");
        assert_eq!(headers["x-content-type-options"], "nosniff", "{path}");
        if path.starts_with("/socket.io") {
            assert_eq!(headers["cache-control"], "no-store", "{path}");
        }
    }
    let metrics = app.server.metrics_address().expect("a port for metrics");
    for path in ["metrics", "nothing"] {
        let response = http_client().get(format!("http://{metrics}/{path}")).send().await.expect("is answered");
        assert_eq!(response.headers()["x-content-type-options"], "nosniff", "{path}");
    }
}

#[tokio::test]
async fn a_request_needs_exactly_one_valid_host() {
    let app = TestApp::start().await;
    let close = "Connection: close\r\n\r\n";
    for (head, status) in [
        ("GET /healthz HTTP/1.1\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nHost: a b\r\n", "400"),
        ("GET /socket.io/?EIO=4&transport=polling HTTP/1.1\r\n", "400"),
        ("GET /healthz HTTP/1.1\r\nHost: leadwire.example:3001\r\n", "200"),
        ("GET /healthz HTTP/1.0\r\n", "200"),
    ] {
        let answer = exchange(&app, &format!("{head}{close}")).await;
        let first = answer.lines().next().unwrap_or_default();
        assert_eq!(first.split(' ').nth(1), Some(status), "{head}: {answer}");
        if status == "400" {
            assert!(answer.contains("\"code\":\"malformed\"") && answer.contains("nosniff"), "{answer}");
            assert!(answer.to_lowercase().contains("cache-control: no-store"), "{answer}");
        }
    }
}

#[tokio::test]
async fn duplicate_headers_are_refused() {
    let app = TestApp::start().await;
    let token = app.token(Role::Admin);
    let twice = [
        ("authorization", format!("Bearer {token}"), "Bearer nonsense".to_owned()),
        ("content-type", "application/json".into(), "text/plain".into()),
        ("origin", "https://crm.example".into(), "https://evil.example".into()),
    ];
    for (name, first, second) in twice {
        let request = app.client(Role::Admin).request(Method::POST, "/api/leads").header(name, first);
        let request = request.header(name, second).body(r#"{"title":"Roof"}"#);
        let body = crate::support::send(request).await.refused(400, "malformed");
        assert!(body["detail"].as_str().expect("text").contains(name), "{body}");
    }
}

#[tokio::test]
async fn no_100_continue_is_sent_for_a_refused_body() {
    let app = TestApp::with(|config| {
        config.http.body_limit = 1024;
        config.socket.max_frame = 1024;
    })
    .await;
    let token = app.token(Role::Admin);
    let ask = async |path: &str, more: &str, length: usize| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nExpect: 100-continue\r\n\
             Content-Length: {length}\r\nConnection: close\r\n{more}\r\n"
        );
        let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
        stream.write_all(head.as_bytes()).await.expect("writes");
        let mut answer = [0; 12];
        timeout(SOON, stream.read_exact(&mut answer)).await.expect("is answered").expect("reads");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    let json = "Content-Type: application/json\r\n";
    assert_eq!(ask("/api/leads", json, 1000).await, "100");
    assert_eq!(ask("/api/leads", json, 1025).await, "413");
    assert_eq!(ask("/api/leads", "Content-Type: text/plain\r\n", 1000).await, "415");
    assert_eq!(ask("/api/nothing", json, 1000).await, "404");
    let sid = polling_session(&app).await;
    assert_eq!(ask(&format!("{POLLING}&sid={sid}"), "", 1025).await, "413");
    assert_eq!(ask(&format!("{POLLING}&sid={sid}"), "", 1000).await, "100");
}

async fn polling_session(app: &TestApp) -> String {
    let response = app.anonymous().request(Method::GET, POLLING).send().await.expect("is answered");
    let open = response.text().await.expect("is answered whole");
    let open: serde_json::Value = serde_json::from_str(&open[1..]).expect("an OPEN packet");
    open["sid"].as_str().expect("a sid").to_owned()
}

#[tokio::test]
async fn allowed_origins_may_send_credentials_and_read_responses() {
    let named = TestApp::with(|config| {
        config.http.cors_origins = vec!["https://crm.example".into()];
        config.http.cors_headers.push("x-tenant".into());
    })
    .await;
    let (_, preflight) = headers(&named, Method::OPTIONS, "/api/leads", Some("https://crm.example")).await;
    assert_eq!(preflight["access-control-allow-credentials"], "true");
    let allowed = listed(&preflight, "access-control-allow-headers");
    for name in [
        "authorization",
        "content-type",
        "if-match",
        "idempotency-key",
        "x-request-id",
        "traceparent",
        "tracestate",
        "baggage",
        "sentry-trace",
        "x-requested-with",
        "cache-control",
        "x-tenant",
    ] {
        assert!(allowed.contains(&name), "{name}: {allowed:?}");
    }
    let (_, answer) = headers(&named, Method::GET, "/api/leads", Some("https://crm.example")).await;
    assert_eq!(answer["access-control-allow-origin"], "https://crm.example");
    let exposed = listed(&answer, "access-control-expose-headers");
    for name in ["etag", "location", "retry-after", "x-request-id", "leadwire-seq"] {
        assert!(exposed.contains(&name), "{name}: {exposed:?}");
    }

    let (_, elsewhere) = headers(&named, Method::GET, "/api/leads", Some("https://evil.example")).await;
    assert!(!elsewhere.contains_key("access-control-allow-origin"));
    assert!(!elsewhere.contains_key("access-control-allow-credentials"));
    let open = TestApp::with(|config| config.http.cors_origins = vec!["*".into()]).await;
    let (_, any) = headers(&open, Method::GET, "/api/leads", Some("https://any.example")).await;
    assert_eq!(any["access-control-allow-origin"], "*");
    assert!(!any.contains_key("access-control-allow-credentials"), "never beside a *");
}

#[tokio::test]
async fn other_origins_cannot_open_a_socket() {
    let app = TestApp::with(|config| config.http.cors_origins = vec!["https://crm.example".into()]).await;
    let address = app.server.address().to_string();
    let same = format!("http://{address}");
    let web_socket = async |origin: Option<&str>| {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let mut request = url.into_client_request().expect("a request");
        if let Some(origin) = origin {
            request.headers_mut().insert("origin", origin.parse().expect("a header"));
        }
        match connect_async(request).await {
            Ok(_) => 101,
            Err(tungstenite::Error::Http(response)) => response.status().as_u16(),
            Err(error) => panic!("{error}"),
        }
    };
    for (origin, is_allowed) in [
        (None, true),
        (Some("https://crm.example"), true),
        (Some(same.as_str()), true),
        (Some("https://evil.example"), false),
        (Some("null"), false),
        (Some("http://crm.example"), false),
    ] {
        assert_eq!(web_socket(origin).await, if is_allowed { 101 } else { 403 }, "{origin:?}");
        let (polling, _) = headers(&app, Method::GET, POLLING, origin).await;
        assert_eq!(polling.as_u16(), if is_allowed { 200 } else { 403 }, "{origin:?}");
    }
    let open = TestApp::with(|config| config.http.cors_origins = vec!["*".into()]).await;
    assert_eq!(headers(&open, Method::GET, POLLING, Some("https://any.example")).await.0, 200);
}

#[tokio::test]
async fn unsupported_media_types_are_refused_and_a_byte_order_mark_is_accepted() {
    let app = TestApp::start().await;
    let post = async |kind: &str, coding: Option<&str>, body: &[u8]| {
        let mut request = app.client(Role::Admin).request(Method::POST, "/api/leads").header("content-type", kind);
        if let Some(coding) = coding {
            request = request.header("content-encoding", coding);
        }
        crate::support::send(request.body(body.to_vec())).await
    };
    let body = r#"{"title":"Caf\u00e9"}"#.as_bytes();
    for charset in ["iso-8859-1", "utf-16", "\"latin1\"", "utf-8; charset=utf-16"] {
        let kind = format!("application/json; charset={charset}");
        post(&kind, None, body).await.refused(415, "unsupported_media_type");
    }
    for coding in ["gzip", "deflate", "br", "identity, gzip", "x"] {
        post("application/json", Some(coding), body).await.refused(415, "unsupported_media_type");
    }
    for (kind, coding) in [
        ("application/json", None),
        ("application/json; charset=UTF-8", None),
        ("application/json;charset=\"utf-8\"", Some("identity")),
    ] {
        post(kind, coding, body).await.expect(StatusCode::CREATED);
    }
    let marked = [b"\xef\xbb\xbf", body].concat();
    assert_eq!(post("application/json", None, &marked).await.expect(StatusCode::CREATED)["title"], "Café");
}

#[tokio::test]
async fn the_accept_header_is_ignored() {
    let app = TestApp::start().await;
    for accept in ["text/html", "application/xml;q=1, application/json;q=0", "nonsense"] {
        let request = app.client(Role::Viewer).request(Method::GET, "/api/leads").header("accept", accept);
        assert_eq!(crate::support::send(request).await.expect(StatusCode::OK)["items"], json!([]));
    }
}

#[tokio::test]
async fn a_query_that_is_not_utf_8_is_refused_by_parameter() {
    let app = TestApp::start().await;
    for query in ["q=%ff", "q=a%00b", "source=%C3%28", "q=%ED%A0%80", "status=NEW&q=%80", "%ff=1"] {
        let body = app.client(Role::Viewer).get(&format!("/api/leads?{query}")).await.refused(400, "invalid_query");
        let detail = body["detail"].as_str().expect("text");
        assert!(detail.contains("must be UTF-8 without U+0000"), "{query}: {detail}");
    }
    app.client(Role::Viewer).get("/api/leads?q=%EF%BF%BD+%C3%A9").await.expect(StatusCode::OK);
    // Also on routes that read no query, so that it is never silently ignored.
    for path in ["/api/auth/me?x=%00", "/api/users/me?x=%ff", "/api/nothing?x=%ff"] {
        app.client(Role::Viewer).get(path).await.refused(400, "invalid_query");
    }
    app.client(Role::Sales).post("/api/leads?x=%ff", json!({"title": "T"})).await.refused(400, "invalid_query");
}
