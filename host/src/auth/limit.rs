//! How often passwords may be tried, per account and per address.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use governor::{
    DefaultKeyedRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
};
use sha2::{Digest, Sha256};

use super::{Error, settings::LoginLimits};

/// Keys that have recovered are dropped each time so many attempts were made.
const SWEEP_EVERY: u32 = 1000;

pub(super) struct Limits {
    accounts: DefaultKeyedRateLimiter<[u8; 16]>,
    addresses: DefaultKeyedRateLimiter<IpAddr>,
    attempts: AtomicU32,
}

impl Limits {
    pub(super) fn new(settings: &LoginLimits) -> Self {
        Self {
            accounts: RateLimiter::keyed(Quota::per_minute(settings.per_account_per_minute)),
            addresses: RateLimiter::keyed(Quota::per_minute(settings.per_address_per_minute)),
            attempts: AtomicU32::new(0),
        }
    }

    /// Counts an attempt. The address goes first: what it may not do shall not lock an account.
    pub(super) fn attempt(&self, account: &str, address: Option<IpAddr>) -> Result<(), Error> {
        if self.attempts.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.accounts.retain_recent();
            self.addresses.retain_recent();
        }
        if let Some(address) = address {
            take(&self.addresses, &network(address))?;
        }
        take(&self.accounts, &digest(account))
    }
}

fn take<K: std::hash::Hash + Eq + Clone>(limiter: &DefaultKeyedRateLimiter<K>, key: &K) -> Result<(), Error> {
    limiter.check_key(key).map_err(|denied| {
        metrics::counter!("leadwire_limits_hit_total", "limit" => "login").increment(1);
        let wait = denied.wait_time_from(DefaultClock::default().now());
        Error::TooManyAttempts { retry_after: wait.max(Duration::from_secs(1)) }
    })
}

/// A fixed size for names of any length.
fn digest(account: &str) -> [u8; 16] {
    let digest = Sha256::digest(account.to_lowercase().as_bytes());
    digest[..16].try_into().expect("a SHA-256 has more than 16 bytes")
}

/// What one customer calls from: an IPv4 address, or the whole /64 that comes with IPv6.
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

    fn limits(per_account: u32, per_address: u32) -> Limits {
        Limits::new(&LoginLimits {
            per_account_per_minute: NonZeroU32::new(per_account).expect("not zero"),
            per_address_per_minute: NonZeroU32::new(per_address).expect("not zero"),
        })
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn an_account_is_limited_from_wherever_it_is_tried() {
        let limits = limits(2, 100);
        limits.attempt("ann@example.com", address("10.0.0.1")).expect("first");
        limits.attempt("ANN@example.com", address("10.0.0.2")).expect("second");
        let Err(Error::TooManyAttempts { retry_after }) = limits.attempt("ann@example.com", address("10.0.0.3")) else {
            panic!("expected to be refused")
        };
        assert!((1..=30).contains(&retry_after.as_secs()));
        limits.attempt("bob@example.com", address("10.0.0.1")).expect("another account");
    }

    #[test]
    fn an_address_is_limited_whatever_account_it_tries() {
        let limits = limits(100, 2);
        limits.attempt("a", address("2001:db8::1")).expect("first");
        limits.attempt("b", address("2001:db8::2")).expect("second, from the same network");
        assert!(limits.attempt("c", address("2001:db8::3")).is_err());
        limits.attempt("c", address("2001:db8:0:1::1")).expect("another network");
    }

    #[test]
    fn accounts_that_have_recovered_are_forgotten() {
        let limits = limits(60_000, 60_000);
        // Each recovers within a millisecond, so this ends with one of the first sweeps.
        let forgotten = (1..1_000_000).any(|number: usize| {
            limits.attempt(&number.to_string(), None).expect("allowed");
            limits.accounts.len() < number
        });
        assert!(forgotten);
    }
}
