//! `cargo xtask`: everything a person types to work on Leadwire or to try it.
//!
//! Each command says what it is doing and stops all that it started on Ctrl-C. What a server or a plugin author
//! needs as well lives in the `leadwire` binary; this only calls it.
#![allow(clippy::print_stdout, reason = "talking to a person is what this program is for")]
#![allow(unreachable_pub, reason = "a program has no outside")]

mod bench;
mod docs;
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

  run [-- FLAGS]    build everything, seed a database if there is none, and serve the demo;
                    FLAGS go to `leadwire serve`
  test [STEP...]    run all checks and tests, or only the named steps
  plugins           build the sample plugins into target/plugins
  bench [--debug]   measure what plugins cost, in a release build; says whether the gate holds.
                    With --debug, in a debug build: for those who work on the bench itself";

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
    let mut args: Vec<String> = args.collect();
    match command.as_deref() {
        Some("run") => {
            if args.first().is_some_and(|arg| arg == "--") {
                args.remove(0);
            }
            run::run(&Workspace::find()?, &args)
        }
        Some("test") => test::run(&Workspace::find()?, &args),
        Some("plugins") => {
            Workspace::find()?.build_plugins(workspace::Profile::Dev)?;
            Ok(ExitCode::SUCCESS)
        }
        Some("bench") => match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            [] => bench::run(&Workspace::find()?, workspace::Profile::Release),
            ["--debug"] => bench::run(&Workspace::find()?, workspace::Profile::Dev),
            _ => anyhow::bail!("bench takes no argument but --debug"),
        },
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
