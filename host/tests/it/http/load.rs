//! Limits per user and address: long lists, unread responses, connections, packets.

use std::{num::NonZeroU32, time::Duration};

use futures_util::{SinkExt, StreamExt};
use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    socket_client::{PATIENCE, SocketClient, Transport, open_web_socket, until_true},
    support::TestApp,
};

fn number(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).expect("not zero")
}

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

/// A connection that sends a request and does not read the response.
async fn ask(app: &TestApp, token: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("writes");
    stream
}

async fn long_leads(app: &TestApp, count: usize) {
    for index in 0..count {
        let body = json!({"title": format!("Lead {index}"), "custom": {"text": "x".repeat(30_000)}});
        app.lead(body).await;
    }
}

#[tokio::test]
async fn a_page_of_long_items_ends_early_and_the_next_page_continues() {
    let app = TestApp::with(|config| config.http.page_bytes = 100_000).await;
    long_leads(&app, 11).await;
    let client = app.client(Role::Viewer);
    for sort in ["-updatedAt", "title", "createdAt"] {
        let page = client.get(&format!("/api/leads?limit=200&sort={sort}")).await;
        let length: usize = page.header("content-length").parse().expect("a number");
        assert!((100_000..140_000).contains(&length), "{length}");
        let page = page.expect(StatusCode::OK);
        assert_eq!(page["items"].as_array().expect("items").len(), 4);
        assert!(page["nextCursor"].is_string());
        let mut seen: Vec<Value> = client.walk(&format!("/api/leads?limit=200&sort={sort}")).await;
        seen.sort_by_key(|lead| lead["id"].to_string());
        seen.dedup();
        assert_eq!(seen.len(), 11, "each once, by {sort}");
    }
    // An item longer than a page is still one page.
    let small = TestApp::with(|config| config.http.page_bytes = 1024).await;
    long_leads(&small, 3).await;
    assert_eq!(small.client(Role::Viewer).walk("/api/leads").await.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn unread_responses_count_until_they_are_sent() {
    let app = TestApp::with(|config| {
        config.http.page_bytes = 16 * 1024 * 1024;
        config.limits.requests_per_user = 3;
    })
    .await;
    // More than the kernel buffers for a connection whose client does not read.
    long_leads(&app, 300).await;
    let (viewer, path) = (app.token(Role::Viewer), "/api/leads?limit=200");
    let mut unread = Vec::new();
    for _ in 0..3 {
        let mut stream = ask(&app, viewer, path).await;
        let mut start = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").expect("an answer begins");
        assert_eq!(&start, b"HTTP/1.1 200");
        unread.push(stream);
    }
    let refused = app.client(Role::Viewer).get("/api/auth/me").await;
    assert!(refused.header("retry-after").parse::<u64>().expect("seconds") >= 1);
    refused.refused(429, "rate_limited");
    app.client(Role::Admin).get("/api/auth/me").await.expect(StatusCode::OK);

    // A read response frees its slot, and so does an aborted one.
    let mut sink = tokio::io::sink();
    let mut read = unread.pop().expect("one");
    let reading = tokio::spawn(async move { tokio::io::copy(&mut read, &mut sink).await });
    let mut status = StatusCode::TOO_MANY_REQUESTS;
    let waiting = async {
        while status != StatusCode::OK {
            status = app.client(Role::Viewer).get("/api/auth/me").await.status;
        }
    };
    timeout(PATIENCE, waiting).await.expect("there is room again");
    reading.abort();
    drop(unread);
    let waiting = async {
        let client = app.client(Role::Viewer);
        while !futures_util::future::join_all((0..3).map(|_| client.get("/api/auth/me")))
            .await
            .iter()
            .all(|reply| reply.status == StatusCode::OK)
        {}
    };
    timeout(PATIENCE, waiting).await.expect("all places are free");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unread_response_times_out() {
    let app = TestApp::with(|config| {
        config.http.page_bytes = 16 * 1024 * 1024;
        config.http.tcp_user_timeout = Duration::from_millis(500);
        config.limits.requests_per_user = 1;
    })
    .await;
    long_leads(&app, 300).await;
    let mut stream = ask(&app, app.token(Role::Viewer), "/api/leads?limit=200").await;
    let mut start = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").expect("an answer begins");
    app.client(Role::Viewer).get("/api/auth/me").await.refused(429, "rate_limited");
    let waiting = async {
        while app.client(Role::Viewer).get("/api/auth/me").await.status != StatusCode::OK {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("it counts no longer");
    let mut rest = Vec::new();
    // The part buffered by the kernel, then the end.
    let _ = timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("was cut");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_progress_per_address_are_limited() {
    let app = TestApp::with(|config| {
        config.http.page_bytes = 16 * 1024 * 1024;
        config.limits.requests_per_address = 2;
    })
    .await;
    long_leads(&app, 300).await;
    let mut unread = Vec::new();
    for role in [Role::Viewer, Role::Sales] {
        let mut stream = ask(&app, app.token(role), "/api/leads?limit=200").await;
        let mut start = [0; 12];
        timeout(PATIENCE, stream.read_exact(&mut start)).await.expect("in time").expect("an answer begins");
        unread.push(stream);
    }
    app.anonymous().get("/api/auth/me").await.refused(429, "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_connections_of_an_address_count_toward_one_limit() {
    let app = TestApp::with(|config| {
        config.limits.connections_per_address = 1;
        config.limits.tcp_connections_per_address = 8;
    })
    .await;
    let mut held = Vec::new();
    let refused = loop {
        let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
        let mut byte = [0; 1];
        match timeout(Duration::from_millis(200), stream.read(&mut byte)).await {
            Err(_) => held.push(stream),
            Ok(_) => break stream,
        }
        assert!(held.len() <= 8, "{} connections", held.len());
    };
    drop(refused);
    assert!(held.len() >= 4, "the clients of this test have a few: {}", held.len());
    drop(held);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(app.server.address()).await.expect("connects");
            let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).await.is_ok() && answer.starts_with("HTTP/1.1 200") {
                return;
            }
        }
    };
    timeout(PATIENCE, again).await.expect("each that ends makes room");
}

fn few_packets(config: &mut leadwire::config::Config) {
    config.limits.events_per_second = number(1);
    config.limits.events_burst = number(1);
    config.limits.refusals = 10;
}

/// Sends packets other than events until the transport is closed.
async fn flood(app: &TestApp, packet: Message) -> usize {
    let connect = format!("40{}", json!({"token": app.token(Role::Viewer)}));
    let (mut socket, _) = open_web_socket(&address(app), &connect, None).await;
    let mut sent = 0;
    let flooding = async {
        while sent < 5000 && socket.send(packet.clone()).await.is_ok() {
            sent += 1;
            if sent % 50 == 0 {
                tokio::task::yield_now().await;
            }
        }
        while let Some(Ok(_)) = socket.next().await {}
    };
    timeout(PATIENCE, flooding).await.expect("is cut");
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_other_than_events_count_toward_the_rate() {
    let app = TestApp::with(few_packets).await;
    let registry = app.server.sockets().registry();
    for (what, packet) in [
        ("heartbeats", Message::text("3")),
        ("other namespaces", Message::text("40/other,")),
        ("acks of nothing", Message::text("431[]")),
        ("placeholders", Message::text("451-[\"x\",{\"_placeholder\":true,\"num\":0}]")),
        ("WebSocket pings", Message::Ping(b"x".to_vec().into())),
    ] {
        flood(&app, packet).await;
        until_true(what, || registry.clients() == 0).await;
    }
    // An occasional packet is not a flood.
    let mut client = SocketClient::connect(Transport::WebSocket, &address(&app), app.token(Role::Sales)).await;
    for _ in 0..20 {
        client.send("3");
    }
    client.subscribe("a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn packets_of_polling_payloads_count_toward_the_rate() {
    let app = TestApp::with(few_packets).await;
    let registry = app.server.sockets().registry();
    let mut client = SocketClient::connect(Transport::Polling, &address(&app), app.token(Role::Viewer)).await;
    assert_eq!(registry.clients(), 1);
    client.send(vec!["3"; 200].join("\u{1e}"));
    client.closed().await;
    until_true("it is forgotten", || registry.clients() == 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_with_ambiguous_queries_are_refused() {
    let app = TestApp::start().await;
    for query in [
        "EIO=4&transport=websocket=x",
        "EIO=4&transport=websocket&transport=polling",
        "EIO=4&transport=polling&transport=websocket",
        "EIO=4&transport=web%73ocket",
        "EIO=4&transport=websocket&sid=&sid=x",
    ] {
        let url = format!("ws://{}/socket.io/?{query}", address(&app));
        match tokio_tungstenite::connect_async(url).await {
            Ok(_) => panic!("let in: {query}"),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => assert_eq!(response.status(), 400, "{query}"),
            Err(error) => panic!("{query}: {error}"),
        }
    }
}
