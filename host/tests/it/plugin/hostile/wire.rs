//! A minimal HTTP/1.1 and Socket.IO client that can send invalid input.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, tungstenite::Message};

/// Longer than any timeout of the server that an input can trigger.
const PATIENCE: Duration = Duration::from_secs(30);

/// Target server, with the data of a valid client.
pub struct Target {
    pub address: String,
    pub token: String,
    pub lead: String,
    pub secret: String,
}

pub struct Answer {
    pub status: u16,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(300).collect()
    }
}

/// Action after all bytes are sent.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Wait,
    /// Close our half: otherwise the server waits for the rest of an incomplete request.
    Close,
}

/// Sends bytes over a new connection; returns nothing if the server only closed it.
pub async fn exchange(address: &str, bytes: &[u8], then: Then) -> Result<Option<Answer>, String> {
    let mut stream = TcpStream::connect(address).await.map_err(|error| format!("cannot connect: {error}"))?;
    let (mut reader, mut writer) = stream.split();
    let mut received = Vec::new();
    let sending = async {
        // A server that has refused the head need not read the rest.
        let _ = writer.write_all(bytes).await;
        if then == Then::Close {
            let _ = writer.shutdown().await;
        }
    };
    let receiving = async {
        let mut chunk = vec![0; 16 * 1024];
        loop {
            match reader.read(&mut chunk).await {
                Ok(0) | Err(_) => break,
                Ok(count) => received.extend_from_slice(&chunk[..count]),
            }
            if complete(&received) {
                break;
            }
        }
    };
    timeout(PATIENCE, async { tokio::join!(sending, receiving) }).await.map_err(|_| "no answer in time".to_owned())?;
    Ok(parse(&received))
}

fn complete(received: &[u8]) -> bool {
    let Some((head, body)) = split(received) else { return false };
    head.to_ascii_lowercase()
        .lines()
        .find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok())
        .is_some_and(|length| body.len() >= length)
}

fn parse(received: &[u8]) -> Option<Answer> {
    let (head, body) = split(received)?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some(Answer { status, body: body.to_vec() })
}

fn split(received: &[u8]) -> Option<(String, &[u8])> {
    let end = received.windows(4).position(|window| window == b"\r\n\r\n")?;
    Some((String::from_utf8_lossy(&received[..end]).into_owned(), &received[end + 4..]))
}

/// Opens and connects a polling session; returns its id.
pub async fn polling_session(address: &str, token: &str) -> Result<String, String> {
    let opened = poll(address, "GET", "", b"").await?.ok_or("no polling session")?;
    let text = opened.text();
    let open: Value =
        serde_json::from_str(text.trim_start_matches('0')).map_err(|_| format!("an odd opening {text}"))?;
    let sid = open["sid"].as_str().ok_or("a session without an id")?.to_owned();
    let connect = format!("40{}", serde_json::json!({"token": token}));
    let answer = poll(address, "POST", &sid, connect.as_bytes()).await?;
    match answer {
        Some(Answer { status: 200, .. }) => Ok(sid),
        _ => Err("a good packet was refused".into()),
    }
}

pub async fn poll(address: &str, method: &str, sid: &str, body: &[u8]) -> Result<Option<Answer>, String> {
    let sid = if sid.is_empty() { String::new() } else { format!("&sid={sid}") };
    let head = format!(
        "{method} /socket.io/?EIO=4&transport=polling{sid} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\
         content-type: text/plain;charset=UTF-8\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    exchange(address, &[head.as_bytes(), body].concat(), Then::Wait).await
}

/// A Socket.IO client over WebSocket.
pub struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub async fn connect(address: &str, token: &str) -> Result<Self, String> {
        let token = serde_json::json!({"token": token});
        Self::connect_with(address, &token).await?.map_err(|message| format!("a good socket was refused: {message}"))
    }

    /// A connected socket, or the message of its refusal.
    pub async fn connect_with(address: &str, auth: &Value) -> Result<Result<Self, String>, String> {
        let url = format!("ws://{address}/socket.io/?EIO=4&transport=websocket");
        let (stream, _) = timeout(PATIENCE, tokio_tungstenite::connect_async(url))
            .await
            .map_err(|_| "no WebSocket in time")?
            .map_err(|error| format!("no WebSocket: {error}"))?;
        let mut socket = Self(stream);
        socket.packet('0').await?;
        socket.send(Message::text(format!("40{auth}"))).await?;
        let answer = socket.packet('4').await?;
        if let Some(refusal) = answer.strip_prefix("44") {
            let refusal: Value = serde_json::from_str(refusal).map_err(|_| format!("an odd refusal {refusal}"))?;
            return Ok(Err(refusal["message"].as_str().unwrap_or_default().to_owned()));
        }
        socket.event("connected").await?;
        Ok(Ok(socket))
    }

    pub async fn send(&mut self, message: Message) -> Result<(), String> {
        timeout(PATIENCE, self.0.send(message))
            .await
            .map_err(|_| "the server does not read".to_owned())?
            .map_err(|error| error.to_string())
    }

    /// The payload of the next event of that name.
    pub async fn event(&mut self, name: &str) -> Result<Value, String> {
        loop {
            let packet = self.packet('4').await?;
            let Some(Value::Array(mut event)) = packet.strip_prefix("42").and_then(|it| serde_json::from_str(it).ok())
            else {
                continue;
            };
            if event.first().is_some_and(|first| first == name) {
                return Ok(event.get_mut(1).map(Value::take).unwrap_or_default());
            }
        }
    }

    /// Waits for a refusal: an `error` event, or the ack with that id and `ok: false`.
    pub async fn refusal(&mut self, ack: Option<u32>) -> Result<(), String> {
        let prefix = ack.map(|ack| format!("43{ack}["));
        loop {
            let packet = self.packet('4').await?;
            if let Some(prefix) = &prefix {
                let Some(answer) = packet.strip_prefix(prefix.as_str()) else { continue };
                let refused = answer.contains("\"ok\":false") && answer.contains("\"code\"");
                return if refused { Ok(()) } else { Err(format!("answered {packet}")) };
            }
            if packet.starts_with("42[\"error\"") {
                let is_refusal = packet.contains("\"message\"") && packet.contains("\"code\"");
                return if is_refusal { Ok(()) } else { Err(format!("answered {packet}")) };
            }
        }
    }

    /// Waits until the server has handled all input: it answers another request, or has ended the connection.
    pub async fn settled(&mut self) -> Result<(), String> {
        let probe = "42987654[\"lead:unsubscribe\",{\"leadId\":\"settled\"}]";
        if self.send(Message::text(probe)).await.is_err() {
            return Ok(());
        }
        loop {
            match self.packet('4').await {
                Err(error) if error == CLOSED => return Ok(()),
                Err(error) => return Err(error),
                Ok(packet) if packet.starts_with("43987654[") => return Ok(()),
                // An unexpected packet closes the namespace, then the connection.
                Ok(packet) if packet.starts_with("41") => return Ok(()),
                Ok(_) => {}
            }
        }
    }

    /// The next packet of that Engine.IO type; pings are answered on the way.
    async fn packet(&mut self, kind: char) -> Result<String, String> {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.map_err(|_| "no packet in time")?;
            match message {
                None | Some(Err(_) | Ok(Message::Close(_))) => return Err(CLOSED.into()),
                Some(Ok(Message::Text(text))) if text.as_str() == "2" => {
                    self.send(Message::text("3")).await.map_err(|_| CLOSED)?;
                }
                Some(Ok(Message::Text(text))) if text.starts_with(kind) => return Ok(text.to_string()),
                Some(Ok(_)) => {}
            }
        }
    }
}

const CLOSED: &str = "the connection was ended";
