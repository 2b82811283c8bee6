//! `cargo xtask bench`: builds the bench and the plugins that it measures, and runs it.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
};

use anyhow::{Context, Result};

use crate::{
    languages::{MEASURED, Source},
    process,
    workspace::{Profile, Workspace},
};

/// Builds and runs the bench; returns its exit code, which reports whether the gate holds.
pub fn run(workspace: &Workspace, profile: Profile) -> Result<ExitCode> {
    let (leadwire, bench) = workspace.build_bench(profile)?;
    let plugins = workspace.target.join("bench-plugins");
    // A plugin that was built earlier and cannot be built any more must not be measured.
    if plugins.exists() {
        fs::remove_dir_all(&plugins)?;
    }
    workspace.build_measured_plugins(&leadwire, &plugins)?;
    let mut skipped = Vec::new();
    for source in MEASURED {
        if let Err(reason) = add(&source, workspace, &plugins) {
            if process::interrupted() {
                return Err(reason);
            }
            skipped.push(format!("skipped: {}: {reason:#}", source.folder));
        }
    }
    skipped.iter().for_each(|line| println!("{line}"));
    let status = process::status(Command::new(bench).arg(plugins))?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds a plugin in another language than Rust and puts it beside the others.
fn add(source: &Source, workspace: &Workspace, plugins: &Path) -> Result<()> {
    if let Some(missing) = source.language.missing() {
        anyhow::bail!(missing);
    }
    let file = source.build(workspace)?;
    fs::copy(&file, plugins.join(file.file_name().context("a component has a name")?))?;
    Ok(())
}
