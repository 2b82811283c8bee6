//! Fan-out: one event to all sockets, in a closed loop, with and without plugins.

use anyhow::Result;

use crate::{
    cases::{
        Bench,
        sockets::{Sockets, named},
    },
    peers::{Kind, Launch},
    report::{Report, metric::*},
};

const SIZES: [usize; 5] = [100, 1000, 2000, 5000, 10_000];
const PLUGINS: [usize; 3] = [0, 1, 5];
/// Deliveries of one peer in one round.
const DELIVERIES: usize = 100_000;
/// Least events of one peer in one round.
const EVENTS: usize = 20;

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let sizes = options.sizes(&SIZES, &[50]);
    let deliveries = if options.quick() { 500 } else { DELIVERIES };
    for size in sizes {
        for round in 1..=options.rounds() {
            for launch in launches(bench) {
                bench.say(&format!("fanout, {}, round {round}: {}", named(size), launch.label()));
                let mut sockets = Sockets::connect(bench, &launch, size, 64)?;
                let mut figures = sockets.measure((deliveries / size).max(EVENTS.min(deliveries / 50)) as u64)?;
                figures.extend([(MEMORY, sockets.kib), (CONNECT, sockets.connect_micros())]);
                report.table("fanout").add(&named(size), &launch.label(), &figures);
            }
        }
    }
    Ok(())
}

/// Peers in the order of a round: those of Leadwire with each number of plugins.
fn launches(bench: &Bench<'_>) -> Vec<Launch> {
    let plugins = bench.options.plugins(&PLUGINS);
    let mut launches = Vec::new();
    for kind in bench.options.kinds(bench.programs) {
        let plain = Launch::of(kind);
        if kind == Kind::Leadwire {
            launches.extend(plugins.iter().map(|count| plain.clone().plugins(*count)));
        } else {
            launches.push(plain);
        }
    }
    launches
}
