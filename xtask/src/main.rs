//! `cargo xtask`: all commands for people who work on Leadwire or try it.
//!
//! Each command prints what it is doing, and stops everything that it started on Ctrl-C. Functions that a server or a
//! plugin author needs too are in the `leadwire` binary; this only calls it.
#![expect(clippy::print_stdout, reason = "talking to a person is what this program is for")]
#![expect(unreachable_pub, reason = "a program has no outside")]

mod bench;
mod client_files;
mod contract;
mod debian_rust;
mod dist;
mod docs;
mod generated;
mod languages;
mod process;
mod report;
mod run;
mod test;
mod workspace;

use std::process::ExitCode;

use workspace::Workspace;

const USAGE: &str = "\
usage: cargo xtask <command>

  run [--release] [-- FLAGS]
                    build everything, seed a database if there is none, and serve the demo;
                    FLAGS go to `leadwire serve`. --release takes longer to build and serves faster
  test [STEP...]    run all checks and tests, or only the named steps
  plugins           build the sample plugins into target/plugins
  dist              make a release archive in target/dist, with install.sh, licences and checksums
  bench [CASE...] [--before REV] [--rounds N] [--peers P,...] [--sockets N,...] [--plugins N,...]
        [--leads N,...] [--json FILE] [--gate] [--quick] [--debug]
                    measure the server beside a floor, a reference server in Node.js and, with --before, the server of
                    another commit; print tables and budgets, and write target/bench/<date>.json. Fails if an event is
                    lost or doubled, or a gate of the hooks is missed; with --gate, if any budget is exceeded.
                    --quick is a small run; --debug is one in a debug build, for those who work on the bench itself
  docs              write docs/openapi.json, docs/asyncapi.json and the generated types of clients/js
  contract [rules | release]
                    compare docs/openapi.json and docs/asyncapi.json with the last released ones in docs/contract;
                    fails on a change that breaks clients. `rules` lists such changes with examples;
                    `release` copies the documents to docs/contract/<version>";

fn main() -> ExitCode {
    process::stop_children_on_signals();
    match command() {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> anyhow::Result<ExitCode> {
    let mut args = std::env::args().skip(1);
    let command = args.next();
    let args: Vec<String> = args.collect();
    match command.as_deref() {
        Some("run") => run::run(&Workspace::find()?, &args),
        Some("test") => test::run(&Workspace::find()?, &args),
        Some("dist") => {
            let archive = dist::run(&Workspace::find()?, workspace::Profile::Release)?;
            println!("{}", archive.display());
            Ok(ExitCode::SUCCESS)
        }
        Some("plugins") => {
            Workspace::find()?.build_plugins(workspace::Profile::Dev)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("bench") => bench::run(&Workspace::find()?, &args),
        Some("docs") => {
            generated::write(&Workspace::find()?)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("contract") => contract::run(&Workspace::find()?, &args),
        Some("help" | "--help" | "-h") => {
            println!("{USAGE}");
            Ok(ExitCode::SUCCESS)
        }
        _ => {
            eprintln!("{USAGE}");
            Ok(ExitCode::from(2))
        }
    }
}
