//! `[limits]` of the configuration: rate limits and quotas of one socket, one user and one address.
//!
//! A client that exceeds a limit is refused and gets the time to wait; nothing is closed for it. Only a socket that
//! goes on and on is cut, like one that reads nothing.

use std::{
    collections::HashMap,
    hash::Hash,
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, Instant},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Number of events that a socket may send per second, in the long run.
    pub events_per_second: NonZeroU32,
    /// Number of events that it may send at once, after it was silent for a while (burst).
    pub events_burst: NonZeroU32,
    /// Number of refusals within `refusal_window` beyond which a socket is cut.
    pub refusals: u32,
    #[serde(with = "humantime_serde")]
    pub refusal_window: Duration,
    /// Number of leads that one socket may follow (subscriptions).
    pub subscriptions: usize,
    /// Number of handshakes that one connection may make: after a refusal, or after the client disconnected.
    pub handshakes: u32,
    /// Number of sockets that one user may have.
    pub connections_per_user: usize,
    /// Number of connections that may come from one address, signed in or not.
    pub connections_per_address: usize,
    /// Number of TCP connections that may come from one address, whatever they are for. Each connection of Socket.IO
    /// takes one or two: twice `connections_per_address` are allowed in any case.
    pub tcp_connections_per_address: usize,
    /// Number of HTTP requests of one user that may be in progress, including responses that have not left.
    pub requests_per_user: usize,
    /// Number of HTTP requests from one address that may be in progress.
    pub requests_per_address: usize,
}

impl Default for LimitsConfig {
    /// Defaults of the limits. The burst lets a client follow every lead again that it may follow, twice over.
    fn default() -> Self {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        Self {
            events_per_second: number(100),
            events_burst: number(2000),
            refusals: 1000,
            refusal_window: Duration::from_secs(10),
            subscriptions: 1000,
            handshakes: 20,
            connections_per_user: 100,
            connections_per_address: 1000,
            tcp_connections_per_address: 2000,
            requests_per_user: 64,
            requests_per_address: 500,
        }
    }
}

impl LimitsConfig {
    /// Returns the number of TCP connections that may come from one address.
    pub fn tcp_connections(&self) -> usize {
        self.tcp_connections_per_address.max(self.connections_per_address.saturating_mul(2))
    }
}

/// Counts a refusal in the metrics.
pub fn hit(limit: &'static str) {
    metrics::counter!("leadwire_limits_hit_total", "limit" => limit).increment(1);
}

/// Rate limit of one socket's events, with a count of its refusals.
pub(crate) struct Pace {
    events: DefaultDirectRateLimiter,
    refusals: Mutex<Refusals>,
    max_refusals: u32,
    window: Duration,
}

struct Refusals {
    since: Instant,
    count: u32,
}

impl Pace {
    pub(crate) fn new(settings: &LimitsConfig) -> Self {
        let quota = Quota::per_second(settings.events_per_second).allow_burst(settings.events_burst);
        Self {
            events: RateLimiter::direct(quota),
            refusals: Mutex::new(Refusals { since: Instant::now(), count: 0 }),
            max_refusals: settings.refusals,
            window: settings.refusal_window,
        }
    }

    /// Creates the rate limit for packets of any kind in a session: twice that for events, which are refused one by one
    /// when they come too early, and something for packets that keep a connection going.
    pub(crate) fn of_packets(settings: &LimitsConfig) -> Self {
        let twice = |number: NonZeroU32| number.saturating_mul(NonZeroU32::new(2).expect("not zero"));
        Self::new(&LimitsConfig {
            events_per_second: twice(settings.events_per_second),
            events_burst: twice(settings.events_burst).saturating_add(100),
            ..settings.clone()
        })
    }

    /// Counts an event.
    ///
    /// # Errors
    /// When it comes too early; the error is the time to wait.
    pub(crate) fn take(&self) -> Result<(), Duration> {
        self.events.check().map_err(|early| early.wait_time_from(DefaultClock::default().now()))
    }

    /// Counts a refusal; returns true if there were too many of late.
    pub(crate) fn refuse(&self, now: Instant) -> bool {
        let mut refusals = self.refusals.lock();
        if now.saturating_duration_since(refusals.since) > self.window {
            *refusals = Refusals { since: now, count: 0 };
        }
        refusals.count = refusals.count.saturating_add(1);
        refusals.count > self.max_refusals
    }
}

/// Quota: counts the slots that each key takes, such as sockets of a user or connections of an address.
pub struct Slots<K: Eq + Hash>(Arc<Mutex<HashMap<K, usize>>>);

/// Slot that is taken until this guard is dropped.
pub struct SlotGuard<K: Eq + Hash> {
    key: K,
    places: Slots<K>,
}

impl<K: Eq + Hash> Clone for Slots<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Default for Slots<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Copy + Eq + Hash> Slots<K> {
    /// Takes one more slot for `key`; `None` if it has `limit` already.
    pub fn take(&self, key: K, limit: usize) -> Option<SlotGuard<K>> {
        let mut taken = self.0.lock();
        let count = taken.entry(key).or_default();
        if *count >= limit {
            if *count == 0 {
                taken.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(SlotGuard { key, places: self.clone() })
    }

    /// Returns the number of slots that are taken, for all keys.
    pub fn taken(&self) -> usize {
        self.0.lock().values().sum()
    }
}

impl<K: Eq + Hash> Drop for SlotGuard<K> {
    fn drop(&mut self) {
        let mut taken = self.places.0.lock();
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(per_second: u32, burst: u32, refusals: u32) -> Pace {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        let (events_per_second, events_burst) = (number(per_second), number(burst));
        Pace::new(&LimitsConfig { events_per_second, events_burst, refusals, ..LimitsConfig::default() })
    }

    #[test]
    fn a_burst_is_accepted_and_the_next_attempt_gets_a_wait_time() {
        let pace = pace(1, 3, 10);
        for _ in 0..3 {
            pace.take().expect("within the burst");
        }
        let wait = pace.take().expect_err("too early");
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(1), "{wait:?}");
    }

    #[test]
    fn refusals_are_counted_within_the_window_and_forgotten_after_it() {
        let (pace, now) = (pace(1, 1, 2), Instant::now());
        assert!(!pace.refuse(now) && !pace.refuse(now));
        assert!(pace.refuse(now), "the third");
        let later = now + LimitsConfig::default().refusal_window + Duration::from_secs(1);
        assert!(!pace.refuse(later) && !pace.refuse(later));
        assert!(pace.refuse(later));
    }

    #[test]
    fn a_dropped_slot_is_free_again() {
        let places = Slots::default();
        let first = places.take('a', 2).expect("there is room");
        let second = places.take('a', 2).expect("there is room");
        assert!(places.take('a', 2).is_none());
        assert!(places.take('b', 1).is_some(), "another one's, and dropped at once");
        drop(first);
        assert!(places.take('a', 2).is_some());
        drop(second);
        assert_eq!((places.taken(), places.0.lock().len()), (0, 0));
        assert!(places.take('a', 0).is_none());
        assert!(places.0.lock().is_empty(), "nothing is left of who got nothing");
    }
}
