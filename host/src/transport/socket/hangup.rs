//! Hanging up: ends a socket's transport from our side, so that a stock client comes back by itself.
//!
//! `Socket::disconnect` would strand it: told `io server disconnect`, the client never tries again, and the
//! packet needs room in a queue that may be full. socketioxide has no way to close a transport, so this is done
//! below it: a WebSocket loses its TCP connection; connections that bear polls may be shared with other
//! requests (a logout's own answer among them), so there only this session's requests are answered 400. The
//! client sees `transport close` or `transport error`, reconnects, and is judged afresh in its handshake.

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

use super::flow::Flow;

/// Ends the transport of a socket, whichever it is at this moment.
pub(super) fn hang_up(socket: &Socket) {
    if let Some(flow) = socket.req_parts().extensions.get::<Arc<Flow>>() {
        hang_up_on(flow);
    }
}

/// Ends the transport of a session, with a socket or without.
pub(super) fn hang_up_on(flow: &Flow) {
    flow.hang_up();
    // A lost WebSocket is noticed at once. That nobody polls any more would be noticed by the heartbeat, much
    // later; so the engine is told what a polling client tells it that leaves. It answers 400 where there is
    // a WebSocket by now.
    if let Some((sid, engine)) = flow.engine() {
        let leave = Request::builder()
            .method(Method::POST)
            .uri(format!("/socket.io/?EIO=4&transport=polling&sid={sid}"))
            .body(Body::from("1"))
            .expect("a sid is URL-safe text");
        tokio::spawn(engine.run(leave));
    }
}

/// Answers a request of a session, unless that was or is being hung up.
pub(super) async fn unless_hung_up(ended: &CancellationToken, answer: impl Future<Output = Response>) -> Response {
    select! {
        biased;
        () = ended.cancelled() => (StatusCode::BAD_REQUEST, "the session has ended").into_response(),
        response = answer => response,
    }
}
