//! `cargo xtask test`: runs every check, in order and to the end, then prints one table.
//!
//! A step that cannot run here prints what is missing and how to install it, and counts as skipped. With `CI` set, a
//! skip fails the run, so that no step is left out unnoticed.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::{Result, bail};

use crate::{
    contract, dist, docs,
    languages::{Language, SOURCES, python_tools},
    process,
    report::{self, Outcome, Row},
    workspace::{Profile, Workspace},
};

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Workspace) -> Result<Outcome>,
}

const STEPS: [Step; 12] = [
    Step { name: "fmt", about: "the code is formatted", run: fmt },
    Step { name: "clippy", about: "clippy has no complaint", run: clippy },
    Step { name: "doc", about: "the API documentation builds without warnings", run: doc },
    Step { name: "contract", about: "the contract breaks no released one", run: contract::test },
    Step { name: "build", about: "the server and the sample plugins build", run: build },
    Step {
        name: "languages",
        about: "the plugins in JavaScript and Python build and pass their own tests",
        run: languages,
    },
    Step { name: "rust", about: "unit and integration tests, and the examples in the documentation", run: rust },
    Step { name: "node", about: "real clients against the real server", run: node },
    Step { name: "record", about: "the tests have seen what the contract declares, and nothing else", run: record },
    Step { name: "outside", about: "tools of others agree with the contract", run: outside },
    Step { name: "dist", about: "a release archive installs and starts", run: dist },
    Step { name: "docs", about: "every command in the documentation", run: docs::run },
];

pub fn run(workspace: &Workspace, names: &[String]) -> Result<ExitCode> {
    if let Some(unknown) = names.iter().find(|name| STEPS.iter().all(|step| step.name != *name)) {
        bail!("there is no step {unknown:?}: expected one of {}", STEPS.map(|step| step.name).join(", "));
    }
    let steps = STEPS.iter().filter(|step| names.is_empty() || names.iter().any(|name| name == step.name));
    if env::var_os(docs::INSIDE).is_some() {
        // The documentation contains this command, and its test runs every command in it.
        steps.for_each(|step| println!("{:<10} {}", step.name, step.about));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for step in steps {
        println!("\n==> {}: {}", step.name, step.about);
        let begun = Instant::now();
        let outcome = match (step.run)(workspace) {
            Ok(outcome) => outcome,
            Err(error) if process::interrupted() => return Err(error),
            Err(error) => Outcome::fail(format!("{error:#}")),
        };
        rows.push(Row { step: step.name, outcome, took: begun.elapsed() });
    }
    println!("{}", report::summary(&rows));
    let ci = env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"));
    let bad = rows.iter().any(|row| row.outcome.failed > 0 || (ci && row.outcome.skipped > 0));
    Ok(if bad { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn fmt(workspace: &Workspace) -> Result<Outcome> {
    if !process::installed("rustfmt") {
        return Ok(Outcome::skip("rustfmt is missing; get it with: rustup component add rustfmt"));
    }
    process::run(&mut workspace.cargo(["fmt", "--all", "--check"]))?;
    Ok(Outcome::default())
}

fn clippy(workspace: &Workspace) -> Result<Outcome> {
    if !process::installed("cargo-clippy") {
        return Ok(Outcome::skip("clippy is missing; get it with: rustup component add clippy"));
    }
    process::run(&mut workspace.cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    Ok(Outcome::default())
}

fn doc(workspace: &Workspace) -> Result<Outcome> {
    let mut doc = workspace.cargo(["doc", "--workspace", "--no-deps"]);
    process::run(doc.env("RUSTDOCFLAGS", "--deny warnings"))?;
    Ok(Outcome::default())
}

fn build(workspace: &Workspace) -> Result<Outcome> {
    let (leadwire, _) = workspace.build_plugins(Profile::Dev)?;
    workspace.build_test_plugins(&leadwire)?;
    Ok(Outcome::default())
}

fn languages(workspace: &Workspace) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    for source in SOURCES {
        if let Some(missing) = source.language.missing() {
            outcome.skipped += 1;
            outcome.notes.push(format!("{}: {missing}", source.folder));
            continue;
        }
        source.build(workspace)?;
        let Some(mut tests) = source.tests(workspace)? else { continue };
        if source.language == Language::JavaScript {
            outcome.include(counted(&mut tests)?);
        } else {
            // The output of Python's runner has no counts that can be distinguished from a program's own output.
            process::run(&mut tests)?;
            outcome.passed += 1;
        }
    }
    Ok(outcome)
}

/// Variable that has debug builds of the server record what they answer and send.
const RECORD: &str = "RECORD_CONTRACT";

fn rust(workspace: &Workspace) -> Result<Outcome> {
    // The first of the two steps that are recorded.
    let record = record_folder(workspace);
    if record.exists() {
        fs::remove_dir_all(&record)?;
    }
    counted(workspace.cargo(["test", "--workspace", "--no-fail-fast"]).env(RECORD, record))
}

fn record_folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("contract-record")
}

/// Compares what the steps `rust` and `node` have recorded with the contract.
fn record(workspace: &Workspace) -> Result<Outcome> {
    if let Some(missing) = docs::missing_node() {
        return Ok(Outcome::skip(missing));
    }
    let folder = workspace.root.join("host/tests/contract");
    let mut outcome = counted(node_runner(workspace, &folder).arg("check.test.mjs"))?;
    let record = record_folder(workspace);
    if !record.exists() {
        outcome.notes.push("nothing is recorded: run the steps rust and node first".into());
        return Ok(outcome);
    }
    process::run(Command::new("node").arg("check.mjs").arg(record).current_dir(&folder))?;
    outcome.passed += 1;
    Ok(outcome)
}

fn outside(workspace: &Workspace) -> Result<Outcome> {
    if let Some(missing) = docs::missing_node().or_else(|| Language::Python.missing()) {
        return Ok(Outcome::skip(missing));
    }
    let folder = workspace.root.join("host/tests/contract");
    let tools = python_tools(workspace, "schemathesis", &[folder.join("requirements.txt")])?;
    let mut tests = node_runner(workspace, &folder);
    counted(tests.arg("outside.test.mjs").env("SCHEMATHESIS", tools.join("bin/schemathesis")))
}

fn dist(workspace: &Workspace) -> Result<Outcome> {
    match docs::missing_node() {
        Some(missing) => Ok(Outcome::skip(missing)),
        None => dist::test(workspace),
    }
}

fn node(workspace: &Workspace) -> Result<Outcome> {
    if let Some(missing) = docs::missing_node() {
        return Ok(Outcome::skip(missing));
    }
    // The tests of the client helper talk to the server with the packages of the first folder; `npm ci` builds the
    // helper.
    let folders = ["host/tests/node", "clients/js"].map(|folder| workspace.root.join(folder));
    for folder in &folders {
        process::run(Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(folder))?;
    }
    // A change of the contract shows in the types.
    process::run(Command::new("npm").args(["run", "generate", "--", "--check"]).current_dir(&folders[1]))?;
    let mut outcome = Outcome::default();
    for folder in [folders[0].clone(), folders[1].join("test")] {
        outcome.include(node_tests(workspace, &folder)?);
    }
    Ok(outcome)
}

fn node_tests(workspace: &Workspace, folder: &Path) -> Result<Outcome> {
    let mut files: Vec<_> = folder
        .read_dir()?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.ends_with(".test.mjs"))
        .collect();
    files.sort();
    // Node 20 sometimes spins for ever while it closes the handles of a process whose tests have all ended.
    const FORCE_EXIT: &str = "--test-force-exit";
    let is_known =
        Command::new("node").args([FORCE_EXIT, "--version"]).output().is_ok_and(|done| done.status.success());
    let mut tests = node_runner(workspace, folder);
    // Two files at a time: most of their time is waiting for clients to reconnect.
    tests.arg("--test-concurrency=2").args(is_known.then_some(FORCE_EXIT)).args(files);
    counted(tests.env(RECORD, record_folder(workspace)))
}

/// Runner of Node.js tests in a folder, with the server that they talk to.
fn node_runner(workspace: &Workspace, folder: &Path) -> Command {
    let mut node = Command::new("node");
    node.args(["--test", "--test-reporter=spec"])
        .current_dir(folder)
        .env("LEADWIRE_TEST_BIN", workspace.target.join("debug/leadwire"))
        .env("LEADWIRE_TEST_PLUGINS", workspace.target.join("plugins"));
    node
}

/// Runs a test runner and counts its results; one that fails without naming a test counts as one failure.
fn counted(command: &mut Command) -> Result<Outcome> {
    let mut outcome = Outcome::default();
    let status = process::tee(command, |line| outcome.read(line))?;
    if !status.success() && outcome.failed == 0 {
        outcome.failed = 1;
        outcome.notes.push(format!("the test runner {}", process::ending(status)));
    }
    Ok(outcome)
}
