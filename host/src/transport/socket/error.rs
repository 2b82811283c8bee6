//! Errors of commands: `error {message, code, event}`, and the same as an acknowledgement.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::error;

use crate::{app, domain::input::Invalid, plugin::Unavailable, store, transport::limits};

/// Error for a client that asks again and again for what it missed.
#[derive(Debug, thiserror::Error)]
#[error("too many replays in progress")]
pub(crate) struct TooManySyncs;

/// Time to wait before a retry if nobody can say how long something takes.
const RETRY: Duration = Duration::from_secs(1);

/// Error of a command: `{message, code, errors?, current?}`.
#[derive(Debug)]
pub(crate) struct SocketError(Value);

impl SocketError {
    pub(crate) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self(json!({"message": message.into(), "code": code.into()}))
    }

    /// Creates the error for a packet that cannot be read.
    pub(crate) fn malformed(message: impl Into<String>) -> Self {
        Self::new("malformed", message)
    }

    /// Creates the error for an exceeded limit: which limit, and when a retry is worthwhile.
    pub(crate) fn rate_limited(limit: &'static str, message: impl Into<String>, wait: Duration) -> Self {
        limits::hit(limit);
        // Rounded up, so that a client that waits for so long does not come too early.
        let millis = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        Self::new("rate_limited", message).with("limit", limit.into()).with("retryAfterMs", millis.into())
    }

    /// Returns true if a plugin said no, rather than gave no verdict.
    pub(crate) fn is_forbidden(&self) -> bool {
        self.0["code"] == "forbidden"
    }

    /// Creates the error with the text of the handshake.
    pub(crate) fn no_token() -> Self {
        Self::new("unauthenticated", "Authentication token required")
    }

    /// Creates the error with the text of the handshake.
    pub(crate) fn bad_token() -> Self {
        Self::new("unauthenticated", "Invalid authentication token")
    }

    /// Returns the payload of the `error` event; `name` is that of the event that was refused.
    pub(crate) fn event(&self, name: Option<&str>) -> Value {
        let mut body = self.0.clone();
        body["event"] = json!(name);
        body
    }

    /// Returns the acknowledgement of what was refused.
    pub(crate) fn ack(&self) -> Value {
        json!({"ok": false, "error": self.0})
    }

    fn message(&self) -> String {
        self.0["message"].as_str().unwrap_or_default().to_owned()
    }

    fn with(mut self, member: &str, value: Value) -> Self {
        self.0[member] = value;
        self
    }
}

impl From<Invalid> for SocketError {
    fn from(invalid: Invalid) -> Self {
        Self::new("invalid", invalid.to_string()).with("errors", json!(invalid.0))
    }
}

impl From<app::Error> for SocketError {
    fn from(error: app::Error) -> Self {
        let refusal = Self::new(error.code(), error.to_string());
        match error {
            app::Error::Invalid(invalid) => invalid.into(),
            app::Error::Refused(refused) => match refused.errors() {
                Some(errors) => refusal.with("errors", errors),
                None => refusal,
            },
            app::Error::Conflict { current, .. } => refusal.with("current", current),
            app::Error::Internal(source) => {
                error!("a command from a socket failed: {source}");
                refusal
            }
            app::Error::RateLimited { retry_after } => Self::rate_limited("login", refusal.message(), retry_after),
            app::Error::DatabaseUnavailable(_) | app::Error::Busy(_) => {
                refusal.with("retryAfterMs", json!(RETRY.as_millis()))
            }
            app::Error::Unauthenticated { .. }
            | app::Error::Forbidden { .. }
            | app::Error::NotFound(_)
            | app::Error::InvalidQuery { .. }
            | app::Error::KeyReused
            | app::Error::PluginUnavailable(_)
            | app::Error::DatabaseCorrupt { .. }
            | app::Error::Overloaded { .. }
            | app::Error::Contended => refusal,
        }
    }
}

impl From<Unavailable> for SocketError {
    fn from(unavailable: Unavailable) -> Self {
        app::Error::from(unavailable).into()
    }
}

impl From<TooManyRooms> for SocketError {
    fn from(error: TooManyRooms) -> Self {
        // Time alone does not help, but a client needs time to leave another room.
        Self::rate_limited("subscriptions", error.to_string(), RETRY)
    }
}

impl From<TooManySyncs> for SocketError {
    fn from(error: TooManySyncs) -> Self {
        Self::rate_limited("replays", error.to_string(), RETRY)
    }
}

impl From<store::Error> for SocketError {
    fn from(error: store::Error) -> Self {
        app::Error::from(error).into()
    }
}

/// Error for a socket that has all the rooms it may have.
#[derive(Debug, thiserror::Error)]
#[error("at most {0} leads can be subscribed to at once")]
pub(crate) struct TooManyRooms(pub(crate) usize);
