//! The two ways in and out: HTTP and Socket.IO. No axum or socketioxide type leaves this module.

pub mod address;
pub mod connection;
mod event_names;
pub mod frames;
pub mod front;
pub mod http;
pub mod origin;
pub mod socket;
