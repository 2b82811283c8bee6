//! `leadwire config check|show`: what the file, the environment and the flags come to.

use anyhow::Result;
use clap::Subcommand;

use super::{Options, say};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Say whether the configuration can be used
    Check,
    /// Print the configuration in force, secrets redacted
    Show,
}

pub(super) fn run(command: &Command, options: &Options) -> Result<()> {
    let config = options.load()?;
    match command {
        Command::Check => say("the configuration is valid"),
        Command::Show => say(config.show().trim_end()),
    }
}
