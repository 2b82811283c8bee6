//! Engine.IO sessions: what the transports of a session have sent, how the session ends, and the table of sessions by
//! `sid`. Sessions count towards the limit of their address.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use axum::{
    body::{Body, to_bytes},
    extract::Request,
    middleware::Next,
    response::Response,
};
use parking_lot::Mutex;
use serde_json::Value;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    auth,
    transport::{
        address::ClientAddress,
        limits::{self, Pace, SlotGuard, Slots},
        socket::conn::{admission::Admission, window::SendWindow},
        tcp::{connection::ConnectionHandle, engine_frames::PacketCounts, frames::Ending},
    },
};

/// Limit for an OPEN packet, which is much shorter.
const MAX_OPEN_BYTES: usize = 4096;

/// State of one Engine.IO session, such as what its transports have sent.
#[derive(Default)]
pub(crate) struct EngineSession {
    pub(crate) progress: Mutex<SendProgress>,
    pub(crate) polled: Notify,
    window: Mutex<SendWindow>,
    more_handed: Notify,
    pub(crate) closing: CancellationToken,
    /// Counts the session among the connections of its address.
    place: OnceLock<SlotGuard<IpAddr>>,
    handshakes: AtomicU32,
    /// Number of handshakes that were accepted.
    connects: AtomicU64,
    /// Rate limit of the packets that come in, events or not.
    pub(crate) pace: OnceLock<Pace>,
    /// Entry in the table of sessions, once the session has a `sid`.
    listed: OnceLock<(String, EngineSessions)>,
    /// Set when a request of it broke off or was refused, after which a stock client gives up the session.
    pub(crate) has_failed: AtomicBool,
    /// Set when the client has said that it ends the session; the outcome of its other requests then means nothing.
    pub(crate) is_ending: AtomicBool,
}

/// Guard of one request of a session. If the connection breaks, this drop is the only sign of it.
pub(crate) struct RequestGuard {
    pub(crate) engine_session: Arc<EngineSession>,
    pub(crate) has_succeeded: bool,
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if !self.has_succeeded && !self.engine_session.is_ending.load(Ordering::Relaxed) {
            self.engine_session.has_failed.store(true, Ordering::Relaxed);
        }
    }
}

#[derive(Default)]
pub(crate) struct SendProgress {
    /// Bytes and packets sent by polls.
    pub(crate) polled_bytes: u64,
    pub(crate) polled: PacketCounts,
    pub(crate) web_socket: Option<ConnectionHandle>,
    /// Time of the last request.
    pub(crate) last_asked: Option<Instant>,
}

/// Table of the sessions that began with polling, by their `sid`.
#[derive(Clone, Default)]
pub(crate) struct EngineSessions(pub(crate) Arc<SessionTable>);

#[derive(Default)]
pub(crate) struct SessionTable {
    pub(crate) engine_sessions: Mutex<HashMap<String, Weak<EngineSession>>>,
    /// Sessions per address, including those that began with WebSocket.
    addresses: Slots<IpAddr>,
    limits: limits::LimitsConfig,
    /// Maximum size of one post, in bytes.
    pub(crate) max_payload: usize,
    /// Set when no session may begin any more.
    is_shut: AtomicBool,
    /// Admission control for the clients of the previous process.
    returns: OnceLock<Admission>,
    /// Service that answers the requests of every session; `None` before the first poll, and once the server is gone.
    pub(crate) engine: Mutex<Option<Next>>,
}

/// Way in which a client disconnected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DisconnectKind {
    /// On purpose.
    Left,
    /// Its connection failed, or was ended here.
    Lost,
    /// Either of the two: clients that poll disconnect in the same way in both cases.
    Unclear,
}

impl EngineSessions {
    /// Releases the engine, which holds its sockets, which hold these sessions: without this, none of them is ever
    /// freed.
    pub(crate) fn release_engine(&self) {
        *self.0.engine.lock() = None;
    }

    pub(crate) fn new(limits: limits::LimitsConfig, max_payload: usize) -> Self {
        Self(Arc::new(SessionTable { limits, max_payload, ..SessionTable::default() }))
    }

    /// Creates a session and counts it for its address before anything is known of it; `None` if the address has all
    /// the connections that it may have.
    pub(crate) fn begin(&self, request: &Request) -> Option<Arc<EngineSession>> {
        let SessionTable { addresses, limits, .. } = &*self.0;
        let engine_session = EngineSession::default();
        let _ = engine_session.pace.set(Pace::of_packets(limits));
        if let Some(ClientAddress(address)) = request.extensions().get().copied() {
            let _ = engine_session.place.set(addresses.take(auth::network(address), limits.connections_per_address)?);
        }
        Some(Arc::new(engine_session))
    }

    /// Returns the number of sessions that are counted, for all addresses.
    pub(crate) fn counted(&self) -> usize {
        self.0.addresses.taken()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.engine_sessions.lock().len()
    }

    /// Returns the number of listed sessions of which a request failed.
    pub(crate) fn failed(&self) -> usize {
        self.0
            .engine_sessions
            .lock()
            .values()
            .filter_map(Weak::upgrade)
            .filter(|engine_session| engine_session.has_failed())
            .count()
    }

    /// Limits the rate at which sessions begin, for as long as `span`, because `sessions` of them are expected back.
    pub(crate) fn expect_back(&self, sessions: usize, span: Duration) {
        if let Some(returns) = Admission::new(sessions, span) {
            let _ = self.0.returns.set(returns);
        }
    }

    /// Returns true if a session may begin now.
    pub(crate) fn admit(&self) -> bool {
        self.0.returns.get().is_none_or(|returns| returns.admit(Instant::now()))
    }

    pub(crate) fn is_shut(&self) -> bool {
        self.0.is_shut.load(Ordering::Relaxed)
    }

    /// Stops new sessions from beginning.
    pub(crate) fn shut(&self) {
        self.0.is_shut.store(true, Ordering::Relaxed);
    }

    /// Lists a session under the `sid` that the response gives it.
    pub(crate) async fn list(&self, engine_session: &Arc<EngineSession>, response: Response) -> Response {
        if !response.status().is_success() {
            return response;
        }
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, MAX_OPEN_BYTES).await.unwrap_or_default();
        let open: Option<Value> = bytes.strip_prefix(b"0").and_then(|json| serde_json::from_slice(json).ok());
        if let Some(sid) = open.as_ref().and_then(|open| open["sid"].as_str()) {
            self.0.engine_sessions.lock().insert(sid.into(), Arc::downgrade(engine_session));
            let _ = engine_session.listed.set((sid.into(), self.clone()));
        }
        Response::from_parts(parts, Body::from(bytes))
    }
}

impl EngineSession {
    /// Ends the session's WebSocket, if it has one; its requests are refused from now on.
    pub(crate) fn close_transport(&self) {
        self.closing.cancel();
        if let Some(connection) = &self.progress.lock().web_socket {
            connection.cut();
        }
    }

    /// Determines if the client ended the session on purpose; `is_closed` if its transport was closed, else it failed.
    ///
    /// A transport is closed by a Close frame, by Engine.IO's own packet, and by the server. A client that polls sends
    /// that packet also when a request failed and it is about to reconnect; if that request did not get here, the two
    /// cases look the same.
    pub(crate) fn parting(&self, is_closed: bool) -> DisconnectKind {
        if self.closing.is_cancelled() {
            return DisconnectKind::Lost;
        }
        let ending = self.progress.lock().web_socket.as_ref().and_then(ConnectionHandle::ending);
        match ending {
            Some(Ending::Left) => DisconnectKind::Left,
            Some(Ending::GaveUp) => DisconnectKind::Lost,
            None if is_closed && !self.has_failed() => DisconnectKind::Unclear,
            None => DisconnectKind::Lost,
        }
    }

    /// Returns true if a request of a session that polls broke off or was refused, and no poll came since. A stock
    /// client gives up the session for that.
    pub(crate) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Relaxed) && self.progress.lock().web_socket.is_none()
    }

    /// Returns true if the client has posted that it ends the session.
    pub(crate) fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::Relaxed)
    }

    /// Returns when the client last sent anything.
    pub(crate) fn last_heard(&self) -> Option<Instant> {
        let progress = self.progress.lock();
        let by_web_socket = progress.web_socket.as_ref().and_then(ConnectionHandle::last_heard);
        progress.last_asked.max(by_web_socket)
    }

    /// Counts the packets that come in over a WebSocket from now on.
    pub(crate) fn count_packets_of(self: &Arc<Self>, connection: &ConnectionHandle) {
        let engine_session = Arc::downgrade(self);
        connection.count_packets(move |count| {
            if let Some(engine_session) = engine_session.upgrade() {
                engine_session.count_packets(count);
            }
        });
    }

    /// Counts a handshake; returns how many there were, including this one.
    pub(crate) fn shake_hands(&self) -> u32 {
        self.handshakes.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Counts a handshake that is accepted; returns how many there were, including this one.
    pub(crate) fn connect(&self) -> u64 {
        self.connects.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Returns the `sid` of a session that began with polling, and the service that answers its requests.
    pub(crate) fn engine(&self) -> Option<(&str, Next)> {
        let (sid, engine_sessions) = self.listed.get()?;
        Some((sid, engine_sessions.0.engine.lock().clone()?))
    }

    /// Records the session's WebSocket. There is only one; another that claims to be it is cut.
    pub(crate) fn upgrade(&self, connection: &ConnectionHandle) {
        let mut progress = self.progress.lock();
        if progress.web_socket.is_some() {
            return connection.cut();
        }
        progress.web_socket = Some(connection.clone());
        drop(progress);
        if self.closing.is_cancelled() {
            connection.cut();
        }
        self.polled.notify_waiters();
    }

    /// Returns the WebSocket, unless nothing can be written past the engine there.
    pub(crate) fn open_web_socket(&self) -> Option<ConnectionHandle> {
        self.progress.lock().web_socket.clone().filter(|connection| !connection.gate().is_shut())
    }

    /// Returns the WebSocket if the next packet of a client may go past the engine: the client, which is the one of
    /// accepted handshake number `connects`, was told that it is connected, and all that the engine was handed has
    /// left.
    pub(crate) fn short_way(&self, connects: u64) -> Option<ConnectionHandle> {
        let has_left = self.progress.lock().packets().connects >= connects && !self.owes();
        self.open_web_socket().filter(|_| has_left)
    }

    /// Waits until socketioxide's queue has room to spare.
    pub(crate) async fn room(&self) {
        loop {
            let sent = self.sent();
            if self.window_now(SendWindow::has_room) {
                return;
            }
            self.more_sent(sent).await;
        }
    }

    /// Records a packet that was handed to socketioxide. It may have left already.
    pub(crate) fn note_handed(&self, bytes: usize) {
        self.window.lock().push(bytes);
        self.more_handed.notify_one();
    }

    /// Returns true if something that socketioxide was handed waits for the client to take it.
    pub(crate) fn owes(&self) -> bool {
        self.window_now(|window| !window.is_empty())
    }

    fn window_now<T>(&self, look: impl FnOnce(&SendWindow) -> T) -> T {
        let left = self.progress.lock().packets().messages;
        let mut window = self.window.lock();
        window.leave(left);
        look(&window)
    }

    /// Waits until the client has taken nothing of what waits for it for as long as `limit`.
    pub(crate) async fn stalled(&self, limit: Duration) {
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

    /// Returns the number of bytes that were sent.
    pub(crate) fn sent(&self) -> u64 {
        self.progress.lock().bytes()
    }

    /// Waits until more than `seen` bytes were sent, or for a short time.
    pub(crate) async fn more_sent(&self, seen: u64) {
        // A wake-up may be missed when the transport changes; the timeout covers that.
        const LOOK: Duration = Duration::from_millis(100);
        let connection = self.progress.lock().web_socket.clone();
        let sent = match &connection {
            Some(connection) => connection.gate().moved().notified(),
            None => self.polled.notified(),
        };
        // `notified` counts from its creation, so no wake-up is lost between here and the wait.
        if self.sent() == seen {
            let _ = timeout(LOOK, sent).await;
        }
    }
}

impl Drop for EngineSession {
    fn drop(&mut self) {
        if let Some((sid, engine_sessions)) = self.listed.get() {
            engine_sessions.0.engine_sessions.lock().remove(sid);
        }
    }
}

impl SendProgress {
    fn bytes(&self) -> u64 {
        self.polled_bytes + self.web_socket.as_ref().map_or(0, |connection| connection.gate().sent())
    }

    pub(crate) fn packets(&self) -> PacketCounts {
        let by_web_socket = self.web_socket.as_ref().map(|connection| connection.gate().counts()).unwrap_or_default();
        PacketCounts {
            connects: self.polled.connects + by_web_socket.connects,
            messages: self.polled.messages + by_web_socket.messages,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_room_in_the_queue_goes_on_when_packets_have_left() {
        let engine_session = EngineSession::default();
        loop {
            tokio::select! {
                biased;
                () = engine_session.room() => engine_session.note_handed(100),
                () = std::future::ready(()) => break,
            }
        }
        assert!(engine_session.owes());
        let drain = async {
            engine_session.progress.lock().polled.messages += 1;
            engine_session.polled.notify_waiters();
        };
        tokio::join!(engine_session.room(), drain);
    }
}
