//! Webhooks: sent only to granted hosts and addresses, signed, with a clear reason for each failure.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::stream;
use hmac::{Hmac, KeyInit, Mac};
use leadwire::{
    app::Clock,
    domain::time::Timestamp,
    effects::webhook::{Lookup, Names, SendError, Sender, WebhookMessage},
    plugin::WebhookGrant,
};
use serde_json::{Value, json};
use sha2::Sha256;
use tokio::{io::AsyncReadExt, net::TcpSocket, sync::mpsc, time::timeout};

use crate::socket_client::PATIENCE;

const SECRET: &str = "whsec_bGVhZHdpcmUtd2ViaG9vay10ZXN0LXNlY3JldC0wMQ==";
const NOW: &str = "2026-05-01T12:00:05.250Z";

/// A clock that always returns the same time.
struct At(&'static str);

impl Clock for At {
    fn now(&self) -> Timestamp {
        self.0.parse().expect("a time")
    }

    fn id(&self) -> uuid::Uuid {
        uuid::Uuid::nil()
    }
}

/// A resolver that answers each query with the next list, then repeats the last one.
struct Answers {
    lists: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

impl Answers {
    fn new<const N: usize>(lists: [&[&str]; N]) -> Arc<Self> {
        let parse = |list: &&[&str]| list.iter().map(|text| text.parse().expect("an address")).collect();
        Arc::new(Self { lists: lists.iter().map(parse).collect(), asked: AtomicUsize::new(0) })
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Names for Answers {
    fn lookup(&self, _host: String) -> Lookup {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let list = self.lists.get(turn).or(self.lists.last()).cloned();
        Box::pin(async move { list.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// Request that a receiver got.
pub struct Request {
    headers: HeaderMap,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).unwrap_or_else(|| panic!("no {name} in {:?}", self.headers)).to_str().expect("text")
    }
}

/// A server that records its requests and always gives the same response.
pub struct Receiver {
    pub address: SocketAddr,
    requests: mpsc::UnboundedReceiver<Request>,
}

type Shared = (mpsc::UnboundedSender<Request>, Arc<dyn Fn() -> Response + Send + Sync>);

impl Receiver {
    pub async fn answering<R: IntoResponse>(answer: impl Fn() -> R + Send + Sync + 'static) -> Self {
        let (heard, requests) = mpsc::unbounded_channel();
        let note = async |State((heard, answer)): State<Shared>, headers: HeaderMap, body: Bytes| {
            let body = String::from_utf8(body.to_vec()).expect("text");
            heard.send(Request { headers, body }).expect("the test is still there");
            answer()
        };
        let shared: Shared = (heard, Arc::new(move || answer().into_response()));
        let router = Router::new().fallback(note).with_state(shared);
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, requests }
    }

    pub fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/in", self.address.port())
    }

    pub async fn next(&mut self) -> Request {
        timeout(PATIENCE, self.requests.recv()).await.expect("it is sent something").expect("it is there")
    }

    fn heard_nothing(&mut self) -> bool {
        self.requests.try_recv().is_err()
    }
}

/// A port that does not respond and counts connections.
struct Trap(TcpListener);

impl Trap {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a setting");
        Self(listener)
    }

    fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    fn is_untouched(&self) -> bool {
        self.0.accept().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn sender(names: &Arc<Answers>) -> Sender {
    Sender::with_names(PATIENCE, Arc::new(At(NOW)), Arc::clone(names) as Arc<dyn Names>)
}

fn grant<const N: usize>(hosts: &[&str], networks: [&str; N]) -> WebhookGrant {
    WebhookGrant {
        hosts: hosts.iter().map(|&host| host.into()).collect(),
        networks: networks.iter().map(|network| network.parse().expect("a network")).collect(),
        secret: Some(SECRET.into()),
    }
}

async fn post(sender: &Sender, grant: &WebhookGrant, url: &str) -> Result<(), SendError> {
    let at = "2026-05-01T12:00:00.000Z".parse().expect("a time");
    let data = json!({"lead": {"title": "Dächer", "id": "1"}});
    let message = WebhookMessage { plugin: "audit-webhook", id: "msg_1", url, kind: "lead.updated", at, data: &data };
    timeout(PATIENCE, sender.send(grant, &message)).await.expect("it ends")
}

/// Sends to a granted receiver and returns the result.
async fn post_to(receiver: &Receiver) -> Result<(), SendError> {
    let host = format!("127.0.0.1:{}", receiver.address.port());
    post(&sender(&Answers::new([])), &grant(&[&host], ["127.0.0.1/32"]), &receiver.url("127.0.0.1")).await
}

fn refusal(result: Result<(), SendError>) -> String {
    let error = result.expect_err("refused");
    assert!(!error.retry && error.retry_after.is_none(), "{error:?}");
    error.reason
}

fn passing(result: Result<(), SendError>) -> SendError {
    let error = result.expect_err("not taken");
    assert!(error.retry, "{error:?}");
    error
}

#[tokio::test]
async fn a_message_is_posted_in_standard_webhooks_format() {
    let mut receiver = Receiver::answering(|| StatusCode::NO_CONTENT).await;
    let names = Answers::new([&["127.0.0.1"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let sent = post(&sender(&names), &grant(&[&host], ["127.0.0.0/8"]), &receiver.url("hooks.example.com")).await;
    assert_eq!(sent, Ok(()));
    let request = receiver.next().await;
    assert_eq!(
        request.body,
        r#"{"type":"lead.updated","timestamp":"2026-05-01T12:00:00.000Z","data":{"lead":{"title":"Dächer","id":"1"}}}"#
    );
    for (name, value) in [
        ("webhook-id", "msg_1"),
        ("webhook-timestamp", "1777636805"),
        ("content-type", "application/json"),
        ("user-agent", concat!("leadwire/", env!("CARGO_PKG_VERSION"))),
        ("host", &host),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    let key = STANDARD.decode(&SECRET["whsec_".len()..]).expect("base64");
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).expect("a key");
    mac.update(format!("msg_1.1777636805.{}", request.body).as_bytes());
    assert_eq!(request.header("webhook-signature"), format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())));
}

#[tokio::test]
async fn a_host_without_a_grant_is_not_resolved() {
    let names = Answers::new([&["127.0.0.1"]]);
    let granted = grant(&["hooks.example.com", "hooks.example.com:8443", "b.example:80"], ["127.0.0.0/8"]);
    for (url, host) in [
        ("https://example.com/", "example.com"),
        ("https://evil.hooks.example.com/", "evil.hooks.example.com"),
        ("https://hooks.example.com.evil.example/", "hooks.example.com.evil.example"),
        ("https://hooks.example.com./", "hooks.example.com."),
        ("https://hooks.example.com:8444/", "hooks.example.com:8444"),
        ("http://hooks.example.com:443/", "hooks.example.com:443"),
        ("https://b.example/", "b.example"),
        ("https://b.example:8443/", "b.example:8443"),
        ("https://evil.example\\@hooks.example.com/", "evil.example"),
        ("https://evil.example#@hooks.example.com/", "evil.example"),
    ] {
        let reason = refusal(post(&sender(&names), &granted, url).await);
        let line = format!("add \"{host}\" to webhook_hosts below [grant] in audit-webhook.toml");
        assert!(reason.contains(&format!("{host} is not granted")) && reason.contains(&line), "{url}: {reason}");
    }
    for url in ["https://user@hooks.example.com/", "https://:secret@hooks.example.com/"] {
        assert!(
            refusal(post(&sender(&names), &granted, url).await).contains("expected no user name or password"),
            "{url}"
        );
    }
    for url in ["", "hooks.example.com", "ftp://hooks.example.com/", "file:///etc/passwd", "https://", "https://[/"] {
        assert!(refusal(post(&sender(&names), &granted, url).await).contains("url: expected"), "{url}");
    }
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn a_granted_host_matches_in_every_notation() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let names = Answers::new([&["127.0.0.1"]]);
    let port = receiver.address.port();
    for (entry, host) in [
        ("hooks.example.com", "HOOKS.Example.COM"),
        ("Hooks.Example.com", "hooks.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "BÜCHER.example"),
        ("127.0.0.1", "0x7f.1"),
        ("[::ffff:127.0.0.1]", "[::FFFF:7f00:1]"),
    ] {
        let granted = grant(&[&format!("{entry}:{port}")], ["127.0.0.0/8"]);
        assert_eq!(post(&sender(&names), &granted, &receiver.url(host)).await, Ok(()), "{entry} {host}");
        receiver.next().await;
    }
}

#[tokio::test]
async fn an_invalid_host_in_a_grant_allows_nothing() {
    let names = Answers::new([&["127.0.0.1"]]);
    let entries =
        ["", "*", "*.example.com", "https://hooks.example.com", "hooks.example.com/in", "x@hooks.example.com"];
    let reason = refusal(post(&sender(&names), &grant(&entries, ["127.0.0.0/8"]), "https://hooks.example.com/").await);
    assert!(reason.contains("hooks.example.com is not granted"), "{reason}");
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn a_name_with_an_internal_address_is_refused_with_the_address() {
    let trap = Trap::new();
    let host = format!("hooks.example.com:{}", trap.port());
    for address in [
        "127.0.0.1",
        "::1",
        "::ffff:127.0.0.1",
        "::127.0.0.1",
        "0.0.0.0",
        "::",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "fd00::1",
        "fe80::1",
        "64:ff9b::7f00:1",
        "2002:7f00:1::",
        "224.0.0.1",
        "192.0.2.1",
    ] {
        let names = Answers::new([&[address]]);
        let reason = refusal(post(&sender(&names), &grant(&[&host], []), &format!("https://{host}/")).await);
        let shown: IpAddr = address.parse().expect("an address");
        assert!(
            reason.starts_with(&format!("hooks.example.com is at {shown}, where audit-webhook may not")),
            "{reason}"
        );
        assert!(reason.contains("webhook_networks = [\""), "{reason}");
    }
    let names = Answers::new([&["10.0.0.1", "127.0.0.1"]]);
    let reason = refusal(post(&sender(&names), &grant(&[&host], ["192.168.0.0/16"]), &format!("http://{host}/")).await);
    assert!(reason.contains(r#"webhook_networks = ["10.0.0.1/32", "127.0.0.1/32"]"#), "{reason}");
    assert!(trap.is_untouched());
}

#[tokio::test]
async fn only_granted_addresses_of_a_name_are_used() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    // The first three do not respond; trying one would take until the deadline.
    let names = Answers::new([&["10.255.255.1", "192.0.2.1", "240.0.0.1", "127.0.0.1"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let sent = post(&sender(&names), &grant(&[&host], ["127.0.0.1/32"]), &format!("http://{host}/")).await;
    assert_eq!(sent, Ok(()));
    receiver.next().await;
}

#[tokio::test]
async fn a_name_is_resolved_once_per_delivery() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let names = Answers::new([&["127.0.0.1"], &["127.0.0.2"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let (sender, granted) = (sender(&names), grant(&[&host], ["127.0.0.1/32"]));
    assert_eq!(post(&sender, &granted, &format!("http://{host}/")).await, Ok(()));
    receiver.next().await;
    assert_eq!(names.asked(), 1);
}

#[tokio::test]
async fn a_connection_made_under_one_grant_is_not_used_under_another() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let names = Answers::new([&["127.0.0.1"]]);
    let host = format!("hooks.example.com:{}", receiver.address.port());
    let (sender, url) = (sender(&names), format!("http://{host}/"));
    assert_eq!(post(&sender, &grant(&[&host], ["127.0.0.1/32"]), &url).await, Ok(()));
    receiver.next().await;
    assert!(refusal(post(&sender, &grant(&[&host], ["10.0.0.0/8"]), &url).await).contains("is at 127.0.0.1"));
    assert!(receiver.heard_nothing());
}

#[tokio::test]
async fn an_address_in_a_url_is_checked_in_every_notation() {
    let trap = Trap::new();
    let (names, port) = (Answers::new([]), trap.port());
    for (spelling, address) in [
        ("127.0.0.1", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("%31%32%37.1", "127.0.0.1"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("[::1]", "::1"),
        ("[::]", "::"),
        ("[::ffff:127.0.0.1]", "::ffff:127.0.0.1"),
        ("[::ffff:7f00:1]", "::ffff:127.0.0.1"),
        ("[0:0:0:0:0:ffff:127.1.1.1]", "::ffff:127.1.1.1"),
        ("[64:ff9b::127.0.0.1]", "64:ff9b::7f00:1"),
        ("169.254.169.254", "169.254.169.254"),
    ] {
        let entry = format!("{spelling}:{port}");
        for (scheme, networks) in [("https", "10.0.0.0/8"), ("http", "10.0.0.0/8")] {
            let granted = grant(&[&entry, "127.0.0.1"], [networks]);
            let url = format!("{scheme}://{spelling}:{port}/");
            let reason = refusal(post(&sender(&names), &granted, &url).await);
            assert!(reason.starts_with(&format!("the url names {address}, where")), "{url}: {reason}");
        }
    }
    assert!(trap.is_untouched());
    assert_eq!(names.asked(), 0);
}

#[tokio::test]
async fn plain_http_is_limited_to_granted_networks() {
    let names = Answers::new([&["1.1.1.1"]]);
    let url = "http://hooks.example.com/";
    let reason = refusal(post(&sender(&names), &grant(&["hooks.example.com"], []), url).await);
    assert!(reason.contains("expected https") && reason.contains("webhook_networks"), "{reason}");
    let reason = refusal(post(&sender(&names), &grant(&["hooks.example.com"], ["10.0.0.0/8"]), url).await);
    assert!(reason.starts_with("hooks.example.com is at 1.1.1.1"), "{reason}");
}

#[tokio::test]
async fn https_uses_tls_with_the_name_of_the_host() {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let host = format!("hooks.example.com:{}", listener.local_addr().expect("an address").port());
    let (names, granted) = (Answers::new([&["127.0.0.1"]]), grant(&[&host], ["127.0.0.1/32"]));
    let (sender, url) = (sender(&names), format!("https://{host}/"));
    let accept = async {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        let mut hello = [0; 512];
        let length = connection.read(&mut hello).await.expect("something");
        hello[..length].to_vec()
    };
    let (sent, hello) = tokio::join!(post(&sender, &granted, &url), accept);
    assert!(hello.starts_with(&[0x16, 0x03]), "a TLS handshake: {hello:?}");
    assert!(hello.windows(17).any(|window| window == b"hooks.example.com"), "names the host: {hello:?}");
    passing(sent);
}

#[tokio::test]
async fn without_a_valid_secret_nothing_is_sent_and_the_error_shows_the_setting() {
    let mut receiver = Receiver::answering(|| StatusCode::OK).await;
    let host = format!("127.0.0.1:{}", receiver.address.port());
    let (names, url) = (Answers::new([]), receiver.url("127.0.0.1"));
    let mut granted = grant(&[&host], ["127.0.0.1/32"]);
    granted.secret = None;
    let reason = refusal(post(&sender(&names), &granted, &url).await);
    assert!(reason.contains("add webhook_secret = \"whsec_...\" to the top of audit-webhook.toml"), "{reason}");
    granted.secret = Some("whsec_c2hvcnQ=".into());
    let reason = refusal(post(&sender(&names), &granted, &url).await);
    assert!(reason.contains("webhook_secret in audit-webhook.toml: expected 24 to 64"), "{reason}");
    assert!(!reason.contains("c2hvcnQ"), "{reason}");
    assert!(receiver.heard_nothing());
}

#[tokio::test]
async fn the_response_status_decides_about_a_retry() {
    for (status, retry) in [
        (400, false),
        (401, false),
        (404, false),
        (410, false),
        (422, false),
        (408, true),
        (425, true),
        (429, true),
        (500, true),
        (502, true),
        (503, true),
        (504, true),
    ] {
        let answer = move || (StatusCode::from_u16(status).expect("a status"), [("retry-after", "7")], "not today");
        let error = post_to(&Receiver::answering(answer).await).await.expect_err("not taken");
        let wait = retry.then_some(Duration::from_secs(7));
        assert_eq!((error.retry, error.retry_after), (retry, wait), "{status}");
        let is_explained = error.reason.contains(&status.to_string()) && error.reason.ends_with(": not today");
        assert!(is_explained && error.reason.starts_with("127.0.0.1:"), "{}", error.reason);
    }
    for status in [200, 201, 202, 204] {
        let receiver = Receiver::answering(move || StatusCode::from_u16(status).expect("a status")).await;
        assert_eq!(post_to(&receiver).await, Ok(()), "{status}");
    }
}

#[tokio::test]
async fn retry_after_may_be_a_date_and_is_capped() {
    for (value, seconds) in
        [("Fri, 01 May 2026 12:01:05 GMT", 59), ("Sat, 01 May 2027 00:00:00 GMT", 3600), ("9999999", 3600)]
    {
        let receiver = Receiver::answering(move || (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", value)])).await;
        let wait = passing(post_to(&receiver).await).retry_after.expect("a wait");
        assert_eq!(wait.as_secs(), seconds, "{value}");
    }
    let receiver = Receiver::answering(|| (StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "soon")])).await;
    assert_eq!(passing(post_to(&receiver).await).retry_after, None);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    for status in [301, 302, 303, 307, 308] {
        let trap = Trap::new();
        let location = format!("http://127.0.0.1:{}/admin", trap.port());
        let redirect = {
            let location = location.clone();
            move || (StatusCode::from_u16(status).expect("a status"), [("location", location.clone())])
        };
        let reason = refusal(post_to(&Receiver::answering(redirect).await).await);
        assert!(reason.contains(&format!("{status}")) && reason.contains(&location), "{reason}");
        assert!(reason.ends_with("redirects are not followed") && trap.is_untouched(), "{reason}");
    }
}

#[tokio::test]
async fn an_endless_response_is_read_up_to_a_limit() {
    let endless = |status: StatusCode| {
        move || (status, Body::from_stream(stream::repeat_with(|| Ok::<_, io::Error>("0123456789"))))
    };
    let error = passing(post_to(&Receiver::answering(endless(StatusCode::INTERNAL_SERVER_ERROR)).await).await);
    assert!((100..400).contains(&error.reason.len()), "{}", error.reason);
    assert_eq!(post_to(&Receiver::answering(endless(StatusCode::OK)).await).await, Ok(()));
}

#[tokio::test]
async fn a_receiver_that_does_not_respond_times_out_and_is_retried() {
    let trap = Trap::new();
    let host = format!("127.0.0.1:{}", trap.port());
    let sender = Sender::with_names(Duration::from_millis(200), Arc::new(At(NOW)), Answers::new([]));
    let error = passing(post(&sender, &grant(&[&host], ["127.0.0.1/32"]), &format!("http://{host}/")).await);
    assert_eq!(error.reason, format!("{host} did not answer within 200ms"));
}

#[tokio::test]
async fn an_unreachable_receiver_is_retried() {
    // Bound, so that no other process gets the port, but not listening.
    let unused = TcpSocket::new_v4().expect("a socket");
    unused.bind((Ipv4Addr::LOCALHOST, 0).into()).expect("a port");
    let host = format!("hooks.example.com:{}", unused.local_addr().expect("an address").port());
    let (granted, url) = (grant(&[&host], ["127.0.0.1/32"]), format!("http://{host}/?token=secret"));
    let error = passing(post(&sender(&Answers::new([&["127.0.0.1"]])), &granted, &url).await);
    assert!(error.reason.starts_with(&format!("{host} cannot be reached: ")), "{}", error.reason);
    let error = passing(post(&sender(&Answers::new([])), &granted, &url).await);
    assert!(error.reason.ends_with("no such name") && !error.reason.contains("token"), "{}", error.reason);
    let error = passing(post(&sender(&Answers::new([&[]])), &granted, &url).await);
    assert!(error.reason.ends_with("the name has no address"), "{}", error.reason);
}

#[tokio::test]
async fn a_message_with_an_invalid_header_value_is_refused() {
    let receiver = Receiver::answering(|| StatusCode::OK).await;
    let host = format!("127.0.0.1:{}", receiver.address.port());
    let (url, at, data) = (receiver.url("127.0.0.1"), NOW.parse().expect("a time"), Value::Null);
    let message = WebhookMessage { plugin: "p", id: "line\nbreak", url: &url, kind: "x", at, data: &data };
    let sent = sender(&Answers::new([])).send(&grant(&[&host], ["127.0.0.1/32"]), &message).await;
    assert!(refusal(sent).starts_with("cannot build a request"));
}
