//! `leadwire migrate`: makes the database's tables, or brings them up to date.

use anyhow::Result;

use super::{Options, runtime, say};
use crate::store::Store;

pub(super) fn run(options: &Options) -> Result<()> {
    let config = options.load()?;
    runtime()?.block_on(async {
        // Opening is migrating: a server does the same when it starts.
        Store::open(&config.database_url()?).await?.close().await;
        say(format_args!("{} is up to date", config.database_file()?.display()))
    })
}
