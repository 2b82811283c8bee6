//! Benchmarks of Leadwire, each beside what it is compared with; see README.md.
//!
//! `cargo xtask bench` builds the servers, the plugins and this program, and runs it.

#![expect(clippy::print_stdout, reason = "figures are what this program is for")]
#![expect(unreachable_pub, reason = "a program has no public API")]

mod cases;
mod hooks;
mod load;
mod machine;
mod options;
mod peers;
mod report;
mod stats;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde_json::{Value, json};

use crate::{
    cases::{Bench, CASES, HOOKS},
    options::Options,
    peers::{Events, Programs, floor},
    report::Report,
};

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the cases; returns true if the gates hold.
fn run(options: &Options) -> Result<bool> {
    machine::raise_files()?;
    if let Some(events) = &options.floor {
        floor::serve(events)?;
        return Ok(true);
    }
    if let Some(unknown) = options.unknown_case(&names()) {
        bail!("there is no case {unknown:?}: expected one of {}", names().join(", "));
    }
    if let Some(unknown) = options.unknown_peer() {
        bail!("there is no peer {unknown:?}: expected floor, node, leadwire or before");
    }
    let programs = programs(options)?;
    let mut holds = true;
    if options.runs(HOOKS) {
        holds = hooks::run(&programs.plugins)?;
    }
    if CASES.iter().any(|case| options.runs(case.name)) {
        holds &= servers(options, &programs)?;
    }
    Ok(holds)
}

fn names() -> Vec<&'static str> {
    CASES.iter().map(|case| case.name).chain([HOOKS]).collect()
}

/// Runs the cases about servers. A budget that is exceeded fails the run only with `--gate`.
fn servers(options: &Options, programs: &Programs) -> Result<bool> {
    let started = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
    let head = json!({"started": started, "machine": machine::describe(), "versions": versions(options)});
    println!("{} {}", head["machine"], head["versions"]);
    machine::pin_load(true)?;
    Events::record(programs)?;
    let (mut report, bench) = (Report::default(), Bench { options, programs });
    let measured = cases(&bench, &mut report);
    machine::pin_load(false)?;
    report.compare_load();
    let holds = report.print_end(!options.quick());
    let usual = || options.out.join(format!("{}.json", started.replace(':', "")));
    let file = options.json.clone().unwrap_or_else(usual);
    report.write(&file, head)?;
    println!("\nfigures: {}", file.display());
    measured?;
    Ok(holds || !options.gate)
}

fn cases(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    for case in CASES.iter().filter(|case| bench.options.runs(case.name)) {
        println!("\n{}: {}", case.name, case.about);
        let done = (case.run)(bench, report);
        report.print_table(case.name);
        done.with_context(|| format!("{} failed", case.name))?;
    }
    Ok(())
}

fn programs(options: &Options) -> Result<Programs> {
    let whole = |path: &Path| path.canonicalize().with_context(|| format!("{} is missing", path.display()));
    let given = |path: &Option<PathBuf>, name: &str| {
        whole(path.as_deref().with_context(|| format!("--{name} is required: `cargo xtask bench` gives it"))?)
    };
    std::fs::create_dir_all(&options.out)?;
    let out = whole(&options.out)?;
    Ok(Programs {
        leadwire: given(&options.leadwire, "leadwire")?,
        before: options.before.as_deref().map(whole).transpose()?,
        node: options.node.as_deref().map(whole).transpose()?,
        plugins: given(&options.plugin_dir, "plugin-dir")?,
        scratch: out.join("scratch"),
        events: out.join("events.json"),
    })
}

fn versions(options: &Options) -> Value {
    let package = options.node.as_ref().and_then(|folder| {
        let text = std::fs::read_to_string(folder.join("node_modules/socket.io/package.json")).ok()?;
        Some(serde_json::from_str::<Value>(&text).ok()?["version"].clone())
    });
    json!({
        "leadwire": options.rev,
        "before": options.before_rev,
        "node": machine::version("node", "--version"),
        "socket.io": package,
        "rustc": machine::version("rustc", "--version"),
    })
}
