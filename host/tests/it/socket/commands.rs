//! The Socket.IO interface, packet by packet, on both transports.

mod acks;
mod handshake;
mod packets;
mod queues;
mod rooms;

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    socket_client::{SocketClient, Transport},
    support::TestApp,
};

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

async fn connect(app: &TestApp, role: Role) -> SocketClient {
    SocketClient::connect(Transport::WebSocket, &address(app), app.token(role)).await
}

async fn new_lead(app: &TestApp, body: Value) -> String {
    app.lead(body).await["id"].as_str().expect("an id").to_owned()
}

async fn post(app: &TestApp, role: Role, path: &str, body: Value) {
    let reply = app.client(role).post(path, body).await;
    assert!(reply.status.is_success(), "{}", reply.body);
}

async fn patch(app: &TestApp, role: Role, path: &str, body: Value) {
    app.client(role).patch(path, body).await.expect(StatusCode::OK);
}
