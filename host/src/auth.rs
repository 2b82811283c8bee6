//! Authentication: turns passwords and tokens into a user. There is no transport and no plugin in here.
//!
//! `session.rs` is the entry point (login, refresh, logout, authenticate). `principal.rs` authorises callers again
//! inside each writing transaction. `token.rs`, `password.rs` with `queue.rs`, `login_limiter.rs` and `audit_log.rs`
//! support them. The role always comes from the database, whatever a token claims.

mod audit_log;
pub mod clock;
mod crypto;
mod login_limiter;
pub mod password;
pub mod principal;
mod queue;
pub mod session;
pub mod settings;
pub mod token;

use std::time::Duration;

use crate::store;

pub use audit_log::AuditLog;
pub use clock::{Clock, SystemClock};
pub use login_limiter::network;
pub use principal::{Credentials, Principal, RequestOrigin};
pub use queue::{Lane, QueuePriority};
pub use session::{Auth, Authenticated, TokenPair};
pub use settings::AuthConfig;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the e-mail address or the password is wrong")]
    InvalidCredentials,
    /// No token, or an invalid one.
    #[error("the token is not valid")]
    Unauthenticated,
    /// A valid token, ours or of a trusted issuer, that has expired.
    #[error("the token has expired")]
    TokenExpired,
    #[error("the refresh token was used before: its session has ended")]
    RefreshTokenReused,
    /// A password change requires the current password.
    #[error("the current password is wrong")]
    WrongPassword,
    #[error("too many attempts")]
    TooManyAttempts { retry_after: Duration },
    #[error("too many sign-in attempts at the moment")]
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

/// Problem in the `[auth]` settings.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct BadSettings(pub String);

#[cfg(test)]
mod tests;
