//! Telemetry: logs and metrics, and the only place that chooses their format.
//!
//! Logs go to stderr; stdout is for results. Metrics are in `telemetry/metrics.rs`.

pub mod metrics;

use std::io::IsTerminal;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use tracing_subscriber::{
    EnvFilter,
    field::RecordFields,
    fmt::{
        self, FormatFields,
        format::{DefaultFields, Writer},
    },
};

use crate::domain::text::one_line;

/// Level and format of the log.
#[derive(Clone, Debug)]
pub struct LogSettings {
    /// Log level, or directives such as `info,leadwire::plugin=debug`.
    pub level: String,
    pub format: Format,
}

impl Default for LogSettings {
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

/// These crates log whole packets, including tokens, at lower levels: anybody who wants that must name them.
const QUIET: &str = "socketioxide=info,engineioxide=info,tungstenite=info,tokio_tungstenite=info,hyper=info,hyper_util=info,h2=info,sqlx=info";

impl LogSettings {
    /// Builds the filter.
    ///
    /// # Errors
    /// When `level` is neither a level nor a list of directives.
    pub fn filter(&self) -> anyhow::Result<EnvFilter> {
        let directives = format!("{QUIET},{}", self.level);
        EnvFilter::builder().parse(&directives).with_context(|| {
            format!("log.level: expected a level or directives such as \"info,leadwire=debug\", found {:?}", self.level)
        })
    }
}

/// Starts logging for the rest of the process; later calls have no effect.
///
/// # Errors
/// When the level cannot be parsed.
pub fn start(settings: &LogSettings) -> anyhow::Result<()> {
    let subscriber = fmt::fmt()
        .with_env_filter(settings.filter()?)
        .with_writer(std::io::stderr)
        // Internal errors would be reported with a macro that panics when stderr is a file on a full disk.
        .log_internal_errors(false)
        .with_ansi(std::io::stderr().is_terminal());
    // tracing refuses a second start; tests start many servers in one process.
    let _ = match settings.format {
        Format::Text => subscriber.fmt_fields(OneLine).try_init(),
        Format::Json => subscriber.json().flatten_event(true).try_init(),
    };
    Ok(())
}

/// Formats fields so that an event stays on its line: text from others can neither begin another line nor control a
/// terminal. The JSON format escapes by itself.
struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> std::fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        writer.write_str(&one_line(&text))
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct LogBuffer(Arc<Mutex<Vec<u8>>>);

    impl Write for LogBuffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("nobody panicked").write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_log_event_stays_on_one_line_for_any_message_field_and_span() {
        let written = LogBuffer::default();
        let into = written.clone();
        let subscriber = fmt::fmt().with_writer(move || into.clone()).with_ansi(false).fmt_fields(OneLine).finish();
        let evil = "a\r\n2026-01-01 forged\u{1b}[2J";
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!("request", path = %evil);
            let _entered = span.enter();
            let error: &dyn std::error::Error = &io::Error::other(evil);
            tracing::info!(plugin = %evil, error, "said: {evil}");
        });
        let text = String::from_utf8(written.0.lock().expect("nobody panicked").clone()).expect("utf-8");
        assert_eq!(text.matches('\n').count(), 1, "{text}");
        assert_eq!(text.matches("a\\r\\n2026-01-01 forged").count(), 4, "{text}");
        assert!(!text.trim_end().chars().any(char::is_control), "{text:?}");
    }
}
