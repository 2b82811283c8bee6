//! How a plugin is doing: its counts, its last fault, and the breaker that gives a failing one a rest.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    error::Fault,
    status::{Counts, LastFault},
};
use crate::domain::time::Timestamp;

/// The breaker opens after so many faults in a row.
const FAULTS_TO_OPEN: u32 = 5;
const FIRST_REST: Duration = Duration::from_secs(1);
const LONGEST_REST: Duration = Duration::from_secs(64);

#[derive(Default)]
pub(super) struct Health {
    calls: AtomicU64,
    faults: AtomicU64,
    skipped: AtomicU64,
    /// Faults since the last good answer. Below the limit, nothing else is looked at.
    in_a_row: AtomicU32,
    rest: Mutex<Option<Rest>>,
    last_fault: Mutex<Option<LastFault>>,
}

/// The breaker is open.
struct Rest {
    length: Duration,
    until: Instant,
    /// Somebody is finding out whether the plugin works again.
    probing: bool,
}

/// Leave to ask the plugin once. Report the outcome with `good` or `bad`.
#[must_use]
pub(super) struct Permit {
    /// Whether the answer decides about the breaker's rest.
    probe: bool,
}

impl Health {
    /// Leave to ask, or why not now.
    pub(super) fn permit(&self, now: Instant) -> Result<Permit, String> {
        let probe = self.is_resting();
        if probe && !self.may_probe(now) {
            self.skipped.fetch_add(1, Relaxed);
            return Err(self.why());
        }
        self.calls.fetch_add(1, Relaxed);
        Ok(Permit { probe })
    }

    fn may_probe(&self, now: Instant) -> bool {
        match &mut *self.rest.lock() {
            Some(rest) if rest.probing || now < rest.until => false,
            Some(rest) => {
                rest.probing = true;
                true
            }
            None => true,
        }
    }

    pub(super) fn good(&self, _: Permit) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
            *self.rest.lock() = None;
        }
    }

    /// Takes note of a fault; true when the breaker opened by it.
    pub(super) fn bad(&self, permit: Permit, hook: &'static str, fault: &Fault, now: Instant) -> bool {
        self.faults.fetch_add(1, Relaxed);
        *self.last_fault.lock() = Some(LastFault { at: Timestamp::now(), hook, reason: fault.to_string() });
        if self.in_a_row.fetch_add(1, Relaxed).saturating_add(1) < FAULTS_TO_OPEN {
            return false;
        }
        let mut rest = self.rest.lock();
        let length = match &*rest {
            // Callers that were under way when the breaker opened do not make the rest longer.
            Some(_) if !permit.probe => return false,
            Some(rest) => (rest.length * 2).min(LONGEST_REST),
            None => FIRST_REST,
        };
        *rest = Some(Rest { length, until: now + length, probing: false });
        true
    }

    /// Whether the last answers were all faults, enough of them for a rest.
    pub(super) fn is_resting(&self) -> bool {
        self.in_a_row.load(Relaxed) >= FAULTS_TO_OPEN
    }

    pub(super) fn why(&self) -> String {
        match &*self.last_fault.lock() {
            Some(fault) => format!("{} {}", fault.hook, fault.reason),
            None => "it does not answer".into(),
        }
    }

    pub(super) fn last_fault(&self) -> Option<LastFault> {
        self.last_fault.lock().clone()
    }

    pub(super) fn counts(&self, instances: u64) -> Counts {
        Counts {
            calls: self.calls.load(Relaxed),
            faults: self.faults.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            instances,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fail(health: &Health, now: Instant) -> bool {
        let permit = health.permit(now).expect("may ask");
        health.bad(permit, "filter", &Fault::Failed("no".into()), now)
    }

    fn opened(now: Instant) -> Health {
        let health = Health::default();
        for fault in 1..=FAULTS_TO_OPEN {
            assert_eq!(fail(&health, now), fault == FAULTS_TO_OPEN);
        }
        health
    }

    #[test]
    fn the_breaker_opens_after_five_faults_in_a_row() {
        let now = Instant::now();
        let health = Health::default();
        for _ in 0..4 {
            assert!(!fail(&health, now));
        }
        health.good(health.permit(now).expect("may ask"));
        for _ in 0..4 {
            assert!(!fail(&health, now));
        }
        assert!(!health.is_resting());
        assert!(fail(&health, now));
        assert_eq!(health.permit(now).err(), Some("filter answered with an error: no".into()));
        assert_eq!(health.counts(0), Counts { calls: 10, faults: 9, skipped: 1, instances: 0 });
    }

    #[test]
    fn one_probe_at_a_time_ends_the_rest_or_doubles_it() {
        let mut now = Instant::now();
        let health = opened(now);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(health.permit(now + Duration::from_secs(seconds) - Duration::from_millis(1)).is_err());
            now += Duration::from_secs(seconds);
            let probe = health.permit(now).expect("may probe");
            assert!(health.permit(now).is_err(), "a second probe beside the first");
            assert!(health.bad(probe, "filter", &Fault::Failed("no".into()), now));
        }
        now += Duration::from_secs(64);
        health.good(health.permit(now).expect("may probe"));
        assert!(!health.is_resting() && health.permit(now).is_ok());
    }

    #[test]
    fn calls_that_were_under_way_do_not_lengthen_the_rest() {
        let now = Instant::now();
        let health = Health::default();
        let permits: Vec<Permit> = (0..9).map(|_| health.permit(now).expect("may ask")).collect();
        let opened = permits.into_iter().map(|permit| health.bad(permit, "filter", &Fault::Failed("no".into()), now));
        assert_eq!(opened.filter(|opened| *opened).count(), 1);
        assert!(health.permit(now + FIRST_REST).is_ok());
    }
}
