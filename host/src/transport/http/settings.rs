//! `[http]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The longest request body that is read, in bytes.
    pub body_limit: usize,
    /// How long a request body may take to arrive.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a request may take in all.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// The origins whose pages may call; `"*"` lets any in. None by default.
    pub cors_origins: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_limit: 256 * 1024,
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
        }
    }
}
