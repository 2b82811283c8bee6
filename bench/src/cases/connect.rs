//! Connect storm: many clients that connect as fast as they are greeted.

use anyhow::Result;

use crate::{
    cases::{
        Bench,
        sockets::{Sockets, named},
    },
    peers::Launch,
    report::{Report, metric::*},
    stats::rate,
};

/// Clients that wait for their greeting at the same time.
const WINDOW: usize = 500;

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    for size in options.sizes(&[2000], &[50]) {
        for round in 1..=options.rounds() {
            for kind in options.kinds(bench.programs) {
                bench.say(&format!("connect, {}, round {round}: {}", named(size), kind.name()));
                let sockets = Sockets::connect(bench, &Launch::of(kind), size, WINDOW)?;
                let figures = [
                    (CONNECT, sockets.connect_micros()),
                    (CONNECTS, rate(size as u64, sockets.connect_time)),
                    (MEMORY, sockets.kib),
                ];
                report.table("connect").add(&named(size), kind.name(), &figures);
            }
        }
    }
    Ok(())
}
