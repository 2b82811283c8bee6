//! Closes a socket's transport from the server side, so that a stock client reconnects by itself.
//!
//! `Socket::disconnect` would strand it: told `io server disconnect`, the client never tries again, and the packet
//! needs room in a queue that may be full. socketioxide has no way to close a transport, so this is done below it: a
//! WebSocket loses its TCP connection. Connections that carry polls may be shared with other requests (the response to
//! a logout among them), so there only this session's requests are answered 400. The client sees `transport close` or
//! `transport error`, reconnects, and is judged afresh in its handshake.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};
use socketioxide::socket::Socket;
use tokio::select;
use tokio_util::sync::CancellationToken;

use crate::transport::socket::conn::sessions::EngineSession;

/// Closes the transport of a socket, whichever it is at this moment.
pub(crate) fn close_transport(socket: &Socket) {
    if let Some(engine_session) = socket.req_parts().extensions.get::<Arc<EngineSession>>() {
        close_session_transport(engine_session);
    }
}

/// Closes the transport of a session, with a socket or without.
pub(crate) fn close_session_transport(engine_session: &EngineSession) {
    engine_session.close_transport();
    // A lost WebSocket is noticed at once. The end of polling would be noticed by the heartbeat, much later; so the
    // engine is sent the packet that a polling client sends when it leaves. It answers 400 if there is a WebSocket by
    // now.
    if let Some((sid, engine)) = engine_session.engine() {
        let leave = Request::builder()
            .method(Method::POST)
            .uri(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::from("1"))
            .expect("a sid is URL-safe text");
        tokio::spawn(engine.run(leave));
    }
}

/// Answers a request of a session, unless its transport was or is being closed.
pub(crate) async fn unless_closed(ended: &CancellationToken, answer: impl Future<Output = Response>) -> Response {
    select! {
        biased;
        () = ended.cancelled() => (StatusCode::BAD_REQUEST, "the session has ended").into_response(),
        response = answer => response,
    }
}
