//! Who is asking: passwords and tokens in, a user out; no transport and no plugin in here.
//!
//! `session.rs` tells the story (login, refresh, logout, authenticate); `token.rs` and `password.rs`
//! are its tools. The role is always the database's, whatever a token claims.

pub mod settings;

pub use settings::Settings;
