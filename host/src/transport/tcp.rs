//! TCP: the listener's stream, a handle to each connection, and the WebSocket frames that pass through.

pub mod connection;
pub(crate) mod engine_frames;
pub(crate) mod frames;
pub(crate) mod gate;
pub(crate) mod head;
pub mod stream;
