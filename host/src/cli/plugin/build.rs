//! `leadwire plugin build`: compiles a core module with cargo and makes a component of it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;
use wasmparser::{Parser, Payload};
use wit_component::ComponentEncoder;

use crate::{
    cli::plugin::toolchain::Toolchain,
    files::{self, FileAccess},
};

/// Maximum size of a component, whatever the limits.
const MAX_MODULE: u64 = 1 << 30;

#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// Folders of the plugins to build
    #[arg(value_name = "DIR", default_value = ".")]
    dirs: Vec<PathBuf>,
    /// Folder for NAME.wasm, such as a server's plugin folder; `target` in each DIR if left out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub(crate) fn run(build: &BuildArgs) -> Result<()> {
    for dir in &build.dirs {
        let file = component(dir, build.out.as_deref()).with_context(|| format!("cannot build {}", dir.display()))?;
        crate::cli::print::say(file.display())?;
    }
    Ok(())
}

/// Builds the plugin in `dir` and returns the path of the component.
pub(crate) fn component(dir: &Path, out: Option<&Path>) -> Result<PathBuf> {
    component_with(&toolchain(dir)?, dir, out)
}

/// Toolchain that compiles the plugin in `dir`.
pub(crate) fn toolchain(dir: &Path) -> Result<Toolchain> {
    if !dir.join("Cargo.toml").is_file() {
        bail!("it has no Cargo.toml");
    }
    Toolchain::find(dir)
}

/// Same as `component`, with a known toolchain, for repeated builds.
pub(crate) fn component_with(toolchain: &Toolchain, dir: &Path, out: Option<&Path>) -> Result<PathBuf> {
    let package = CargoPackage::of(dir, toolchain)?;
    let module = package.compile(dir, toolchain)?;
    let module = files::read(&module, MAX_MODULE).with_context(|| format!("cannot read {}", module.display()))?;
    let component = encode(&module)?;
    let target = dir.join("target");
    let out = out.unwrap_or(&target);
    fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let file = out.join(format!("{}.wasm", package.name));
    files::replace(&file, &component, FileAccess::Inherited)
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Converts a module to a component with the interface that the module describes.
fn encode(module: &[u8]) -> Result<Vec<u8>> {
    let encoder = ComponentEncoder::default().validate(true);
    let component = encoder.module(module).and_then(|mut encoder| encoder.encode())?;
    if !exports(&component)?.any(|name| name.starts_with("leadwire:plugin/lifecycle@")) {
        bail!("the module is not a plugin: call `leadwire_plugin_sdk::plugin!` to declare its exports");
    }
    Ok(component)
}

/// Names that the component itself exports, not those of nested components.
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

/// Parts of `cargo metadata` and of cargo's build messages that are used here.
#[derive(Debug, Deserialize)]
struct CargoPackage {
    name: String,
    id: String,
    manifest_path: PathBuf,
    targets: Vec<CargoTarget>,
}

#[derive(Debug, Deserialize)]
struct CargoTarget {
    crate_types: Vec<String>,
}

#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<CargoPackage>,
}

#[derive(Deserialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
enum CargoMessage {
    CompilerArtifact {
        package_id: String,
        filenames: Vec<PathBuf>,
    },
    #[serde(other)]
    Other,
}

impl CargoPackage {
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
        let metadata: CargoMetadata =
            serde_json::from_slice(&output.stdout).context("cannot parse the output of cargo metadata")?;
        let package = metadata
            .packages
            .into_iter()
            .find(|package| package.manifest_path.canonicalize().is_ok_and(|path| path == manifest))
            .with_context(|| format!("{} declares no package", manifest.display()))?;
        if !package.targets.iter().any(|target| target.crate_types.iter().any(|kind| kind == "cdylib")) {
            bail!("package {} is not a plugin: its [lib] lacks crate-type = [\"cdylib\", \"rlib\"]", package.name);
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
        // Cargo reports where the module is; the path depends on flags, files and variables.
        let messages = output.stdout.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        let files = messages.filter_map(|message| match message {
            CargoMessage::CompilerArtifact { package_id, filenames } if package_id == self.id => Some(filenames),
            _ => None,
        });
        let module = files.flatten().find(|file| file.extension().is_some_and(|extension| extension == "wasm"));
        module.with_context(|| format!("package {} produced no .wasm file", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_without_the_plugins_interface_is_refused() {
        let module = wat::parse_str("(module)").expect("valid");
        let error = encode(&module).expect_err("refused").to_string();
        assert!(error.starts_with("the module is not a plugin"), "{error}");
        assert!(encode(b"not wasm").is_err());
    }
}
