//! Back-off: the pauses between the attempts at something that keeps failing. They double from the first to the longest.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};

/// Half of the unit in which pauses are configured and reported.
const HALF_MILLISECOND: Duration = Duration::from_micros(500);

/// Growing pauses. There is no jitter: operators are shown their lengths, and tests rely on them.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    pauses: <ExponentialBuilder as BackoffBuilder>::Backoff,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(first).with_max_delay(longest).without_max_times();
        Self { builder, pauses: builder.build() }
    }

    /// Returns the pause before the next attempt.
    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.pauses.next().expect("the number of attempts is not limited");
        // backon multiplies as f32, by which 2 * 350 ms is a little less than 700 ms, and would be reported as 699 ms.
        let millis = pause.saturating_add(HALF_MILLISECOND).as_millis();
        Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
    }

    /// Begins anew with the first pause.
    pub(crate) fn reset(&mut self) {
        self.pauses = self.builder.build();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(backoff: &mut Backoff, count: usize) -> Vec<u128> {
        (0..count).map(|_| backoff.next().as_millis()).collect()
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew_after_a_reset() {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(4));
        assert_eq!(millis(&mut backoff, 6), [250, 500, 1000, 2000, 4000, 4000]);
        backoff.reset();
        assert_eq!(millis(&mut backoff, 2), [250, 500]);
    }

    #[test]
    fn pauses_are_whole_milliseconds() {
        for first in [1_u64, 3, 7, 10, 99, 350, 1100, 3333] {
            let mut backoff = Backoff::new(Duration::from_millis(first), Duration::from_secs(3600));
            for doubled in 0..30 {
                let expected = (first << doubled).min(3_600_000);
                assert_eq!(backoff.next(), Duration::from_millis(expected), "{first} ms doubled {doubled} times");
            }
        }
    }

    #[test]
    fn a_first_pause_that_is_the_longest_stays() {
        let mut backoff = Backoff::new(Duration::from_secs(20), Duration::from_secs(20));
        assert_eq!(millis(&mut backoff, 3), [20_000; 3]);
    }
}
