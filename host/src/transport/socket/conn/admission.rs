//! Admission control after a restart: spreads the reconnects of the previous process's clients over about 15 s, both
//! after a stop and after a crash.
//!
//! All of them lost their sockets, and each tries again within seconds; each return costs a read of the database and a
//! replay. A client that comes too early is answered 503, after which stock clients try again by themselves.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

/// Number of seconds within which all of them may be back. Each second is to have a tenth of them at most, even if a
/// busy machine sees some a little later.
const SPREAD: usize = 15;
/// Longest time that any of them may have to wait.
pub(crate) const LONGEST: Duration = Duration::from_secs(SPREAD as u64);
/// Number of clients that may come all at once.
const FEW: usize = 100;
const SECOND: Duration = Duration::from_secs(1);

/// Returns the moments at which `clients` clients may do what costs a read of the database: spread like reconnects.
pub(crate) fn pace(clients: usize) -> impl Iterator<Item = Instant> {
    let per_second = u32::try_from((clients / SPREAD).max(FEW)).unwrap_or(u32::MAX);
    let (begin, gap) = (Instant::now(), SECOND / per_second);
    (0..).map(move |place| begin + gap * place)
}

pub(crate) struct Admission {
    per_second: usize,
    until: Instant,
    /// Times at which clients were admitted during the last second.
    admitted: Mutex<VecDeque<Instant>>,
}

impl Admission {
    /// Spreads the return of `expected` clients from now on; after `span`, everybody is admitted at once again. `None`
    /// if there are too few to wait for each other.
    pub(crate) fn new(expected: usize, span: Duration) -> Option<Self> {
        let per_second = (expected / SPREAD).max(FEW);
        (expected > FEW).then(|| Self { per_second, until: Instant::now() + span, admitted: Mutex::default() })
    }

    /// Returns true if a client may come in now.
    pub(crate) fn admit(&self, now: Instant) -> bool {
        if now >= self.until {
            return true;
        }
        let mut admitted = self.admitted.lock();
        while admitted.front().is_some_and(|before| now.duration_since(*before) >= SECOND) {
            admitted.pop_front();
        }
        let is_free = admitted.len() < self.per_second;
        if is_free {
            admitted.push_back(now);
        }
        is_free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn at_most_a_tenth_is_admitted_per_second_until_the_period_ends() {
        let (returns, begin) = (Admission::new(3000, 60 * SECOND).expect("a pace"), Instant::now());
        let at = |millis: u64| begin + Duration::from_millis(millis);
        let admitted = (0..20_000).filter(|millis| returns.admit(at(*millis))).collect::<Vec<_>>();
        assert_eq!(admitted.len(), 20 * 200);
        for start in &admitted {
            let within = admitted.iter().filter(|other| (*start..*start + 1000).contains(*other)).count();
            assert!(within <= 200, "{within} from {start} ms on");
        }
        assert!((0..1000).all(|_| returns.admit(at(61_000))));
    }

    #[tokio::test]
    async fn resets_are_spread_over_the_same_period_as_reconnects() {
        for (clients, seconds) in [(1, 0.0), (50, 0.49), (1500, 15.0), (30_000, 15.0)] {
            let moments: Vec<Instant> = pace(clients).take(clients).collect();
            let span = moments[clients - 1].duration_since(moments[0]).as_secs_f64();
            assert!((span - seconds).abs() < 0.05, "{clients} clients within {span} s");
            assert!(moments[0] <= Instant::now(), "the first at once");
        }
    }

    #[tokio::test]
    async fn few_clients_are_admitted_without_pacing() {
        assert!(Admission::new(FEW, SECOND).is_none());
        let (returns, now) = (Admission::new(FEW + 1, SECOND).expect("a pace"), Instant::now());
        assert_eq!((0..=FEW).filter(|_| returns.admit(now)).count(), FEW);
    }
}
