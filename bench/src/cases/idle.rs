//! Idle sockets: their memory, and the CPU that heartbeats take.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    cases::{
        Bench,
        sockets::{Sockets, named},
    },
    peers::Launch,
    report::{Report, metric::*},
};

/// One and a bit of the interval of heartbeats.
const TIME: Duration = Duration::from_secs(30);

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let time = if options.quick() { Duration::from_secs(1) } else { TIME };
    for size in options.sizes(&[10_000], &[50]) {
        for round in 1..=options.rounds() {
            for kind in options.kinds(bench.programs) {
                bench.say(&format!("idle, {}, round {round}: {}", named(size), kind.name()));
                let mut sockets = Sockets::connect(bench, &Launch::of(kind), size, 64)?;
                let (cpu, begun) = (sockets.peer.cpu()?, Instant::now());
                sockets.load.idle(time)?;
                let cpu = sockets.peer.cpu()?.saturating_sub(cpu);
                let share = cpu.as_secs_f64() / begun.elapsed().as_secs_f64();
                let figures = [(MEMORY, sockets.kib), (CORE, share * 100.0)];
                report.table("idle").add(&named(size), kind.name(), &figures);
            }
        }
    }
    Ok(())
}
