//! `leadwire migrate`: creates the database's tables, or applies pending migrations.
//!
//! It refuses to run beside a server, because the server has applied them when it started.

use anyhow::Result;

use crate::{
    cli::{options::Options, print::say, runtime::runtime},
    server::claim,
};

pub(crate) fn run(options: &Options) -> Result<()> {
    let config = options.load()?;
    runtime()?.block_on(async {
        // Opening the database migrates it; a server does the same when it starts.
        claim::open_for_command_alone(&config, "migrate").await?.close().await;
        say(format_args!("{} is up to date", config.database_file()?.display()))
    })
}
