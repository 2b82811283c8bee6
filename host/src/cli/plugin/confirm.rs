//! Confirmation by the running server: an order counts as done once the server reports that it is.
//!
//! The server puts up its status in the data directory. Where none runs, the order is in the files, and the next server
//! reads them when it starts; the answer says which of the two it was.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use serde_json::Value;

use crate::{
    cli::{NotGood, Options, say},
    domain::text::one_line,
    plugin::bulletin,
};

/// How long the server may take beyond the quiet that it waits for.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(50);

/// What an order wants the server to report.
pub(super) struct Expected<'a> {
    pub(super) name: &'a str,
    /// What was done, for people, such as "disabled".
    pub(super) done: &'a str,
    pub(super) is_done: &'a dyn Fn(&Report) -> bool,
}

/// Status of one plugin as a server reports it.
pub(super) struct Report {
    pid: u64,
    pub(super) generation: u64,
    /// None for a plugin that the server does not know.
    pub(super) item: Option<Value>,
    directory: String,
}

impl Report {
    /// Reads what the server of the data directory reports; None where no server runs.
    pub(super) fn read(data_dir: &Path, name: &str) -> Result<Option<Self>> {
        let Some(bulletin) = bulletin::read(data_dir)? else { return Ok(None) };
        let item = bulletin["items"].as_array().into_iter().flatten().find(|item| item["name"] == name).cloned();
        let number = |key: &str| bulletin[key].as_u64().unwrap_or_default();
        let directory = bulletin["directory"].as_str().unwrap_or_default().to_owned();
        Ok(Some(Self { pid: number("pid"), generation: number("generation"), item, directory }))
    }

    pub(super) fn state(&self) -> &str {
        self.item.as_ref().and_then(|item| item["state"].as_str()).unwrap_or("unknown")
    }

    fn reason(&self) -> String {
        let reason = self.item.as_ref().and_then(|item| item["reason"].as_str());
        reason.map(|reason| format!(" ({})", one_line(reason))).unwrap_or_default()
    }
}

/// Waits until the server reports what is expected, and says whether it did.
///
/// # Errors
/// Exit code 1 when a server runs and does not confirm it.
pub(super) fn confirm(expected: &Expected<'_>, options: &Options) -> Result<()> {
    let Expected { name, done, is_done } = expected;
    let config = options.load()?;
    let (data_dir, quiet) = (config.data_dir()?, config.plugins.quiet);
    let folder = config.plugins.dir.map(|dir| fs::canonicalize(&dir).unwrap_or(dir)).unwrap_or_default();

    let deadline = Instant::now() + quiet + PATIENCE;
    loop {
        let Some(report) = Report::read(&data_dir, name)? else {
            let data_dir = data_dir.display();
            return say(format_args!(
                "{done} plugin {name}; no server runs on {data_dir}: it holds from the next start on"
            ));
        };
        let (pid, theirs) = (report.pid, one_line(&report.directory).into_owned());
        if Path::new(&report.directory) != folder {
            say(format_args!(
                "{done} plugin {name} in {}; the server (pid {pid}) takes its plugins from {theirs}, and does not take note",
                folder.display()
            ))?;
            return Err(NotGood.into());
        }
        if is_done(&report) {
            let state = match &report.item {
                Some(_) => format!("reports it as {}{}", report.state(), report.reason()),
                None => "no longer knows it".into(),
            };
            say(format_args!("{done} plugin {name}; the server (pid {pid}) {state}"))?;
            return if report.state() == "refused" { Err(NotGood.into()) } else { Ok(()) };
        }
        if Instant::now() > deadline {
            say(format_args!(
                "not confirmed: the files say that plugin {name} is {done}, and after {} s the server (pid {pid}) still \
                 reports it as {}{}; see its log",
                (quiet + PATIENCE).as_secs(),
                report.state(),
                report.reason(),
            ))?;
            return Err(NotGood.into());
        }
        thread::sleep(PAUSE);
    }
}
