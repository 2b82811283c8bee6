//! Fan-out on several cores: a server with one, two and four workers.

use anyhow::Result;

use crate::{
    cases::{
        Bench,
        sockets::{Sockets, named},
    },
    machine,
    peers::Launch,
    report::{Report, metric::*},
};

const WORKERS: [usize; 3] = [1, 2, 4];

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let cores = machine::cores_online();
    if WORKERS.iter().any(|workers| *workers >= cores) {
        report.note(format!("cores: {cores} cores are too few for 4 workers and the load: they share"));
    }
    let events = if options.quick() { 10 } else { 50 };
    for size in options.sizes(&[2000], &[50]) {
        for round in 1..=options.rounds() {
            for kind in options.leadwires(bench.programs) {
                for workers in WORKERS {
                    let launch = Launch { cores: workers, workers: Some(workers), ..Launch::of(kind) };
                    bench.say(&format!("cores, {}, round {round}: {}", named(size), launch.label()));
                    let mut sockets = Sockets::connect(bench, &launch, size, 64)?;
                    let mut figures = sockets.measure(events)?;
                    figures.push((CONNECT, sockets.connect_micros()));
                    report.table("cores").add(&named(size), &launch.label(), &figures);
                }
            }
        }
    }
    Ok(())
}
