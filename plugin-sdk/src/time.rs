//! Timestamps, as events contain them.

use std::{fmt, time::Duration};

/// Timestamp with millisecond precision.
///
/// ```
/// use leadwire_plugin_sdk::Timestamp;
///
/// let moment = Timestamp::parse("2026-01-02T03:04:05.678Z").unwrap();
/// assert_eq!(moment.millis(), 1_767_323_045_678);
/// assert_eq!(moment.until(Timestamp::from_millis(moment.millis() + 500)).as_millis(), 500);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Creates a timestamp from milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Timestamp;
    /// assert_eq!(Timestamp::from_millis(5).millis(), 5);
    /// ```
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Parses RFC 3339 text, the format of times in events; `None` for anything else.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Timestamp;
    /// assert!(Timestamp::parse("yesterday").is_none());
    /// ```
    pub fn parse(text: &str) -> Option<Self> {
        Some(Self(chrono::DateTime::parse_from_rfc3339(text).ok()?.timestamp_millis()))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Timestamp;
    /// assert_eq!(Timestamp::parse("1970-01-01T00:00:01.000Z").unwrap().millis(), 1000);
    /// ```
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Returns the time `span` later.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Timestamp;
    /// # use std::time::Duration;
    /// assert_eq!(Timestamp::from_millis(5).plus(Duration::from_secs(1)).millis(), 1005);
    /// ```
    pub fn plus(self, span: Duration) -> Self {
        Self(self.0.saturating_add(i64::try_from(span.as_millis()).unwrap_or(i64::MAX)))
    }

    /// Time from `self` until `later`; zero if `later` is earlier.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::Timestamp;
    /// let (first, second) = (Timestamp::from_millis(1), Timestamp::from_millis(4));
    /// assert_eq!(first.until(second).as_millis(), 3);
    /// assert_eq!(second.until(first).as_millis(), 0);
    /// ```
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0).max(0).unsigned_abs())
    }

    /// Time elapsed since then by the host's clock; zero if it is in the future.
    ///
    /// ```
    /// # use leadwire_plugin_sdk::{Timestamp, host};
    /// assert!(Timestamp::from_millis(0).age() > Timestamp::from_millis(0).until(Timestamp::from_millis(1)));
    /// ```
    pub fn age(self) -> Duration {
        self.until(crate::host::now())
    }
}

/// Formats it as in events: RFC 3339 in UTC. Years beyond 262,000 are written as the last of them.
///
/// ```
/// # use leadwire_plugin_sdk::Timestamp;
/// assert_eq!(Timestamp::from_millis(1_767_323_045_678).to_string(), "2026-01-02T03:04:05.678Z");
/// ```
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let moment =
            chrono::DateTime::from_timestamp_millis(self.0).unwrap_or(chrono::DateTime::<chrono::Utc>::MAX_UTC);
        f.write_str(&moment.to_rfc3339_opts(chrono::SecondsFormat::Millis, true))
    }
}
