//! Why something was not done, in words of the trade; each transport has its own way to say it.

use std::time::Duration;

use serde_json::Value;

use crate::{
    domain::{input::Invalid, policy::Forbidden},
    plugin::{Refusal, Unavailable},
    store,
};

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{message}")]
    Unauthenticated { code: &'static str, message: String },
    #[error("{message}")]
    Forbidden { code: &'static str, message: String },
    /// The noun that was not found, or may not be seen.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A query parameter or cursor that cannot be used.
    #[error("{parameter}: {message}")]
    InvalidQuery { parameter: String, message: String },
    /// The thing has changed since the client saw it; this is how it is now, for that client's eyes.
    #[error("the {noun} was changed by someone else")]
    Conflict { noun: &'static str, current: Value },
    #[error("this idempotency key was used with another request")]
    KeyReused,
    #[error("too many attempts")]
    RateLimited { retry_after: Duration },
    /// The server has too much to do already to take this on.
    #[error("the server is busy: try again later")]
    Overloaded { retry_after: Duration },
    /// A plugin does not let it happen.
    #[error(transparent)]
    Refused(Refusal),
    /// Which plugin, and why, is for operators: it stands in the log and in the plugins' status.
    #[error("a plugin that decides about this is not answering; try again later")]
    PluginUnavailable(#[from] Unavailable),
    /// Others kept changing the same thing.
    #[error("others are changing this at the moment")]
    Contended,
    /// It may work when tried again.
    #[error("the server is busy")]
    Busy(#[source] store::Error),
    /// The database cannot be used for the moment; nothing was changed.
    #[error("{0}")]
    DatabaseUnavailable(#[source] store::Error),
    /// What is stored cannot be read; trying again does not help.
    #[error("the database is damaged: {table} cannot be read")]
    DatabaseCorrupt { table: &'static str },
    #[error("an internal error occurred")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub fn query(parameter: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidQuery { parameter: parameter.into(), message: message.into() }
    }

    /// A field that may be hidden from the caller was to be sorted or searched by.
    pub fn field_hidden(field: &str) -> Self {
        Self::Forbidden { code: "field_hidden", message: format!("{field} is hidden from you and cannot be used here") }
    }

    /// Whether it is about the database alone, and the same may work later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::DatabaseUnavailable(_))
    }

    /// Stable and snake_case, the same on every transport.
    pub fn code(&self) -> String {
        match self {
            Self::Unauthenticated { code, .. } | Self::Forbidden { code, .. } => (*code).into(),
            Self::NotFound(noun) => format!("{noun}_not_found"),
            Self::Invalid(_) => "invalid".into(),
            Self::InvalidQuery { .. } => "invalid_query".into(),
            Self::Conflict { .. } => "version_conflict".into(),
            Self::KeyReused => "idempotency_key_reused".into(),
            Self::RateLimited { .. } => "rate_limited".into(),
            Self::Refused(refusal) => refusal.code.clone(),
            Self::PluginUnavailable(_) => "plugin_unavailable".into(),
            Self::Busy(_) | Self::Contended | Self::Overloaded { .. } => "unavailable".into(),
            Self::DatabaseUnavailable(_) => "database_unavailable".into(),
            Self::DatabaseCorrupt { .. } => "database_corrupt".into(),
            Self::Internal(_) => "internal".into(),
        }
    }
}

impl From<Forbidden> for Error {
    fn from(Forbidden(why): Forbidden) -> Self {
        Self::Forbidden { code: "forbidden", message: why.into() }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::Busy(_) => Self::Busy(error),
            store::Error::Unavailable { .. } => Self::DatabaseUnavailable(error),
            store::Error::Corrupt { table, reason } => {
                // The client is told where, the log what.
                tracing::error!(table, "the database is damaged: {reason}");
                Self::DatabaseCorrupt { table }
            }
            store::Error::Taken(field) => {
                Self::Invalid(Invalid::one(field, "taken", format!("{field} is taken by another")))
            }
            error => Self::Internal(error.into()),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
