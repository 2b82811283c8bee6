//! `[effects]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// After so many failures an effect, or the question to a plugin, is parked.
    pub attempts: u32,
    /// What is waited after the first failure; each later one doubles it, and up to as much again is added at random.
    #[serde(with = "humantime_serde")]
    pub first_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub longest_delay: Duration,
    /// How long one attempt to send a webhook may take, from the name's lookup to the answer.
    #[serde(with = "humantime_serde")]
    pub webhook_timeout: Duration,
    /// How many webhooks of one plugin are sent at a time.
    pub parallel_webhooks: usize,
    /// Effects that were done are forgotten after this.
    #[serde(with = "humantime_serde")]
    pub keep_done: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempts: 8,
            first_delay: Duration::from_secs(1),
            longest_delay: Duration::from_secs(10 * 60),
            webhook_timeout: Duration::from_secs(10),
            parallel_webhooks: 8,
            keep_done: Duration::from_secs(7 * 24 * 60 * 60),
        }
    }
}
