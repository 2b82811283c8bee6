//! `[limits]` of the configuration: what one socket, one user and one address may take of the server.
//!
//! Whoever wants more is told so and how long to wait; nothing is closed for it. Only a socket that goes on and on
//! is cut, as one that reads nothing is.

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
pub struct Settings {
    /// How many events a socket may send in a second, in the long run.
    pub events_per_second: NonZeroU32,
    /// How many it may send at once, after it was silent for a while.
    pub events_burst: NonZeroU32,
    /// A socket that was refused more often than that within `refusal_window` is cut.
    pub refusals: u32,
    #[serde(with = "humantime_serde")]
    pub refusal_window: Duration,
    /// How many leads one socket may follow.
    pub subscriptions: usize,
    /// How many handshakes one connection may make: after a refusal, or a goodbye.
    pub handshakes: u32,
    /// How many sockets one user may have.
    pub connections_per_user: usize,
    /// How many connections may come from one address, signed in or not.
    pub connections_per_address: usize,
    /// How many TCP connections may come from one address, whatever they are for. Each connection of Socket.IO takes
    /// one or two: twice `connections_per_address` are allowed in any case.
    pub tcp_connections_per_address: usize,
    /// How many HTTP requests of one user may be under way, answers that have not left included.
    pub requests_per_user: usize,
    /// How many HTTP requests from one address may be under way.
    pub requests_per_address: usize,
}

impl Default for Settings {
    /// The burst lets a client follow every lead again that it may, twice over.
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

impl Settings {
    /// How many TCP connections may come from one address.
    pub fn tcp_connections(&self) -> usize {
        self.tcp_connections_per_address.max(self.connections_per_address.saturating_mul(2))
    }
}

/// Counts a refusal.
pub fn hit(limit: &'static str) {
    metrics::counter!("leadwire_limits_hit_total", "limit" => limit).increment(1);
}

/// How fast one socket may send events, and how often it was told that this was too fast.
pub(super) struct Pace {
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
    pub(super) fn new(settings: &Settings) -> Self {
        let quota = Quota::per_second(settings.events_per_second).allow_burst(settings.events_burst);
        Self {
            events: RateLimiter::direct(quota),
            refusals: Mutex::new(Refusals { since: Instant::now(), count: 0 }),
            max_refusals: settings.refusals,
            window: settings.refusal_window,
        }
    }

    /// How fast a session may send packets of whatever kind: twice what is allowed for events, which are told when
    /// they come too early, and something for what keeps a connection going.
    pub(super) fn of_packets(settings: &Settings) -> Self {
        let twice = |number: NonZeroU32| number.saturating_mul(NonZeroU32::new(2).expect("not zero"));
        Self::new(&Settings {
            events_per_second: twice(settings.events_per_second),
            events_burst: twice(settings.events_burst).saturating_add(100),
            ..settings.clone()
        })
    }

    /// Counts an event.
    ///
    /// # Errors
    /// When it comes too early: how long to wait.
    pub(super) fn take(&self) -> Result<(), Duration> {
        self.events.check().map_err(|early| early.wait_time_from(DefaultClock::default().now()))
    }

    /// Counts a refusal; true when there were too many of late.
    pub(super) fn refuse(&self, now: Instant) -> bool {
        let mut refusals = self.refusals.lock();
        if now.saturating_duration_since(refusals.since) > self.window {
            *refusals = Refusals { since: now, count: 0 };
        }
        refusals.count = refusals.count.saturating_add(1);
        refusals.count > self.max_refusals
    }
}

/// How many places each one takes: sockets of a user, connections of an address.
pub struct Places<K: Eq + Hash>(Arc<Mutex<HashMap<K, usize>>>);

/// A place that is taken until this is dropped.
pub struct Place<K: Eq + Hash> {
    key: K,
    places: Places<K>,
}

impl<K: Eq + Hash> Clone for Places<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: Eq + Hash> Default for Places<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Copy + Eq + Hash> Places<K> {
    /// One more place for `key`; nothing when it has `limit` already.
    pub fn take(&self, key: K, limit: usize) -> Option<Place<K>> {
        let mut taken = self.0.lock();
        let count = taken.entry(key).or_default();
        if *count >= limit {
            if *count == 0 {
                taken.remove(&key);
            }
            return None;
        }
        *count += 1;
        Some(Place { key, places: self.clone() })
    }

    /// How many are taken, by whomever.
    pub fn taken(&self) -> usize {
        self.0.lock().values().sum()
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
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
        Pace::new(&Settings { events_per_second, events_burst, refusals, ..Settings::default() })
    }

    #[test]
    fn a_burst_is_taken_and_what_follows_is_told_how_long_to_wait() {
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
        let later = now + Settings::default().refusal_window + Duration::from_secs(1);
        assert!(!pace.refuse(later) && !pace.refuse(later));
        assert!(pace.refuse(later));
    }

    #[test]
    fn a_place_is_free_again_once_it_is_dropped() {
        let places = Places::default();
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
