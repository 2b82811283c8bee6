//! One Socket.IO client over HTTP long polling, on one connection.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use serde_json::Value;

use crate::load::{http, order::Order, sink::Sink, socket};

/// Separates the packets of one answer.
const SEPARATOR: u8 = 0x1E;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Awaited {
    /// The answer with the id of the session.
    Session,
    /// The answer to packets that were posted.
    Posted,
    Packets,
}

pub struct Poller {
    pub stream: TcpStream,
    awaited: Awaited,
    path: String,
    /// Packet of the handshake, until it was sent.
    hello: String,
    is_live: bool,
    input: Vec<u8>,
    order: Order,
}

impl Poller {
    pub fn open(address: SocketAddr, from: u8, auth: &str) -> Result<Self> {
        let path = "/socket.io/?EIO=4&transport=polling".to_owned();
        let mut poller = Self {
            stream: socket::dial(address, from)?,
            awaited: Awaited::Session,
            path,
            hello: format!("40{auth}"),
            is_live: false,
            input: Vec::new(),
            order: Order::default(),
        };
        poller.get()?;
        Ok(poller)
    }

    fn get(&mut self) -> Result<()> {
        let request = format!("GET {} HTTP/1.1\r\nHost: bench\r\n\r\n", self.path);
        self.stream.write_all(request.as_bytes()).context("a poll was not taken")
    }

    fn post(&mut self, packet: &str) -> Result<()> {
        self.awaited = Awaited::Posted;
        let length = packet.len();
        let head = format!("POST {} HTTP/1.1\r\nHost: bench\r\nContent-Type: text/plain;charset=UTF-8\r\n", self.path);
        let request = format!("{head}Content-Length: {length}\r\n\r\n{packet}");
        self.stream.write_all(request.as_bytes()).context("a packet was not taken")
    }

    pub fn readable(&mut self, buffer: &mut [u8], sink: &mut Sink) -> Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a polling connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("a polling connection failed"),
            };
            sink.progress += 1;
            self.input.extend_from_slice(&buffer[..read]);
            let mut input = std::mem::take(&mut self.input);
            let mut used = 0;
            while let Some(answer) = http::answer(&input[used..])? {
                if answer.status != 200 {
                    bail!("a poll was answered {}: {}", answer.status, String::from_utf8_lossy(answer.body));
                }
                used += answer.length;
                self.answered(answer.body, sink)?;
            }
            input.drain(..used);
            self.input = input;
        }
    }

    fn answered(&mut self, body: &[u8], sink: &mut Sink) -> Result<()> {
        let mut pong = false;
        match self.awaited {
            Awaited::Session => {
                let open: Value = serde_json::from_slice(body.get(1..).unwrap_or_default())?;
                self.path = format!("{}&sid={}", self.path, open["sid"].as_str().context("a session has an id")?);
                let hello = std::mem::take(&mut self.hello);
                return self.post(&hello);
            }
            Awaited::Posted => {}
            Awaited::Packets => {
                let now = Instant::now();
                for packet in body.split(|byte| *byte == SEPARATOR) {
                    pong |= packet == b"2";
                    self.packet(packet, sink, now)?;
                }
            }
        }
        if pong {
            return self.post("3");
        }
        self.awaited = Awaited::Packets;
        self.get()
    }

    fn packet(&mut self, packet: &[u8], sink: &mut Sink, now: Instant) -> Result<()> {
        match packet {
            [b'4', b'2', ..] if !self.is_live && packet.starts_with(b"42[\"connected\"") => {
                self.is_live = true;
                sink.live += 1;
            }
            [b'4', b'2', ..] => {
                sink.event(packet, packet.len(), &mut self.order, now);
            }
            [b'2' | b'6'] | [b'4', b'0' | b'3', ..] => {}
            _ => bail!("an unexpected packet: {}", String::from_utf8_lossy(packet)),
        }
        Ok(())
    }
}
