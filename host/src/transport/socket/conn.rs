//! Connections below socketioxide: what the engine does not do for us.
//!
//! Backpressure, limits and admission control after a restart act on HTTP requests and WebSocket frames before the
//! engine sees them; `close_transport` ends a connection so that a stock client reconnects by itself.

pub(crate) mod admission;
pub(crate) mod backpressure;
pub(crate) mod close_transport;
pub(crate) mod query;
pub(crate) mod sessions;
pub(crate) mod window;
