//! `[log]` of the configuration: level and format of the process log, and retention of the event log.

use std::time::Duration;

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use crate::{
    delivery::retention,
    telemetry::{self, Format},
};

const SHORTEST: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Log level, or directives such as `info,leadwire::plugin=debug`.
    pub level: String,
    pub format: Format,
    /// Retention of the event log, by age and by number of events.
    #[serde(with = "humantime_serde")]
    pub keep_for: Duration,
    pub keep_events: u32,
}

impl Default for LogConfig {
    fn default() -> Self {
        let telemetry::LogSettings { level, format } = telemetry::LogSettings::default();
        Self { level, format, keep_for: Duration::from_secs(7 * 24 * 60 * 60), keep_events: 100_000 }
    }
}

impl LogConfig {
    pub fn telemetry(&self) -> telemetry::LogSettings {
        telemetry::LogSettings { level: self.level.clone(), format: self.format }
    }

    pub fn retention(&self) -> retention::RetentionConfig {
        retention::RetentionConfig { keep_for: self.keep_for, keep_events: self.keep_events }
    }

    /// Checks constraints that the types cannot express, beyond the common ranges of durations and numbers.
    pub(crate) fn check(&self) -> Result<()> {
        self.telemetry().filter()?;
        if self.keep_for < SHORTEST {
            let found = humantime_serde::re::humantime::format_duration(self.keep_for);
            bail!("log.keep_for: expected between 1m and 10 years, found {found}");
        }
        Ok(())
    }
}
