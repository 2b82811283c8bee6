//! Confirmation by the running server: an order counts as done once the server reports it.
//!
//! The server writes its status to a file in the data directory. Where no server runs, the order is in the files, and
//! the next server reads them when it starts; the output says which of the two applies.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    cli::{exit::NegativeResult, options::Options, print::say},
    domain::{counter::Generation, text::one_line},
    plugin::report::status_file,
};

/// Time that the server may take beyond the quiet period that it waits for.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

/// State that an order expects the server to report.
pub(crate) struct Expected<'a> {
    pub(crate) name: &'a str,
    /// Description of what was done, for people, such as "disabled".
    pub(crate) done: &'a str,
    pub(crate) is_done: &'a dyn Fn(&ServerReport) -> bool,
}

/// Status of one plugin as the server reports it.
pub(crate) struct ServerReport {
    pid: u64,
    pub(crate) generation: Generation,
    /// `None` for a plugin that the server does not know.
    pub(crate) item: Option<Value>,
    directory: String,
}

impl ServerReport {
    /// Reads the status that the server of the data directory reports; `None` when no server runs.
    pub(crate) fn read(data_dir: &Path, name: &str) -> Result<Option<Self>> {
        let Some(status) = status_file::read(data_dir)? else { return Ok(None) };
        let item = status["items"].as_array().into_iter().flatten().find(|item| item["name"] == name).cloned();
        let number = |key: &str| status[key].as_u64().unwrap_or_default();
        let directory = status["directory"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Self { pid: number("pid"), generation: Generation(number("generation")), item, directory }))
    }

    pub(crate) fn state(&self) -> &str {
        self.item.as_ref().and_then(|item| item["state"].as_str()).unwrap_or("unknown")
    }

    fn reason(&self) -> String {
        let reason = self.item.as_ref().and_then(|item| item["reason"].as_str());
        reason.map(|reason| format!(" ({})", one_line(reason))).unwrap_or_default()
    }
}

/// Waits until the server reports the expected state, and prints whether it did.
///
/// # Errors
/// Exit code 1 when a server runs and does not confirm it.
pub(crate) fn confirm(expected: &Expected<'_>, options: &Options) -> Result<()> {
    let Expected { name, done, is_done } = expected;
    let config = options.load()?;
    let (data_dir, quiet) = (config.data_dir()?, config.plugins.quiet);
    let folder = config.plugins.dir.map(|dir| fs::canonicalize(&dir).unwrap_or(dir)).unwrap_or_default();

    let deadline = Instant::now() + quiet + PATIENCE;
    loop {
        let Some(report) = ServerReport::read(&data_dir, name)? else {
            let data_dir = data_dir.display();
            return say(format_args!(
                "{done} plugin {name}; no server runs on {data_dir}: it takes effect at the next start"
            ));
        };
        let (pid, theirs) = (report.pid, one_line(&report.directory).into_owned());
        if Path::new(&report.directory) != folder {
            say(format_args!(
                "{done} plugin {name} in {}; the server (pid {pid}) loads its plugins from {theirs} and is not affected",
                folder.display()
            ))?;
            return Err(NegativeResult.into());
        }
        if is_done(&report) {
            let state = match &report.item {
                Some(_) => format!("reports it as {}{}", report.state(), report.reason()),
                None => "no longer knows it".into(),
            };
            say(format_args!("{done} plugin {name}; the server (pid {pid}) {state}"))?;
            return if report.state() == "refused" { Err(NegativeResult.into()) } else { Ok(()) };
        }
        if Instant::now() > deadline {
            say(format_args!(
                "not confirmed: the files say that plugin {name} is {done}, and after {} s the server (pid {pid}) still \
                 reports it as {}{}; see its log",
                (quiet + PATIENCE).as_secs(),
                report.state(),
                report.reason(),
            ))?;
            return Err(NegativeResult.into());
        }
        thread::sleep(PAUSE);
    }
}
