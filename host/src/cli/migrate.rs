//! `leadwire migrate`: makes the database's tables, or brings them up to date. Not beside a server: it has done that.

use anyhow::Result;

use super::{Options, runtime, say};
use crate::server::claim;

pub(super) fn run(options: &Options) -> Result<()> {
    let config = options.load()?;
    runtime()?.block_on(async {
        // Opening is migrating: a server does the same when it starts.
        claim::open_for_command_alone(&config, "migrate").await?.close().await;
        say(format_args!("{} is up to date", config.database_file()?.display()))
    })
}
