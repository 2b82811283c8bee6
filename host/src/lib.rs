//! Leadwire: a realtime CRM server, extended with WebAssembly plugins.
//!
//! The walk of an event from a request to the sockets, and who may import whom, are in `docs/ARCHITECTURE.md`.

#[macro_use]
mod walk;

pub mod app;
pub mod auth;
mod backoff;
pub mod cli;
pub mod config;
pub mod delivery;
#[macro_use]
pub mod domain;
pub mod effects;
pub mod files;
pub mod plugin;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod transport;
