//! Limits of a plugin, each with its default and the range that an operator may choose from.
//!
//! `[plugins.limits]` of the configuration is for all plugins; `<name>.toml` may override it for one of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::plugin::contract::text::size;

/// Declares the limits once: as settings, with their ranges, and as a list to show.
macro_rules! limits {
    ($( $(#[$doc:meta])* $name:ident = $default:literal, $least:literal to $most:literal; )*) => {
        /// Limits of one plugin.
        #[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Limits {
            $( $(#[$doc])* pub $name: u64, )*
        }

        impl Default for Limits {
            fn default() -> Self {
                Self { $( $name: $default, )* }
            }
        }

        impl Limits {
            pub(crate) const NAMES: &[&str] = &[$( stringify!($name) ),*];

            /// Lists every limit by its name.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$( (stringify!($name), self.$name) ),*].into_iter()
            }

            /// Checks the ranges; the error names the limit that is out of its range.
            pub(crate) fn check(&self) -> Result<(), String> {
                $(
                    if !($least..=$most).contains(&self.$name) {
                        let (name, found) = (stringify!($name), self.$name);
                        return Err(format!("{name} is {found}: expected {} to {}", $least, $most));
                    }
                )*
                if self.rest_ms > self.longest_rest_ms {
                    let (rest, longest) = (self.rest_ms, self.longest_rest_ms);
                    return Err(format!("longest_rest_ms is {longest}: expected no less than rest_ms, which is {rest}"));
                }
                Ok(())
            }
        }
    };
}

limits! {
    /// Size of the component's file, in MiB.
    file_mib = 64, 1 to 1024;
    /// Size of `<name>.toml`, in KiB; a value in that file itself has no effect.
    settings_kib = 1024, 1 to 65_536;
    /// Deadline of a call.
    timeout_ms = 10, 1 to 10_000;
    /// Deadline of `describe`, of `init`, and of each call that is made once after it.
    init_timeout_ms = 1000, 1 to 60_000;
    /// All memories of an instance together. The maximum is what fits into a slot of the engine's instance pool.
    memory_mib = 64, 1 to 1024;
    /// Number of calls after which an instance is replaced: what a guest leaks must not add up.
    calls_per_instance = 100_000, 1 to 1_000_000_000;
    /// Size of what a guest may pass in one answer, or in one call of the host.
    answer_kib = 1024, 1 to 65_536;
    /// Number of edits in one answer, for one role.
    edits = 1000, 0 to 100_000;
    /// Number of effects in one answer of `after`.
    effects = 64, 0 to 1000;
    /// Number of effects of a plugin that are pending or parked, and of occasions that it gave no answer to.
    open_effects = 10_000, 1 to 10_000_000;
    /// Number of pending reminders of a plugin.
    reminders = 10_000, 0 to 10_000_000;
    /// Bytes of one effect's input, and of the state that `after` asks to keep.
    effect_bytes = 65_536, 256 to 1_048_576;
    /// Bytes of one text: a mask, a reason, a message.
    text_bytes = 4096, 16 to 1_048_576;
    /// Number of user ids in one audience.
    audience_users = 10_000, 0 to 1_000_000;
    /// Number of log lines per second; further lines are dropped and counted.
    log_lines_per_second = 50, 0 to 100_000;
    /// Bytes of a log line; the rest of it is cut off.
    log_line_bytes = 2048, 64 to 65_536;
    /// Number of metric names of a plugin; what it counts under further names is dropped and counted.
    metrics = 64, 0 to 10_000;
    /// Number of faults in a row after which the circuit breaker opens.
    faults_in_a_row = 5, 1 to 1000;
    /// First open period of the circuit breaker.
    rest_ms = 1000, 1 to 3_600_000;
    /// Longest open period: each failed probe doubles it, up to this.
    longest_rest_ms = 64_000, 1 to 86_400_000;
}

/// Largest memory that fits into a slot of the engine's instance pool.
pub(crate) const MAX_MEMORY_MIB: u64 = 1024;

impl Limits {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(crate) fn init_timeout(&self) -> Duration {
        Duration::from_millis(self.init_timeout_ms)
    }

    /// Limit of a component's file, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.file_mib << 20
    }

    /// Limit of a settings file, in bytes.
    pub fn settings_bytes(&self) -> u64 {
        self.settings_kib << 10
    }

    pub(crate) fn memory_bytes(&self) -> usize {
        size(self.memory_mib << 20)
    }

    pub(crate) fn answer_bytes(&self) -> usize {
        size(self.answer_kib << 10)
    }

    pub(crate) fn rest(&self) -> Duration {
        Duration::from_millis(self.rest_ms)
    }

    pub(crate) fn longest_rest(&self) -> Duration {
        Duration::from_millis(self.longest_rest_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_out_of_range_limits_are_named() {
        assert_eq!(Limits::default().check(), Ok(()));
        let refusal = |limits: Limits| limits.check().expect_err("out of its range");
        let none = Limits { timeout_ms: 0, ..Limits::default() };
        assert_eq!(refusal(none), "timeout_ms is 0: expected 1 to 10000");
        let huge = Limits { memory_mib: MAX_MEMORY_MIB + 1, ..Limits::default() };
        assert_eq!(refusal(huge), "memory_mib is 1025: expected 1 to 1024");
        let short = Limits { longest_rest_ms: 10, ..Limits::default() };
        assert!(refusal(short).contains("no less than rest_ms, which is 1000"));
    }

    #[test]
    fn every_limit_is_listed_by_name() {
        let listed: Vec<_> = Limits::default().list().collect();
        assert!(listed.iter().map(|(name, _)| *name).eq(Limits::NAMES.iter().copied()));
        assert!(listed.contains(&("faults_in_a_row", 5)));
    }
}
