//! `[log]` of the configuration: what the server says of itself, and how much it keeps of what happened.

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
pub struct Log {
    /// A level, or directives such as `info,leadwire::plugin=debug`.
    pub level: String,
    pub format: Format,
    /// The log of events is kept for so long, and so far back.
    #[serde(with = "humantime_serde")]
    pub keep_for: Duration,
    pub keep_events: u32,
}

impl Default for Log {
    fn default() -> Self {
        let telemetry::Settings { level, format } = telemetry::Settings::default();
        Self { level, format, keep_for: Duration::from_secs(7 * 24 * 60 * 60), keep_events: 100_000 }
    }
}

impl Log {
    pub fn telemetry(&self) -> telemetry::Settings {
        telemetry::Settings { level: self.level.clone(), format: self.format }
    }

    pub fn retention(&self) -> retention::Settings {
        retention::Settings { keep_for: self.keep_for, keep_events: self.keep_events }
    }

    /// What the types alone cannot say, besides the ranges that are common to all spans and numbers.
    pub(super) fn check(&self) -> Result<()> {
        self.telemetry().filter()?;
        if self.keep_for < SHORTEST {
            let found = humantime_serde::re::humantime::format_duration(self.keep_for);
            bail!("log.keep_for: expected between 1m and 10 years, found {found}");
        }
        Ok(())
    }
}
