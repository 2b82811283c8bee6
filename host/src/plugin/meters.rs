//! What the calls of one plugin are counted by, hook by hook.

use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};

use crate::telemetry;

/// Made once a plugin, because a call takes microseconds and finding a counter by its labels takes one as well.
#[derive(Default)]
pub(super) struct Meters {
    hooks: Vec<(&'static str, Meter)>,
    rests: Option<Counter>,
}

pub(super) struct Meter {
    calls: Counter,
    faults: Counter,
    skipped: Counter,
    seconds: Histogram,
}

impl Meters {
    /// Of a plugin with these hooks; nothing where nobody counts.
    pub(super) fn of(plugin: &str, hooks: &[&'static str]) -> Self {
        if !telemetry::metrics::is_on() {
            return Self::default();
        }
        let meter = |hook: &'static str| {
            let labels = [("plugin", plugin.to_owned()), ("hook", hook.to_owned())];
            Meter {
                calls: counter!("leadwire_plugin_calls_total", &labels),
                faults: counter!("leadwire_plugin_faults_total", &labels),
                skipped: counter!("leadwire_plugin_skipped_total", &labels),
                seconds: histogram!("leadwire_plugin_call_seconds", &labels),
            }
        };
        let rests = counter!("leadwire_plugin_rests_total", "plugin" => plugin.to_owned());
        Self { hooks: hooks.iter().map(|hook| (*hook, meter(hook))).collect(), rests: Some(rests) }
    }

    pub(super) fn hook(&self, name: &str) -> Option<&Meter> {
        self.hooks.iter().find(|(hook, _)| *hook == name).map(|(_, meter)| meter)
    }

    /// The breaker opened.
    pub(super) fn rest(&self) {
        if let Some(rests) = &self.rests {
            rests.increment(1);
        }
    }
}

impl Meter {
    /// Asks, and counts the call.
    pub(super) fn measure<T, E>(meter: Option<&Self>, question: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let Some(Self { calls, faults, seconds, .. }) = meter else { return question() };
        let since = Instant::now();
        let answer = question();
        let took: Duration = since.elapsed();
        calls.increment(1);
        seconds.record(took.as_secs_f64());
        if answer.is_err() {
            faults.increment(1);
        }
        answer
    }

    pub(super) fn skip(&self) {
        self.skipped.increment(1);
    }
}
