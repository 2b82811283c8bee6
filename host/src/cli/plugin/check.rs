//! `leadwire plugin check`: whether a server can rely on a component.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use super::Component;
use crate::{
    cli::{NotGood, Options, say},
    plugin::workbench::{Pains, Report, Standing},
};

#[derive(Args)]
pub(in crate::cli) struct Check {
    /// The component, NAME.wasm
    file: PathBuf,
    /// Its settings [default: NAME.toml beside it, where there is one]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Which made-up questions are asked; the same ones for the same number
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many questions are made up
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    fuzz: usize,
    /// Print JSON for a program
    #[arg(long)]
    json: bool,
}

pub(super) fn run(check: &Check, options: &Options) -> Result<()> {
    let (limits, server) = options.plugin_limits()?;
    let component = Component::read(&check.file, check.settings.as_deref(), &limits)?;
    let limits_from = component.limits_from(&server);
    let Component { name, bytes, settings, .. } = component;
    let pains = Pains { seed: check.seed, fuzzed: check.fuzz, timed: 50 };
    let report = super::workbench()?.check(&name, &bytes, settings, pains);
    if check.json {
        let mut told = json!(report);
        told["file"] = check.file.display().to_string().into();
        told["limitsFrom"] = limits_from.into();
        say(format_args!("{told:#}"))?;
    } else {
        say(format_args!("{}\n\n{}", check.file.display(), text(&report, &limits_from, true)))?;
    }
    if report.ok { Ok(()) } else { Err(NotGood.into()) }
}

/// A line for each check, or for those alone that are not good, and how to mend them; and where the limits come from.
pub(super) fn text(report: &Report, limits_from: &str, all: bool) -> String {
    let mut lines = Vec::new();
    for check in &report.checks {
        let state = word(check.state);
        if all || matches!(check.state, Standing::Warning | Standing::Failed) {
            lines.push(format!("{state:8} {:11} {}", check.name, check.detail).trim_end().to_owned());
            lines.extend(check.fix.as_ref().map(|fix| format!("{:20} mend it: {fix}", "")));
        }
    }
    let count = |standing| report.checks.iter().filter(|check| check.state == standing).count();
    let standings = [Standing::Ok, Standing::Warning, Standing::Failed, Standing::Skipped];
    let counts = standings.map(|standing| (count(standing), word(standing)));
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    lines.push(format!("the limits are those of {limits_from}"));
    let version = report.version.as_deref().unwrap_or("(version unknown)");
    lines.push(format!("{} {version}: {}", report.plugin, counts.collect::<Vec<_>>().join(", ")));
    lines.join("\n")
}

fn word(standing: Standing) -> &'static str {
    match standing {
        Standing::Ok => "ok",
        Standing::Warning => "warning",
        Standing::Failed => "failed",
        Standing::Skipped => "skipped",
    }
}
