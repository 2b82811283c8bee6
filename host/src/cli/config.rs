//! `leadwire config check|show`: the configuration that results from the file, the environment and the flags.

use anyhow::Result;
use clap::Subcommand;

use crate::cli::{options::Options, print::say};

#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    /// Check whether the configuration is valid
    Check,
    /// Print the configuration in force, with secrets redacted
    Show,
}

pub(crate) fn run(command: &ConfigCommand, options: &Options) -> Result<()> {
    let config = options.load()?;
    match command {
        ConfigCommand::Check => say("the configuration is valid"),
        ConfigCommand::Show => say(config.show().trim_end()),
    }
}
