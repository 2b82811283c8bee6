//! Why something that a client asked for was not done: `error {message, code, event}`, and the same as an ack.

use std::time::Duration;

use serde_json::{Value, json};
use tracing::error;

use super::{client::TooManySyncs, fanout::TooManyRooms, limits};
use crate::{app, domain::input::Invalid, plugin::Unavailable, store};

/// When to try again where nobody can say how long something takes.
const RETRY: Duration = Duration::from_secs(1);

/// Holds `{message, code, errors?, current?}`.
#[derive(Debug)]
pub(super) struct Refusal(Value);

impl Refusal {
    pub(super) fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self(json!({"message": message.into(), "code": code.into()}))
    }

    /// The packet cannot be read.
    pub(super) fn malformed(message: impl Into<String>) -> Self {
        Self::new("malformed", message)
    }

    /// There is too much of something: of what, and when it is worth another try.
    pub(super) fn rate_limited(limit: &'static str, message: impl Into<String>, wait: Duration) -> Self {
        limits::hit(limit);
        // Rounded up, so that who waits for so long does not come too early.
        let millis = u64::try_from(wait.as_micros().div_ceil(1000)).unwrap_or(u64::MAX).max(1);
        Self::new("rate_limited", message).with("limit", limit.into()).with("retryAfterMs", millis.into())
    }

    /// Whether a plugin said no, rather than nothing.
    pub(super) fn is_forbidden(&self) -> bool {
        self.0["code"] == "forbidden"
    }

    /// In the words of the handshake.
    pub(super) fn no_token() -> Self {
        Self::new("unauthenticated", "Authentication token required")
    }

    /// In the words of the handshake.
    pub(super) fn bad_token() -> Self {
        Self::new("unauthenticated", "Invalid authentication token")
    }

    /// The payload of the `error` event; `name` is that of the event that was refused.
    pub(super) fn event(&self, name: Option<&str>) -> Value {
        let mut body = self.0.clone();
        body["event"] = json!(name);
        body
    }

    /// The ack of what was refused.
    pub(super) fn ack(&self) -> Value {
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

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        Self::new("invalid", invalid.to_string()).with("errors", json!(invalid.0))
    }
}

impl From<app::Error> for Refusal {
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

impl From<Unavailable> for Refusal {
    fn from(unavailable: Unavailable) -> Self {
        app::Error::from(unavailable).into()
    }
}

impl From<TooManyRooms> for Refusal {
    fn from(error: TooManyRooms) -> Self {
        // Time alone does not help; it is what a client needs to leave another one.
        Self::rate_limited("subscriptions", error.to_string(), RETRY)
    }
}

impl From<TooManySyncs> for Refusal {
    fn from(error: TooManySyncs) -> Self {
        Self::rate_limited("replays", error.to_string(), RETRY)
    }
}

impl From<store::Error> for Refusal {
    fn from(error: store::Error) -> Self {
        app::Error::from(error).into()
    }
}
