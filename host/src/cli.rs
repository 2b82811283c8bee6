//! The command line: one file a subcommand.
//!
//! stdout bears the result and nothing else. What fails is one line on stderr and exit code 2. Where the result itself
//! can be that something is not good, exit code 1 says so.

mod backup;
mod config;
mod doctor;
mod erase;
mod explain;
mod migrate;
mod plugin;
mod seed;
mod serve;
mod user;

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, Result};
use clap::{Args, Parser, Subcommand};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::{App, Cursors, SystemClock},
    auth::password::Passwords,
    config::{Config, DEFAULT_FILE, Flag, Mode},
    domain::text::one_line,
    plugin::{Limits, Plugins},
    store::Store,
};

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
    /// Serve clients until told to stop
    Serve(serve::Serve),
    /// Add, list and change accounts
    #[command(subcommand)]
    User(user::Command),
    /// Fill an empty database of the demo with four users, 200 leads and 600 activities to try things on
    Seed(seed::Seed),
    /// Make the database's tables, or bring them up to date; not beside a server, which does it when it starts
    Migrate,
    /// Write everything that a server needs into one file, while it serves
    Backup(backup::Backup),
    /// Put a backup in place, while no server runs
    Restore(backup::Restore),
    /// Erase a person: leads, history, and what the log says of them
    Erase(erase::Erase),
    /// Look for what is wrong, or soon will be, and say what to do
    Doctor(doctor::Doctor),
    /// Write, build and manage plugins
    #[command(subcommand)]
    Plugin(plugin::Command),
    /// Tell who decided what about an event, and what a role or a user got of it
    Explain(explain::Explain),
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

    /// The limits that a server started like this has for all plugins, and what says so.
    fn plugin_limits(&self) -> Result<(Limits, String)> {
        let limits = self.load()?.plugins.limits;
        let usual = Some(Path::new(DEFAULT_FILE)).filter(|file| file.is_file());
        let source = match self.file().or(usual) {
            Some(file) => file.display().to_string(),
            None if limits == Limits::default() => "the defaults".into(),
            None => "the environment".into(),
        };
        Ok((limits, source))
    }
}

/// Parses the command line, runs it and tells how it went.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is::<NotGood>() => ExitCode::from(1),
        Err(error) if error.is::<Unwell>() => ExitCode::from(error.downcast_ref().map_or(2, |Unwell(code)| *code)),
        Err(error) => {
            // The chain of causes in one line; `{:?}` would bring a backtrace along.
            let line = format!("{error:#}").replace('\n', " ");
            let _ = writeln!(std::io::stderr(), "error: {}", one_line(&line));
            ExitCode::from(2)
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    match cli.command {
        Command::Serve(serve) => serve::run(serve, &cli.options),
        Command::User(command) => user::run(command, &cli.options),
        Command::Seed(seed) => seed::run(&seed, &cli.options),
        Command::Migrate => migrate::run(&cli.options),
        Command::Backup(backup) => backup::run(&backup, &cli.options),
        Command::Restore(restore) => backup::restore(&restore, &cli.options),
        Command::Erase(erase) => erase::run(&erase, &cli.options),
        Command::Doctor(doctor) => doctor::run(&doctor, &cli.options),
        Command::Plugin(command) => plugin::run(command, &cli.options),
        Command::Explain(explain) => explain::run(&explain, &cli.options),
        Command::Config(command) => config::run(&command, &cli.options),
    }
}

/// The command did what it was asked to, and its result, which was told, is a bad one.
#[derive(Debug, thiserror::Error)]
#[error("the result is not good")]
struct NotGood;

/// An examination was made and told, and did not find everything well; the exit code tells how bad it is.
#[derive(Debug, thiserror::Error)]
#[error("not everything is well")]
struct Unwell(u8);

/// The core without plugins, for what is done beside a running server.
fn app(config: &Config, store: Arc<Store>, passwords: Passwords) -> App {
    // Nobody who runs a command walks through pages.
    let cursors = Cursors::new(&rand::random::<[u8; 32]>());
    App::new(store, Plugins::none(), config.visibility, passwords, cursors, Arc::new(SystemClock))
}

fn runtime() -> Result<Runtime> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let context = runtime.enter();
    // With a handler, a write past a limit on file sizes fails with an error; without one, it ends the process.
    // The handler stays when this is dropped.
    let too_long = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    drop(signal(too_long).context("cannot handle SIGXFSZ")?);
    drop(context);
    Ok(runtime)
}

/// Writes a result to stdout.
fn say(text: impl std::fmt::Display) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    // What others wrote may be in it: it must not command the terminal.
    let text = text.to_string();
    let lines: Vec<_> = text.split('\n').map(one_line).collect();
    writeln!(stdout, "{}", lines.join("\n")).and_then(|()| stdout.flush()).context("cannot write to stdout")
}
