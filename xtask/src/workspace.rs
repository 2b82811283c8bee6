//! Where things are in this repository, and how the server and its sample plugins are built.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::process;

pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Workspace {
    pub fn find() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stderr(Stdio::inherit())
            .output()
            .context("cargo could not be started")?;
        let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata gave no JSON")?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("cargo metadata names no {key}"))
        };
        Ok(Self { root: path("workspace_root")?, target: path("target_directory")? })
    }

    pub fn cargo<'a>(&self, args: impl IntoIterator<Item = &'a str>) -> Command {
        let mut command = cargo();
        command.args(args).current_dir(&self.root);
        command
    }

    /// Builds the server and answers where the binary is.
    pub fn build_host(&self, profile: Profile) -> Result<PathBuf> {
        let mut command = self.cargo(["build", "--package", "leadwire", "--bin", "leadwire"]);
        if profile == Profile::Release {
            command.arg("--release");
        }
        process::run(&mut command)?;
        let folder = match profile {
            Profile::Dev => "debug",
            Profile::Release => "release",
        };
        Ok(self.target.join(folder).join("leadwire"))
    }

    /// Builds the server and, with it, the sample plugins; answers where both are.
    pub fn build_plugins(&self, profile: Profile) -> Result<(PathBuf, PathBuf)> {
        let leadwire = self.build_host(profile)?;
        let out = self.target.join("plugins");
        let sources = self.plugin_sources()?;
        let mut command = Command::new(&leadwire);
        command.current_dir(&self.root).args(["plugin", "build"]).args(sources).arg("--out").arg(&out);
        process::run(&mut command)?;
        Ok((leadwire, out))
    }

    /// Builds the plugins that only tests have a use for, apart from those that somebody may want to run.
    pub fn build_test_plugins(&self, leadwire: &Path) -> Result<()> {
        let (source, out) = ("host/tests/guests/hostile", self.target.join("test-plugins"));
        process::run(Command::new(leadwire).current_dir(&self.root).args(["plugin", "build", source, "--out"]).arg(out))
    }

    /// The folders of the sample plugins, in order.
    pub fn plugin_sources(&self) -> Result<Vec<PathBuf>> {
        let folder = self.root.join("plugins");
        let entries = folder.read_dir().with_context(|| format!("{} cannot be read", folder.display()))?;
        let mut sources: Vec<_> = entries
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.join("Cargo.toml").is_file())
            .map(|path| path.strip_prefix(&self.root).map(Path::to_owned).unwrap_or(path))
            .collect();
        sources.sort();
        if sources.is_empty() {
            bail!("{} holds no plugin", folder.display());
        }
        Ok(sources)
    }
}

/// The cargo that runs us, or the one on the PATH.
fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}
