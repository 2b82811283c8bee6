//! `leadwire plugin build`: cargo makes a core module, this makes the component of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use super::toolchain::Toolchain;
use crate::plugin;

/// A component may have no more, whatever the limits.
const MAX_MODULE: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Build {
    /// Folders of the plugins to build
    #[arg(value_name = "DIR", default_value = ".")]
    dirs: Vec<PathBuf>,
    /// Where to put NAME.wasm, such as a server's plugin folder; `target` in each DIR if left out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(super) fn run(build: &Build) -> Result<()> {
    for dir in &build.dirs {
        let file = component(dir, build.out.as_deref()).with_context(|| format!("cannot build {}", dir.display()))?;
        crate::cli::say(file.display())?;
    }
    Ok(())
}

/// Builds the plugin in `dir` and returns the file it became.
pub(super) fn component(dir: &Path, out: Option<&Path>) -> Result<PathBuf> {
    component_with(&toolchain(dir)?, dir, out)
}

/// How a plugin in `dir` is compiled.
pub(super) fn toolchain(dir: &Path) -> Result<Toolchain> {
    if !dir.join("Cargo.toml").is_file() {
        bail!("it holds no Cargo.toml");
    }
    Toolchain::find(dir)
}

/// As `component`, for somebody who builds again and again.
pub(super) fn component_with(toolchain: &Toolchain, dir: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let package = Package::of(dir, toolchain)?;
    let module = package.compile(dir, toolchain)?;
    let module =
        plugin::file::read(&module, MAX_MODULE).with_context(|| format!("cannot read {}", module.display()))?;
    let component = encode(&module)?;
    let target = dir.join("target");
    let out = out.unwrap_or(&target);
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let file = out.join(format!("{}.wasm", package.name));
    super::replace(&file, &component)?;
    Ok(file)
}

/// What the module says about its interface, made into a component that has it.
fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = ComponentEncoder::default();
    let component = encoder.validate(true).module(module).and_then(|encoder| encoder.encode())?;
    if !exports(&component)?.any(|name| name.starts_with("leadwire:plugin/lifecycle@")) {
        bail!("the module is no plugin: call `leadwire_plugin_sdk::plugin!` in it, to say what it exports");
    }
    Ok(component)
}

/// The names that the component itself exports, not those of what is nested in it.
fn exports(component: &[u8]) -> Result<impl Iterator<Item = String>> {
    let (mut names, mut depth) = (Vec::new(), 0);
    for payload in Parser::new(0).parse_all(component) {
        match payload? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth -= 1,
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    names.push(export?.name.name.to_owned());
                }
            }
            _ => {}
        }
    }
    Ok(names.into_iter())
}

/// The parts of `cargo metadata` and of cargo's build messages that matter here.
#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    id: String,
    manifest_path: PathBuf,
    targets: Vec<Target>,
}

#[derive(Debug, Deserialize)]
struct Target {
    crate_types: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum Message {
    CompilerArtifact {
        package_id: String,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

impl Package {
    fn of(dir: &Path, toolchain: &Toolchain) -> Result<Self> {
        let manifest = dir.join("Cargo.toml").canonicalize()?;
        let mut cargo = toolchain.cargo(dir, "metadata");
        let output = cargo
            .args(["--no-deps", "--format-version", "1"])
            .stderr(Stdio::inherit())
            .output()
            .context("cannot run cargo; install Rust from https://rustup.rs")?;
        if !output.status.success() {
            bail!("cargo cannot read {}", manifest.display());
        }
        let metadata: Metadata = serde_json::from_slice(&output.stdout).context("cargo metadata is not understood")?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path.canonicalize().is_ok_and(|path| path == manifest))
            .with_context(|| format!("{} names no package", manifest.display()))?;
        if !package.targets.iter().any(|target| target.crate_types.iter().any(|kind| kind == "cdylib")) {
            bail!("package {} is no plugin: its [lib] lacks crate-type = [\"cdylib\", \"rlib\"]", package.name);
        }
        Ok(package)
    }

    fn compile(&self, dir: &Path, toolchain: &Toolchain) -> Result<PathBuf> {
        let mut cargo = toolchain.build(dir);
        cargo.args(["--package", &self.id, "--message-format", "json-render-diagnostics"]);
        let output = cargo.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
        if !output.status.success() {
            bail!("cargo could not build package {}", self.name);
        }
        // Cargo says where the module is; where it should be depends on flags, files and variables.
        let messages = output.stdout.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let files = messages.filter_map(|message| match message {
            Message::CompilerArtifact { package_id, filenames } if package_id == self.id => Some(filenames),
            _ => None,
        });
        let module = files.flatten().find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        module.with_context(|| format!("package {} gave no .wasm file", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_the_plugins_interface_is_refused() {
        let module = wat::parse_str("(module)").expect("valid");
        let error = encode(&module).expect_err("refused").to_string();
        assert!(error.starts_with("the module is no plugin"), "{error}");
        assert!(encode(b"not wasm").is_err());
    }
}
