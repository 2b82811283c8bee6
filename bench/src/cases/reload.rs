//! Reloads under load: a plugin is replaced again and again while events are sent on a schedule.
//!
//! The plugin has no `filter` and no `enrich`: a new one of those makes every client fetch again, which is another cost.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use crate::{
    cases::{Bench, sockets::Sockets, steady::open_loop},
    peers::{Installed, Launch, leadwire::Swapper},
    report::{Report, metric::*},
    stats::{quantile_ms, shown},
};

const PER_SECOND: u32 = 100;
const SECONDS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(500);

/// Plugin with hooks that decide about commands.
static GUARD: [Installed; 1] = [Installed { name: "bench-guard", settings: "" }];

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let seconds = if options.quick() { 1 } else { SECONDS };
    for size in options.sizes(&[200], &[20]) {
        for round in 1..=options.rounds() {
            for kind in options.leadwires(bench.programs) {
                for reloads in [false, true] {
                    let what = if reloads { "a reload every 0.5 s" } else { "no reloads" };
                    let case = format!("{PER_SECOND}/s to {}, {what}", shown(size as f64, 0));
                    bench.say(&format!("reload, {case}, round {round}: {}", kind.name()));
                    let launch = Launch { plugins: &GUARD, ..Launch::of(kind) };
                    let mut sockets = Sockets::connect(bench, &launch, size, 64)?;
                    sockets.closed_loop(20)?;
                    sockets.load.restart();
                    let swaps = reloads.then(|| swapping(&sockets)).transpose()?;
                    let (cpu, begun) = (sockets.peer.cpu()?, Instant::now());
                    let looped = open_loop(&mut sockets, PER_SECOND, PER_SECOND * seconds);
                    let time = begun.elapsed();
                    if let Some((stop, thread)) = swaps {
                        stop.store(true, Relaxed);
                        thread.join().ok().context("the swaps panicked")??;
                    }
                    looped?;
                    let cpu = sockets.peer.cpu()?.saturating_sub(cpu);
                    let mut figures = sockets.figures(cpu, time);
                    figures.push((MAX, quantile_ms(&sockets.load.sink.latency, 1.0)));
                    report.table("reload").add(&case, kind.name(), &figures);
                }
            }
        }
    }
    Ok(())
}

type Swaps = (Arc<AtomicBool>, thread::JoinHandle<Result<()>>);

/// Replaces the plugin until it is told to stop.
fn swapping(sockets: &Sockets) -> Result<Swaps> {
    let mut swapper = Swapper::new(sockets.peer.server.home.path(), &GUARD[0])?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let swap = move || {
        while !told.load(Relaxed) {
            swapper.swap()?;
            thread::sleep(PAUSE);
        }
        Ok(())
    };
    Ok((stop, thread::spawn(swap)))
}
