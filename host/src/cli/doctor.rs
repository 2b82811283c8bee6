//! `leadwire doctor`: finds present and upcoming problems, with or without a running server, and changes nothing.
//!
//! Each check is a row of [`CHECKS`] and adds findings. A finding consists of a level, what was found and what it
//! means, and an action. `check` and `code` are stable across versions.

mod database;
mod files;
mod finding;
mod plugins;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::cli::{
    doctor::finding::{Examined, Finding, Findings, Level, MAX_NOTE},
    exit::ProblemsFound,
    options::Options,
    print::say,
    runtime::runtime,
};

#[derive(Args)]
pub(crate) struct Doctor {
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

/// Check function; it can add several findings.
type CheckFn = fn(&Examined, &mut Findings);

/// Checks by name, in the order in which they run.
const CHECKS: &[(&str, CheckFn)] = &[
    ("database", database::database),
    ("log", database::log),
    ("wal", database::wal),
    ("disk", files::disk),
    ("data_dir", files::data_dir),
    ("secret", files::secret),
    ("process", files::process),
    ("plugins", plugins::plugins),
];

pub(crate) fn run(doctor: &Doctor, options: &Options) -> Result<()> {
    let config = options.load()?;
    let (database, data_dir) = (config.database_file()?, config.data_dir()?);
    let note = crate::files::read(&data_dir.join("log.json"), MAX_NOTE);
    let examination =
        if database.exists() { Some(runtime()?.block_on(crate::store::examine::examine(&database))) } else { None };
    let patient = Examined { config, database, data_dir, note, examination };

    let mut findings = Findings { check: "", all: Vec::new() };
    for (name, check) in CHECKS {
        findings.check = name;
        check(&patient, &mut findings);
    }
    let findings = findings.all;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    if doctor.json {
        say(format_args!("{:#}", json!({"worst": worst, "findings": findings})))?;
    } else {
        say(text(&findings))?;
    }
    match worst {
        Level::Ok => Ok(()),
        Level::Warning => Err(ProblemsFound(1).into()),
        Level::Problem => Err(ProblemsFound(2).into()),
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
