//! Circuit breaker of one plugin, with its call counts and its last fault.
//!
//! After enough faults in a row the breaker opens, and calls are skipped. When the open period is over, one probe at a
//! time decides: a success closes the breaker, a failure doubles the period.

use std::{
    sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{
    backoff::Backoff,
    domain::{id::LeadId, time::Timestamp},
    plugin::{
        active::counts::{Breaker, BreakerStatus, Counts, LastFault},
        contract::{error::Fault, limits::Limits},
    },
};

pub(crate) struct CircuitBreaker {
    /// Number of faults in a row after which the breaker opens.
    faults_to_open: u32,
    first_rest: Duration,
    longest_rest: Duration,
    calls: AtomicU64,
    faults: AtomicU64,
    skipped: AtomicU64,
    /// Number of faults since the last good answer; those about one lead count once. Below the limit, nothing else is
    /// read.
    in_a_row: AtomicU32,
    /// The faults in a row that were about leads.
    row: Mutex<FailureStreak>,
    rest: Mutex<Option<OpenState>>,
    last_fault: Mutex<Option<LastFault>>,
}

/// Faults about leads since the last good answer.
///
/// They say nothing about the plugin unless they go on for a while: a page of a list may contain nothing else.
#[derive(Default)]
struct FailureStreak {
    leads: Vec<LeadId>,
    /// Time of the first of them.
    since: Option<Instant>,
}

const LONGEST_ROW: Duration = Duration::from_secs(1);
/// Number of leads that are remembered: more than a page has. Any further lead counts as new each time.
const MAX_LEADS: usize = 256;

/// State of an open breaker.
struct OpenState {
    periods: Backoff,
    /// Length of the current period.
    length: Duration,
    until: Instant,
    /// Set while a probe is under way.
    probing: bool,
}

impl OpenState {
    fn new(mut periods: Backoff, now: Instant) -> Self {
        let length = periods.next();
        Self { periods, length, until: now + length, probing: false }
    }
}

/// Permission for one call. Report the outcome with [`CircuitBreaker::record_success`] or
/// [`CircuitBreaker::record_failure`].
#[must_use]
pub(crate) struct Permit {
    /// Set for a probe: its outcome closes the breaker or doubles the open period.
    probe: bool,
}

impl CircuitBreaker {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            faults_to_open: u32::try_from(limits.faults_in_a_row).unwrap_or(u32::MAX),
            first_rest: limits.rest(),
            longest_rest: limits.longest_rest(),
            calls: AtomicU64::new(0),
            faults: AtomicU64::new(0),
            skipped: AtomicU64::new(0),
            in_a_row: AtomicU32::new(0),
            row: Mutex::default(),
            rest: Mutex::default(),
            last_fault: Mutex::default(),
        }
    }

    /// Permits one call, or returns why not now. Reads the clock only where the answer depends on it.
    pub(crate) fn permit(&self, now: impl FnOnce() -> Instant) -> Result<Permit, String> {
        let probe = self.is_open();
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

    pub(crate) fn record_success(&self, _: Permit) {
        if self.in_a_row.load(Relaxed) != 0 {
            self.in_a_row.store(0, Relaxed);
            *self.row.lock() = FailureStreak::default();
            *self.rest.lock() = None;
        }
    }

    /// Records a fault. Returns true if it opened the breaker.
    ///
    /// One lead that a plugin fails on, asked about again and again, says nothing about other leads.
    pub(crate) fn record_failure(
        &self,
        permit: Permit,
        hook: &'static str,
        fault: &Fault,
        lead: Option<LeadId>,
        now: Instant,
    ) -> bool {
        self.faults.fetch_add(1, Relaxed);
        *self.last_fault.lock() = Some(LastFault { at: Timestamp::now(), hook, reason: fault.to_string() });
        let is_new = lead.is_none_or(|lead| self.is_new(lead, now));
        if !permit.probe && !is_new {
            return false;
        }
        let limit = match lead {
            // The count stays one below the limit until the streak has lasted long enough.
            Some(_) if !permit.probe && !self.has_lasted(now) => self.faults_to_open - 1,
            _ => self.faults_to_open,
        };
        let count = |count: u32| Some(count.saturating_add(1).min(limit.max(count)));
        let before = self.in_a_row.fetch_update(Relaxed, Relaxed, count).unwrap_or_default();
        if before.saturating_add(1) < self.faults_to_open || limit < self.faults_to_open {
            return false;
        }
        let mut rest = self.rest.lock();
        // Calls that were under way when the breaker opened do not extend the open period.
        if rest.is_some() && !permit.probe {
            return false;
        }
        let periods = rest.take().map_or_else(|| Backoff::new(self.first_rest, self.longest_rest), |rest| rest.periods);
        *rest = Some(OpenState::new(periods, now));
        true
    }

    /// Returns true if there was no fault about the lead since the last good answer, and remembers the lead.
    fn is_new(&self, lead: LeadId, now: Instant) -> bool {
        let mut row = self.row.lock();
        row.since.get_or_insert(now);
        let is_known = row.leads.contains(&lead);
        if !is_known && row.leads.len() < MAX_LEADS {
            row.leads.push(lead);
        }
        !is_known
    }

    fn has_lasted(&self, now: Instant) -> bool {
        self.row
            .lock()
            .since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.first_rest.min(LONGEST_ROW))
    }

    /// Returns true if the last answers were all faults, and enough of them to open the breaker.
    pub(crate) fn is_open(&self) -> bool {
        self.in_a_row.load(Relaxed) >= self.faults_to_open
    }

    pub(crate) fn why(&self) -> String {
        match &*self.last_fault.lock() {
            Some(fault) => format!("{} {}", fault.hook, fault.reason),
            None => "it is not responding".into(),
        }
    }

    pub(crate) fn breaker(&self, now: Instant) -> BreakerStatus {
        let faults_in_a_row = self.in_a_row.load(Relaxed);
        let rest = self.rest.lock();
        let Some(rest) = rest.as_ref().filter(|_| self.is_open()) else {
            return BreakerStatus { state: Breaker::Closed, faults_in_a_row, rest_ms: None, left_ms: None };
        };
        let left = rest.until.saturating_duration_since(now);
        let state = if rest.probing || left.is_zero() { Breaker::HalfOpen } else { Breaker::Open };
        let millis = |span: Duration| Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX));
        BreakerStatus { state, faults_in_a_row, rest_ms: millis(rest.length), left_ms: millis(left) }
    }

    pub(crate) fn last_fault(&self) -> Option<LastFault> {
        self.last_fault.lock().clone()
    }

    pub(crate) fn counts(&self, instances: u64) -> Counts {
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

    fn health() -> CircuitBreaker {
        CircuitBreaker::new(&Limits::default())
    }

    fn fail(health: &CircuitBreaker, now: Instant) -> bool {
        let permit = health.permit(|| now).expect("may ask");
        health.record_failure(permit, "filter", &Fault::Failed("no".into()), None, now)
    }

    fn opened(now: Instant) -> CircuitBreaker {
        let health = health();
        for fault in 1..=FAULTS_TO_OPEN {
            assert_eq!(fail(&health, now), fault == FAULTS_TO_OPEN);
        }
        health
    }

    #[test]
    fn the_breaker_opens_after_five_consecutive_faults() {
        let now = Instant::now();
        let health = health();
        for _ in 0..4 {
            assert!(!fail(&health, now));
        }
        health.record_success(health.permit(|| now).expect("may ask"));
        for _ in 0..4 {
            assert!(!fail(&health, now));
        }
        assert!(!health.is_open());
        assert!(fail(&health, now));
        assert_eq!(health.permit(|| now).err(), Some("filter answered with an error: no".into()));
        assert_eq!(health.counts(0), Counts { calls: 10, faults: 9, skipped: 1, instances: 0 });
    }

    #[test]
    fn failing_leads_open_the_breaker_only_if_no_other_call_succeeds_for_a_while() {
        let now = Instant::now();
        let health = health();
        let about_at = |number, now| {
            let permit = health.permit(|| now).expect("may ask");
            let lead = Some(LeadId(uuid::Uuid::from_u128(number)));
            health.record_failure(permit, "filter", &Fault::Failed("no".into()), lead, now)
        };
        let about = |number| about_at(number, now);
        for _ in 0..100 {
            assert!(!about(1));
        }
        for number in 2..100 {
            assert!(!about(number) && !health.is_open(), "a page of such leads");
        }
        health.record_success(health.permit(|| now).expect("may ask"));
        assert!((100..110).all(|number| !about_at(number, now + FIRST_REST)), "another row");
        let later = now + 2 * FIRST_REST;
        assert!(!about_at(100, later), "the same one again");
        assert!(about_at(110, later), "nothing else was answered");
        health.record_success(health.permit(|| later + FIRST_REST).expect("may probe"));
        assert!(!about(1) && !about(2) && !health.is_open());
    }

    #[test]
    fn one_probe_at_a_time_closes_the_breaker_or_doubles_its_rest() {
        let mut now = Instant::now();
        let health = opened(now);
        for seconds in [1, 2, 4, 8, 16, 32, 64, 64] {
            assert!(health.permit(|| now + Duration::from_secs(seconds) - Duration::from_millis(1)).is_err());
            now += Duration::from_secs(seconds);
            let probe = health.permit(|| now).expect("may probe");
            assert!(health.permit(|| now).is_err(), "a second probe beside the first");
            assert!(health.record_failure(probe, "filter", &Fault::Failed("no".into()), None, now));
        }
        now += Duration::from_secs(64);
        health.record_success(health.permit(|| now).expect("may probe"));
        assert!(!health.is_open() && health.permit(|| now).is_ok());
    }

    #[test]
    fn the_status_shows_the_state_of_the_breaker() {
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
        health.record_success(probe);
        assert_eq!(shown(FIRST_REST), (Breaker::Closed, 0, None, None));
    }

    #[test]
    fn fault_threshold_and_rest_times_are_configurable() {
        let now = Instant::now();
        let limits = Limits { faults_in_a_row: 2, rest_ms: 10, longest_rest_ms: 15, ..Limits::default() };
        let health = CircuitBreaker::new(&limits);
        assert!(!fail(&health, now) && fail(&health, now));
        let rest = |now: Instant| health.breaker(now).rest_ms;
        assert_eq!(rest(now), Some(10));
        assert!(fail(&health, now + Duration::from_millis(10)));
        assert_eq!(rest(now), Some(15));
    }

    #[test]
    fn calls_in_progress_do_not_extend_the_rest() {
        let now = Instant::now();
        let health = health();
        let permits: Vec<Permit> = (0..9).map(|_| health.permit(|| now).expect("may ask")).collect();
        let opened = permits
            .into_iter()
            .map(|permit| health.record_failure(permit, "filter", &Fault::Failed("no".into()), None, now));
        assert_eq!(opened.filter(|opened| *opened).count(), 1);
        assert!(health.permit(|| now + FIRST_REST).is_ok());
    }
}
