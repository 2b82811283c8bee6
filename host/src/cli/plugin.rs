//! `leadwire plugin …`: commands for authors of plugins and for operators.

mod bench;
mod build;
mod check;
mod component;
mod confirm;
mod list;
mod manage;
mod new;
mod replay;
mod test;
mod toolchain;
mod watch;

use anyhow::Result;
use clap::Subcommand;

use crate::cli::options::Options;

#[derive(Subcommand)]
pub(crate) enum PluginCommand {
    /// Create a plugin: a folder that builds and passes its own test
    New(new::NewArgs),
    /// Compile plugins to components that `leadwire serve` loads
    Build(build::BuildArgs),
    /// Check that a server can rely on a component
    Check(check::CheckArgs),
    /// Run a plugin's own tests, then its cases against the component
    Test(test::Test),
    /// Measure the cost of a call of each hook
    Bench(bench::Bench),
    /// Build, check and install a plugin on each save
    Watch(watch::WatchArgs),
    /// List the plugin folder, and the state that a running server reports
    List(list::ListArgs),
    /// Show what a plugin would have changed in the recorded events of the log
    Replay(replay::ReplayArgs),
    /// Enable a plugin
    Enable(manage::PluginArg),
    /// Disable a plugin, but keep its files
    Disable(manage::PluginArg),
    /// Delete a plugin's files, and release what it held back
    Remove(manage::PluginArg),
    /// Put the version held by the gate into force
    Promote(manage::Promote),
    /// Discard the version held by the gate, until the files change again
    Drop(manage::PluginArg),
    /// Return to the previous generation; a second rollback returns to the later one
    Rollback(manage::Rollback),
}

pub(crate) fn run(command: PluginCommand, options: &Options) -> Result<()> {
    match command {
        PluginCommand::New(new) => new::run(&new),
        PluginCommand::Build(build) => build::run(&build),
        PluginCommand::Check(check) => check::run(&check, options),
        PluginCommand::Test(test) => test::run(&test, options),
        PluginCommand::Bench(bench) => bench::run(&bench, options),
        PluginCommand::Watch(watch) => watch::run(&watch, options),
        PluginCommand::List(list) => list::run(&list, options),
        PluginCommand::Replay(replay) => replay::run(&replay, options),
        PluginCommand::Enable(named) => manage::enable(&named, options),
        PluginCommand::Disable(named) => manage::disable(&named, options),
        PluginCommand::Remove(named) => manage::remove(&named, options),
        PluginCommand::Promote(promote) => manage::promote(promote, options),
        PluginCommand::Drop(named) => manage::drop_held(&named, options),
        PluginCommand::Rollback(rollback) => manage::roll_back(rollback, options),
    }
}
