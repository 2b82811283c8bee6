//! Functions of the host that a plugin may call: log, clock and counters. Under `cargo test` they have native
//! stand-ins.
//!
//! ```
//! use leadwire_plugin_sdk::host::{self, Level};
//!
//! if host::now().millis() < 0 {
//!     host::log(Level::Warn, "the clock is off");
//! }
//! host::count("looked_at", 1.0);
//! ```

use crate::Timestamp;

/// Severity of a log line.
///
/// ```
/// use leadwire_plugin_sdk::host::{self, Level};
///
/// host::log(Level::Error, "no territory is left");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Needs attention now.
    Error,
    /// Needs attention eventually.
    Warn,
    /// Useful information.
    Info,
    /// For authors of the plugin.
    Debug,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }
}

/// Writes a line to the server's log, under the plugin's name. Under `cargo test` it goes to stderr.
///
/// ```
/// use leadwire_plugin_sdk::host::{self, Level};
///
/// host::log(Level::Info, "three territories are known");
/// ```
pub fn log(level: Level, message: impl AsRef<str>) {
    imports::log(level.as_str(), message.as_ref());
}

/// Current time. Under `cargo test` it is the machine's time, or the time set by [`testing::at`](crate::testing::at).
///
/// ```
/// use leadwire_plugin_sdk::host;
///
/// assert!(host::now().millis() > 1_700_000_000_000);
/// ```
pub fn now() -> Timestamp {
    Timestamp::from_millis(imports::now_ms() as i64)
}

/// Adds to a counter that operators can monitor. Under `cargo test` it does nothing.
///
/// ```
/// use leadwire_plugin_sdk::host;
///
/// host::count("leads_without_territory", 1.0);
/// ```
pub fn count(name: &str, by: f64) {
    imports::count(name, by);
}

#[cfg(target_arch = "wasm32")]
use crate::bindings::base::leadwire::plugin::host as imports;

#[cfg(not(target_arch = "wasm32"))]
mod imports {
    use std::time::{SystemTime, UNIX_EPOCH};

    pub(super) fn log(level: &str, message: &str) {
        eprintln!("{level}: {message}");
    }

    pub(super) fn now_ms() -> f64 {
        let machine = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as f64;
        crate::testing::stopped_clock().unwrap_or_else(machine)
    }

    pub(super) fn count(_name: &str, _by: f64) {}
}
