//! Steady load: events on a fixed schedule, in an open loop. Latency counts from when an event was due.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    cases::{Bench, sockets::Sockets},
    load::clock::{Schedule, Sent},
    peers::Launch,
    report::{Report, metric::*},
    stats::{quantile_ms, shown},
};

const PER_SECOND: u32 = 200;
const SECONDS: u32 = 10;
/// The kernel's timer of a poll counts milliseconds: the last one is waited for awake.
const AWAKE: Duration = Duration::from_millis(2);

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let seconds = if options.quick() { 1 } else { SECONDS };
    for size in options.sizes(&[500], &[20]) {
        let case = format!("{PER_SECOND}/s to {}", shown(size as f64, 0));
        for round in 1..=options.rounds() {
            for kind in options.kinds(bench.programs) {
                bench.say(&format!("steady, {case}, round {round}: {}", kind.name()));
                let mut sockets = Sockets::connect(bench, &Launch::of(kind), size, 64)?;
                sockets.closed_loop(20)?;
                sockets.load.restart();
                let (cpu, begun) = (sockets.peer.cpu()?, Instant::now());
                open_loop(&mut sockets, PER_SECOND, PER_SECOND * seconds)?;
                let time = begun.elapsed();
                let cpu = sockets.peer.cpu()?.saturating_sub(cpu);
                let mut figures = sockets.figures(cpu, time);
                figures.push((MAX, quantile_ms(&sockets.load.sink.latency, 1.0)));
                report.table("steady").add(&case, kind.name(), &figures);
            }
        }
    }
    Ok(())
}

/// Sends `events` on schedule and waits until all are everywhere.
pub fn open_loop(sockets: &mut Sockets, per_second: u32, events: u32) -> Result<()> {
    let load = &mut sockets.load;
    let (due, answers) =
        (load.sink.deliveries + u64::from(events) * sockets.count as u64, load.answers.count + u64::from(events));
    let mut schedule = Schedule::new(Instant::now(), per_second);
    load.sink.sent = Sent::From { base: load.sink.newest + 1, times: Vec::new() };
    let mut sent = 0;
    while sent < events {
        while let Some(time) = schedule.due(Instant::now()).filter(|_| sent < events) {
            if let Sent::From { times, .. } = &mut load.sink.sent {
                times.push(time);
            }
            // The requests of one connection are handled in order, so that the seq tells which one an event is of.
            load.channels[sockets.channel].send(&sockets.peer.change(0), time)?;
            sent += 1;
        }
        let left = schedule.next_time().saturating_duration_since(Instant::now());
        load.turn(Some(left.saturating_sub(AWAKE)))?;
    }
    load.until("all events at all sockets", |load| load.sink.deliveries >= due && load.answers.count >= answers)?;
    load.check()
}
