//! The floor: a server that accepts any WebSocket and, on any HTTP request, writes one ready frame to each of them with
//! one write(2). No server that sends the same bytes to each socket of its own can cost less.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    net::Ipv4Addr,
    path::Path,
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};
use serde_json::{Value, json};

use crate::load::frame;

const LISTENER: Token = Token(usize::MAX);
/// Answer to the key that the load sends, as in RFC 6455.
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
const OPEN: &str = r#"0{"sid":"floor","upgrades":[],"pingInterval":300000,"pingTimeout":300000,"maxPayload":100000}"#;
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";

enum State {
    Http(Vec<u8>),
    WebSocket,
}

struct Connection {
    stream: TcpStream,
    state: State,
}

struct Floor {
    poll: Poll,
    listener: TcpListener,
    connections: Vec<Option<Connection>>,
    /// Packet before and after the seq.
    event: (Vec<u8>, Vec<u8>),
    seq: u64,
}

/// Serves until it is killed. Prints one line of JSON, as the reference server does.
pub fn serve(events: &Path) -> Result<()> {
    let events: Value = serde_json::from_str(&fs::read_to_string(events)?)?;
    let event = &events["lead:updated"];
    let packet = format!("42{}", json!(["lead:updated", event])).into_bytes();
    let start = frame::position(&packet).context("the event has no seq")?;
    let digits = packet[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0).into())?;
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    println!("{}", json!({"port": listener.local_addr()?.port(), "tokens": {}, "leads": [event["lead"]["id"]]}));
    let event_parts = (packet[..start].to_vec(), packet[start + digits..].to_vec());
    let seq = event["seq"].as_u64().context("a seq is a number")?;
    Floor { poll, listener, connections: Vec::new(), event: event_parts, seq }.run()
}

impl Floor {
    fn run(mut self) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; 65_536];
        loop {
            match self.poll.poll(&mut events, None) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                polled => polled?,
            }
            for event in &events {
                match event.token() {
                    LISTENER => self.accept()?,
                    Token(index) => self.readable(index, &mut buffer)?,
                }
            }
        }
    }

    fn accept(&mut self) -> Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            stream.set_nodelay(true)?;
            self.poll.registry().register(&mut stream, Token(self.connections.len()), Interest::READABLE)?;
            self.connections.push(Some(Connection { stream, state: State::Http(Vec::new()) }));
        }
    }

    fn readable(&mut self, index: usize, buffer: &mut [u8]) -> Result<()> {
        let Some(connection) = &mut self.connections[index] else { return Ok(()) };
        let read = match connection.stream.read(buffer) {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => 0,
        };
        if read == 0 {
            self.connections[index] = None;
            return Ok(());
        }
        match &mut connection.state {
            State::Http(input) => {
                input.extend_from_slice(&buffer[..read]);
                self.requests(index)
            }
            State::WebSocket => {
                // The load masks with zeros, so that its packets can be read as they are.
                if memchr::memmem::find(&buffer[..read], b"40{").is_some() {
                    let hello = json!(["connected", {"seq": self.seq, "epoch": "floor"}]);
                    let packets = [
                        frame::from_server(br#"40{"sid":"floor"}"#),
                        frame::from_server(format!("42{hello}").as_bytes()),
                    ];
                    send(&mut connection.stream, &packets.concat())?;
                }
                Ok(())
            }
        }
    }

    /// Answers all complete requests of a connection.
    fn requests(&mut self, index: usize) -> Result<()> {
        loop {
            let Some(Connection { stream, state }) = &mut self.connections[index] else { return Ok(()) };
            let State::Http(input) = state else { return Ok(()) };
            let Some(end) = memchr::memmem::find(input, b"\r\n\r\n") else { return Ok(()) };
            let head = &input[..end];
            if crate::load::http::header(head, "upgrade").is_some() {
                let upgrade = format!(
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: \
                     Upgrade\r\nSec-WebSocket-Accept: {ACCEPT}\r\n\r\n"
                );
                send(stream, &[upgrade.as_bytes(), &frame::from_server(OPEN.as_bytes())].concat())?;
                *state = State::WebSocket;
                return Ok(());
            }
            let body = crate::load::http::header(head, "content-length").map_or(Ok(0), str::parse::<usize>)?;
            if input.len() < end + 4 + body {
                return Ok(());
            }
            input.drain(..end + 4 + body);
            self.publish();
            if let Some(connection) = &mut self.connections[index] {
                send(&mut connection.stream, OK)?;
            }
        }
    }

    /// The floor itself: one write per socket.
    fn publish(&mut self) {
        self.seq += 1;
        let packet = [&self.event.0[..], self.seq.to_string().as_bytes(), &self.event.1].concat();
        let frame = frame::from_server(&packet);
        for slot in &mut self.connections {
            if let Some(connection) = slot
                && matches!(connection.state, State::WebSocket)
                && send(&mut connection.stream, &frame).is_err()
            {
                *slot = None;
            }
        }
    }
}

/// Writes everything; waits where the kernel has no room.
fn send(stream: &mut TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_micros(50)),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
