//! Webhooks: sent only to granted hosts and addresses, signed, with a clear reason for each failure.

mod destination;
mod message;
mod response;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::HeaderMap,
    response::{IntoResponse, Response},
};
use leadwire::{
    app::Clock,
    domain::time::Timestamp,
    effects::webhook::{Lookup, Names, SendError, Sender, WebhookMessage},
    plugin::WebhookGrant,
};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

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
