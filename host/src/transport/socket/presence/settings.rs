//! `[presence]` of the configuration: the grace period of lost users, and the interval between two viewer lists.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PresenceConfig {
    /// Time that a user stays online, and a viewer of a lead, once the last connection is gone (grace period).
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Minimum time between two lists that the viewers of a lead are sent.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
}

impl Default for PresenceConfig {
    fn default() -> Self {
        Self { grace: Duration::from_secs(10), interval: Duration::from_secs(1) }
    }
}
