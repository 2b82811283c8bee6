//! Benchmark of a plugin: each hook on golden questions, beside a call that does next to nothing on the same instance.
//!
//! The comparison shows how much of a call is the plugin's own work.

use std::time::Instant;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::plugin::testkit::{Specimen, question::Probe};

/// Measurements of one plugin.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BenchResult {
    pub plugin: String,
    pub version: String,
    /// Build of the measuring host; figures of a debug build say little.
    pub build: &'static str,
    /// Figures of `describe`: in and out of the component, with hardly anything to do there.
    pub empty: Figures,
    pub hooks: Vec<Figures>,
}

/// Wall-clock times of one call on a warm instance: from the event as the host has it to a checked answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Figures {
    pub hook: &'static str,
    /// Number of different questions that took turns.
    pub questions: usize,
    pub calls: u64,
    pub mean_ns: f64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub max_ns: u64,
    /// Median divided by that of the empty call.
    pub times_empty: f64,
}

/// Number of calls before anything is counted.
const WARM_UP: usize = 200;

impl Specimen {
    /// Measures this many calls of each hook, and of the empty one.
    ///
    /// # Errors
    ///
    /// A message that says which question was not answered, and why.
    pub fn measure(&self, calls: usize) -> Result<BenchResult, String> {
        let questions: Vec<Probe> = self.golden().into_iter().filter(|question| self.is_whole(question)).collect();
        let empty = timed(calls, |_| self.plugin.describe_again()).map_err(|fault| format!("describe {fault}"))?;
        let empty = figures("describe", 1, &empty, None);
        let mut hooks = Vec::new();
        for hook in self.hooks() {
            let asked: Vec<&Probe> = questions.iter().filter(|question| question.hook() == hook).collect();
            if asked.is_empty() {
                continue;
            }
            let times = timed(calls, |turn| self.call(asked[turn % asked.len()]))?;
            hooks.push(figures(hook, asked.len(), &times, Some(&empty)));
        }
        let build = if cfg!(debug_assertions) { "debug" } else { "release" };
        Ok(BenchResult { plugin: self.name().into(), version: self.version(), build, empty, hooks })
    }

    /// Returns true unless a filter is asked about only some of its roles: when everybody is connected, it is asked
    /// about all at once.
    fn is_whole(&self, question: &Probe) -> bool {
        match question {
            Probe::Filter { roles, .. } => roles.len() == self.plugin.manifest.roles.iter().count(),
            _ => true,
        }
    }
}

/// Creates a histogram for anything from a nanosecond to two minutes.
pub(crate) fn times() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 120_000_000_000, 3).expect("the bounds are in order and three figures are allowed")
}

fn timed<E>(calls: usize, mut call: impl FnMut(usize) -> Result<(), E>) -> Result<Histogram<u64>, E> {
    let mut times = times();
    for turn in 0..WARM_UP.min(calls) {
        call(turn)?;
    }
    for turn in 0..calls {
        let start = Instant::now();
        call(turn)?;
        times.saturating_record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(times)
}

fn figures(hook: &'static str, questions: usize, times: &Histogram<u64>, empty: Option<&Figures>) -> Figures {
    let p50_ns = times.value_at_quantile(0.5);
    let over = empty.map_or(1.0, |empty| p50_ns as f64 / empty.p50_ns.max(1) as f64);
    Figures {
        hook,
        questions,
        calls: times.len(),
        mean_ns: times.mean().round(),
        p50_ns,
        p99_ns: times.value_at_quantile(0.99),
        max_ns: times.max(),
        times_empty: (over * 10.0).round() / 10.0,
    }
}
