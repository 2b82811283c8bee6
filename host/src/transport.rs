//! Transports: HTTP and Socket.IO, the only ways in and out of the server. No axum or socketioxide type leaves this
//! module.

pub mod address;
mod client_files;
mod event_names;
pub mod front;
pub mod http;
pub mod limits;

pub mod origin;
mod record;
mod request_id;
pub mod socket;
pub mod tcp;
