//! Inputs of attackers, fuzzers and broken clients. The seeded generator makes the same inputs on every run.

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio_tungstenite::tungstenite::Message;

use crate::plugin::hostile::wire::Target;

/// SplitMix64: a small generator with stable output.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("below a usize")
    }

    fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..=self.below(most)).map(|_| self.next().to_le_bytes()[0]).collect()
    }

    /// Text that is hard on parsers, logs, SQL and paths.
    fn text(&mut self) -> String {
        let number = self.next();
        match self.below(10) {
            0 => "' OR 1=1; DROP TABLE leads; --".into(),
            1 => "../../../../etc/passwd".into(),
            2 => "\u{0}\u{1}\u{7f}\u{202e}\u{feff}".into(),
            3 => "\r\nset-cookie: a=b\r\n\r\n".into(),
            4 => "%s%n${jndi:ldap://x}{{7*7}}".into(),
            5 => "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 \u{10ffff}é\u{301}".repeat(1 + self.below(20)),
            6 => "a".repeat(300 + self.below(12_000)),
            7 => "__proto__".into(),
            8 => String::from_utf8_lossy(&self.bytes(60)).into_owned(),
            _ => format!("{number:x}"),
        }
    }

    /// A JSON value of any type except the wanted one.
    fn not(&mut self, wanted: &str) -> Value {
        loop {
            let value = match self.below(6) {
                0 => json!(true),
                1 => json!(self.next()),
                2 => json!(["x", 1]),
                3 => json!({"x": {"y": []}}),
                4 => json!(self.text()),
                _ => json!(-1.5e300),
            };
            let kind = match &value {
                Value::Bool(_) => "flag",
                Value::Number(_) => "number",
                Value::String(_) => "text",
                Value::Array(_) => "array",
                _ => "object",
            };
            if kind != wanted {
                return value;
            }
        }
    }
}

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

const TEXTS: [&str; 7] = ["contactName", "company", "email", "phone", "source", "currency", "description"];

/// An invalid field of a lead.
fn bad_lead_member(dice: &mut Dice) -> (String, Value) {
    match dice.below(12) {
        0 => ("title".into(), dice.not("text")),
        1 => (dice.pick(&TEXTS).into(), dice.not("text")),
        2 => ("status".into(), dice.text().into()),
        3 => ("status".into(), dice.not("text")),
        4 => ("valueCents".into(), dice.pick(&[json!(-1), json!(1.5), json!(u64::MAX), json!(1e300), json!("1")])),
        5 => ("custom".into(), dice.not("object")),
        6 => ("email".into(), dice.pick(&["@", "a@", "a b@c.example", "a@b@c", "a@b.example\u{0}"]).into()),
        7 => ("title".into(), "x".repeat(201 + dice.below(5000)).into()),
        8 => ("description".into(), "a\u{0}b".into()),
        9 => ("custom".into(), serde_json::from_str(&nested("{\"a\":", "1", "}", 20 + dice.below(80))).expect("JSON")),
        10 => ("ownerId".into(), dice.text().into()),
        _ => (format!("x{}", dice.text()), json!(1)),
    }
}

fn bad_activity(dice: &mut Dice) -> Value {
    match dice.below(6) {
        0 => json!({"type": dice.text()}),
        1 => json!({"type": dice.pick(&["STATUS_CHANGE", "ASSIGNMENT"])}),
        2 => {
            json!({"type": "NOTE", "dueAt": dice.pick(&["yesterday", "2024-13-01T00:00:00Z", "99999-01-01T00:00:00Z", ""])})
        }
        3 => json!({"type": "NOTE", "body": dice.not("text")}),
        4 => json!({"type": "NOTE", "meta": dice.not("object")}),
        _ => json!({"type": "NOTE", "leadID": 1}),
    }
}

fn bad_user(dice: &mut Dice) -> Value {
    let mut user =
        json!({"email": "new@example.com", "name": "New", "role": "VIEWER", "password": "long enough for all"});
    match dice.below(5) {
        0 => user["role"] = dice.text().into(),
        1 => user["password"] = "short".into(),
        2 => user["active"] = dice.not("flag"),
        3 => user["email"] = dice.not("text"),
        _ => user["isAdmin"] = true.into(),
    }
    user
}

fn nested(open: &str, inner: &str, close: &str, depth: usize) -> String {
    format!("{}{inner}{}", open.repeat(depth), close.repeat(depth))
}

/// Bytes that are not JSON, or JSON that is not an object.
fn broken_json(dice: &mut Dice) -> Vec<u8> {
    let depth = 1000 + dice.below(30_000);
    match dice.below(14) {
        0 => Vec::new(),
        1 => b"{\"title\":".to_vec(),
        2 => b"{'title':'x'}".to_vec(),
        3 => b"{\"title\":\"x\",}".to_vec(),
        4 => b"{\"title\":\"\\ud800\"}".to_vec(),
        5 => b"{\"title\":\"\xff\xfe\"}".to_vec(),
        6 => b"\xfe\xff\0{\0}".to_vec(),
        7 => b"{\"title\":\"x\"} {\"title\":\"y\"}".to_vec(),
        8 => b"{\"title\":\"x\",\"valueCents\":1e99999}".to_vec(),
        9 => nested("[", "", "]", depth).into_bytes(),
        10 => nested("{\"a\":", "1", "}", depth / 3).into_bytes(),
        11 => {
            dice.pick(&["null", "true", "5", "\"x\"", "[]", "[{}]", "NaN", "-", "\"\\u12\"", "{\"a\":\"\t\"}"]).into()
        }
        12 => "[".repeat(depth).into_bytes(),
        _ => dice.bytes(400),
    }
}

fn body(dice: &mut Dice, target: &Target) -> Request {
    let lead = &target.lead;
    let (method, path, body) = match dice.below(9) {
        0 => ("POST", "/api/leads".into(), {
            let (member, value) = bad_lead_member(dice);
            let mut lead = json!({"title": "Roof"});
            lead[member] = value;
            lead
        }),
        1 | 2 => ("PATCH", format!("/api/leads/{lead}"), {
            let (member, value) = bad_lead_member(dice);
            Value::Object([(member, value)].into_iter().collect())
        }),
        3 => ("POST", format!("/api/leads/{lead}/assign"), {
            let bad = [json!({}), json!({"ownerId": "me"}), json!({"owner": null}), json!({"ownerId": 7})];
            dice.pick(&bad)
        }),
        4 => ("POST", format!("/api/leads/{lead}/activities"), bad_activity(dice)),
        5 => ("POST", "/api/users".into(), bad_user(dice)),
        6 => ("POST", "/api/auth/login".into(), {
            let bad = [json!({"email": 5, "password": []}), json!({"email": "a@b.example"}), json!({"x": 1})];
            dice.pick(&bad)
        }),
        7 => ("POST", "/api/auth/refresh".into(), {
            let bad = [json!({"refreshToken": dice.text()}), json!({"refreshToken": dice.not("text")}), json!({})];
            dice.pick(&bad)
        }),
        _ => ("POST", "/api/auth/password".into(), {
            let bad = [
                json!({"currentPassword": "x"}),
                json!({"currentPassword": dice.not("text"), "newPassword": "long enough for all"}),
                json!({"currentPassword": "x", "newPassword": "long enough for all", "userId": "x"}),
            ];
            dice.pick(&bad)
        }),
    };
    let request = Request::new("body", method, path, target);
    match dice.below(40) {
        0..15 => request.json(broken_json(dice)),
        15 => {
            let mut request =
                request.json(format!("{{\"title\":\"{}\"}}", "x".repeat(300_000 + dice.below(3_000_000))));
            (request.kind, request.may_be_cut) = ("large body", true);
            request
        }
        _ => request.json(body.to_string()),
    }
}

fn header(dice: &mut Dice, target: &Target) -> Request {
    let lead = format!("/api/leads/{}", target.lead);
    let mut request = Request::new("header", "GET", lead.clone(), target);
    let printable = |text: String| text.replace(['\r', '\n', '\0'], "?").into_bytes();
    match dice.below(10) {
        0 => {
            let odd = ["", "Bearer", "Bearer ", "Basic YTpi", "bearer a b c", "Bearer \u{ff}", "Token x", "Bearer ."];
            request.headers = vec![("authorization", dice.pick(&odd).into())];
            request.status = Some(401);
        }
        1 => {
            request.headers = Vec::new();
            request.status = Some(401);
        }
        2 => {
            let mut garbled = b"Bearer ".to_vec();
            garbled.extend(dice.bytes(60).into_iter().filter(|byte| !matches!(byte, 0..32 | 127)));
            request.headers = vec![("authorization", garbled)];
            request.status = Some(401);
        }
        3 => {
            request = Request::new("header", "PATCH", lead, target).json("{\"title\":\"Roof\"}");
            request.headers.push(("if-match", printable(dice.text())));
            request.may_be_cut = true;
        }
        4 => {
            request = Request::new("header", "POST", "/api/leads", target).json("{\"title\":\"Roof\"}");
            request.headers.push(("idempotency-key", dice.pick(&["k".repeat(5000), "\u{7}\u{8}".into()]).into_bytes()));
            request.may_be_cut = true;
        }
        5 => {
            let types = ["text/xml", "multipart/form-data", "application/x-www-form-urlencoded", "x", ""];
            request = Request::new("header", "POST", "/api/leads", target);
            request.body = b"{\"title\":\"Roof\"}".to_vec();
            request.headers.push(("content-type", dice.pick(&types).into()));
        }
        6 => {
            let length = 200_000 + dice.below(800_000);
            request.headers.push(("x-large", vec![b'x'; length]));
            request.may_be_cut = true;
        }
        7 => {
            request.headers.extend((0..150 + dice.below(100)).map(|_| ("x-many", b"x".to_vec())));
            request.may_be_cut = true;
        }
        8 => {
            request.method = dice.pick(&["FOO", "TRACE", "PUT", "OPTIONS", "PROPFIND", "LONGERTHANANYMETHOD"]);
            request.harmless = true;
        }
        _ => {
            let names = [
                "accept",
                "accept-encoding",
                "x-request-id",
                "origin",
                "range",
                "if-none-match",
                "cookie",
                "forwarded",
            ];
            request.headers.push((dice.pick(&names), printable(dice.text())));
            request.harmless = true;
        }
    }
    request
}

/// Percent-encodes all characters except those that are always safe.
fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

fn id(dice: &mut Dice, target: &Target) -> Request {
    let garbage = encoded(&dice.text());
    let uuid = format!("{:08x}-0000-7000-8000-{:012x}", dice.below(1 << 31), dice.below(1 << 40));
    let odd = ["00000000-0000-0000-0000-000000000000", "-1", "undefined", "%00", "%ff%fe", "..%2f..", "0x1f", "%"];
    let id = match dice.below(3) {
        0 => garbage,
        1 => uuid,
        _ => dice.pick(&odd).to_owned(),
    };
    match dice.below(7) {
        0 => Request::new("id", "GET", format!("/api/leads/{id}"), target),
        1 => Request::new("id", "PATCH", format!("/api/leads/{id}"), target).json("{\"title\":\"x\"}"),
        2 => Request::new("id", "DELETE", format!("/api/leads/{id}"), target),
        3 => Request::new("id", "POST", format!("/api/leads/{id}/activities"), target).json("{\"type\":\"NOTE\"}"),
        4 => Request::new("id", "GET", format!("/api/users/{id}"), target),
        5 => Request::new("id", "PATCH", format!("/api/activities/{id}"), target).json("{\"body\":\"x\"}"),
        _ => Request::new("id", "GET", format!("/api/leads/{id}/history"), target),
    }
}

fn query(dice: &mut Dice, target: &Target) -> Request {
    let limit = dice.pick(&["-1", "0", "201", "1e9", "99999999999999999999", "x", "1;", "%00"]);
    let cursor = match dice.below(4) {
        0 => encoded(&dice.text()),
        1 => BASE64_URL_SAFE_NO_PAD.encode(dice.bytes(80)),
        2 => BASE64_URL_SAFE_NO_PAD.encode(json!({"sort": "updatedAt", "after": dice.next(), "id": "x"}).to_string()),
        _ => BASE64_URL_SAFE_NO_PAD.encode(format!("[\"{}\",{}]", "x".repeat(dice.below(3000)), dice.next())),
    };
    let (path, harmless) = match dice.below(11) {
        0 => (format!("/api/leads?limit={limit}"), false),
        1 => (format!("/api/leads?cursor={cursor}"), false),
        2 => (format!("/api/leads/{}/activities?cursor={cursor}", target.lead), false),
        3 => (format!("/api/leads/{}/history?limit={limit}", target.lead), false),
        4 => (format!("/api/users?cursor={cursor}"), false),
        5 => (
            format!("/api/leads?sort={}", dice.pick(&["password", "-", "title%20desc", "updatedAt,id", "%27", "1"])),
            false,
        ),
        6 => (format!("/api/leads?status={}", dice.pick(&["new", "OPEN", "%00", "1", "NEW,OPEN"])), false),
        7 => (format!("/api/leads?ownerId={}", dice.pick(&["me", "-1", "%27%27", "00000000"])), false),
        8 => (format!("/api/leads?createdAfter={}", dice.pick(&["now", "-1", "2024-02-31", "0000", "%00"])), false),
        9 => (format!("/api/leads?{}=1", dice.pick(&["role", "select", "__proto__", "Limit", "%20limit"])), false),
        _ => (format!("/api/leads?q={}", encoded(&dice.text())), true),
    };
    let mut request = Request::new("query", "GET", path, target);
    request.harmless = harmless;
    request
}

fn signed(header: &Value, claims: &str, secret: &str) -> String {
    let head =
        format!("{}.{}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), BASE64_URL_SAFE_NO_PAD.encode(claims));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any key length is valid");
    mac.update(head.as_bytes());
    format!("{head}.{}", BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes()))
}

/// A token that must be refused.
fn token(dice: &mut Dice, target: &Target) -> String {
    let mut header = json!({"alg": "HS256", "typ": "JWT", "kid": "test"});
    let id = "019a0000-0000-7000-8000-000000000000";
    let mut claims = json!({
        "sub": id, "sid": id, "iat": 1, "exp": 4_000_000_000_u64, "iss": "leadwire", "aud": "leadwire", "role": "ADMIN",
    });
    let secret = target.secret.as_str();
    let parts: Vec<&str> = target.token.split('.').collect();
    match dice.below(16) {
        // Valid claims with another signature algorithm.
        0 => {
            header["alg"] = dice.pick(&["none", "None", "NONE", "nOnE"]).into();
            let end = dice.pick(&["", "x", parts[2]]);
            return format!("{}.{}.{end}", BASE64_URL_SAFE_NO_PAD.encode(header.to_string()), parts[1]);
        }
        1 => {
            header["alg"] = dice.pick(&["RS256", "ES256", "EdDSA", "PS512", "HS384", "HS512", "HS1", ""]).into();
            let good = BASE64_URL_SAFE_NO_PAD.decode(parts[1]).expect("our own token");
            return signed(&header, &String::from_utf8_lossy(&good), secret);
        }
        2 => {
            let at = dice.below(target.token.len());
            let mut bytes = target.token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            return String::from_utf8(bytes).expect("ASCII");
        }
        3 => return format!("{}.{}", parts[0], parts[1]),
        4 => return format!("{}.{}.{}.{}", parts[0], parts[1], parts[2], parts[2]),
        5 => return dice.pick(&["..", ".", "a.b.c", "=.=.=", "e30.e30.", "bnVsbA.bnVsbA.bnVsbA"]).into(),
        6 => return BASE64_URL_SAFE_NO_PAD.encode(dice.bytes(500)),
        // A valid signature with invalid claims.
        7 => {
            header["kid"] =
                dice.pick(&[json!("../../dev/null"), json!(5), json!("x".repeat(3000)), json!({}), json!("")]);
        }
        8 => header["jwk"] = json!({"kty": "oct", "k": "AAAA"}),
        9 => {
            claims["exp"] =
                dice.pick(&[json!("4000000000"), json!(-1), json!(0), json!(1e300), json!(null), json!([])]);
        }
        10 => claims["sub"] = dice.not("text"),
        11 => claims["iss"] = dice.pick(&[json!("evil"), json!(null), json!(["leadwire"]), json!("")]),
        12 => claims["aud"] = dice.pick(&[json!("evil"), json!(null), json!([]), json!({"leadwire": 1})]),
        13 => claims["sid"] = dice.pick(&[json!(null), json!("x"), json!(1), json!([id])]),
        14 => claims["x"] = "x".repeat(1000 + dice.below(60_000)).into(),
        _ => return signed(&header, &nested("[", "", "]", 10 + dice.below(2000)), secret),
    }
    signed(&header, &claims.to_string(), secret)
}

fn raw(dice: &mut Dice, target: &Target) -> Input {
    let bearer = &target.token;
    let bytes = match dice.below(12) {
        0 => dice.bytes(2000),
        1 => b"GET / HTTP/9.9\r\n\r\n".to_vec(),
        2 => b"GET /api/leads HTTP/1.1\r\nhost: a\r\ncontent-length: x\r\n\r\n".to_vec(),
        3 => b"POST /api/leads HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nabcdef".to_vec(),
        4 => format!("POST /api/leads HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\nxx\r\n0\r\n\r\n").into_bytes(),
        5 => b"POST /api/leads HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\ncontent-length: 4\r\n\r\n0\r\n\r\n".to_vec(),
        6 => b"GET /api/leads HTTP/1.1\r\nhost a\r\n\r\n".to_vec(),
        7 => b"GET /api/leads HTTP/1.1\r\nho\x00st: a\r\n\r\n".to_vec(),
        8 => format!("GET /{} HTTP/1.1\r\nhost: a\r\n\r\n", "x".repeat(70_000 + dice.below(400_000))).into_bytes(),
        9 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\xff\xff\xff\xff\xff\xff\xff".to_vec(),
        10 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(),
        _ => b"GET http://[::1/ HTTP/1.1\r\nhost: [\r\nauthorization: Bearer x\r\n\r\n".to_vec(),
    };
    Input::Raw { kind: "raw bytes", bytes }
}

fn engine(dice: &mut Dice, target: &Target) -> Request {
    let sid = encoded(&dice.text());
    let post = dice.below(2) == 0;
    let path = match dice.below(8) {
        0 => "/socket.io/".into(),
        1 => format!("/socket.io/?EIO={}&transport=polling", dice.pick(&["", "2", "5", "-4", "x", "4%00"])),
        2 => format!("/socket.io/?EIO=4&transport={}", dice.pick(&["", "tcp", "webtransport", "websocket", "POLLING"])),
        3 => format!("/socket.io/?EIO=4&transport=polling&sid={sid}"),
        4 => "/socket.io/?EIO=4&transport=websocket&sid=AAAAAAAAAAAAAAAA".into(),
        5 => format!("/socket.io/?transport=polling&sid={sid}&sid={sid}"),
        6 => "/socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA".into(),
        _ => format!("/socket.io/?{}", "a=1&".repeat(1 + dice.below(2000))),
    };
    let mut request = Request::new("engine", if post { "POST" } else { "GET" }, path, target);
    request.may_be_cut = true;
    if post {
        request.body = if dice.below(2) == 0 { dice_packet(dice).into_bytes() } else { dice.bytes(3000) };
    }
    request
}

/// One invalid Engine.IO text packet.
fn dice_packet(dice: &mut Dice) -> String {
    let depth = 200 + dice.below(40_000);
    let fixed = [
        "4",
        "49",
        "4x",
        "42",
        "42[]",
        "42[1]",
        "42[null,{}]",
        "42{}",
        "42[\"",
        "42[\"lead:subscribe\"",
        "6",
        "0",
        "2probe",
        "9",
        "45-1-[\"x\"]",
        "459999999999-[\"x\",{\"_placeholder\":true,\"num\":0}]",
        "451-[\"lead:subscribe\"]",
        "451-[\"lead:subscribe\",{\"_placeholder\":true,\"num\":99}]",
        "46[]",
        "461-1[]",
        "43[]",
        "4399999999999999999999[]",
        "43-1[{}]",
        "40/admin,{}",
        "41/admin,",
        "42/admin,[\"x\"]",
        "40{\"token\":1}",
        "44{}",
        "42\u{0}[\"x\"]",
        "b4AAAA",
        "b!!!!",
        "4251[\"connect\",1]",
        "42[\"disconnect\"]",
        "42[\"__proto__\",{\"__proto__\":{}}]",
        "\u{1e}\u{1e}\u{1e}",
        "4\u{1e}42",
    ];
    match dice.below(10) {
        0 => format!("42[\"lead:subscribe\",{}]", nested("[", "", "]", depth)),
        1 => format!("42[\"lead:subscribe\",{}", nested("{\"a\":", "1", "", depth)),
        2 => format!("42[\"{}\"]", "x".repeat(300_000 + dice.below(200_000))),
        3 => format!("4{}", String::from_utf8_lossy(&dice.bytes(300))),
        4 => format!("42{}", json!([dice.text(), {}])),
        _ => dice.pick(&fixed).to_owned(),
    }
}

fn packets(dice: &mut Dice) -> Frames {
    let frames = (0..=dice.below(3))
        .flat_map(|_| match dice.below(5) {
            0 => vec![Message::binary(dice.bytes(5000))],
            // Attachments: complete, too few, too many, or for an event that accepts none.
            1 => {
                let announced = dice.below(5);
                let holes: Vec<_> = (0..announced).map(|number| json!({"_placeholder": true, "num": number})).collect();
                let packet = format!("45{announced}-[\"lead:subscribe\",{}]", Value::Array(holes));
                let sent = dice.below(6);
                let attachments = (0..sent).map(|_| Message::binary(dice.bytes(2000)));
                std::iter::once(Message::text(packet)).chain(attachments).collect()
            }
            _ => vec![Message::text(dice_packet(dice))],
        })
        .collect();
    Frames { frames, refusal: None }
}

/// A well-formed event with an invalid request.
fn event(dice: &mut Dice, target: &Target) -> Frames {
    let lead = &target.lead;
    let (member, value) = bad_lead_member(dice);
    let patch = Value::Object([(member.clone(), value.clone())].into_iter().collect());
    let mut fields = json!({"title": "Roof"});
    fields[member] = value;
    let mut activity = bad_activity(dice);
    activity["leadId"] = lead.as_str().into();
    let odd_id =
        dice.pick(&[json!(5), json!(""), json!(null), json!([]), json!({}), json!("x".repeat(129)), json!(true)]);
    let unknown = dice.pick(&["00000000-0000-0000-0000-000000000000", "x", "\u{0}", "'", "-1"]);
    let (name, payload) = match dice.below(11) {
        0 => ("lead:subscribe".into(), json!({"leadId": odd_id})),
        1 => ("lead:subscribe".into(), dice.pick(&[json!(null), json!(5), json!([]), json!("x"), json!({})])),
        2 => ("lead:unsubscribe".into(), json!({"leadId": odd_id})),
        3 => ("lead:create".into(), fields),
        4 => ("lead:update".into(), json!({"leadId": lead, "patch": patch})),
        5 => ("lead:update".into(), json!({"leadId": unknown, "patch": {"title": "x"}})),
        6 => ("lead:delete".into(), json!({"leadId": odd_id})),
        7 => ("lead:assign".into(), json!({"leadId": lead, "ownerId": dice.text()})),
        8 => ("activity:create".into(), activity),
        9 => ("auth:refresh".into(), json!({"token": token(dice, target).chars().take(9000).collect::<String>()})),
        // The library treats a name with escapes as a bad packet.
        _ => (format!("x:{:x}", dice.next()), json!({"leadId": lead})),
    };
    let ack = (dice.below(2) == 0).then_some(7);
    let number = ack.map(|ack| ack.to_string()).unwrap_or_default();
    let frames = vec![Message::text(format!("42{number}{}", json!([name, payload])))];
    // socketioxide cannot read an event name with JSON escapes: it ends the connection, as for invalid JSON.
    let is_escaped = json!(name).to_string().contains('\\');
    Frames { frames, refusal: (!is_escaped).then_some(ack) }
}
