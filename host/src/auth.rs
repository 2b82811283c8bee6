//! Who is asking: passwords and tokens in, a user out; no transport and no plugin in here.
//!
//! `session.rs` tells the story (login, refresh, logout, authenticate), `principal.rs` judges callers again where they
//! write; `token.rs`, `password.rs` with `queue.rs`, `limit.rs` and `journal.rs` are their tools. The role is always the database's, whatever a token claims.

use std::time::Duration;

use crate::store;

mod crypto;
mod journal;
mod limit;
pub mod password;
pub mod principal;
mod queue;
pub mod session;
pub mod settings;
#[cfg(test)]
mod tests;
pub mod token;

pub use journal::Journal;
pub use limit::network;
pub use principal::{Credentials, Origin, Principal};
pub use queue::{Lane, Seat};
pub use session::{Auth, Authenticated, Clock, Grant};
pub use settings::Settings;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// No token, or one with anything wrong with it.
    #[error("the token is not valid")]
    Unauthenticated,
    /// A token of ours, or of an issuer that is trusted, whose time is over.
    #[error("the token has expired")]
    TokenExpired,
    #[error("the refresh token was used before: its session has ended")]
    RefreshTokenReused,
    /// Who changes a password must know the one they have.
    #[error("the current password is wrong")]
    WrongPassword,
    #[error("too many attempts")]
    TooManyAttempts { retry_after: Duration },
    #[error("too many passwords are being tried")]
    Overloaded { retry_after: Duration },
    #[error(transparent)]
    Store(#[from] store::Error),
    #[error("{doing} failed")]
    Internal { doing: &'static str, source: Box<dyn std::error::Error + Send + Sync> },
}

impl From<queue::Full> for Error {
    fn from(full: queue::Full) -> Self {
        Self::Overloaded { retry_after: full.retry_after }
    }
}

impl Error {
    fn internal(doing: &'static str, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Internal { doing, source: source.into() }
    }
}

/// What is wrong with the `[auth]` settings.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(pub String);
