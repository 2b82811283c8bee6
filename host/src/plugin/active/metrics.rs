//! Metric handles of one plugin, per hook: calls, faults, skipped calls and durations.
//!
//! There are none where metrics are turned off.

use std::time::{Duration, Instant};

use metrics::{Counter, Histogram, counter, histogram};

use crate::telemetry;

/// Metric handles, created once per plugin: a call takes microseconds, and finding a counter by its labels takes one
/// as well.
#[derive(Default)]
pub(crate) struct PluginMetrics {
    hooks: Vec<(&'static str, HookMetrics)>,
    rests: Option<Counter>,
}

pub(crate) struct HookMetrics {
    calls: Counter,
    faults: Counter,
    skipped: Counter,
    seconds: Histogram,
}

impl PluginMetrics {
    /// Registers the handles of a plugin with these hooks; none where metrics are turned off.
    pub(crate) fn of(plugin: &str, hooks: &[&'static str]) -> Self {
        if !telemetry::metrics::is_on() {
            return Self::default();
        }
        let meter = |hook: &'static str| {
            let labels = [("plugin", plugin.to_owned()), ("hook", hook.to_owned())];
            HookMetrics {
                calls: counter!("leadwire_plugin_calls_total", &labels),
                faults: counter!("leadwire_plugin_faults_total", &labels),
                skipped: counter!("leadwire_plugin_skipped_total", &labels),
                seconds: histogram!("leadwire_plugin_call_seconds", &labels),
            }
        };
        let rests = counter!("leadwire_plugin_rests_total", "plugin" => plugin.to_owned());
        Self { hooks: hooks.iter().map(|hook| (*hook, meter(hook))).collect(), rests: Some(rests) }
    }

    pub(crate) fn hook(&self, name: &str) -> Option<&HookMetrics> {
        self.hooks.iter().find(|(hook, _)| *hook == name).map(|(_, meter)| meter)
    }

    /// Counts that the circuit breaker opened.
    pub(crate) fn rest(&self) {
        if let Some(rests) = &self.rests {
            rests.increment(1);
        }
    }
}

impl HookMetrics {
    /// Makes the call and counts it.
    pub(crate) fn measure<T, E>(meter: Option<&Self>, question: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
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

    pub(crate) fn skip(&self) {
        self.skipped.increment(1);
    }
}
