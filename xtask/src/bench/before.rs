//! Leadwire of another commit, built to be measured beside the present one.
//!
//! Its sources are exported below `target/`, and it shares the build folder, so that dependencies that both have in
//! common are compiled once.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use tar::Archive;

use crate::{
    process,
    workspace::{Profile, Workspace},
};

/// Builds the server of a commit; returns the binary and the short name of the commit.
pub fn build(workspace: &Workspace, rev: &str, profile: Profile) -> Result<(PathBuf, String)> {
    let name = name(workspace, rev).with_context(|| format!("there is no commit {rev}"))?;
    let folder = workspace.target.join("bench/before").join(format!("{name}-{}", profile.folder()));
    let binary = folder.join("leadwire");
    if binary.is_file() {
        return Ok((binary, name));
    }
    let sources = folder.join("sources");
    if sources.exists() {
        fs::remove_dir_all(&sources)?;
    }
    fs::create_dir_all(&sources)?;
    export(workspace, &name, &sources)?;
    let before = Workspace { root: sources.clone(), target: workspace.target.clone() };
    let mut command = before.cargo(["build", "--package", "leadwire", "--package", "leadwire-bench"]);
    command.args(["--bin", "leadwire"]).args((profile == Profile::Release).then_some("--release"));
    process::run(command.env("CARGO_TARGET_DIR", &workspace.target))?;
    fs::copy(workspace.target.join(profile.folder()).join("leadwire"), &binary)?;
    fs::remove_dir_all(&sources)?;
    Ok((binary, name))
}

/// Short name of a commit.
pub fn name(workspace: &Workspace, rev: &str) -> Option<String> {
    let mut git = Command::new("git");
    git.args(["rev-parse", "--short=12", "--verify", "--quiet"]).arg(format!("{rev}^{{commit}}"));
    let output = git.current_dir(&workspace.root).output().ok()?;
    let name = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !name.trim().is_empty()).then(|| name.trim().to_owned())
}

fn export(workspace: &Workspace, name: &str, folder: &std::path::Path) -> Result<()> {
    let mut git = Command::new("git");
    git.args(["archive", "--format=tar", name]).current_dir(&workspace.root).stdout(Stdio::piped());
    let mut child = git.spawn().context("git could not be started")?;
    let output = child.stdout.take().context("the output was not piped")?;
    Archive::new(output).unpack(folder)?;
    let status = child.wait()?;
    if !status.success() {
        bail!("git archive {}", process::ending(status));
    }
    Ok(())
}
