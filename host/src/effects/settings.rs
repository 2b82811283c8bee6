//! `[effects]` of the configuration: retries and back-off, limits of webhooks, and the time for which finished effects
//! are kept.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EffectsConfig {
    /// Number of failures after which an effect, or the question to a plugin, is parked (dead letter).
    pub attempts: u32,
    /// Delay after the first failure (back-off). Each later failure doubles it, and up to as much again is added at
    /// random.
    #[serde(with = "humantime_serde")]
    pub first_delay: Duration,
    #[serde(with = "humantime_serde")]
    pub longest_delay: Duration,
    /// Time limit of one attempt to send a webhook, from the name's lookup to the response.
    #[serde(with = "humantime_serde")]
    pub webhook_timeout: Duration,
    /// Number of webhooks of one plugin that are sent at a time.
    pub parallel_webhooks: usize,
    /// Time after which finished effects are forgotten.
    #[serde(with = "humantime_serde")]
    pub keep_done: Duration,
}

impl Default for EffectsConfig {
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
