//! UTC timestamp with millisecond precision, as every client sees it and every table stores it.

use std::{fmt, str::FromStr, time::Duration};

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Timestamp, printed as `2023-12-01T00:00:00.000Z`; its text sorts like the time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// Reads the system clock; only `SystemClock` and the command line call it.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads it")]
    pub fn now() -> Self {
        Self(Utc::now().trunc_subsecs(3))
    }

    /// Formats it for the name of a file: `20231201T000000000Z`.
    pub fn compact(self) -> String {
        self.0.format("%Y%m%dT%H%M%S%3fZ").to_string()
    }

    pub fn from_millis(millis: i64) -> Option<Self> {
        DateTime::from_timestamp_millis(millis).map(Self)
    }

    /// True if its text sorts like the time; outside the years 1970 to 9999 it would not.
    pub fn is_storable(self) -> bool {
        (0..=253_402_300_799_999).contains(&self.millis())
    }

    pub fn millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    pub fn seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// Returns the time `span` later, or the latest representable one.
    pub fn plus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_add(millis)).unwrap_or(Self(DateTime::<Utc>::MAX_UTC))
    }

    /// Returns the time `span` earlier, or the earliest representable one.
    pub fn minus(self, span: Duration) -> Self {
        let millis = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        Self::from_millis(self.millis().saturating_sub(millis)).unwrap_or(Self(DateTime::<Utc>::MIN_UTC))
    }

    /// Time elapsed since `earlier`; zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.millis() - earlier.millis()).unwrap_or(0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Millis, true))
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = chrono::ParseError;

    /// Parses any RFC 3339 time and truncates it to milliseconds.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        DateTime::parse_from_rfc3339(text).map(|time| Self(time.with_timezone(&Utc).trunc_subsecs(3)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}
