//! `[presence]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How long a user stays online, and a viewer of a lead, once the last connection is gone.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Those who look at a lead are told of others at most once in this time.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), interval: Duration::from_secs(1) }
    }
}
