//! How a plugin is doing: its counts, its last fault, and the breaker that gives a failing one a rest.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    error::Fault,
    limits::Limits,
    status::{Breaker, BreakerStatus, Counts, LastFault},
};
use crate::domain::{id::LeadId, time::Timestamp};

pub(super) struct Health {
    /// The breaker opens after so many faults in a row.
    faults_to_open: u32,
    first_rest: Duration,
    longest_rest: Duration,
    calls: AtomicU64,
    faults: AtomicU64,
    skipped: AtomicU64,
    /// Faults since the last good answer, those about one lead counted once. Below the limit, nothing else is looked at.
    in_a_row: AtomicU32,
    /// The leads that these were about, as far as they were about one.
    leads_in_a_row: Mutex<Vec<LeadId>>,
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
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            faults_to_open: u32::try_from(limits.faults_in_a_row).unwrap_or(u32::MAX),
            first_rest: limits.rest(),
            longest_rest: limits.longest_rest(),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            leads_in_a_row: Mutex::default(),
            rest: Mutex::default(),
            last_fault: Mutex::default(),
        }
    }

    /// Leave to ask, or why not now. The clock is read only where the answer depends on it.
    pub(super) fn permit(&self, now: impl FnOnce() -> Instant) -> Result<Permit, String> {
        let probe = self.is_resting();
        if probe && !self.may_probe(now()) {
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
            self.leads_in_a_row.lock().clear();
            *self.rest.lock() = None;
        }
    }

    /// Takes note of a fault; true when the breaker opened by it.
    ///
    /// One lead that a plugin fails on, asked about again and again, says nothing about the others.
    pub(super) fn bad(
        &self,
        permit: Permit,
        hook: &'static str,
        fault: &Fault,
        lead: Option<LeadId>,
        now: Instant,
    ) -> bool {
        self.faults.fetch_add(1, Relaxed);
        *self.last_fault.lock() = Some(LastFault { at: Timestamp::now(), hook, reason: fault.to_string() });
        if !permit.probe && lead.is_some_and(|lead| self.is_repeated(lead)) {
            return false;
        }
        if self.in_a_row.fetch_add(1, Relaxed).saturating_add(1) < self.faults_to_open {
            return false;
        }
        let mut rest = self.rest.lock();
        let length = match &*rest {
            // Callers that were under way when the breaker opened do not make the rest longer.
            Some(_) if !permit.probe => return false,
            Some(rest) => (rest.length * 2).min(self.longest_rest),
            None => self.first_rest,
        };
        *rest = Some(Rest { length, until: now + length, probing: false });
        true
    }

    /// Whether there was a fault about the lead since the last good answer; from now on, there was.
    fn is_repeated(&self, lead: LeadId) -> bool {
        let mut leads = self.leads_in_a_row.lock();
        let is_known = leads.contains(&lead);
        if !is_known && leads.len() < self.faults_to_open as usize {
            leads.push(lead);
        }
        is_known
    }

    /// Whether the last answers were all faults, enough of them for a rest.
    pub(super) fn is_resting(&self) -> bool {
        self.in_a_row.load(Relaxed) >= self.faults_to_open
    }

    pub(super) fn why(&self) -> String {
        match &*self.last_fault.lock() {
            Some(fault) => format!("{} {}", fault.hook, fault.reason),
            None => "it does not answer".into(),
        }
    }

    pub(super) fn breaker(&self, now: Instant) -> BreakerStatus {
        let faults_in_a_row = self.in_a_row.load(Relaxed);
        let rest = self.rest.lock();
        let Some(rest) = rest.as_ref().filter(|_| self.is_resting()) else {
            return BreakerStatus { state: Breaker::Closed, faults_in_a_row, rest_ms: None, left_ms: None };
        };
        let left = rest.until.saturating_duration_since(now);
        let state = if rest.probing || left.is_zero() { Breaker::HalfOpen } else { Breaker::Open };
        let millis = |span: Duration| Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        BreakerStatus { state, faults_in_a_row, rest_ms: millis(rest.length), left_ms: millis(left) }
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

    const FAULTS_TO_OPEN: u32 = 5;
    const FIRST_REST: Duration = Duration::from_secs(1);

    fn health() -> Health {
        Health::new(&Limits::default())
    }

    fn fail(health: &Health, now: Instant) -> bool {
        let permit = health.permit(|| now).expect("may ask");
        health.bad(permit, "filter", &Fault::Failed("no".into()), None, now)
    }

    fn opened(now: Instant) -> Health {
        let health = health();
        for fault in 1..=FAULTS_TO_OPEN {
            assert_eq!(fail(&health, now), fault == FAULTS_TO_OPEN);
        }
        health
    }

    #[test]
    fn the_breaker_opens_after_five_faults_in_a_row() {
        let now = Instant::now();
        let health = health();
        for _ in 0..4 {
            assert!(!fail(&health, now));
        }
        health.good(health.permit(|| now).expect("may ask"));
        for _ in 0..4 {
            assert!(!fail(&health, now));
        }
        assert!(!health.is_resting());
        assert!(fail(&health, now));
        assert_eq!(health.permit(|| now).err(), Some("filter answered with an error: no".into()));
        assert_eq!(health.counts(0), Counts { calls: 10, faults: 9, skipped: 1, instances: 0 });
    }

    #[test]
    fn one_lead_that_is_asked_about_again_and_again_does_not_open_the_breaker() {
        let now = Instant::now();
        let health = health();
        let about = |number| {
            let permit = health.permit(|| now).expect("may ask");
            let lead = Some(LeadId(uuid::Uuid::from_u128(number)));
            health.bad(permit, "filter", &Fault::Failed("no".into()), lead, now)
        };
        for _ in 0..100 {
            assert!(!about(1));
        }
        assert!(!about(2) && !about(3) && !about(4) && !about(2));
        assert!(about(5), "five leads in a row");
        health.good(health.permit(|| now + FIRST_REST).expect("may probe"));
        assert!(!about(1) && !about(2) && !health.is_resting());
    }

    #[test]
    fn one_probe_at_a_time_ends_the_rest_or_doubles_it() {
        let mut now = Instant::now();
        let health = opened(now);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(health.permit(|| now + Duration::from_secs(seconds) - Duration::from_millis(1)).is_err());
            now += Duration::from_secs(seconds);
            let probe = health.permit(|| now).expect("may probe");
            assert!(health.permit(|| now).is_err(), "a second probe beside the first");
            assert!(health.bad(probe, "filter", &Fault::Failed("no".into()), None, now));
        }
        now += Duration::from_secs(64);
        health.good(health.permit(|| now).expect("may probe"));
        assert!(!health.is_resting() && health.permit(|| now).is_ok());
    }

    #[test]
    fn the_state_of_the_breaker_is_shown() {
        let now = Instant::now();
        let health = opened(now);
        let shown = |at: Duration| {
            let BreakerStatus { state, faults_in_a_row, rest_ms, left_ms } = health.breaker(now + at);
            (state, faults_in_a_row, rest_ms, left_ms)
        };
        assert_eq!(shown(Duration::from_millis(400)), (Breaker::Open, 5, Some(1000), Some(600)));
        assert_eq!(shown(FIRST_REST), (Breaker::HalfOpen, 5, Some(1000), Some(0)));
        let probe = health.permit(|| now + FIRST_REST).expect("may probe");
        assert_eq!(shown(Duration::ZERO).0, Breaker::HalfOpen, "while somebody probes");
        health.good(probe);
        assert_eq!(shown(FIRST_REST), (Breaker::Closed, 0, None, None));
    }

    #[test]
    fn faults_and_rests_are_settings() {
        let now = Instant::now();
        let limits = Limits { faults_in_a_row: 2, rest_ms: 10, longest_rest_ms: 15, ..Limits::default() };
        let health = Health::new(&limits);
        assert!(!fail(&health, now) && fail(&health, now));
        let rest = |now: Instant| health.breaker(now).rest_ms;
        assert_eq!(rest(now), Some(10));
        assert!(fail(&health, now + Duration::from_millis(10)));
        assert_eq!(rest(now), Some(15));
    }

    #[test]
    fn calls_that_were_under_way_do_not_lengthen_the_rest() {
        let now = Instant::now();
        let health = health();
        let permits: Vec<Permit> = (0..9).map(|_| health.permit(|| now).expect("may ask")).collect();
        let opened =
            permits.into_iter().map(|permit| health.bad(permit, "filter", &Fault::Failed("no".into()), None, now));
        assert_eq!(opened.filter(|opened| *opened).count(), 1);
        assert!(health.permit(|| now + FIRST_REST).is_ok());
    }
}
