//! Plugins in other languages than Rust: their sources, their tools, and incremental builds.
//!
//! The tools come from npm and PyPI, in the versions that the sample plugins pin, into `target/lang-tools`; built
//! plugins go to `target/lang-plugins`. Beside each result is a hash of its inputs, and unchanged plugins are not built
//! again.

use std::{
    ffi::OsStr,
    fs,
    hash::{DefaultHasher, Hash, Hasher},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result};

use crate::{process, workspace::Workspace};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Language {
    JavaScript,
    Python,
}

/// Folder of a plugin: `plugin.js` or `app.py` becomes the component `<name of the folder>.wasm`.
pub struct Source {
    pub language: Language,
    pub folder: &'static str,
}

/// Plugins whose `package.json` and `requirements.txt` pin the tools.
const JAVASCRIPT: &str = "plugins/mask-email-js";
const PYTHON: &str = "plugins/card-guard-py";

pub const SOURCES: [Source; 4] = [
    Source { language: Language::JavaScript, folder: JAVASCRIPT },
    Source { language: Language::JavaScript, folder: "host/tests/scripts/every-hook-js" },
    Source { language: Language::Python, folder: PYTHON },
    Source { language: Language::Python, folder: "host/tests/scripts/every-hook-py" },
];

/// Plugins that only the bench uses.
pub const MEASURED: [Source; 4] = [
    Source { language: Language::JavaScript, folder: "bench/scripts/bench-filter-js" },
    Source { language: Language::JavaScript, folder: "bench/scripts/bench-hooks-js" },
    Source { language: Language::Python, folder: "bench/scripts/bench-filter-py" },
    Source { language: Language::Python, folder: "bench/scripts/bench-hooks-py" },
];

/// Sample plugins in other languages than Rust.
pub const SAMPLES: [Source; 2] = [
    Source { language: Language::JavaScript, folder: JAVASCRIPT },
    Source { language: Language::Python, folder: PYTHON },
];

/// Files that an author's tools leave in a plugin's folder.
const LEFTOVERS: [&str; 4] = ["node_modules", ".venv", "build", "__pycache__"];

impl Language {
    /// Returns the missing tool for such plugins, and how to install it.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::JavaScript => crate::docs::missing_node(),
            Self::Python => {
                let works = |arguments: &[&str]| {
                    let mut python = Command::new("python3");
                    python.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                    python.status().is_ok_and(|status| status.success())
                };
                // Debian packages the part of `venv` that includes pip separately.
                (!works(&["-c", "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))"])).then(|| {
                    "python3 with venv is missing; get Python 3.10 or newer, on Debian with: apt-get install python3 \
                     python3-venv"
                        .into()
                })
            }
        }
    }

    /// Installs the tools unless they are installed already; returns their folder.
    fn tools(self, workspace: &Workspace) -> Result<PathBuf> {
        let pinned = |folder: &str, pins: &[&str]| -> Vec<PathBuf> {
            pins.iter().map(|pin| workspace.root.join(folder).join(pin)).collect()
        };
        match self {
            Self::JavaScript => {
                let pinned = pinned(JAVASCRIPT, &["package.json", "package-lock.json", ".npmrc"]);
                installed(workspace, "js", &pinned, |tools| {
                    for pin in &pinned {
                        fs::copy(pin, tools.join(pin.file_name().context("a file has a name")?))?;
                    }
                    process::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(tools))
                })
            }
            Self::Python => python_tools(workspace, "py", &pinned(PYTHON, &["requirements.txt"])),
        }
    }
}

/// Installs the packages of `requirements` into an environment of their own, unless they are installed already; returns
/// its folder.
pub fn python_tools(workspace: &Workspace, name: &str, requirements: &[PathBuf]) -> Result<PathBuf> {
    installed(workspace, name, requirements, |tools| {
        process::run(Command::new("python3").args(["-m", "venv"]).arg(tools))?;
        let mut pip = Command::new(tools.join("bin/pip"));
        pip.args(["install", "--quiet", "--disable-pip-version-check", "--requirement"]).args(requirements);
        process::run(&mut pip)
    })
}

/// Folder of tools, filled by `install` unless it was for the same pins.
fn installed(
    workspace: &Workspace,
    name: &str,
    pinned: &[PathBuf],
    install: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let tools = workspace.target.join("lang-tools").join(name);
    let stamp = tools.join("stamp");
    let hash = hash(&workspace.root, pinned)?;
    if fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return Ok(tools);
    }
    if tools.exists() {
        fs::remove_dir_all(&tools)?;
    }
    fs::create_dir_all(&tools)?;
    install(&tools)?;
    fs::write(stamp, hash)?;
    Ok(tools)
}

impl Source {
    /// Builds the component into `target/lang-plugins`, unless nothing has changed since the last build; returns its
    /// path.
    pub fn build(&self, workspace: &Workspace) -> Result<PathBuf> {
        let tools = self.language.tools(workspace)?;
        let folder = workspace.root.join(self.folder);
        let out = workspace.target.join("lang-plugins");
        fs::create_dir_all(&out)?;
        let name = folder.file_name().and_then(OsStr::to_str).context("a plugin's folder has a name")?;
        let (file, stamp) = (out.join(format!("{name}.wasm")), out.join(format!("{name}.stamp")));
        let mut went_in = files(&folder)?;
        went_in.push(tools.join("stamp"));
        let hash = hash(&workspace.root, &went_in)?;
        if file.exists() && fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
            return Ok(file);
        }
        let partial = out.join(format!("{name}.partial"));
        process::run(self.command(&tools, &partial).current_dir(&folder))?;
        fs::rename(partial, &file)?;
        fs::write(stamp, hash)?;
        Ok(file)
    }

    /// Build command, as the README of a sample plugin gives it.
    fn command(&self, tools: &Path, out: &Path) -> Command {
        match self.language {
            Language::JavaScript => {
                let mut jco = Command::new(tools.join("node_modules/.bin/jco"));
                jco.args(["componentize", "plugin.js", "--wit", "wit", "--world-name", "plugin"]);
                jco.args(["--backend", "quickjs", "--backend-qjs-disable-async", "--out"]).arg(out);
                jco
            }
            Language::Python => {
                let mut componentize = Command::new(tools.join("bin/componentize-py"));
                componentize.args(["--quiet", "-d", "wit", "-w", "plugin", "componentize", "app", "--stub-wasi"]);
                componentize.arg("--output").arg(out);
                componentize
            }
        }
    }

    /// Command for the plugin's own tests, if it has any.
    pub fn tests(&self, workspace: &Workspace) -> Result<Option<Command>> {
        let folder = workspace.root.join(self.folder);
        let has = |is: fn(&str) -> bool| files(&folder).map(|files| files.iter().any(|file| is(&name_of(file))));
        let mut command = match self.language {
            Language::JavaScript if has(|name| name.ends_with(".test.mjs"))? => {
                let mut node = Command::new("node");
                node.args(["--test", "--test-reporter=spec"]);
                node
            }
            Language::Python if has(|name| name.starts_with("test_"))? => {
                let mut python = Command::new("python3");
                python.args(["-B", "-m", "unittest", "--quiet"]);
                python
            }
            _ => return Ok(None),
        };
        command.current_dir(folder);
        Ok(Some(command))
    }
}

fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// All files of a plugin in order, including the interface behind its link.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in folder.read_dir().with_context(|| format!("{} cannot be read", folder.display()))? {
        let path = entry?.path();
        if LEFTOVERS.contains(&name_of(&path).as_str()) {
            continue;
        }
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

/// Hash of the files' names and content; it may differ between machines.
pub fn hash(root: &Path, files: &[PathBuf]) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.strip_prefix(root).unwrap_or(file).hash(&mut hasher);
        fs::read(file).with_context(|| format!("{} cannot be read", file.display()))?.hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plugin_sources_include_the_interface_and_no_build_artifacts() {
        let workspace = Workspace::find().expect("a workspace");
        for source in SOURCES.into_iter().chain(MEASURED) {
            let files = files(&workspace.root.join(source.folder)).expect("files");
            let has = |ending: &str| files.iter().any(|file| file.ends_with(ending));
            assert!(has("wit/world.wit") && has("wit/deps/leadwire/plugin.wit"), "{}: {files:?}", source.folder);
            assert!(!files.iter().any(|file| file.components().any(|part| part.as_os_str() == "node_modules")));
        }
    }
}
