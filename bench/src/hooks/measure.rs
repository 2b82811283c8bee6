//! Measurement of several cases side by side, in turns, so that disturbances of the machine affect all of them. Each
//! call is timed separately, so that there is a median and a tail.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

/// Warm-up rounds: code is paged in, and instances are created.
const WARM_UP: usize = if cfg!(debug_assertions) { 1 } else { 20 };

/// Case to measure.
pub struct Case<'a> {
    pub name: String,
    /// Calls per reading of the clock; more than one only for calls that are shorter than the reading itself.
    batch: u32,
    work: Box<dyn FnMut() + 'a>,
    times: Histogram<u64>,
}

impl<'a> Case<'a> {
    pub fn new(name: impl Into<String>, work: impl FnMut() + 'a) -> Self {
        Self { name: name.into(), batch: 1, work: Box::new(work), times: histogram() }
    }

    /// Sets a batch size, for a case whose calls take less time than reading the clock.
    pub fn batched(self, batch: u32) -> Self {
        Self { batch, ..self }
    }

    /// The times, without the measured work.
    pub fn measured(self) -> Case<'static> {
        Case { name: self.name, batch: self.batch, work: Box::new(|| ()), times: self.times }
    }

    /// Quantile of the call times, in nanoseconds.
    pub fn quantile(&self, share: f64) -> f64 {
        self.times.value_at_quantile(share) as f64 / PARTS as f64
    }

    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    fn run(&mut self, calls: usize, counts: bool) {
        for _ in 0..calls {
            let start = Instant::now();
            for _ in 0..self.batch {
                (self.work)();
            }
            let took = start.elapsed();
            if counts {
                record(&mut self.times, took, self.batch);
            }
        }
    }
}

/// Runs all cases in turns: `rounds` times `calls` calls each.
pub fn beside(cases: &mut [Case<'_>], rounds: usize, calls: usize) {
    for round in 0..=rounds {
        for case in &mut *cases {
            case.run(calls, round >= WARM_UP);
        }
    }
}

/// Duration of reading the clock, which is contained in every number of a case without a batch.
pub fn clock() -> Case<'static> {
    Case::new("the clock", || ())
}

/// Case with times that were measured elsewhere.
pub fn of(name: impl Into<String>, times: impl IntoIterator<Item = Duration>) -> Case<'static> {
    let mut case = Case::new(name, || ());
    times.into_iter().for_each(|took| record(&mut case.times, took, 1));
    case
}

/// A nanosecond is too coarse for the shortest calls: times are counted in hundredths of one.
const PARTS: u64 = 100;

fn histogram() -> Histogram<u64> {
    Histogram::new(3).expect("three digits are few enough")
}

fn record(times: &mut Histogram<u64>, took: Duration, batch: u32) {
    let parts = took.as_nanos() * u128::from(PARTS) / u128::from(batch);
    times.record(u64::try_from(parts).unwrap_or(u64::MAX)).expect("it grows by itself");
}
