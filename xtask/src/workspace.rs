//! Paths of this repository, and builds of the server and its sample plugins.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::{client_files, debian_rust, process};

pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    Dev,
    Release,
}

impl Profile {
    /// Name of the folder that cargo builds into.
    pub fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

impl Workspace {
    pub fn find() -> Result<Self> {
        let output = cargo()
            .args(["metadata", "--format-version", "1", "--no-deps"])
            // As cargo sets it when it runs us: what it has compiled in can be that of another copy of the workspace.
            .current_dir(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()))
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

    /// Builds the server and returns the path of the binary.
    pub fn build_host(&self, profile: Profile) -> Result<PathBuf> {
        client_files::make(self)?;
        // Cargo compiles wasmtime once per set of requested features: for development the set of the tests, otherwise
        // that of the command in the documentation.
        let mut command = match profile {
            Profile::Dev => self.cargo(["build", "--workspace", "--bin", "leadwire"]),
            Profile::Release => self.cargo(["build", "--release", "--package", "leadwire", "--bin", "leadwire"]),
        };
        process::run(&mut command)?;
        Ok(self.target.join(profile.folder()).join("leadwire"))
    }

    /// Builds the server and, with it, the sample plugins; returns the paths of both.
    pub fn build_plugins(&self, profile: Profile) -> Result<(PathBuf, PathBuf)> {
        let leadwire = self.build_host(profile)?;
        let out = self.target.join("plugins");
        process::run(&mut self.build_guests(&leadwire, "plugins", &out)?)?;
        Ok((leadwire, out))
    }

    /// Builds the server and the bench; returns the paths of both.
    pub fn build_bench(&self, profile: Profile) -> Result<(PathBuf, PathBuf)> {
        let mut command = match profile {
            Profile::Dev => self.cargo(["build", "--workspace"]),
            Profile::Release => {
                self.cargo(["build", "--release", "--package", "leadwire", "--package", "leadwire-bench"])
            }
        };
        process::run(command.args(["--bin", "leadwire", "--bin", "leadwire-bench"]))?;
        let folder = self.target.join(profile.folder());
        Ok((folder.join("leadwire"), folder.join("leadwire-bench")))
    }

    /// Builds the plugins that the bench measures, and some `others`, with the settings of a project of `leadwire plugin
    /// new`.
    pub fn build_measured_plugins(&self, leadwire: &Path, others: &[&str], out: &Path) -> Result<()> {
        let mut command = self.build_guests(leadwire, "bench/guests", out)?;
        command.args(others);
        command.env("CARGO_PROFILE_RELEASE_LTO", "true").env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1");
        process::run(&mut command)
    }

    /// Builds the plugins that only tests use, separately from those that people may want to run.
    pub fn build_test_plugins(&self, leadwire: &Path) -> Result<()> {
        let mut command = self.build_guests(leadwire, "host/tests/guests", &self.target.join("test-plugins"))?;
        process::run(&mut command)
    }

    /// Command that builds the Rust plugins in `folder`.
    fn build_guests(&self, leadwire: &Path, folder: &str, out: &Path) -> Result<Command> {
        let mut command = Command::new(leadwire);
        command.current_dir(&self.root).envs(debian_rust::variables()?);
        command.args(["plugin", "build"]).args(self.sources(folder)?).arg("--out").arg(out);
        Ok(command)
    }

    /// Folders of the Rust sample plugins, in order.
    pub fn plugin_sources(&self) -> Result<Vec<PathBuf>> {
        self.sources("plugins")
    }

    fn sources(&self, folder: &str) -> Result<Vec<PathBuf>> {
        let folder = self.root.join(folder);
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

/// The cargo that runs this program, or the one on the PATH.
fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    forget_xtask(&mut command);
    command
}

/// The active Rust compiler.
pub fn rustc() -> Command {
    let mut command = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    forget_xtask(&mut command);
    command
}

/// Target that the active compiler builds for unless it is told otherwise, such as `x86_64-unknown-linux-gnu`.
pub fn host_target() -> Result<String> {
    let output = rustc().arg("-vV").stderr(Stdio::inherit()).output();
    let output = output.context("no Rust compiler found; install Rust from https://rustup.rs")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("rustc names no host")
}

/// Removes variables that `cargo xtask` sets about this program. Build scripts such as ring's read some of them, and
/// the build would differ from one that a person starts with the same command in a shell.
pub fn forget_xtask(command: &mut Command) {
    let about_us = |name: &str| {
        name.starts_with("CARGO_MANIFEST_") || name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_BIN_")
    };
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_str().is_some_and(about_us)) {
        command.env_remove(name);
    }
}
