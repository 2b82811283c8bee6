//! Version of the contract, and the names of what this server can do.

/// Version of the contract: the minor one grows with each addition, the major one with a break.
pub(crate) const CONTRACT: &str = "1.0";

/// Names of what a client may ask for before it relies on it.
pub(crate) const FEATURES: [&str; 4] = ["resume", "presence", "plugins", "idempotency"];
