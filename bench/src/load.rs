//! Load generator: one thread, raw non-blocking sockets, and a frame reader that looks only for the number of an event.
//!
//! It must cost less than the server that it measures, so it parses no JSON and keeps no copy of what it reads.

pub mod clock;
pub mod frame;
pub mod generator;
pub mod http;
pub mod order;
pub mod poller;
pub mod sink;
pub mod socket;
