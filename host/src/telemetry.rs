//! Logs and metrics: the one place that picks their form.
//!
//! Logs go to stderr; stdout belongs to results. What is measured is in `telemetry/metrics.rs`.

pub mod metrics;

use std::io::IsTerminal;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{EnvFilter, fmt};

/// What is logged, and in which form.
#[derive(Clone, Debug)]
pub struct Settings {
    /// A level, or directives such as `info,leadwire::plugin=debug`.
    pub level: String,
    pub format: Format,
}

impl Default for Settings {
    fn default() -> Self {
        Self { level: "info".into(), format: Format::Text }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    Text,
    Json,
}

/// These write whole packets, tokens among them, when they are let: whoever wants that has to name them.
const QUIET: &str = "socketioxide=info,engineioxide=info,tungstenite=info,tokio_tungstenite=info,hyper=info,hyper_util=info,h2=info,sqlx=info";

impl Settings {
    /// # Errors
    /// When `level` is neither a level nor a list of directives.
    pub fn filter(&self) -> anyhow::Result<EnvFilter> {
        let directives = format!("{QUIET},{}", self.level);
        EnvFilter::builder().parse(&directives).with_context(|| {
            format!("log.level: expected a level or directives such as \"info,leadwire=debug\", found {:?}", self.level)
        })
    }
}

/// Starts logging for the rest of the process; the first caller's choice stands.
///
/// # Errors
/// When the level cannot be read.
pub fn start(settings: &Settings) -> anyhow::Result<()> {
    let subscriber = fmt()
        .with_env_filter(settings.filter()?)
        .with_writer(std::io::stderr)
        // It would complain to stderr with a macro that panics when stderr is a file on a full disk.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // A second start is refused by tracing; tests start many servers in one process.
    let _ = match settings.format {
        Format::Text => subscriber.try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}
