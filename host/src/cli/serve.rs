//! `leadwire serve`: runs the server until it is stopped.

use anyhow::{Context, Result};
use clap::Args;
use rustix::fs::Mode;
use tokio::{
    select,
    signal::unix::{Signal, SignalKind, signal},
};
use tracing::info;

use crate::{
    cli::{options::Options, print::say, runtime::runtime},
    config::Config,
    server::Server,
    telemetry,
};

#[derive(Args)]
pub(crate) struct Serve {
    /// Address and port for clients; port 0 picks a free one [default: 127.0.0.1:3001]
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Accept the database as it is, whatever log the data directory belonged to: clients fetch everything again
    #[arg(long)]
    new_database: bool,
}

pub(crate) fn run(serve: Serve, options: &Options) -> Result<()> {
    let mut config = options.load_with(serve.listen)?;
    config.new_database = serve.new_database;
    // Files that it writes are not readable for others, whoever creates them.
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    telemetry::start(&config.log.telemetry())?;
    let runtime = runtime()?;
    let served = runtime.block_on(until_stopped(config));
    // Work that still runs on blocking threads is not awaited.
    runtime.shutdown_background();
    served
}

async fn until_stopped(config: Config) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut server = select! {
        started = Server::start(config) => started?,
        name = signals.next() => {
            info!("received {name} before the server was ready, stopping");
            return Ok(());
        }
    };
    if let Some(address) = server.metrics_address() {
        info!("metrics on http://{address}/metrics");
    }
    say(format_args!("leadwire listening on http://{}", server.address()))?;
    select! {
        ended = server.wait() => return ended,
        name = signals.next() => info!("received {name}, shutting down; send it again to stop now"),
    }
    select! {
        ended = server.shutdown() => ended,
        name = signals.next() => {
            info!("received {name} again, stopped immediately");
            Ok(())
        }
    }
}

/// Signal handlers, installed before anything starts, so that there is no moment in which a signal would kill the
/// process.
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
