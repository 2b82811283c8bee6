//! HTTP/1.1 of the load: ready requests, a reader of answers, and a blocking client for what comes before and after.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use serde_json::Value;

use crate::{load::socket, stats::latencies};

/// Answer of a server.
#[derive(Debug)]
pub struct Answer<'a> {
    pub status: u16,
    pub body: &'a [u8],
    /// Length with the head.
    pub length: usize,
}

/// Reads the answer at the beginning of `bytes`; `None` if it is not complete yet.
pub fn answer(bytes: &[u8]) -> Result<Option<Answer<'_>>> {
    let Some(end) = memchr::memmem::find(bytes, b"\r\n\r\n") else { return Ok(None) };
    let head = &bytes[..end];
    let status = head.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let status: u16 = status.with_context(|| format!("no HTTP: {}", String::from_utf8_lossy(head)))?;
    let length = match header(head, "content-length") {
        Some(length) => length.parse().context("Content-Length")?,
        None if status == 204 || status == 304 => 0,
        None => bail!("an answer without Content-Length: {}", String::from_utf8_lossy(head)),
    };
    let (start, end) = (end + 4, end + 4 + length);
    Ok(bytes.get(start..end).map(|body| Answer { status, body, length: end }))
}

pub fn header<'a>(head: &'a [u8], name: &str) -> Option<&'a str> {
    let head = std::str::from_utf8(head).ok()?;
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// Bytes of a request.
pub fn request(method: &str, path: &str, token: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: bench\r\n");
    if let Some(token) = token {
        text += &format!("Authorization: Bearer {token}\r\n");
    }
    match body {
        Some(body) => {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        }
        None if method == "POST" => text += "Content-Length: 0\r\n\r\n",
        None => text += "\r\n",
    }
    text.into_bytes()
}

/// Connection of the load: requests are written as they are due, answers are counted.
pub struct Channel {
    pub stream: mio::net::TcpStream,
    input: Vec<u8>,
    /// Times at which requests count as sent, oldest first.
    waiting: std::collections::VecDeque<Instant>,
}

/// Answers of all channels.
pub struct Answers {
    pub count: u64,
    pub latency: Histogram<u64>,
    /// Channels whose answer has come since this was last emptied.
    pub free: Vec<usize>,
}

impl Default for Answers {
    fn default() -> Self {
        Self { count: 0, latency: latencies(), free: Vec::new() }
    }
}

impl Channel {
    pub fn open(address: SocketAddr) -> Result<Self> {
        Ok(Self { stream: socket::dial(address, 1)?, input: Vec::new(), waiting: Default::default() })
    }

    pub fn send(&mut self, request: &[u8], at: Instant) -> Result<()> {
        self.waiting.push_back(at);
        self.stream.write_all(request).context("a request was not taken")
    }

    pub fn readable(&mut self, buffer: &mut [u8], index: usize, answers: &mut Answers) -> Result<()> {
        loop {
            let read = match self.stream.read(buffer) {
                // Servers close connections on which no request comes for a while.
                Ok(0) if self.waiting.is_empty() => return Ok(()),
                Ok(0) => bail!("the server closed an HTTP connection"),
                Ok(read) => read,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error).context("an HTTP connection failed"),
            };
            self.input.extend_from_slice(&buffer[..read]);
            while let Some(answer) = answer(&self.input)? {
                if answer.status >= 300 {
                    bail!("a request was answered {}: {}", answer.status, String::from_utf8_lossy(answer.body));
                }
                let length = answer.length;
                let sent = self.waiting.pop_front().context("an answer to no request")?;
                answers.count += 1;
                answers.free.push(index);
                let nanos = u64::try_from(sent.elapsed().as_nanos()).unwrap_or(u64::MAX);
                answers.latency.saturating_record(nanos);
                self.input.drain(..length);
            }
        }
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(120)))?;
    Ok(stream)
}

/// True if the server has closed a connection.
fn is_closed(stream: &TcpStream) -> Result<bool> {
    stream.set_nonblocking(true)?;
    let peeked = stream.peek(&mut [0]);
    stream.set_nonblocking(false)?;
    Ok(!matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock))
}

/// Blocking client.
pub struct Client {
    address: SocketAddr,
    stream: TcpStream,
    token: Option<String>,
    input: Vec<u8>,
}

impl Client {
    pub fn open(address: SocketAddr, token: Option<&str>) -> Result<Self> {
        Ok(Self { address, stream: connect(address)?, token: token.map(str::to_owned), input: Vec::new() })
    }

    /// Status and body of the answer.
    pub fn call(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let body = body.map(Value::to_string);
        // Servers close connections on which no request comes for a while.
        if is_closed(&self.stream)? {
            self.stream = connect(self.address)?;
        }
        self.stream.write_all(&request(method, path, self.token.as_deref(), body.as_deref()))?;
        let mut buffer = [0; 65_536];
        loop {
            if let Some(answer) = answer(&self.input)? {
                let body = if answer.body.is_empty() { Value::Null } else { serde_json::from_slice(answer.body)? };
                let (status, length) = (answer.status, answer.length);
                self.input.drain(..length);
                return Ok((status, body));
            }
            let read = self.stream.read(&mut buffer)?;
            if read == 0 {
                bail!("{method} {path} was not answered");
            }
            self.input.extend_from_slice(&buffer[..read]);
        }
    }

    /// The body of an answer that has to be a success.
    pub fn expect(&mut self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let (status, answer) = self.call(method, path, body)?;
        if status >= 300 {
            bail!("{method} {path} was answered {status}: {answer}");
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_when_its_body_is_there() {
        let text = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\netag: \"1\"\r\n\r\n{}HTTP/1.1";
        let whole = answer(text).expect("HTTP").expect("whole");
        assert_eq!((whole.status, whole.body, whole.length), (200, &b"{}"[..], text.len() - 8));
        assert_eq!(header(text, "ETag"), Some("\"1\""));
        assert!(answer(&text[..text.len() - 9]).expect("HTTP").is_none());
        answer(b"HTTP/1.1 200 OK\r\n\r\n").expect_err("no length");
    }
}
