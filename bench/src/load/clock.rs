//! Times at which events were sent, by seq, and schedules of open loops.

use std::time::{Duration, Instant};

/// Times from which the latency of an event counts.
#[derive(Debug, Clone)]
pub enum Sent {
    /// All events that are under way were sent at this moment.
    At(Instant),
    /// The event `base` was sent at the first time, the next one at the second, and so on.
    From { base: u64, times: Vec<Instant> },
}

impl Sent {
    pub fn time(&self, seq: u64) -> Option<Instant> {
        match self {
            Self::At(time) => Some(*time),
            Self::From { base, times } => times.get(usize::try_from(seq.checked_sub(*base)?).ok()?).copied(),
        }
    }
}

/// Fixed schedule: a late event does not move the ones after it, and its latency counts from when it was due.
#[derive(Debug)]
pub struct Schedule {
    start: Instant,
    interval: Duration,
    next: u32,
}

impl Schedule {
    pub fn new(start: Instant, per_second: u32) -> Self {
        Self { start, interval: Duration::from_secs(1) / per_second, next: 0 }
    }

    /// The time of the next event if it is due, and moves on.
    pub fn due(&mut self, now: Instant) -> Option<Instant> {
        let time = self.next_time();
        if time > now {
            return None;
        }
        self.next += 1;
        Some(time)
    }

    pub fn next_time(&self) -> Instant {
        self.start + self.interval * self.next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pause_delayed_is_due_at_once_with_its_own_times() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start, 200);
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(schedule.due(after(0)), Some(start));
        assert_eq!(schedule.due(after(4)), None);
        let caught_up: Vec<_> = std::iter::from_fn(|| schedule.due(after(17))).collect();
        assert_eq!(caught_up, [after(5), after(10), after(15)]);
        assert_eq!(schedule.next_time(), after(20));
    }

    #[test]
    fn a_seq_outside_of_what_was_sent_has_no_time() {
        let now = Instant::now();
        let sent = Sent::From { base: 10, times: vec![now, now + Duration::from_secs(1)] };
        assert_eq!(sent.time(11), Some(now + Duration::from_secs(1)));
        assert_eq!((sent.time(9), sent.time(12)), (None, None));
    }
}
