//! Replay: sockets that resume and are sent what they missed.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::{
    cases::{Bench, sockets::Sockets},
    peers::Launch,
    report::{Report, metric::*},
    stats::{micros_each, rate, shown},
};

const EVENTS: u64 = 10_000;
const SOCKETS: usize = 100;
/// Connections that make the events.
const WRITERS: usize = 32;

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let (events, size) = if bench.options.quick() { (100, 5) } else { (EVENTS, SOCKETS) };
    let case = format!("{} events to {size}", shown(events as f64, 0));
    for round in 1..=bench.options.rounds() {
        for kind in bench.options.leadwires(bench.programs) {
            bench.say(&format!("replay, {case}, round {round}: {}", kind.name()));
            let mut sockets = Sockets::connect(bench, &Launch::of(kind).leads(WRITERS), 1, 1)?;
            let (since, epoch) = position(&sockets)?;
            let Sockets { load, peer, .. } = &mut sockets;
            let channels = (0..WRITERS).map(|_| load.channel(peer.address)).collect::<Result<Vec<_>>>()?;
            load.requests(&channels, events, |number| peer.change(number as usize % WRITERS))?;
            load.until("events at the first socket", |load| load.sink.deliveries >= events)?;

            load.restart();
            let (cpu, begun) = (peer.cpu()?, Instant::now());
            let auth = |socket: usize| {
                let token = &peer.readers[socket % peer.readers.len()];
                json!({"token": token, "since": since, "epoch": epoch}).to_string()
            };
            load.connect(peer.address, size, size, auth)?;
            load.until("the replay", |load| load.sink.replies >= size as u64)?;
            let time = begun.elapsed();
            let cpu = peer.cpu()?.saturating_sub(cpu);
            load.check()?;
            let (due, came) = (events * size as u64, load.sink.deliveries);
            ensure!(came == due, "{came} of {due} events were replayed");
            let figures = [
                (CPU, micros_each(cpu, due)),
                (RATE, rate(due, time)),
                (LOAD, micros_each(load.cpu(), due)),
                (TIME, time.as_secs_f64() * 1e3),
            ];
            report.table("replay").add(&case, kind.name(), &figures);
        }
    }
    Ok(())
}

/// Seq and epoch of the log when the first socket connected.
fn position(sockets: &Sockets) -> Result<(u64, String)> {
    let greeting = sockets.load.sink.greeting.as_deref().context("a socket was greeted")?;
    let greeting: Value = serde_json::from_slice(greeting.get(2..).context("a packet")?)?;
    let seq = greeting[1]["seq"].as_u64().context("a greeting has a seq")?;
    Ok((seq, greeting[1]["epoch"].as_str().context("a greeting has an epoch")?.to_owned()))
}
