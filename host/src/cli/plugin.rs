//! `leadwire plugin …`: for those who write plugins and those who run them.

mod build;
mod toolchain;

use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Compile plugins to components that `leadwire serve` loads
    Build(build::Build),
}

pub(super) fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Build(build) => build::run(&build),
    }
}
