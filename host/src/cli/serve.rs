//! `leadwire serve`: runs the server until it is told to stop.

use anyhow::{Context, Result};
use clap::Args;
use rustix::fs::Mode;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::info;

use super::{Options, runtime, say};
use crate::{config::Config, server::Server, telemetry};

#[derive(Args)]
pub(super) struct Serve {
    /// The address and port for clients; port 0 picks a free one [default: 127.0.0.1:3001]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Take the database as it is, whatever log the data directory belonged to: clients fetch everything again
    #[arg(long)]
    new_database: bool,
}

pub(super) fn run(serve: Serve, options: &Options) -> Result<()> {
    let mut config = options.load_with(serve.listen)?;
    config.new_database = serve.new_database;
    // What it writes is nobody else's to read, whoever makes the file.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    telemetry::start(&config.log.telemetry())?;
    let runtime = runtime()?;
    let served = runtime.block_on(until_told(config));
    // Whatever still runs on a blocking thread is not waited for.
    runtime.shutdown_background();
    served
}

async fn until_told(config: Config) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut server = select! {
        started = Server::start(config) => started?,
        name = signals.next() => {
            info!("stopping because of {name}, before the server was ready");
            return Ok(());
        }
    };
    if let Some(address) = server.metrics_address() {
        info!("metrics on http://{address}/metrics");
    }
    say(format_args!("leadwire listening on http://{}", server.address()))?;
    select! {
        ended = server.wait() => return ended,
        name = signals.next() => info!("stopping because of {name}; once more ends it at once"),
    }
    select! {
        ended = server.shutdown() => ended,
        name = signals.next() => {
            info!("ended at once because of {name}");
            Ok(())
        }
    }
}

/// Taken over before anything starts, so that no moment is left in which a signal would kill.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}
