//! `leadwire plugin bench`: measures the cost of a call of each hook, compared with an empty call of the same
//! component.

use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;
use serde_json::json;

use crate::{
    cli::{exit::NegativeResult, options::Options, plugin::component::Component, print::say},
    plugin::{
        contract::error::LoadError,
        testkit::measure::{BenchResult, Figures},
    },
};

#[derive(Args)]
pub(crate) struct Bench {
    /// Component, NAME.wasm
    file: PathBuf,
    /// Settings file [default: NAME.toml beside the component, if it exists]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Number of calls per hook
    #[arg(long, value_name = "COUNT", default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    calls: u32,
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(bench: &Bench, options: &Options) -> Result<()> {
    let (limits, _) = options.plugin_limits()?;
    let Component { name, bytes, settings, .. } = Component::read(&bench.file, bench.settings.as_deref(), &limits)?;
    let settings = settings.map_err(|why| anyhow!(why))?;
    let measured = match crate::cli::plugin::component::workbench()?.open(&name, &bytes, settings) {
        Ok(specimen) => specimen.measure(bench.calls as usize),
        Err(LoadError(why)) => Err(format!("it does not load: {why}")),
    };
    let output = match (&measured, bench.json) {
        (Ok(measured), false) => text(measured, bench.calls),
        (Ok(measured), true) => format!("{:#}", json!(measured)),
        (Err(why), false) => format!("{name}: {why}"),
        (Err(why), true) => format!("{:#}", json!({"plugin": name, "error": why})),
    };
    say(output)?;
    measured.map(drop).map_err(|_| NegativeResult.into())
}

fn text(measured: &BenchResult, calls: u32) -> String {
    let BenchResult { plugin, version, build, empty, hooks } = measured;
    let mut lines = vec![format!("{plugin} {version}, {calls} calls of each hook on warm instances")];
    if *build == "debug" {
        lines.push(
            "leadwire itself is a debug build: the host's share is many times too large, the ratios too small".into(),
        );
    }
    lines.push(String::new());
    let header = ["hook", "questions", "mean", "p50", "p99", "longest", "to empty"];
    lines.push(row(header.map(str::to_owned)));
    for figures in [empty].into_iter().chain(hooks) {
        let Figures { hook, questions, mean_ns, p50_ns, p99_ns, max_ns, times_empty, .. } = figures;
        let hook = if std::ptr::eq(figures, empty) { "(empty)" } else { hook };
        let times = [*mean_ns as u64, *p50_ns, *p99_ns, *max_ns].map(|ns| format!("{ns} ns"));
        let [mean, p50, p99, max] = times;
        lines.push(row([hook.to_owned(), questions.to_string(), mean, p50, p99, max, format!("{times_empty} x")]));
    }
    lines.join("\n")
}

fn row(cells: [String; 7]) -> String {
    let [hook, rest @ ..] = cells;
    rest.iter().fold(format!("{hook:10}"), |line, cell| format!("{line} {cell:>12}"))
}
