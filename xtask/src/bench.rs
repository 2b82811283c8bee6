//! `cargo xtask bench`: builds the bench, the servers and the plugins that it measures, and runs it.

mod before;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context, Result, bail};

use crate::{
    docs,
    languages::{self, MEASURED, SAMPLES, Source},
    process,
    workspace::{Profile, Workspace},
};

/// Plugins of `plugins/` that servers run while they are measured.
const SERVED: [&str; 2] = ["plugins/lead-score", "plugins/redact-contact"];
/// Cases that need plugins in other languages than Rust.
const HOOKS: &str = "hooks";
const MEMORY: &str = "memory";
/// Options of the bench that a value follows.
const WITH_VALUE: [&str; 6] = ["--rounds", "--json", "--peers", "--sockets", "--plugins", "--leads"];

/// Command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    debug: bool,
    before: Option<String>,
    cases: Vec<String>,
    /// Everything that the bench is told, cases included.
    passed: Vec<String>,
}

impl Request {
    fn read(args: &[String]) -> Result<Self> {
        let mut request = Self::default();
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = |name: &str| args.next().cloned().with_context(|| format!("{name} takes a value"));
            match arg.as_str() {
                "--debug" => request.debug = true,
                "--before" => request.before = Some(value("--before")?),
                "--quick" | "--gate" => request.passed.push(arg.clone()),
                name if WITH_VALUE.contains(&name) => {
                    let value = value(name)?;
                    request.passed.extend([name.to_owned(), value]);
                }
                name if name.starts_with('-') => bail!("bench knows no option {name}"),
                case => {
                    request.cases.push(case.to_owned());
                    request.passed.push(case.to_owned());
                }
            }
        }
        Ok(request)
    }

    fn runs(&self, case: &str) -> bool {
        self.cases.is_empty() || self.cases.iter().any(|name| name == case)
    }
}

/// Builds and runs the bench; returns its exit code, which reports lost events and missed gates.
pub fn run(workspace: &Workspace, args: &[String]) -> Result<ExitCode> {
    let request = Request::read(args)?;
    let profile = if request.debug { Profile::Dev } else { Profile::Release };
    // First, because it leaves its binary where ours belongs.
    let before = request.before.as_deref().map(|rev| before::build(workspace, rev, profile)).transpose()?;
    let (leadwire, bench) = workspace.build_bench(profile)?;
    let mut skipped = Vec::new();
    let plugins = plugins(workspace, &leadwire, &request, &mut skipped)?;

    let mut command = Command::new(bench);
    command.args(&request.passed).arg("--leadwire").arg(leadwire).arg("--plugin-dir").arg(plugins);
    command.arg("--out").arg(workspace.target.join("bench"));
    if let Some(rev) = before::name(workspace, "HEAD") {
        command.args(["--rev", &rev]);
    }
    if let Some((binary, rev)) = before {
        command.arg("--before").arg(binary).args(["--before-rev", &rev]);
    }
    match node(workspace) {
        Ok(folder) => {
            command.arg("--node").arg(folder);
        }
        Err(error) if process::interrupted() => return Err(error),
        Err(error) => skipped.push(format!("skipped: the peer in Node.js: {error:#}")),
    }
    skipped.iter().for_each(|line| println!("{line}"));
    let status = process::status(&mut command)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds what the cases need; returns the folder.
fn plugins(workspace: &Workspace, leadwire: &Path, request: &Request, skipped: &mut Vec<String>) -> Result<PathBuf> {
    let plugins = workspace.target.join("bench-plugins");
    // A plugin that was built earlier and cannot be built any more must not be measured.
    if plugins.exists() {
        fs::remove_dir_all(&plugins)?;
    }
    workspace.build_measured_plugins(leadwire, &SERVED, &plugins)?;
    let of_hooks = MEASURED.iter().filter(|_| request.runs(HOOKS));
    let of_memory = SAMPLES.iter().filter(|_| request.runs(MEMORY));
    for source in of_hooks.chain(of_memory) {
        if let Err(reason) = add(source, workspace, &plugins) {
            if process::interrupted() {
                return Err(reason);
            }
            skipped.push(format!("skipped: {}: {reason:#}", source.folder));
        }
    }
    Ok(plugins)
}

/// Builds a plugin in another language than Rust and puts it beside the others.
fn add(source: &Source, workspace: &Workspace, plugins: &Path) -> Result<()> {
    if let Some(missing) = source.language.missing() {
        bail!(missing);
    }
    let file = source.build(workspace)?;
    fs::copy(&file, plugins.join(file.file_name().context("a component has a name")?))?;
    Ok(())
}

/// Installs the packages of the reference server, unless they are there; returns its folder.
fn node(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(missing) = docs::missing_node() {
        bail!(missing);
    }
    let folder = workspace.root.join("bench/peers/node");
    let pins = ["package.json", "package-lock.json", ".npmrc"].map(|name| folder.join(name));
    let (hash, stamp) = (languages::hash(&workspace.root, &pins)?, folder.join("node_modules/.stamp"));
    if fs::read_to_string(&stamp).is_ok_and(|found| found == hash) {
        return Ok(folder);
    }
    process::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder))?;
    fs::write(stamp, hash)?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(args: &[&str]) -> Result<Request> {
        Request::read(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn cases_are_told_from_values_of_options() {
        let request = read(&["fanout", "--rounds", "5", "--before", "HEAD~1", "--debug", "idle"]).expect("a request");
        assert_eq!((request.debug, request.before.as_deref()), (true, Some("HEAD~1")));
        assert_eq!(request.cases, ["fanout", "idle"]);
        assert_eq!(request.passed, ["fanout", "--rounds", "5", "idle"]);
        assert!(request.runs("idle") && !request.runs("hooks"));
        assert!(read(&[]).expect("no arguments").runs("hooks"));
    }

    #[test]
    fn unknown_options_and_missing_values_are_refused() {
        read(&["--fast"]).expect_err("an unknown option");
        read(&["--rounds"]).expect_err("no value");
    }
}
