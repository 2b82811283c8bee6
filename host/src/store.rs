//! SQLite storage: users, sessions, leads, activities, the log. Only this module knows SQL.
//!
//! SQLite has one writer at a time, so there is one writing connection with a queue in front of it. Commands are jobs
//! that share a transaction and its commit ([`Store::write_in_group`]); other work has it alone ([`Store::write`]).
//! Each reader sees its own snapshot.

#[macro_use]
mod columns;
#[macro_use]
mod dialect;

pub mod activity;
mod affected;
pub mod audit;
mod checks;
mod connection;
pub mod copy;
mod database_url;
pub mod effect;
pub mod erase;
mod error;
pub mod examine;
mod file;
mod file_guard;
mod file_stamp;
pub mod follower;
pub mod generation;
mod group_commit;
pub(crate) mod handle;
mod head;
mod health;
pub mod hold;
pub mod idempotency;
pub mod lead;
pub mod lead_filter;
pub mod lead_list;
mod lead_walk;
pub mod lock;
pub mod log;
mod log_name;
mod maintenance;
pub mod open_files;
mod pool;
mod row;
pub(crate) mod search;
pub mod session;
mod sql_types;
#[cfg(test)]
pub(crate) mod test_database;
mod transaction;
mod trigram;
mod tx;
mod upgrade;
pub mod user;
mod watch;

pub use database_url::{DatabaseUrl, InvalidDatabaseUrl};
pub use error::{Error, Outage, Result};
pub use handle::{Reader, Store, Tx};
pub use health::{HealthCheck, HealthFailure};
