//! Fan-out to clients that poll.

use anyhow::Result;

use crate::{
    cases::{
        Bench,
        sockets::{Sockets, Transport, named},
    },
    peers::Launch,
    report::{Report, metric::*},
};

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let events = if options.quick() { 5 } else { 40 };
    for size in options.sizes(&[1000], &[20]) {
        for round in 1..=options.rounds() {
            for kind in options.servers(bench.programs) {
                bench.say(&format!("polling, {}, round {round}: {}", named(size), kind.name()));
                let mut sockets = Sockets::open(bench, &Launch::of(kind), size, 64, Transport::Polling)?;
                let mut figures = sockets.measure(events)?;
                figures.extend([(MEMORY, sockets.kib), (CONNECT, sockets.connect_micros())]);
                report.table("polling").add(&named(size), kind.name(), &figures);
            }
        }
    }
    Ok(())
}
