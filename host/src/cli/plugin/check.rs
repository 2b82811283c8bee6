//! `leadwire plugin check`: checks that a server can rely on a component.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use serde_json::json;

use crate::{
    cli::{exit::NegativeResult, options::Options, plugin::component::Component, print::say},
    plugin::testkit::check::{CheckBudget, CheckReport, CheckStatus},
};

#[derive(Args)]
pub(crate) struct CheckArgs {
    /// Component, NAME.wasm
    file: PathBuf,
    /// Settings file [default: NAME.toml beside the component, if it exists]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Seed of the generated questions; the same number gives the same questions
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of generated questions
    #[arg(long, value_name = "COUNT", default_value_t = 500)]
    fuzz: usize,
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(check: &CheckArgs, options: &Options) -> Result<()> {
    let (limits, server) = options.plugin_limits()?;
    let component = Component::read(&check.file, check.settings.as_deref(), &limits)?;
    let limits_from = component.limits_from(&server);
    let Component { name, bytes, settings, .. } = component;
    let budget = CheckBudget { seed: check.seed, fuzzed: check.fuzz, timed: 50 };
    let report = crate::cli::plugin::component::workbench()?.check(&name, &bytes, settings, budget);
    if check.json {
        let mut output = json!(report);
        output["file"] = check.file.display().to_string().into();
        output["limitsFrom"] = limits_from.into();
        say(format_args!("{output:#}"))?;
    } else {
        say(format_args!("{}\n\n{}", check.file.display(), text(&report, &limits_from, true)))?;
    }
    if report.ok { Ok(()) } else { Err(NegativeResult.into()) }
}

/// One line per check, or per failed check only, with how to fix it; and the source of the limits.
pub(crate) fn text(report: &CheckReport, limits_from: &str, all: bool) -> String {
    let mut lines = Vec::new();
    for check in &report.checks {
        let state = word(check.state);
        if all || matches!(check.state, CheckStatus::Warning | CheckStatus::Failed) {
            lines.push(format!("{state:8} {:11} {}", check.name, check.detail).trim_end().to_owned());
            lines.extend(check.fix.as_ref().map(|fix| format!("{:20} fix: {fix}", "")));
        }
    }
    let count = |status| report.checks.iter().filter(|check| check.state == status).count();
    let statuses = [CheckStatus::Ok, CheckStatus::Warning, CheckStatus::Failed, CheckStatus::Skipped];
    let counts = statuses.map(|status| (count(status), word(status)));
    let counts = counts.iter().filter(|(count, _)| *count > 0).map(|(count, word)| format!("{count} {word}"));
    lines.push(format!("the limits are those of {limits_from}"));
    let version = report.version.as_deref().unwrap_or("(version unknown)");
    lines.push(format!("{} {version}: {}", report.plugin, counts.collect::<Vec<_>>().join(", ")));
    lines.join("\n")
}

fn word(status: CheckStatus) -> &'static str {
    match status {
        CheckStatus::Ok => "ok",
        CheckStatus::Warning => "warning",
        CheckStatus::Failed => "failed",
        CheckStatus::Skipped => "skipped",
    }
}
