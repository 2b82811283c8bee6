//! Rate limits of password attempts: per account *and* network, so that strangers cannot lock an owner out.
//!
//! A network that an account signed in from before is *known* to it. Attempts from there count only against that pair.
//! Attempts of strangers also count against their network, and against all strangers' attempts on that account
//! together.

use std::{
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::{
    auth::{
        queue::{Lane, QueuePriority},
        settings::LoginLimitsConfig,
    },
    domain::user::canonical_email,
};

/// Number of attempts between two sweeps, which drop keys that have recovered.
const SWEEP_EVERY: u32 = 1000;
/// Time after a failed login during which its network waits behind others.
const SUSPECT_FOR: Duration = Duration::from_secs(15 * 60);
const SUSPECTS: usize = 65_536;

type AccountKey = [u8; 16];

pub(crate) struct LoginLimiter {
    pairs: DefaultKeyedRateLimiter<(AccountKey, Option<IpAddr>)>,
    networks: DefaultKeyedRateLimiter<IpAddr>,
    strangers: DefaultKeyedRateLimiter<AccountKey>,
    sessions: DefaultKeyedRateLimiter<Uuid>,
    failed: Cache<IpAddr, Instant>,
    attempts: AtomicU32,
}

/// Rate limit exceeded; `limit` names which.
#[derive(Debug)]
pub(crate) struct Limited {
    pub(crate) limit: &'static str,
    pub(crate) retry_after: Duration,
}

impl LoginLimiter {
    pub(crate) fn new(settings: &LoginLimitsConfig) -> Self {
        let per_account = Quota::per_minute(settings.per_account_per_minute);
        Self {
            pairs: RateLimiter::keyed(per_account),
            networks: RateLimiter::keyed(Quota::per_minute(settings.per_address_per_minute)),
            strangers: RateLimiter::keyed(Quota::per_minute(settings.strangers_per_account_per_minute)),
            sessions: RateLimiter::keyed(per_account),
            failed: Cache::new(SUSPECTS),
            attempts: AtomicU32::new(0),
        }
    }

    /// Counts a login and returns the priority with which it waits for its password to be verified.
    pub(crate) fn login(&self, email: &str, network: Option<IpAddr>, is_known: bool) -> Result<QueuePriority, Limited> {
        self.sweep();
        let account = digest(email);
        if is_known {
            take("account", &self.pairs, &(account, network))?;
            return Ok(QueuePriority { lane: Lane::Known, network });
        }
        // From the narrowest limit to the widest, so that an early refusal uses up nothing that others share.
        if let Some(network) = network {
            take("address", &self.networks, &network)?;
        }
        take("account", &self.pairs, &(account, network))?;
        take("strangers", &self.strangers, &account)?;
        let is_suspect = |network| self.failed.get(&network).is_some_and(|when| when.elapsed() < SUSPECT_FOR);
        let lane = if network.is_some_and(is_suspect) { Lane::Suspect } else { Lane::Fresh };
        Ok(QueuePriority { lane, network })
    }

    /// Records the result of a login from a network.
    pub(crate) fn went(&self, network: Option<IpAddr>, well: bool) {
        match network {
            Some(network) if well => drop(self.failed.remove(&network)),
            Some(network) => self.failed.insert(network, Instant::now()),
            None => {}
        }
    }

    /// Counts an attempt by a signed-in user: nobody else can use these up. `id` is the id of the session, or of the
    /// user if the token has no session.
    pub(crate) fn signed_in(&self, id: Uuid, network: Option<IpAddr>) -> Result<QueuePriority, Limited> {
        self.sweep();
        take("session", &self.sessions, &id)?;
        Ok(QueuePriority { lane: Lane::Known, network })
    }

    fn sweep(&self) {
        if self.attempts.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.pairs.retain_recent();
            self.networks.retain_recent();
            self.strangers.retain_recent();
            self.sessions.retain_recent();
        }
    }
}

fn take<K: Hash + Eq + Clone>(
    limit: &'static str,
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
) -> Result<(), Limited> {
    limiter.check_key(key).map_err(|denied| {
        metrics::counter!("leadwire_limits_hit_total", "limit" => "login").increment(1);
        let wait = denied.wait_time_from(DefaultClock::default().now());
        Limited { limit, retry_after: wait.max(Duration::from_secs(1)) }
    })
}

/// Key of a fixed size for names of any length.
fn digest(email: &str) -> AccountKey {
    let digest = Sha256::digest(canonical_email(email).as_bytes());
    digest[..16].try_into().expect("a SHA-256 has more than 16 bytes")
}

/// Network of one customer: an IPv4 address, or the whole /64 of an IPv6 address.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (!0 << 64))),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use super::*;

    fn limits(per_account: u32, per_address: u32, strangers: u32) -> LoginLimiter {
        let number = |number| NonZeroU32::new(number).expect("not zero");
        LoginLimiter::new(&LoginLimitsConfig {
            per_account_per_minute: number(per_account),
            per_address_per_minute: number(per_address),
            strangers_per_account_per_minute: number(strangers),
            ..LoginLimitsConfig::default()
        })
    }

    fn from(text: &str) -> Option<IpAddr> {
        Some(network(text.parse().expect("an address")))
    }

    fn limit(result: Result<QueuePriority, Limited>) -> &'static str {
        result.expect_err("refused").limit
    }

    #[test]
    fn login_attempts_are_limited_per_account_and_network() {
        let limits = limits(2, 100, 100);
        limits.login("ann@example.com", from("10.0.0.1"), false).expect("first");
        limits.login("ANN@example.com", from("10.0.0.1"), false).expect("second");
        let refused = limits.login("ann@example.com", from("10.0.0.1"), false).expect_err("refused");
        assert_eq!(refused.limit, "account");
        assert!((1..=30).contains(&refused.retry_after.as_secs()));
        limits.login("ann@example.com", from("10.0.0.2"), false).expect("from elsewhere");
        limits.login("bob@example.com", from("10.0.0.1"), false).expect("another account");
    }

    #[test]
    fn unknown_networks_do_not_use_up_the_attempts_of_known_devices() {
        let limits = limits(2, 2, 3);
        for host in 1..=3 {
            limits.login("ann@example.com", from(&format!("10.0.0.{host}")), false).expect("from a network of its own");
        }
        assert_eq!(limit(limits.login("ann@example.com", from("10.0.0.4"), false)), "strangers");
        for _ in 0..2 {
            limits.login("bob@example.com", from("10.9.9.9"), false).expect("another account");
        }
        assert_eq!(limit(limits.login("eve@example.com", from("10.9.9.9"), false)), "address");
        for _ in 0..2 {
            let priority = limits.login("ann@example.com", from("10.9.9.9"), true).expect("known there");
            assert_eq!(priority.lane, Lane::Known);
        }
        assert_eq!(limit(limits.login("ann@example.com", from("10.9.9.9"), true)), "account");
        let session = Uuid::from_u128(1);
        for _ in 0..2 {
            limits.signed_in(session, from("10.9.9.9")).expect("nobody else's");
        }
        assert_eq!(limit(limits.signed_in(session, from("10.9.9.9"))), "session");
    }

    #[test]
    fn a_network_is_an_ipv4_address_or_an_ipv6_64() {
        let limits = limits(100, 2, 100);
        limits.login("a", from("2001:db8::1"), false).expect("first");
        limits.login("b", from("2001:db8::2"), false).expect("second, from the same network");
        assert_eq!(limit(limits.login("c", from("2001:db8::3"), false)), "address");
        limits.login("c", from("2001:db8:0:1::1"), false).expect("another network");
    }

    #[test]
    fn a_network_is_deprioritized_after_a_failure_until_a_success() {
        let limits = limits(100, 100, 100);
        let lane = || limits.login("ann@example.com", from("10.0.0.1"), false).expect("allowed").lane;
        assert_eq!(lane(), Lane::Fresh);
        limits.went(from("10.0.0.1"), false);
        assert_eq!(lane(), Lane::Suspect);
        limits.went(from("10.0.0.1"), true);
        assert_eq!(lane(), Lane::Fresh);
    }

    #[test]
    fn accounts_with_a_full_allowance_are_evicted() {
        let limits = limits(60_000, 60_000, 60_000);
        // Each key recovers within a millisecond, so one of the first sweeps ends this.
        let forgotten = (1..1_000_000).any(|number: usize| {
            limits.login(&number.to_string(), None, false).expect("allowed");
            limits.pairs.len() < number
        });
        assert!(forgotten);
    }
}
