//! Lifetime of connections: tokens, sessions, resume, draining.

mod disconnection;
mod resume;
mod session;
mod subscriptions;

use leadwire::domain::role::Role;
use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::{
    socket_client::{SocketClient, Transport},
    support::{PASSWORD, TestApp},
};

fn address(app: &TestApp) -> String {
    app.server.address().to_string()
}

/// A new session: `{accessToken, refreshToken, …}`.
async fn login(app: &TestApp, email: &str) -> Value {
    let body = json!({"email": email, "password": PASSWORD});
    app.anonymous().post("/api/auth/login", body).await.expect(StatusCode::OK)
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_else(|| panic!("{member} in {value}"))
}

async fn connect(app: &TestApp, transport: Transport, token: &str) -> SocketClient {
    SocketClient::connect(transport, &address(app), token).await
}

/// Events of a socket up to `sync:done`: their seqs, and the seq of `sync:done`.
async fn replayed(socket: &mut SocketClient) -> (Vec<u64>, Value) {
    let mut seqs = Vec::new();
    loop {
        match socket.next().await {
            (name, body) if name == "sync:done" => return (seqs, body["seq"].clone()),
            (name, body) => seqs.push(body["seq"].as_u64().unwrap_or_else(|| panic!("{name} {body}"))),
        }
    }
}

async fn hello(app: &TestApp, transport: Transport, auth: Value) -> (SocketClient, Value) {
    let mut socket = SocketClient::try_connect(transport, &address(app), auth).await.expect("connects");
    let greeting = socket.event("connected").await;
    (socket, greeting)
}

async fn leads(app: &TestApp, count: usize) {
    for number in 0..count {
        app.lead(json!({"title": format!("Lead {number}")})).await;
    }
}

async fn note(app: &TestApp, lead: &str) -> Value {
    let path = format!("/api/leads/{lead}/activities");
    app.client(Role::Admin).post(&path, json!({"type": "NOTE", "body": "x"})).await.expect(StatusCode::CREATED)
}
