//! What a plugin may take: each bound with its default and the range that an operator may choose from.
//!
//! `[plugins.limits]` of the configuration is for all plugins, `<name>.toml` may say otherwise for one of them.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Declares the bounds once: as settings, with their ranges, and as a list to show.
macro_rules! limits {
    ($( $(#[$doc:meta])* $name:ident = $default:literal, $least:literal to $most:literal; )*) => {
        /// The bounds in force for a plugin.
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
            pub(super) const NAMES: &[&str] = &[$( stringify!($name) ),*];

            /// Every bound by its name.
            pub fn list(&self) -> impl Iterator<Item = (&'static str, u64)> {
                [$( (stringify!($name), self.$name) ),*].into_iter()
            }

            /// What is out of its range.
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
    /// MiB of the component's file.
    file_mib = 64, 1 to 1024;
    /// KiB of `<name>.toml`; what that file says of it has no effect.
    settings_kib = 1024, 1 to 65_536;
    /// How long a call may take.
    timeout_ms = 10, 1 to 10_000;
    /// How long `describe`, `init` and what is asked once after it may take.
    init_timeout_ms = 1000, 1 to 60_000;
    /// All memories of an instance together. The most is what fits into a slot of the engine's pool.
    memory_mib = 64, 1 to 1024;
    /// An instance is replaced after so many calls: what a guest leaks must not add up.
    calls_per_instance = 100_000, 1 to 1_000_000_000;
    /// What a guest may hand over in one answer, or in one call of the host.
    answer_kib = 1024, 1 to 65_536;
    /// Edits in one answer, for one role.
    edits = 1000, 0 to 100_000;
    /// Effects in one answer of `after`.
    effects = 64, 0 to 1000;
    /// Effects of a plugin that wait to be done or are parked, and occasions that it gave no answer to.
    open_effects = 10_000, 1 to 10_000_000;
    /// Reminders of a plugin that wait for their time.
    reminders = 10_000, 0 to 10_000_000;
    /// Bytes of one effect's input, and of what `after` asks to be kept.
    effect_bytes = 65_536, 256 to 1_048_576;
    /// Bytes of one text: of a mask, a reason, a message.
    text_bytes = 4096, 16 to 1_048_576;
    /// User ids in one audience.
    audience_users = 10_000, 0 to 1_000_000;
    /// Lines of the log in a second; the rest is left out and counted.
    log_lines_per_second = 50, 0 to 100_000;
    /// Bytes of a line of the log; the rest of it is cut off.
    log_line_bytes = 2048, 64 to 65_536;
    /// Names that a plugin may count under; the rest is left out and counted.
    metrics = 64, 0 to 10_000;
    /// The breaker opens after so many faults in a row.
    faults_in_a_row = 5, 1 to 1000;
    /// How long a plugin rests first.
    rest_ms = 1000, 1 to 3_600_000;
    /// Each failed probe doubles the rest, up to this.
    longest_rest_ms = 64_000, 1 to 86_400_000;
}

/// The largest memory that fits into a slot of the engine's pool.
pub(super) const MAX_MEMORY_MIB: u64 = 1024;

impl Limits {
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    pub(super) fn init_timeout(&self) -> Duration {
        Duration::from_millis(self.init_timeout_ms)
    }

    /// Bytes of a component's file.
    pub fn file_bytes(&self) -> u64 {
        self.file_mib << 20
    }

    /// Bytes of a file of settings.
    pub fn settings_bytes(&self) -> u64 {
        self.settings_kib << 10
    }

    pub(super) fn memory_bytes(&self) -> usize {
        size(self.memory_mib << 20)
    }

    pub(super) fn answer_bytes(&self) -> usize {
        size(self.answer_kib << 10)
    }

    pub(super) fn rest(&self) -> Duration {
        Duration::from_millis(self.rest_ms)
    }

    pub(super) fn longest_rest(&self) -> Duration {
        Duration::from_millis(self.longest_rest_ms)
    }
}

/// A number of things or bytes as the machine counts them.
pub(super) fn size(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_their_ranges_and_what_is_not_is_named() {
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
    fn each_is_listed_by_its_name() {
        let listed: Vec<_> = Limits::default().list().collect();
        assert!(listed.iter().map(|(name, _)| *name).eq(Limits::NAMES.iter().copied()));
        assert!(listed.contains(&("faults_in_a_row", 5)));
    }
}
