//! Errors of the application layer, in neutral terms; each transport translates them to its own.

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
    /// Noun of the item that does not exist or is not visible to the caller.
    #[error("{0} not found")]
    NotFound(&'static str),
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// A query parameter or cursor that cannot be used.
    #[error("{parameter}: {message}")]
    InvalidQuery { parameter: String, message: String },
    /// The item has changed since the client saw it; `current` is its present state, shaped for that client.
    #[error("the {noun} was changed by someone else")]
    Conflict { noun: &'static str, current: Value },
    #[error("the idempotency key was already used for another request")]
    KeyReused,
    #[error("too many attempts")]
    RateLimited { retry_after: Duration },
    /// The server has too much work already to accept this.
    #[error("the server is busy: try again later")]
    Overloaded { retry_after: Duration },
    /// A plugin refused it.
    #[error(transparent)]
    Refused(Refusal),
    /// Only operators learn which plugin, and why: from the log and the plugins' status.
    #[error("a plugin that decides about this is not answering; try again later")]
    PluginUnavailable(#[from] Unavailable),
    /// Others kept changing the same item.
    #[error("too many concurrent changes; try again")]
    Contended,
    /// A retry may succeed.
    #[error("the server is busy")]
    Busy(#[source] store::Error),
    /// The database cannot be used for the moment; nothing was changed.
    #[error("{0}")]
    DatabaseUnavailable(#[source] store::Error),
    /// Stored data cannot be read; a retry does not help.
    #[error("the database is damaged: {table} cannot be read")]
    DatabaseCorrupt { table: &'static str },
    #[error("an internal error occurred")]
    Internal(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub fn query(parameter: impl Into<String>, message: impl Into<String>) -> Self {
        Self::InvalidQuery { parameter: parameter.into(), message: message.into() }
    }

    /// Error for sorting or searching by a field that may be hidden from the caller.
    pub fn field_hidden(field: &str) -> Self {
        Self::Forbidden { code: "field_hidden", message: format!("{field} is hidden from you and cannot be used here") }
    }

    /// True if only the database failed, and the same request may succeed later.
    pub fn is_outage(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::DatabaseUnavailable(_))
    }

    /// Error code, stable and in snake_case, the same on every transport.
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
                // The client learns the table, the log the reason.
                tracing::error!(table, "the database is damaged: {reason}");
                Self::DatabaseCorrupt { table }
            }
            store::Error::Taken(field) => {
                Self::Invalid(Invalid::one(field, "taken", format!("{field} is already in use")))
            }
            error => Self::Internal(error.into()),
        }
    }
}

pub type Result<T> = std::result::Result<T, Error>;
