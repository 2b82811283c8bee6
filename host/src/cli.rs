//! Command line: one file per subcommand.
//!
//! stdout contains the result and nothing else. An error is one line on stderr and exit code 2. When the result itself
//! can be negative, exit code 1 says so.

mod backup;
mod config;
mod contract;
mod doctor;
mod erase;
mod exit;
mod explain;
mod migrate;
mod options;
mod plugin;
mod print;
mod restore;
mod runtime;
mod seed;
mod serve;
mod user;

use std::{io::Write, process::ExitCode};

use anyhow::Result;
use clap::{Parser, Subcommand};

use crate::{
    cli::{
        exit::{NegativeResult, ProblemsFound},
        options::Options,
    },
    domain::text::one_line,
};

/// A realtime CRM server, extended with WebAssembly plugins.
#[derive(Parser)]
#[command(name = "leadwire", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: CliCommand,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum CliCommand {
    /// Serve clients until stopped
    Serve(serve::Serve),
    /// Add, list and change accounts
    #[command(subcommand)]
    User(user::UserCommand),
    /// Fill an empty demo database with four users, 200 leads and 600 activities
    Seed(seed::Seed),
    /// Create the database's tables, or apply pending migrations; not beside a running server, which does this when it
    /// starts
    Migrate,
    /// Write everything that a server needs into one file, while it serves
    Backup(backup::Backup),
    /// Put a backup in place, while no server runs
    Restore(restore::Restore),
    /// Erase a person: leads, history, and what the log contains about them
    Erase(erase::Erase),
    /// Find problems, present and upcoming, and say what to do about them
    Doctor(doctor::Doctor),
    /// Write, build and manage plugins
    #[command(subcommand)]
    Plugin(plugin::PluginCommand),
    /// Explain who decided what about an event, and what a role or a user received
    Explain(explain::Explain),
    /// Check the configuration, or show the one in force
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the contract as data: every HTTP call, with its members and errors
    Contract(contract::Contract),
}

/// Parses the command line, runs the command and returns its exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<NegativeResult>() => ExitCode::from(1),
        Err(error) if error.is::<ProblemsFound>() => {
            ExitCode::from(error.downcast_ref().map_or(2, |ProblemsFound(code)| *code))
        }
        Err(error) => {
            // The chain of causes in one line; `{:?}` would add a backtrace.
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&line));
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        CliCommand::Serve(serve) => serve::run(serve, &cli.options),
        CliCommand::User(command) => user::run(command, &cli.options),
        CliCommand::Seed(seed) => seed::run(&seed, &cli.options),
        CliCommand::Migrate => migrate::run(&cli.options),
        CliCommand::Backup(backup) => backup::run(&backup, &cli.options),
        CliCommand::Restore(restore) => restore::run(&restore, &cli.options),
        CliCommand::Erase(erase) => erase::run(&erase, &cli.options),
        CliCommand::Doctor(doctor) => doctor::run(&doctor, &cli.options),
        CliCommand::Plugin(command) => plugin::run(command, &cli.options),
        CliCommand::Explain(explain) => explain::run(&explain, &cli.options),
        CliCommand::Config(command) => config::run(&command, &cli.options),
        CliCommand::Contract(contract) => contract::run(&contract),
    }
}
