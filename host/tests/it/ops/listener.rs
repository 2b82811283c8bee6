//! The listener: timeouts and refusals of bad connections.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use futures_util::StreamExt;
use leadwire::domain::role::Role;
use reqwest::StatusCode;

use crate::support::TestApp;

/// Connects and sends bytes; returns the answer until the server closes.
fn say(address: SocketAddr, opening: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).expect("a connection");
    stream.write_all(opening).expect("a listener");
    // Much longer than the server should take, so that a failure does not hang.
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        Ok(_) => String::from_utf8_lossy(&answer).into_owned(),
        // Closed with unread data.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => String::from_utf8_lossy(&answer).into_owned(),
        Err(error) => panic!("the server did not close after {opening:?}: {error}"),
    }
}

#[tokio::test]
async fn an_incomplete_request_head_times_out() {
    let app = TestApp::with(|config| config.http.header_timeout = Duration::from_millis(300)).await;
    // Nothing, part of a word, and half a head.
    for opening in [&b""[..], b"PRI * HT", b"GET /healthz HTTP/1.1\r\nHost: leadwire\r\nX-Slow: "] {
        let address = app.server.address();
        let answer = tokio::task::spawn_blocking(move || say(address, opening)).await.expect("no panic");
        assert!(!answer.contains("200 OK"), "{answer}");
    }
    app.client(Role::Viewer).get("/api/leads").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn an_http_2_preface_is_refused_at_once() {
    let app = TestApp::start().await;
    let address = app.server.address();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let answer = tokio::task::spawn_blocking(move || say(address, preface)).await.expect("no panic");
    assert!(!answer.contains("200 OK"), "{answer}");
}

#[tokio::test]
async fn all_connections_close_at_shutdown_including_upgraded_ones() {
    let app = TestApp::start().await;
    let mut idle = TcpStream::connect(app.server.address()).expect("a connection");
    idle.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
    let url = format!("ws://{}/socket.io/?EIO=4&transport=websocket", app.server.address());
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.expect("a WebSocket");
    let opening = socket.next().await.expect("a packet").expect("a packet");
    assert!(opening.to_text().expect("text").starts_with("0{"), "{opening}");

    app.server.shutdown().await.expect("stops");
    let mut rest = Vec::new();
    assert_eq!(idle.read_to_end(&mut rest).expect("an end"), 0);
    while let Some(Ok(_)) = socket.next().await {}
}
