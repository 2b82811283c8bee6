//! How much of what was handed to socketioxide has left: the only way to know how full its queue is.
//!
//! That queue tells nothing but "full", and a full one has no room for the heartbeat either, which then takes
//! a slow client for dead. So a [`Flow`] counts what a session's transports have sent, polls and WebSocket
//! alike, and a [`Meter`] compares it with what its writer has handed over and keeps the queue part empty.

use std::{
    collections::{HashMap, VecDeque},
    future::ready,
    net::IpAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{Request, State},
    http::{Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::BodyExt;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::{
    hangup::{hang_up_on, unless_hung_up},
    is_for_engine,
    limits::{self, Pace, Place, Places},
    query::EngineQuery,
    returns::Returns,
};
use crate::{
    auth,
    transport::{
        address::ClientAddress,
        connection::Connection,
        event_names::{self, Payload, SEPARATOR},
        frames::Ending,
    },
};

/// Of the 128 places in socketioxide's queue; the others are for heartbeats and the engine's own packets.
const MAX_PACKETS: usize = 96;
const MAX_BYTES: u64 = 256 * 1024;
/// How long a posted body may take to arrive.
const POST_TIMEOUT: Duration = Duration::from_secs(30);
/// What a client is told to wait, in seconds, whose address has far too many connections.
const CROWD_WAIT: &str = "5";
/// An OPEN packet is much shorter.
const MAX_OPEN_BYTES: usize = 4096;

/// What the transports of one Engine.IO session have sent.
#[derive(Default)]
pub(super) struct Flow {
    progress: Mutex<Progress>,
    polled: Notify,
    /// What its writer has handed over, counted as what was sent is.
    handed: AtomicU64,
    more_handed: Notify,
    hung_up: CancellationToken,
    /// Counts it among the connections of its address, and whether that had all it may already.
    place: OnceLock<Place<IpAddr>>,
    handshakes: AtomicU32,
    /// How fast packets may come in, events or not.
    pace: OnceLock<Pace>,
    /// Where it is listed, once its session has a name.
    listed: OnceLock<(String, Flows)>,
    /// A request of it broke off or was refused, after which a stock client gives up the session.
    has_failed: AtomicBool,
    /// The client has said that it ends the session; what becomes of its other requests says nothing any more.
    is_ending: AtomicBool,
}

/// One request of a session. Where its connection breaks, nothing is left of it but this being dropped.
struct Attempt {
    flow: Arc<Flow>,
    has_succeeded: bool,
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.has_succeeded && !self.flow.is_ending.load(Ordering::Relaxed) {
            self.flow.has_failed.store(true, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
struct Progress {
    /// By polls, and by WebSockets that are gone.
    before: u64,
    /// The WebSocket's connection, and what it had sent when it became one.
    web_socket: Option<(Connection, u64)>,
    /// When the last request came.
    last_asked: Option<Instant>,
}

/// The sessions that began with polling, by their `sid`.
#[derive(Clone, Default)]
pub(super) struct Flows(Arc<Listed>);

#[derive(Default)]
struct Listed {
    flows: Mutex<HashMap<String, Weak<Flow>>>,
    /// Sessions of each address, those that began with WebSocket too.
    addresses: Places<IpAddr>,
    limits: limits::Settings,
    /// In bytes, of what is posted at once.
    max_payload: usize,
    /// No session begins any more.
    is_shut: AtomicBool,
    /// Those that come back from the process before.
    returns: OnceLock<Returns>,
    /// Service that answers the requests of every session; `None` before the first poll, and once the server is gone.
    engine: Mutex<Option<Next>>,
}

/// How a client went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parting {
    /// On purpose.
    Left,
    /// Its connection failed, or was ended here.
    Lost,
    /// As clients that poll do in either case.
    Unclear,
}

/// Watches the requests of Engine.IO sessions go by.
pub(super) async fn watch(State(flows): State<Flows>, mut request: Request, next: Next) -> Response {
    if !is_for_engine(request.uri().path()) {
        return next.run(request).await;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let Ok(query) = EngineQuery::parse(&query) else {
        let body = r#"{"code":3,"message":"Bad request: a parameter is given twice or in an odd way"}"#;
        return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    };
    // Before the first read, which would tell a client that waits for `100 Continue` to go ahead.
    if request.body().size_hint().lower() > flows.0.max_payload as u64 {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let is_web_socket = query.is_web_socket();
    let connection = request.extensions().get::<Connection>().filter(|_| is_web_socket).cloned();
    let Some(sid) = query.sid else {
        // Told over HTTP: a stock client that is told in the handshake never tries again. And first, so that an
        // address that is over its limit does not take up the pace at which the others come back.
        let Some(flow) = flows.begin(&request) else {
            limits::hit("connections_per_address");
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, CROWD_WAIT)]).into_response();
        };
        // What is no request for a session is answered so, and lets nobody wait.
        let opens = request.method() == Method::GET && query.opens();
        if flows.is_shut() || (opens && !flows.admit()) {
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
        }
        if let Some(connection) = &connection {
            flow.upgrade(connection);
        }
        flows.0.engine.lock().get_or_insert_with(|| next.clone());
        // socketioxide keeps the first request of a session as long as the session itself.
        request.extensions_mut().insert(flow.clone());
        let response = next.run(request).await;
        if let Some(connection) = connection.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            connection.begin_web_socket();
            flow.count_packets_of(&connection);
        }
        return if is_web_socket { response } else { flows.list(&flow, response).await };
    };
    let flow = flows.0.flows.lock().get(sid).and_then(Weak::upgrade);
    let Some(flow) = flow else { return next.run(request).await };
    flow.progress.lock().last_asked = Some(Instant::now());
    let is_poll = !is_web_socket && request.method() == Method::GET;
    let is_post = request.method() == Method::POST;
    flow.count_packets(1);
    if is_poll {
        // It goes on in spite of what failed before.
        flow.has_failed.store(false, Ordering::Relaxed);
    }
    // A WebSocket that comes to nothing changes nothing: a stock client goes on to poll.
    let mut attempt = Attempt { flow: flow.clone(), has_succeeded: is_web_socket };
    let answer = async {
        let request = match is_post {
            true => flow.look_at_post(request, flows.0.max_payload).await,
            false => request,
        };
        next.run(request).await
    };
    let answer = unless_hung_up(&flow.hung_up, answer);
    let response = match is_post {
        // A post is answered once it is read, and socketioxide waits for its body for ever.
        true => match timeout(POST_TIMEOUT, answer).await {
            Ok(response) => response,
            Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
        },
        false => answer.await,
    };
    // Not by what was asked for: who asks in vain does not get rid of the connection that is known.
    if let Some(connection) = connection.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        connection.begin_web_socket();
        flow.upgrade(&connection);
        flow.count_packets_of(&connection);
    }
    attempt.has_succeeded |= response.status().is_success();
    if is_poll && response.status().is_success() {
        flow.progress.lock().before += response.body().size_hint().exact().unwrap_or_default();
        flow.polled.notify_waiters();
    }
    response
}

impl Flows {
    /// Releases the engine, which holds its sockets, and they these sessions: without this, none of them is ever freed.
    pub(super) fn release_engine(&self) {
        *self.0.engine.lock() = None;
    }

    pub(super) fn new(limits: limits::Settings, max_payload: usize) -> Self {
        Self(Arc::new(Listed { limits, max_payload, ..Listed::default() }))
    }

    /// A new session, counted for its address before anything is known of it.
    ///
    /// Only a handshake can tell a client why it is refused; so one too many is let in to be told that. An address
    /// that has as many again waiting for it gets none any more.
    fn begin(&self, request: &Request) -> Option<Arc<Flow>> {
        let Listed { addresses, limits, .. } = &*self.0;
        let flow = Flow::default();
        let _ = flow.pace.set(Pace::of_packets(limits));
        if let Some(ClientAddress(address)) = request.extensions().get().copied() {
            let _ = flow.place.set(addresses.take(auth::network(address), limits.connections_per_address)?);
        }
        Some(Arc::new(flow))
    }

    /// How many sessions are counted, for whichever address.
    pub(super) fn counted(&self) -> usize {
        self.0.addresses.taken()
    }

    pub(super) fn len(&self) -> usize {
        self.0.flows.lock().len()
    }

    /// How many sessions are listed of which a request failed.
    pub(super) fn failed(&self) -> usize {
        self.0.flows.lock().values().filter_map(Weak::upgrade).filter(|flow| flow.has_failed()).count()
    }

    /// Lets sessions begin at a pace, for as long as `span`, because so many are expected back.
    pub(super) fn expect_back(&self, sessions: usize, span: Duration) {
        if let Some(returns) = Returns::new(sessions, span) {
            let _ = self.0.returns.set(returns);
        }
    }

    /// Whether a session may begin now.
    fn admit(&self) -> bool {
        self.0.returns.get().is_none_or(|returns| returns.admit(Instant::now()))
    }

    fn is_shut(&self) -> bool {
        self.0.is_shut.load(Ordering::Relaxed)
    }

    /// Lets no session begin any more.
    pub(super) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::Relaxed);
    }

    /// Lists a session under the name that it is just being given.
    async fn list(&self, flow: &Arc<Flow>, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, MAX_OPEN_BYTES).await.unwrap_or_default();
        let open: Option<Value> = bytes.strip_prefix(b"0").and_then(|json| serde_json::from_slice(json).ok());
        if let Some(sid) = open.as_ref().and_then(|open| open["sid"].as_str()) {
            self.0.flows.lock().insert(sid.into(), Arc::downgrade(flow));
            let _ = flow.listed.set((sid.into(), self.clone()));
        }
        Response::from_parts(parts, Body::from(bytes))
    }
}

impl Flow {
    /// Ends the session's WebSocket, where it has one; its requests are refused from now on.
    pub(super) fn hang_up(&self) {
        self.hung_up.cancel();
        if let Some((connection, _)) = &self.progress.lock().web_socket {
            connection.cut();
        }
    }

    /// Whether the client ended the session on purpose, when its transport was closed (or else failed).
    ///
    /// A transport is closed by a Close frame, by Engine.IO's own packet, and by us. A client that polls sends that
    /// packet also when a request failed and it is about to come back, and nobody can tell whether that was so where
    /// the request did not get here.
    pub(super) fn parting(&self, is_closed: bool) -> Parting {
        if self.hung_up.is_cancelled() {
            return Parting::Lost;
        }
        let ending = self.progress.lock().web_socket.as_ref().and_then(|(connection, _)| connection.ending());
        match ending {
            Some(Ending::Left) => Parting::Left,
            Some(Ending::GaveUp) => Parting::Lost,
            None if is_closed && !self.has_failed() => Parting::Unclear,
            None => Parting::Lost,
        }
    }

    /// Whether a request of a session that polls broke off or was refused, and none came to poll again. A stock client
    /// gives it up for that.
    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) && self.progress.lock().web_socket.is_none()
    }

    /// Whether the client has posted that it ends the session.
    pub(super) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// When the client last sent anything.
    pub(super) fn last_heard(&self) -> Option<Instant> {
        let progress = self.progress.lock();
        let by_web_socket = progress.web_socket.as_ref().and_then(|(connection, _)| connection.last_heard());
        progress.last_asked.max(by_web_socket)
    }

    /// Counts packets that came in, whatever they are. Most are answered by the engine, which tells nobody; a session
    /// that sends them again and again too fast is hung up on.
    fn count_packets(&self, count: u32) {
        let Some(pace) = self.pace.get() else { return };
        for _ in 0..count {
            if pace.take().is_ok() || !pace.refuse(std::time::Instant::now()) {
                continue;
            }
            if !self.hung_up.is_cancelled() {
                limits::hit("packets");
                hang_up_on(self);
            }
            return;
        }
    }

    /// Counts the packets of a post, and gives its events names that the engine can read.
    async fn look_at_post(self: &Arc<Self>, request: Request, max_payload: usize) -> Request {
        // The engine refuses what is longer.
        let is_short = request.body().size_hint().exact().is_some_and(|bytes| bytes <= max_payload as u64);
        if !is_short {
            return request.map(|body| self.counting(body));
        }
        let (mut parts, body) = request.into_parts();
        let body = match to_bytes(body, max_payload).await {
            Ok(payload) => {
                let Payload { packets, ends_session, changed } = event_names::look_at_payload(&payload);
                // The first one was counted with the request.
                self.count_packets(packets - 1);
                self.is_ending.fetch_or(ends_session, Ordering::Relaxed);
                match changed {
                    Some(changed) => {
                        parts.headers.remove(header::CONTENT_LENGTH);
                        Body::from(changed)
                    }
                    None => Body::from(payload),
                }
            }
            // It broke off, which is for the engine to find.
            Err(error) => Body::from_stream(stream::once(ready(Err::<Bytes, _>(error)))),
        };
        Request::from_parts(parts, body)
    }

    /// A body of unknown length, of which each separator begins another packet.
    fn counting(self: &Arc<Self>, body: Body) -> Body {
        let flow = self.clone();
        Body::new(body.map_frame(move |frame| {
            let separators = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == SEPARATOR).count());
            flow.count_packets(u32::try_from(separators).unwrap_or(u32::MAX));
            frame
        }))
    }

    /// Counts what comes in over a WebSocket from now on.
    fn count_packets_of(self: &Arc<Self>, connection: &Connection) {
        let flow = Arc::downgrade(self);
        connection.count_packets(move |count| {
            if let Some(flow) = flow.upgrade() {
                flow.count_packets(count);
            }
        });
    }

    /// Counts a handshake; how many there were, this one included.
    pub(super) fn shake_hands(&self) -> u32 {
        self.handshakes.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// The name of a session that began with polling, and what answers its requests.
    pub(super) fn engine(&self) -> Option<(&str, Next)> {
        let (sid, flows) = self.listed.get()?;
        Some((sid, flows.0.engine.lock().clone()?))
    }

    /// Takes note of the session's WebSocket. There is one; another that claims to be it is cut.
    fn upgrade(&self, connection: &Connection) {
        let mut progress = self.progress.lock();
        if progress.web_socket.is_some() {
            return connection.cut();
        }
        progress.before = progress.sent();
        progress.web_socket = Some((connection.clone(), connection.sent()));
        drop(progress);
        if self.hung_up.is_cancelled() {
            connection.cut();
        }
        self.polled.notify_waiters();
    }

    /// Waits until the client has taken nothing for as long as `limit` of what waits for it.
    pub(super) async fn stalled(&self, limit: Duration) {
        loop {
            self.more_handed.notified().await;
            let mut seen = (self.sent(), Instant::now());
            while self.owes() {
                sleep(limit / 4).await;
                let sent = self.sent();
                if sent != seen.0 {
                    seen = (sent, Instant::now());
                } else if seen.1.elapsed() >= limit {
                    return;
                }
            }
        }
    }

    /// Whether something waits for the client to take it.
    pub(super) fn owes(&self) -> bool {
        self.handed.load(Ordering::Relaxed) > self.sent()
    }

    fn sent(&self) -> u64 {
        self.progress.lock().sent()
    }

    /// Waits until more has been sent, or a while.
    async fn more_sent(&self, seen: u64) {
        // A wake-up may be missed when the transport changes; then a look in between will do.
        const LOOK: Duration = Duration::from_millis(100);
        let connection = self.progress.lock().web_socket.as_ref().map(|(connection, _)| connection.clone());
        let sent = match &connection {
            Some(connection) => connection.more_sent().notified(),
            None => self.polled.notified(),
        };
        // `notified` counts from its making, so that nothing gets lost between here and the wait.
        if self.sent() == seen {
            let _ = timeout(LOOK, sent).await;
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if let Some((sid, flows)) = self.listed.get() {
            flows.0.flows.lock().remove(sid);
        }
    }
}

impl Progress {
    fn sent(&self) -> u64 {
        let by_web_socket = self.web_socket.as_ref().map_or(0, |(connection, from)| connection.sent() - from);
        self.before + by_web_socket
    }
}

/// What one writer has handed over and has not been sent yet.
pub(super) struct Meter {
    flow: Arc<Flow>,
    handed: u64,
    /// Where each packet ends that may still be queued, counted as `handed` is.
    ends: VecDeque<u64>,
}

impl Meter {
    pub(super) fn new(flow: Arc<Flow>) -> Self {
        Self { flow, handed: 0, ends: VecDeque::new() }
    }

    /// Waits until the queue has room to spare.
    pub(super) async fn room(&mut self) {
        loop {
            let sent = self.flow.sent();
            while self.ends.front().is_some_and(|end| *end <= sent) {
                self.ends.pop_front();
            }
            // Transports send a little of their own: heads, heartbeats. Where all is sent the counts meet again.
            if self.ends.is_empty() {
                self.handed = self.handed.max(sent);
                return;
            }
            if self.ends.len() < MAX_PACKETS && self.handed - sent < MAX_BYTES {
                return;
            }
            self.flow.more_sent(sent).await;
        }
    }

    /// Notes a text packet of so many bytes; on a WebSocket it gets a frame's head.
    pub(super) fn note(&mut self, bytes: usize, is_web_socket: bool) {
        let head = match bytes {
            _ if !is_web_socket => 0,
            0..126 => 2,
            126..65536 => 4,
            _ => 10,
        };
        self.handed += bytes as u64 + head;
        self.ends.push_back(self.handed);
        self.flow.handed.store(self.handed, Ordering::Relaxed);
        self.flow.more_handed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection_and_meter() -> (Connection, Meter) {
        let connection = Connection::new(CancellationToken::new());
        let progress = Progress { web_socket: Some((connection.clone(), 0)), ..Progress::default() };
        let flow = Flow::default();
        *flow.progress.lock() = progress;
        (connection, Meter::new(Arc::new(flow)))
    }

    #[tokio::test]
    async fn a_meter_waits_while_the_queue_is_filled_and_goes_on_when_it_drains() {
        let (connection, mut meter) = connection_and_meter();
        for _ in 0..MAX_PACKETS {
            meter.room().await;
            meter.note(100, true);
        }
        tokio::select! {
            biased;
            () = meter.room() => panic!("there is no room"),
            () = std::future::ready(()) => {}
        }
        connection.note_sent(102);
        meter.room().await;
        assert_eq!(meter.ends.len(), MAX_PACKETS - 1);
    }

    #[tokio::test]
    async fn what_a_transport_sends_of_its_own_counts_for_nothing_once_all_is_sent() {
        let (connection, mut meter) = connection_and_meter();
        connection.note_sent(5000);
        for _ in 0..3 {
            meter.room().await;
            meter.note(1000, true);
            assert_eq!(meter.ends.len(), 1);
            connection.note_sent(1004 + 7);
        }
    }
}
