//! Inputs of attackers, fuzzers and broken clients. The seeded generator makes the same inputs on every run.

pub(super) mod dice;
mod requests;
mod socket;
mod tokens;
mod values;

use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;

use crate::plugin::hostile::{
    inputs::{
        dice::Dice,
        requests::{body, header, id, query},
        socket::{dice_packet, engine, event, packets, raw},
        tokens::token,
    },
    wire::Target,
};

pub enum Input {
    Request(Request),
    /// Bytes that are not HTTP.
    Raw {
        kind: &'static str,
        bytes: Vec<u8>,
    },
    /// A Socket.IO handshake with an invalid token.
    Handshake {
        token: Value,
    },
    /// A body posted to a separate polling session.
    Polled {
        body: Vec<u8>,
    },
    Frames(Frames),
}

pub struct Request {
    pub kind: &'static str,
    pub method: &'static str,
    pub path: String,
    pub headers: Vec<(&'static str, Vec<u8>)>,
    pub body: Vec<u8>,
    /// Unusual, but need not be refused.
    pub harmless: bool,
    /// The status, if only one is correct.
    pub status: Option<u16>,
    /// So large that the server may close before it is sent completely.
    pub may_be_cut: bool,
}

pub struct Frames {
    pub frames: Vec<Message>,
    /// Set if each event is well-formed and must be refused: by the ack with that id, or by an `error` event.
    pub refusal: Option<Option<u32>>,
}

impl Input {
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Request(request) => request.kind,
            Self::Raw { kind, .. } => kind,
            Self::Handshake { .. } => "handshake",
            Self::Polled { .. } => "polled packets",
            Self::Frames(Frames { refusal: Some(_), .. }) => "bad event",
            Self::Frames(_) => "bad packet",
        }
    }

    pub fn shown(&self) -> String {
        let short = |text: String| text.chars().take(400).collect();
        match self {
            Self::Request(request) => short(format!(
                "{} {} {:?} {}",
                request.method,
                request.path,
                request.headers.iter().map(|(name, value)| (name, lossy(value))).collect::<Vec<_>>(),
                lossy(&request.body)
            )),
            Self::Raw { bytes, .. } | Self::Polled { body: bytes } => short(lossy(bytes)),
            Self::Handshake { token } => short(token.to_string()),
            Self::Frames(frames) => short(format!("{:?}", frames.frames)),
        }
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned()
}

impl Request {
    fn new(kind: &'static str, method: &'static str, path: impl Into<String>, target: &Target) -> Self {
        let bearer = format!("Bearer {}", target.token).into_bytes();
        Self {
            kind,
            method,
            path: path.into(),
            headers: vec![("authorization", bearer)],
            body: Vec::new(),
            harmless: false,
            status: None,
            may_be_cut: false,
        }
    }

    fn json(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self.headers.push(("content-type", b"application/json".to_vec()));
        self
    }

    pub fn bytes(&self, address: &str) -> Vec<u8> {
        let mut bytes =
            format!("{} {} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n", self.method, self.path).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", self.body.len()).as_bytes());
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

pub fn any(dice: &mut Dice, target: &Target) -> Input {
    match dice.below(100) {
        0..30 => Input::Request(body(dice, target)),
        30..40 => Input::Request(header(dice, target)),
        40..48 => Input::Request(id(dice, target)),
        48..60 => Input::Request(query(dice, target)),
        60..72 => {
            let mut request = Request::new("token", "GET", "/api/auth/me", target);
            let token = token(dice, target);
            // Beyond some length the head itself is refused.
            request.status = (token.len() < 4000).then_some(401);
            request.may_be_cut = token.len() >= 4000;
            request.headers = vec![("authorization", format!("Bearer {token}").into_bytes())];
            Input::Request(request)
        }
        72..76 => {
            let odd = dice.not("text");
            let forged = token(dice, target);
            Input::Handshake { token: if dice.below(8) == 0 { odd } else { forged.into() } }
        }
        76..80 => raw(dice, target),
        80..85 => Input::Request(engine(dice, target)),
        85..88 => Input::Polled { body: dice_packet(dice).into_bytes() },
        88..93 => Input::Frames(packets(dice)),
        _ => Input::Frames(event(dice, target)),
    }
}
