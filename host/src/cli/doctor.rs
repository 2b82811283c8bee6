//! `leadwire doctor`: looks for what is wrong or soon will be, beside a running server or none, and changes nothing.
//!
//! Each check is a row of [`CHECKS`] and adds findings. A finding has a level, what was found, what that means and what
//! to do; `check` and `code` stay the same from version to version.

mod database;
mod files;
mod plugins;

use std::{io, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::{Options, Unwell, runtime, say};
use crate::{config::Config, plugin::file, store::examine::Examination};

#[derive(Args)]
pub(super) struct Doctor {
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Ok,
    /// It works now, and may not for long, or not for everybody.
    Warning,
    /// Something does not work, is lost, or is open to others.
    Problem,
}

#[derive(Clone, Debug, Serialize)]
struct Finding {
    check: &'static str,
    level: Level,
    code: &'static str,
    /// What was found and what it means.
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<String>,
}

/// Makes one check; several findings may come of it.
type Check = fn(&Patient, &mut Findings);

/// Every check by its name, in the order in which they are made.
const CHECKS: &[(&str, Check)] = &[
    ("database", database::database),
    ("log", database::log),
    ("wal", database::wal),
    ("disk", files::disk),
    ("data_dir", files::data_dir),
    ("secret", files::secret),
    ("process", files::process),
    ("plugins", plugins::plugins),
];

/// Bytes of the note about the log, which has a few hundred.
const MAX_NOTE: u64 = 1 << 20;

/// What the checks look at.
struct Patient {
    config: Config,
    database: PathBuf,
    data_dir: PathBuf,
    /// What `log.json` says. It is read before the log, which a server may append to meanwhile.
    note: io::Result<Vec<u8>>,
    /// None where there is no database; an error where it cannot be opened.
    examination: Option<Result<Examination, crate::store::Error>>,
}

/// Findings of one check.
struct Findings {
    check: &'static str,
    all: Vec<Finding>,
}

impl Findings {
    fn ok(&mut self, message: impl Into<String>) {
        self.add(Level::Ok, "ok", message.into(), None);
    }

    fn warn(&mut self, code: &'static str, message: impl Into<String>, action: impl Into<String>) {
        self.add(Level::Warning, code, message.into(), Some(action.into()));
    }

    fn problem(&mut self, code: &'static str, message: impl Into<String>, action: impl Into<String>) {
        self.add(Level::Problem, code, message.into(), Some(action.into()));
    }

    fn add(&mut self, level: Level, code: &'static str, message: String, action: Option<String>) {
        self.all.push(Finding { check: self.check, level, code, message, action });
    }
}

pub(super) fn run(doctor: &Doctor, options: &Options) -> Result<()> {
    let config = options.load()?;
    let (database, data_dir) = (config.database_file()?, config.data_dir()?);
    let note = file::read(&data_dir.join("log.json"), MAX_NOTE);
    let examination = match database.exists() {
        true => Some(runtime()?.block_on(crate::store::examine::examine(&database))),
        false => None,
    };
    let patient = Patient { config, database, data_dir, note, examination };

    let mut findings = Findings { check: "", all: Vec::new() };
    for (name, check) in CHECKS {
        findings.check = name;
        check(&patient, &mut findings);
    }
    let findings = findings.all;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    match doctor.json {
        true => say(format_args!("{:#}", json!({"worst": worst, "findings": findings})))?,
        false => say(text(&findings))?,
    }
    match worst {
        Level::Ok => Ok(()),
        Level::Warning => Err(Unwell(1).into()),
        Level::Problem => Err(Unwell(2).into()),
    }
}

fn text(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let level = match finding.level {
            Level::Ok => "ok",
            Level::Warning => "WARNING",
            Level::Problem => "PROBLEM",
        };
        // A message of several lines must not look like several findings.
        let message = crate::domain::text::one_line(&finding.message).into_owned();
        let action = finding.action.as_ref().map(|action| format!("\n{:20}do: {action}", "")).unwrap_or_default();
        format!("{level:8} {:10} {message}{action}", finding.check)
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}
