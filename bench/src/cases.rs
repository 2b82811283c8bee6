//! The cases of the bench. Each one measures its peers in turn, round after round, and adds to the report.

mod burst;
mod cold;
mod connect;
mod cores;
mod fanout;
mod idle;
mod lists;
mod memory;
mod polling;
mod reload;
mod replay;
mod rooms;
mod slow;
mod sockets;
mod steady;
mod writes;

use anyhow::Result;

use crate::{options::Options, peers::Programs, report::Report};

/// Options of a run, and the programs that it starts.
pub struct Bench<'a> {
    pub options: &'a Options,
    pub programs: &'a Programs,
}

impl Bench<'_> {
    /// Progress, for whoever watches.
    pub fn say(&self, step: &str) {
        eprintln!("  {step}");
    }
}

/// Case of the bench.
pub struct Case {
    pub name: &'static str,
    pub about: &'static str,
    pub run: fn(&Bench<'_>, &mut Report) -> Result<()>,
}

pub const CASES: [Case; 15] = [
    Case { name: "fanout", about: "one event at a time to all sockets", run: fanout::run },
    Case { name: "burst", about: "200 changes at once", run: burst::run },
    Case { name: "steady", about: "200 events a second on a fixed schedule", run: steady::run },
    Case { name: "slow", about: "sockets beside ones that do not read", run: slow::run },
    Case { name: "rooms", about: "activities of many leads, a few viewers each", run: rooms::run },
    Case { name: "polling", about: "one event at a time to clients that poll", run: polling::run },
    Case { name: "connect", about: "a storm of connects", run: connect::run },
    Case { name: "idle", about: "memory and CPU of idle sockets", run: idle::run },
    Case { name: "replay", about: "sockets that resume", run: replay::run },
    Case { name: "writes", about: "commands over HTTP", run: writes::run },
    Case { name: "lists", about: "sorts, filters, pages and search", run: lists::run },
    Case { name: "reload", about: "plugins that are replaced under load", run: reload::run },
    Case { name: "memory", about: "memory with large plugins, and after reloads", run: memory::run },
    Case { name: "cold", about: "start of a server with data and plugins", run: cold::run },
    Case { name: "cores", about: "fan-out with several workers", run: cores::run },
];

/// Case about plugins alone, which needs no server.
pub const HOOKS: &str = "hooks";
