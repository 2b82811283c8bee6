//! Benchmarks of Leadwire, each beside what it is compared with; see README.md.
//!
//! `leadwire-bench FOLDER` takes the folder with the built plugins of `guests/`; `cargo xtask bench` creates it.

#![expect(clippy::print_stdout, reason = "figures are what this program is for")]
#![expect(unreachable_pub, reason = "a program has no public API")]

mod calls;
mod measure;
mod native;
mod report;
mod swaps;

use std::{env, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs the benchmarks; true if the gate holds.
fn run() -> Result<bool> {
    let folder: PathBuf = env::args_os().nth(1).context("which folder holds the built plugins?")?.into();
    report::machine();
    let gate = calls::run(&folder)?;
    swaps::run(&folder)?;
    println!();
    gate.lines().iter().for_each(|line| println!("{line}"));
    Ok(gate.holds())
}
