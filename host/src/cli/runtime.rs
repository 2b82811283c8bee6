//! Runtime and application of commands other than `serve`.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::{App, Cursors, SystemClock},
    auth::password::Passwords,
    config::Config,
    plugin::Plugins,
    store::Store,
};

/// Application without plugins, for commands that run beside a server.
pub(crate) fn app(config: &Config, store: Arc<Store>, passwords: Passwords) -> App {
    // A command does not page through lists, so a random key is enough.
    let cursors = Cursors::new(&rand::random::<[u8; 32]>());
    App::new(store, Plugins::none(), config.visibility, passwords, cursors, Arc::new(SystemClock))
}

pub(crate) fn runtime() -> Result<Runtime> {
    let runtime = Runtime::new().context("cannot start the runtime")?;
    let context = runtime.enter();
    // With a handler, a write beyond the file size limit fails with an error; without one, it ends the process. The
    // handler stays installed when this is dropped.
    let too_long = SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw());
    drop(signal(too_long).context("cannot handle SIGXFSZ")?);
    drop(context);
    Ok(runtime)
}
