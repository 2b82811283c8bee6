//! One Socket.IO client over WebSocket.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use mio::net::TcpStream;
use socket2::{Domain, SockRef, Type};

use crate::load::{
    frame::{self, CLOSE, Frame, PING, TEXT},
    order::Order,
    sink::Sink,
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The upgrade was asked for.
    Upgrading,
    /// The frames of the handshake are awaited.
    Greeting,
    Live,
}

pub struct Socket {
    pub stream: TcpStream,
    phase: Phase,
    /// Packet of the handshake, until it was sent.
    hello: Vec<u8>,
    /// Beginning of a frame that is not complete.
    partial: Vec<u8>,
    pub order: Order,
    /// A stalled or slow reader does not count as delivered to.
    pub counts: bool,
}

/// Opens a TCP connection from one of the loopback addresses, so that ports do not run short.
pub fn dial(address: SocketAddr, from: u8) -> Result<TcpStream> {
    let socket = socket2::Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.bind(&SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, from), 0)).into())?;
    // On loopback, a connection is established at once.
    socket.connect(&address.into()).with_context(|| format!("cannot connect to {address}"))?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    // Without it, each port would stay taken for a minute after the run.
    socket.set_linger(Some(Duration::ZERO))?;
    Ok(TcpStream::from_std(socket.into()))
}

/// Key of the example in RFC 6455: nothing here depends on it.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

impl Socket {
    /// Connects and asks for the upgrade; `auth` is the JSON of the Socket.IO handshake.
    pub fn open(address: SocketAddr, from: u8, auth: &str) -> Result<Self> {
        let mut stream = dial(address, from)?;
        let request = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: \
             Upgrade\r\nSec-WebSocket-Key: {KEY}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
        stream.write_all(request.as_bytes())?;
        let hello = frame::from_client(TEXT, format!("40{auth}").as_bytes());
        let order = Order::default();
        Ok(Self { stream, phase: Phase::Upgrading, hello, partial: Vec::new(), order, counts: true })
    }

    /// Limits what the kernel takes on behalf of a reader that does not read.
    pub fn shrink_receive_buffer(&self, bytes: usize) -> Result<()> {
        Ok(SockRef::from(&self.stream).set_recv_buffer_size(bytes)?)
    }

    pub fn emit(&mut self, packet: &str) -> Result<()> {
        self.stream.write_all(&frame::from_client(TEXT, packet.as_bytes())).context("a packet was not taken")
    }

    /// Reads what is there. A read that does not fill the buffer has emptied the socket.
    pub fn readable(&mut self, buffer: &mut [u8], sink: &mut Sink) -> Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("a connection failed"),
            };
            self.feed(&buffer[..read], sink)?;
            if read < buffer.len() {
                return Ok(());
            }
        }
    }

    /// Reads at most `buffer` once, as a slow reader does.
    pub fn sip(&mut self, buffer: &mut [u8], sink: &mut Sink) -> Result<()> {
        match self.stream.read(buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(read) => self.feed(&buffer[..read], sink),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error).context("a connection failed"),
        }
    }

    fn feed(&mut self, bytes: &[u8], sink: &mut Sink) -> Result<()> {
        let now = Instant::now();
        sink.progress += 1;
        if self.partial.is_empty() {
            let used = self.parse(bytes, sink, now)?;
            self.partial.extend_from_slice(&bytes[used..]);
            return Ok(());
        }
        let mut partial = std::mem::take(&mut self.partial);
        partial.extend_from_slice(bytes);
        let used = self.parse(&partial, sink, now)?;
        partial.drain(..used);
        self.partial = partial;
        Ok(())
    }

    /// Handles all complete frames; returns their length.
    fn parse(&mut self, bytes: &[u8], sink: &mut Sink, now: Instant) -> Result<usize> {
        let mut used = 0;
        if self.phase == Phase::Upgrading {
            let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(0) };
            if !bytes.starts_with(b"HTTP/1.1 101") {
                bail!("the upgrade was refused: {}", String::from_utf8_lossy(bytes));
            }
            (used, self.phase) = (end + 4, Phase::Greeting);
        }
        while let Some(frame) = frame::read(&bytes[used..])? {
            used += frame.length;
            self.frame(&frame, sink, now)?;
        }
        Ok(used)
    }

    fn frame(&mut self, frame: &Frame<'_>, sink: &mut Sink, now: Instant) -> Result<()> {
        match (frame.opcode, frame.payload) {
            (TEXT, [b'4', b'2', ..]) => self.event(frame, sink, now),
            (TEXT, [b'2']) => self.emit("3"),
            (TEXT, [b'0', ..]) if self.phase == Phase::Greeting => {
                let hello = std::mem::take(&mut self.hello);
                self.stream.write_all(&hello).context("the handshake was not taken")
            }
            (TEXT, [b'4', b'3', ..]) => {
                sink.replies += 1;
                Ok(())
            }
            (TEXT, [b'4', b'0', ..] | [b'3', ..] | [b'6']) => Ok(()),
            (PING, payload) => Ok(self.stream.write_all(&frame::from_client(10, payload))?),
            (CLOSE, payload) => bail!("the server closed a WebSocket: {payload:?}"),
            (_, payload) => bail!("an unexpected frame: {}", String::from_utf8_lossy(payload)),
        }
    }

    fn event(&mut self, frame: &Frame<'_>, sink: &mut Sink, now: Instant) -> Result<()> {
        let payload = frame.payload;
        if self.phase == Phase::Greeting && payload.starts_with(b"42[\"connected\"") {
            self.phase = Phase::Live;
            sink.live += 1;
            if sink.greeting.is_none() {
                sink.greeting = Some(payload.to_vec());
            }
            return Ok(());
        }
        if !self.counts {
            sink.order(payload, &mut self.order);
            return Ok(());
        }
        if !sink.event(payload, frame.length, &mut self.order, now) && payload.starts_with(sink.awaited) {
            sink.replies += 1;
        }
        Ok(())
    }
}
