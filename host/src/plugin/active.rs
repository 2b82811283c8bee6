//! Loaded plugins: one plugin, its circuit breaker and counters, and the set of all of them.
//!
//! `plugin` calls the hooks, `breaker` stops calls to one that keeps failing, `set` combines all plugins, `tombstone`
//! takes the place of one whose file is gone, and `rollout` keeps the generations of each.

pub(crate) mod breaker;
pub(crate) mod counts;
pub(crate) mod loader;
pub(crate) mod metrics;
pub(crate) mod observed;
pub(crate) mod plugin;
pub(crate) mod rollout;
pub(crate) mod set;
pub(crate) mod tombstone;
