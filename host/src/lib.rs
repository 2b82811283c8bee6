//! Leadwire: a realtime CRM server, extended with WebAssembly plugins.
//!
//! # The path of an event
//!
//! | # | file | function | in -> out |
//! |---|---|---|---|
//! | 1 | `transport/http/lead.rs` or `transport/socket/handler.rs` | `update` | wire -> `Command` with its `Actor` |
//! | 2 | `app.rs` | `execute` | policy, load, decide, commit |
//! | 3 | `domain/lead.rs` | `Lead::update` | lead + patch -> new lead + what changed, or why not |
//! | 4 | `store/lead.rs`, `store/log.rs` | `save`, `append` | one transaction: the row, then the event with the next seq |
//! | 5 | `delivery.rs`, `delivery/shape.rs` -> `plugin/pipeline.rs` | `slices` -> `run` | event x role -> payload, encoded once for equal ones, and audience, or nothing yet |
//! | 6 | `transport/socket/fanout.rs` | `publish` | offered to each socket of the rooms, once; `outbox.rs` sends |
//!
//! Between 4 and 5 stands the log, not a channel: live delivery, catching up and replay all read it, and so does
//! `effects`, which asks plugins what follows from an event and carries that out through `App`.
//!
//! A module uses what is to its right and nothing to its left:
//!
//! ```text
//! main > cli > server > transport > delivery, effects > app > auth > plugin > store > domain
//! ```

pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod delivery;
pub mod domain;
pub mod effects;
pub mod plugin;
pub mod server;
pub mod store;
pub mod telemetry;
pub mod transport;
