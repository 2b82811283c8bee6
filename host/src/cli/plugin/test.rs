//! `leadwire plugin test`: runs the author's native tests, then the cases in `tests/*.json` against the component.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{
    cli::{exit::NegativeResult, options::Options, plugin::build, print::say},
    files,
    plugin::{
        Limits,
        testkit::{
            cases::Case,
            difference::{CaseResult, Difference},
        },
    },
};

/// Maximum size of a file of cases, in bytes.
const MAX_CASES: u64 = 64 << 20;

#[derive(Args)]
pub(crate) struct Test {
    /// Folder of the plugin
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Skip `cargo test`
    #[arg(long)]
    cases_only: bool,
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(test: &Test, options: &Options) -> Result<()> {
    let (limits, _) = options.plugin_limits()?;
    if !test.dir.join("Cargo.toml").is_file() {
        bail!("{} is not a plugin folder: it has no Cargo.toml", test.dir.display());
    }
    let native = if test.cases_only { None } else { Some(native(&test.dir)?) };
    let files = case_files(&test.dir)?;
    let cases: Vec<(&Path, Vec<Case>)> =
        files.iter().map(|file| Ok((file.as_path(), read(file)?))).collect::<Result<_>>()?;
    let results = if cases.is_empty() { Vec::new() } else { against_component(&test.dir, &cases, &limits)? };
    if test.json {
        say(format_args!("{:#}", json!({"native": native.map(word), "cases": results})))?;
    } else {
        say(text(native, &results))?;
    }
    let good = native != Some(false) && results.iter().all(|result| result.ok);
    if good { Ok(()) } else { Err(NegativeResult.into()) }
}

/// Runs `cargo test`; true if it passes. Its output goes to stderr, because it is not our result.
fn native(dir: &Path) -> Result<bool> {
    let mut cargo = Command::new("cargo");
    cargo.arg("test").current_dir(dir).stdin(Stdio::null()).stdout(std::io::stderr());
    Ok(cargo.status().context("cannot run cargo; install Rust from https://rustup.rs")?.success())
}

fn case_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let tests = dir.join("tests");
    if !tests.is_dir() {
        return Ok(Vec::new());
    }
    let entries = tests.read_dir().with_context(|| format!("cannot read {}", tests.display()))?;
    let files = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    let mut files: Vec<PathBuf> =
        files.into_iter().filter(|file| file.extension().is_some_and(|extension| extension == "json")).collect();
    files.sort();
    Ok(files)
}

fn read(file: &Path) -> Result<Vec<Case>> {
    let text = files::read_text(file, MAX_CASES).with_context(|| format!("cannot read {}", file.display()))?;
    Case::read(&text).map_err(|why| anyhow!("{}: {why}", file.display()))
}

fn against_component(dir: &Path, cases: &[(&Path, Vec<Case>)], limits: &Limits) -> Result<Vec<CaseResult>> {
    let component = build::component(dir, None).with_context(|| format!("cannot build {}", dir.display()))?;
    let settings = dir.join("plugin.toml");
    let component = crate::cli::plugin::component::Component::read(
        &component,
        settings.is_file().then_some(settings.as_path()),
        limits,
    )?;
    let settings = component.settings.map_err(|why| anyhow!(why))?;
    let workbench = crate::cli::plugin::component::workbench()?;
    let mut results = Vec::new();
    for (file, cases) in cases {
        for case in cases {
            let differences = workbench
                .run_case(&component.name, &component.bytes, &settings, case)
                .map_err(|why| anyhow!("{}, case {:?}: {why}", file.display(), case.name))?;
            let file = file.strip_prefix(dir).unwrap_or(file).display().to_string();
            results.push(CaseResult { file, name: case.name.clone(), ok: differences.is_empty(), differences });
        }
    }
    Ok(results)
}

fn word(good: bool) -> &'static str {
    if good { "ok" } else { "failed" }
}

fn text(native: Option<bool>, results: &[CaseResult]) -> String {
    let mut lines = Vec::new();
    if let Some(good) = native {
        lines.push(format!("{:7} cargo test", word(good)));
    }
    for CaseResult { file, name, ok, differences } in results {
        lines.push(format!("{:7} {file}: {name}", word(*ok)));
        for Difference { at, expected, found } in differences {
            lines.push(format!("          at {at}"));
            lines.push(format!("            expected {}", shown(expected.as_ref())));
            lines.push(format!("            found    {}", shown(found.as_ref())));
        }
    }
    let failed = results.iter().filter(|result| !result.ok).count();
    lines.push(match results.len() {
        0 => "no cases found in tests/*.json; see docs/PLUGINS.md on how to write one".to_owned(),
        count => format!("{} cases: {} ok, {failed} failed", count, count - failed),
    });
    lines.join("\n")
}

fn shown(value: Option<&Value>) -> String {
    value.map_or_else(|| "nothing".into(), Value::to_string)
}
