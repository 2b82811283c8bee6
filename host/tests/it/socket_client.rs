//! A small Socket.IO v5 client over WebSocket or long polling, for tests that check every packet.

use std::{collections::VecDeque, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    task::JoinHandle,
    time::{sleep, timeout},
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

use crate::support;

/// Timeout of all waits, longer than any operation takes.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub type WebSocket = WebSocketStream<MaybeTlsStream<TcpStream>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket,
    Polling,
    /// Polling, and then a WebSocket, as stock clients do it.
    Upgraded,
}

pub const ALL_TRANSPORTS: [Transport; 3] = [Transport::WebSocket, Transport::Polling, Transport::Upgraded];

/// Transports that a client stays with.
pub const TRANSPORTS: [Transport; 2] = [Transport::WebSocket, Transport::Polling];

/// Packet from the server.
#[derive(Debug)]
pub enum Packet {
    Connected,
    Refused(String),
    Event(String, Value),
    Ack(u64, Value),
    /// The transport is closed by either side.
    Closed,
}

pub struct SocketClient {
    outgoing: mpsc::UnboundedSender<String>,
    incoming: mpsc::UnboundedReceiver<Packet>,
    /// True to receive `lead:viewers` as well, which is not in the log and arrives whenever others come and go.
    hears_viewers: bool,
    /// Events that arrived during another wait.
    early: VecDeque<(String, Value)>,
    next_ack: u64,
    transport: JoinHandle<()>,
}

impl Drop for SocketClient {
    fn drop(&mut self) {
        self.transport.abort();
    }
}

impl SocketClient {
    /// Connects with a token and takes `connected`.
    pub async fn connect(transport: Transport, address: &str, token: &str) -> Self {
        let mut client = Self::try_connect(transport, address, json!({"token": token})).await.expect("connects");
        client.event("connected").await;
        client
    }

    /// Connects with this `auth`; returns the reason if the server refuses.
    pub async fn try_connect(transport: Transport, address: &str, auth: Value) -> Result<Self, String> {
        Self::open(transport, address, &format!("40{auth}"), None).await
    }

    /// Connects with this CONNECT packet and `Authorization` header.
    pub async fn open(
        transport: Transport,
        address: &str,
        connect: &str,
        authorization: Option<&str>,
    ) -> Result<Self, String> {
        let (outgoing, from_test) = mpsc::unbounded_channel();
        let (to_test, incoming) = mpsc::unbounded_channel();
        let transport = match transport {
            Transport::WebSocket => {
                let (reading, _) = open_web_socket(address, connect, authorization).await;
                tokio::spawn(run_web_socket(reading, from_test, to_test))
            }
            Transport::Polling => {
                let polling = Polling::open(address, connect, authorization).await;
                tokio::spawn(polling.run(from_test, to_test))
            }
            Transport::Upgraded => {
                let polling = Polling::open(address, connect, authorization).await;
                let answer = polling.poll().await.expect("an answer to CONNECT");
                for packet in answer.split('\u{1e}').filter_map(parse) {
                    to_test.send(packet).expect("the test listens");
                }
                tokio::spawn(run_web_socket(polling.upgrade(address).await, from_test, to_test))
            }
        };
        let hears_viewers = false;
        let mut client = Self { outgoing, incoming, hears_viewers, early: VecDeque::new(), next_ack: 0, transport };
        match client.packet().await {
            Packet::Connected => Ok(client),
            Packet::Refused(message) => Err(message),
            packet => panic!("expected an answer to CONNECT, got {packet:?}"),
        }
    }

    /// Enables `lead:viewers`.
    pub fn hearing_viewers(mut self) -> Self {
        self.hears_viewers = true;
        self
    }

    pub fn emit(&self, name: &str, payload: Value) {
        self.send(format!("42{}", json!([name, payload])));
    }

    /// Sends a raw Engine.IO packet.
    pub fn send(&self, packet: impl Into<String>) {
        self.outgoing.send(packet.into()).expect("the transport is open");
    }

    /// Emits, and waits for the ack.
    pub async fn call(&mut self, name: &str, payload: Value) -> Value {
        let id = self.next_ack;
        self.next_ack += 1;
        self.send(format!("42{id}{}", json!([name, payload])));
        loop {
            match self.packet().await {
                Packet::Ack(acked, answer) if acked == id => return answer,
                Packet::Event(name, payload) => self.early.push_back((name, payload)),
                packet => panic!("expected an ack of {name}, got {packet:?}"),
            }
        }
    }

    /// Takes the next packet, which must be an ack; returns its id and body.
    pub async fn ack(&mut self) -> (u64, Value) {
        match self.packet().await {
            Packet::Ack(id, answer) => (id, answer),
            packet => panic!("expected an ack, got {packet:?}"),
        }
    }

    /// Breaks the session on either transport without a close packet.
    pub async fn lose(&mut self) {
        self.send("no packet");
        self.closed().await;
    }

    /// Breaks the session like `lose`; returns the events that arrived before.
    pub async fn lose_with_events(&mut self) -> Vec<(String, Value)> {
        self.send("no packet");
        let mut events: Vec<_> = self.early.drain(..).collect();
        loop {
            match self.packet().await {
                Packet::Closed => return events,
                Packet::Event(name, payload) => events.push((name, payload)),
                _ => {}
            }
        }
    }

    /// Takes the next packet of any kind.
    pub async fn receive(&mut self) -> Packet {
        self.packet().await
    }

    /// Takes the next event of any name.
    pub async fn next(&mut self) -> (String, Value) {
        if let Some(event) = self.early.pop_front() {
            return event;
        }
        match self.packet().await {
            Packet::Event(name, payload) => (name, payload),
            packet => panic!("expected an event, got {packet:?}"),
        }
    }

    /// Takes the next event, which must have this name.
    pub async fn event(&mut self, name: &str) -> Value {
        let (got, payload) = self.next().await;
        assert_eq!(got, name, "{payload}");
        payload
    }

    /// Takes everything up to an event of that name, as one text.
    pub async fn until(&mut self, name: &str) -> String {
        let mut text = String::new();
        loop {
            let (got, payload) = self.next().await;
            text += &format!("{got} {payload}\n");
            if got == name {
                return text;
            }
        }
    }

    /// Subscribes to a lead and takes the confirmation.
    pub async fn subscribe(&mut self, lead: &str) {
        let answer = self.call("lead:subscribe", json!({"leadId": lead})).await;
        assert_eq!(answer["ok"], true, "{answer}");
        let at = self.early.iter().position(|(name, payload)| name == "lead:subscribed" && payload["leadId"] == lead);
        self.early.remove(at.expect("a confirmation ahead of the ack"));
    }

    /// Checks that nothing else was sent: an ack arrives first.
    pub async fn expect_silence(&mut self) {
        self.call("lead:unsubscribe", json!({"leadId": "silence"})).await;
        let events: Vec<_> = self.early.drain(..).filter(|(_, payload)| payload["leadId"] != "silence").collect();
        assert!(events.is_empty(), "expected nothing, got {events:?}");
    }

    /// Waits until the transport is closed.
    pub async fn closed(&mut self) {
        while !matches!(self.packet().await, Packet::Closed) {}
    }

    /// Waits until the transport is closed, without any packet before.
    pub async fn ended_in_silence(&mut self) {
        match self.packet().await {
            Packet::Closed => {}
            packet => panic!("expected nothing, got {packet:?}"),
        }
    }

    async fn packet(&mut self) -> Packet {
        loop {
            let packet = timeout(PATIENCE, self.incoming.recv()).await.expect("a packet in time");
            match packet.unwrap_or(Packet::Closed) {
                Packet::Event(name, _) if name == "lead:viewers" && !self.hears_viewers => {}
                packet => return packet,
            }
        }
    }
}

/// Opens a WebSocket that has sent CONNECT, for tests that stop reading; also returns the Engine.IO session.
pub async fn open_web_socket(address: &str, connect: &str, authorization: Option<&str>) -> (WebSocket, Value) {
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
    let mut request = url.into_client_request().expect("a request");
    if let Some(authorization) = authorization {
        request.headers_mut().insert("authorization", authorization.parse().expect("a header"));
    }
    let (mut socket, _) = connect_async(request).await.expect("a WebSocket");
    let open = socket.next().await.expect("a packet").expect("a frame").into_text().expect("text");
    let session = serde_json::from_str(open.strip_prefix('0').expect("an OPEN packet")).expect("JSON");
    socket.send(Message::text(connect)).await.expect("sends CONNECT");
    (socket, session)
}

async fn run_web_socket(
    mut socket: WebSocket,
    mut from_test: mpsc::UnboundedReceiver<String>,
    to_test: mpsc::UnboundedSender<Packet>,
) {
    loop {
        tokio::select! {
            packet = from_test.recv() => {
                let Some(packet) = packet else { return };
                if socket.send(Message::text(packet)).await.is_err() {
                    return;
                }
            }
            frame = socket.next() => match frame {
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    if socket.send(Message::text("3")).await.is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Text(text))) => {
                    if let Some(packet) = parse(&text) && to_test.send(packet).is_err() {
                        return;
                    }
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                _ => return,
            },
        }
    }
}

struct Polling {
    http: reqwest::Client,
    url: String,
    authorization: Option<String>,
}

impl Polling {
    async fn open(address: &str, connect: &str, authorization: Option<&str>) -> Self {
        let url = format!("http://{address}/socket.io/?EIO=4&transport=polling");
        let authorization = authorization.map(str::to_owned);
        let mut polling = Self { http: support::http_client(), url, authorization };
        let open = polling.poll().await.expect("an OPEN packet");
        let session: Value = serde_json::from_str(open.strip_prefix('0').expect("an OPEN packet")).expect("JSON");
        polling.url += &format!("&sid={}", session["sid"].as_str().expect("a sid"));
        polling.post(connect.to_owned()).await;
        polling
    }

    async fn run(self, mut from_test: mpsc::UnboundedReceiver<String>, to_test: mpsc::UnboundedSender<Packet>) {
        let sending = async {
            while let Some(mut body) = from_test.recv().await {
                while let Ok(packet) = from_test.try_recv() {
                    body = format!("{body}\u{1e}{packet}");
                }
                if !self.post(body).await {
                    return;
                }
            }
        };
        let receiving = async {
            while let Some(payload) = self.poll().await {
                for packet in payload.split('\u{1e}') {
                    match packet {
                        "2" => drop(self.post("3".into()).await),
                        "1" => return,
                        packet => {
                            if let Some(packet) = parse(packet)
                                && to_test.send(packet).is_err()
                            {
                                return;
                            }
                        }
                    }
                }
            }
        };
        tokio::select! {
            () = sending => {}
            () = receiving => {}
        }
    }

    /// Goes over to a WebSocket (Engine.IO, "Upgrade").
    async fn upgrade(&self, address: &str) -> WebSocket {
        let (_, session) = self.url.split_once("&sid=").expect("a session");
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket&sid={session}");
        let (mut socket, _) = connect_async(url).await.expect("a WebSocket");
        socket.send(Message::text("2probe")).await.expect("sends");
        let answer = socket.next().await.expect("a packet").expect("a frame").into_text().expect("text");
        assert_eq!(answer, "3probe");
        socket.send(Message::text("5")).await.expect("sends");
        socket
    }

    async fn poll(&self) -> Option<String> {
        let response = self.request(self.http.get(&self.url)).send().await.ok()?;
        response.error_for_status().ok()?.text().await.ok()
    }

    async fn post(&self, body: String) -> bool {
        let response = self.request(self.http.post(&self.url)).body(body).send().await;
        response.is_ok_and(|response| response.status().is_success())
    }

    fn request(&self, request: reqwest::RequestBuilder) -> reqwest::RequestBuilder {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }
}

/// Parses a Socket.IO packet of the main namespace; `None` for packets that tests ignore.
fn parse(packet: &str) -> Option<Packet> {
    let json = |text: &str| serde_json::from_str::<Value>(text).expect("JSON");
    let packet = packet.strip_prefix('4')?;
    Some(match packet.split_at(1) {
        ("0", _) => Packet::Connected,
        ("1", _) => Packet::Closed,
        ("4", body) => Packet::Refused(json(body)["message"].as_str().expect("a message").to_owned()),
        ("2", body) => {
            let mut parts = json(body);
            Packet::Event(parts[0].as_str().expect("a name").to_owned(), parts[1].take())
        }
        ("3", body) => {
            let (id, body) = body.split_at(body.find('[').expect("an array"));
            Packet::Ack(id.parse().expect("an id"), json(body)[0].take())
        }
        _ => return None,
    })
}

/// Polls every few milliseconds for a condition that no event announces.
pub async fn until_true(what: &str, mut is_true: impl FnMut() -> bool) {
    let waited = timeout(PATIENCE, async {
        while !is_true() {
            sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.unwrap_or_else(|_| panic!("waited in vain: {what}"));
}
