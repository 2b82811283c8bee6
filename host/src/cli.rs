//! The command line: one file a subcommand.
//!
//! stdout bears the result and nothing else. What fails is one line on stderr and exit code 2.

mod config;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Flag, Mode};

/// A realtime CRM server, extended with WebAssembly plugins.
#[derive(Parser)]
#[command(name = "leadwire", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Check the configuration, or show what is in force
    #[command(subcommand)]
    Config(config::Command),
}

/// What every subcommand takes; it wins over the environment and the file.
#[derive(Args)]
struct Options {
    /// The configuration file [default: leadwire.toml, where there is one]
    #[arg(long, global = true, value_name = "FILE", env = "LEADWIRE_CONFIG")]
    config: Option<PathBuf>,
    /// The database: a file or its sqlite:// URL
    #[arg(long, global = true, value_name = "FILE")]
    database: Option<String>,
    /// Where the server keeps its secret and what it compiled
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<String>,
    /// The directory of plugins
    #[arg(long, global = true, value_name = "DIR")]
    plugins: Option<String>,
    /// Whose defaults hold: production, or the demo
    #[arg(long, global = true, value_enum)]
    mode: Option<Mode>,
}

impl Options {
    fn load(&self) -> Result<Config> {
        self.load_with(None)
    }

    fn load_with(&self, listen: Option<String>) -> Result<Config> {
        let mode = self.mode.map(|mode| match mode {
            Mode::Production => "production".to_owned(),
            Mode::Demo => "demo".to_owned(),
        });
        let given = [
            ("listen", "listen", listen),
            ("database", "database", self.database.clone()),
            ("data_dir", "data-dir", self.data_dir.clone()),
            ("plugins.dir", "plugins", self.plugins.clone()),
            ("mode", "mode", mode),
        ];
        let flags: Vec<Flag> = given.into_iter().filter_map(|(key, flag, text)| Some((key, flag, text?))).collect();
        Config::load(self.file(), &flags)
    }

    fn file(&self) -> Option<&Path> {
        self.config.as_deref()
    }
}

/// Parses the command line, runs it and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of causes in one line; `{:?}` would bring a backtrace along.
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "error: {line}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Config(command) => config::run(&command, &cli.options),
    }
}

/// Writes a result to stdout.
fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("cannot write to stdout")
}
