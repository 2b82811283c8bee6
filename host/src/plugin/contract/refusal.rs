//! Refusal of a command by a plugin, and the error codes that are the server's own.
//!
//! Clients act on the server's codes, so a plugin that refuses with one of them gets it with the prefix `plugin_`.

use serde_json::{Value, json};

/// Refusal of a command, for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// Code in snake_case, never one of the server's own.
    pub code: String,
    pub message: String,
    /// Member of the input that caused the refusal.
    pub field: Option<String>,
}

/// Codes that the server itself answers with; every other code that ends with `_not_found` is one as well.
const OWN_CODES: &[&str] = &[
    "database_corrupt",
    "database_unavailable",
    "field_hidden",
    "forbidden",
    "idempotency_key_reused",
    "internal",
    "invalid",
    "invalid_credentials",
    "invalid_query",
    "malformed",
    "method_not_allowed",
    "not_explained",
    "not_found",
    "not_in_force",
    "nothing_before",
    "nothing_held",
    "other_held",
    "other_in_force",
    "payload_too_large",
    "plugin_unavailable",
    "rate_limited",
    "refresh_token_reused",
    "request_timeout",
    "timeout",
    "unauthenticated",
    "unavailable",
    "unknown_event",
    "unsupported_media_type",
    "version_conflict",
];

/// Returns true if the server itself answers with this code: clients act on it, so no plugin may use it unchanged.
pub fn is_own_code(code: &str) -> bool {
    OWN_CODES.contains(&code) || code.ends_with("_not_found")
}

/// Returns the code of a plugin's refusal as clients get it: `plugin_forbidden` where the plugin answered `forbidden`.
pub(crate) fn distinct(code: String) -> String {
    if is_own_code(&code) { format!("plugin_{code}") } else { code }
}

impl Refusal {
    /// Returns the field that caused the refusal, in the form of a list of invalid fields.
    pub fn errors(&self) -> Option<Value> {
        let Self { code, message, field } = self;
        field.as_ref().map(|field| json!([{"field": field, "code": code, "message": message}]))
    }
}
