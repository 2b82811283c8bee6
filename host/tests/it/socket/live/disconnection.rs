//! Connections that the server ends: clients that read nothing, and a stopping server.

use std::time::Duration;

use futures_util::StreamExt;
use leadwire::domain::{event::NewEvent, role::Role, room::Room, time::Timestamp};
use reqwest::StatusCode;
use serde_json::json;
use tokio::time::timeout;

use crate::{
    socket::live::{address, connect, leads},
    socket_client::{TRANSPORTS, Transport, open_web_socket, until_true},
    support::{TestApp, http_client},
};

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_reads_nothing_is_disconnected_and_frees_its_memory() {
    let app = TestApp::with(|config| config.socket.stall_timeout = Duration::from_millis(400)).await;
    let connect_packet = format!(r#"40{{"token":"{}"}}"#, app.token(Role::Viewer));
    let (mut stalled, _) = open_web_socket(&address(&app), &connect_packet, None).await;
    let registry = app.server.sockets().registry();
    until_true("the stalled client is connected", || registry.clients() == 1).await;
    let healthy = connect(&app, Transport::WebSocket, app.token(Role::Sales)).await;
    let polling = connect(&app, Transport::Polling, app.token(Role::Sales)).await;
    let mut tx = app.app().store().write().await.expect("a transaction");
    for _ in 0..2000 {
        let (rooms, at) = (vec![Room::Everyone], Timestamp::now());
        let payload = json!({"filling": "x".repeat(10_000)});
        let draft = NewEvent { name: "lead:updated", rooms, lead_id: None, payload, context: json!({}), at };
        tx.append(&draft).await.expect("a line");
    }
    tx.commit().await.expect("commits");
    until_true("it is cut", || registry.clients() == 2).await;
    for mut socket in [healthy, polling] {
        for _ in 0..2000 {
            socket.event("lead:updated").await;
        }
        socket.expect_silence().await;
    }
    while let Some(Ok(_)) = stalled.next().await {}
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopping_server_sends_server_draining_flushes_and_refuses_connections() {
    let app = TestApp::start().await;
    let mut sockets = Vec::new();
    for number in 0..20 {
        sockets.push(connect(&app, TRANSPORTS[number % 2], app.token(Role::Viewer)).await);
    }
    let client = app.client(Role::Admin);
    leads(&app, 1).await;
    let address = address(&app);
    let stopping = tokio::spawn(app.server.shutdown());
    let mut is_first = true;
    for mut socket in sockets {
        let mut names = [socket.next().await.0, socket.next().await.0];
        names.sort();
        assert_eq!(names, ["lead:created", "server:draining"]);
        if std::mem::take(&mut is_first) {
            let ready = client.get("/readyz").await;
            assert_eq!(
                (ready.status, &ready.body["checks"]["serving"]),
                (StatusCode::SERVICE_UNAVAILABLE, &json!("failing"))
            );
            let url = format!("http://{address}/socket.io/?EIO=4&transport=polling");
            let open = http_client().get(url).send().await;
            assert_eq!(open.expect("an answer").status(), StatusCode::SERVICE_UNAVAILABLE);
        }
        socket.closed().await;
    }
    timeout(Duration::from_secs(10), stopping).await.expect("in time").expect("no panic").expect("stops");
}
