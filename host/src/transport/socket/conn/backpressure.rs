//! Watch over the requests of Engine.IO sessions: which of them may begin, what their transports have sent, and what
//! comes in too fast.

use std::{
    future::ready,
    sync::{Arc, Weak, atomic::Ordering},
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
use tokio::time::{Instant, timeout};

use crate::transport::{
    event_names::{self, Payload, SEPARATOR},
    limits,
    socket::conn::{
        close_transport::{close_session_transport, unless_closed},
        query::{EngineQuery, is_for_engine},
        sessions::{EngineSession, EngineSessions, RequestGuard},
    },
    tcp::connection::ConnectionHandle,
};

/// Time limit for a posted body to arrive.
const POST_TIMEOUT: Duration = Duration::from_secs(30);
/// `Retry-After`, in seconds, for a client whose address has far too many connections.
const CROWD_WAIT: &str = "5";

/// Middleware that watches the requests of Engine.IO sessions.
pub(crate) async fn watch(State(engine_sessions): State<EngineSessions>, mut request: Request, next: Next) -> Response {
    if !is_for_engine(request.uri().path()) {
        return next.run(request).await;
    }
    let query = request.uri().query().unwrap_or_default().to_owned();
    let Ok(query) = EngineQuery::parse(&query) else {
        let body = r#"{"code":3,"message":"Bad request: a parameter is given twice or in an odd way"}"#;
        return (StatusCode::BAD_REQUEST, [(header::CONTENT_TYPE, "application/json")], body).into_response();
    };
    // Before the first read, which would tell a client that waits for `100 Continue` to go ahead.
    if request.body().size_hint().lower() > engine_sessions.0.max_payload as u64 {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    }
    let is_web_socket = query.is_web_socket();
    let connection = request.extensions().get::<ConnectionHandle>().filter(|_| is_web_socket).cloned();
    let Some(sid) = query.sid else {
        // Refused over HTTP: a stock client that is refused in the handshake never tries again. And first, so that an
        // address that is over its limit does not use up the admission rate of the others.
        let Some(engine_session) = engine_sessions.begin(&request) else {
            limits::hit("connections_per_address");
            return (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, CROWD_WAIT)]).into_response();
        };
        // Only a request that opens a session takes part in admission control; the engine answers any other.
        let opens = request.method() == Method::GET && query.opens();
        if engine_sessions.is_shut() || (opens && !engine_sessions.admit()) {
            return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, "1")]).into_response();
        }
        if let Some(connection) = &connection {
            engine_session.upgrade(connection);
        }
        engine_sessions.0.engine.lock().get_or_insert_with(|| next.clone());
        // socketioxide keeps the first request of a session as long as the session itself.
        request.extensions_mut().insert(engine_session.clone());
        let response = next.run(request).await;
        if let Some(connection) = connection.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
            connection.begin_web_socket();
            engine_session.count_packets_of(&connection);
        }
        return if is_web_socket { response } else { engine_sessions.list(&engine_session, response).await };
    };
    let engine_session = engine_sessions.0.engine_sessions.lock().get(sid).and_then(Weak::upgrade);
    let Some(engine_session) = engine_session else { return next.run(request).await };
    engine_session.progress.lock().last_asked = Some(Instant::now());
    let is_poll = !is_web_socket && request.method() == Method::GET;
    let is_post = request.method() == Method::POST;
    engine_session.count_packets(1);
    if is_poll {
        // The client goes on polling in spite of what failed before.
        engine_session.has_failed.store(false, Ordering::Relaxed);
    }
    // A WebSocket upgrade that fails changes nothing: a stock client goes on polling.
    let mut attempt = RequestGuard { engine_session: engine_session.clone(), has_succeeded: is_web_socket };
    let answer = async {
        let request =
            if is_post { engine_session.look_at_post(request, engine_sessions.0.max_payload).await } else { request };
        next.run(request).await
    };
    let answer = unless_closed(&engine_session.closing, answer);
    let response = if is_post {
        // A post is answered once it is read, and socketioxide would wait for its body for ever.
        match timeout(POST_TIMEOUT, answer).await {
            Ok(response) => response,
            Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
        }
    } else {
        answer.await
    };
    // Decided by the response, not by the request: a failed upgrade must not replace the connection that is known.
    if let Some(connection) = connection.filter(|_| response.status() == StatusCode::SWITCHING_PROTOCOLS) {
        connection.begin_web_socket();
        engine_session.upgrade(&connection);
        engine_session.count_packets_of(&connection);
    }
    attempt.has_succeeded |= response.status().is_success();
    if is_poll && response.status().is_success() { engine_session.count_poll(response).await } else { response }
}

impl EngineSession {
    /// Counts packets of any kind that came in. Most are answered by the engine, which reports them to nobody; the
    /// transport of a session that sends them again and again too fast is closed.
    pub(crate) fn count_packets(&self, count: u32) {
        let Some(pace) = self.pace.get() else { return };
        for _ in 0..count {
            if pace.take().is_ok() || !pace.refuse(std::time::Instant::now()) {
                continue;
            }
            if !self.closing.is_cancelled() {
                limits::hit("packets");
                close_session_transport(self);
            }
            return;
        }
    }

    /// Counts what a poll is answered.
    async fn count_poll(&self, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        // The engine has made the whole body.
        let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
        let mut progress = self.progress.lock();
        progress.polled_bytes += body.len() as u64;
        body.split(|byte| *byte == SEPARATOR).for_each(|packet| progress.polled.count(packet));
        drop(progress);
        self.polled.notify_waiters();
        Response::from_parts(parts, Body::from(body))
    }

    /// Counts the packets of a post, and gives its events names that the engine can read.
    async fn look_at_post(self: &Arc<Self>, request: Request, max_payload: usize) -> Request {
        // The engine refuses a longer body.
        let is_short = request.body().size_hint().exact().is_some_and(|bytes| bytes <= max_payload as u64);
        if !is_short {
            return request.map(|body| self.counting(body));
        }
        let (mut parts, body) = request.into_parts();
        let body = match to_bytes(body, max_payload).await {
            Ok(payload) => {
                let Payload { packets, ends_session, changed } = event_names::look_at_payload(&payload);
                // The first packet was counted with the request.
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
            // The body broke off; the engine handles that.
            Err(error) => Body::from_stream(stream::once(ready(Err::<Bytes, _>(error)))),
        };
        Request::from_parts(parts, body)
    }

    /// Counts the packets in a body of unknown length, in which each separator begins another packet.
    fn counting(self: &Arc<Self>, body: Body) -> Body {
        let engine_session = self.clone();
        Body::new(body.map_frame(move |frame| {
            let separators = frame.data_ref().map_or(0, |data| data.iter().filter(|byte| **byte == SEPARATOR).count());
            engine_session.count_packets(u32::try_from(separators).unwrap_or(u32::MAX));
            frame
        }))
    }
}
