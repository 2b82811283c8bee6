//! Bursts: 200 changes at once, beside single events.

use std::time::Instant;

use anyhow::Result;

use crate::{
    cases::{Bench, sockets::Sockets},
    load::clock::Sent,
    peers::{Kind, Launch},
    report::Report,
    stats::shown,
};

const CHANGES: usize = 200;
const BURSTS: usize = 3;

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let changes = if options.quick() { 20 } else { CHANGES };
    for size in options.sizes(&[1000], &[50]) {
        let clients = shown(size as f64, 0);
        for round in 1..=options.rounds() {
            for kind in options.kinds(bench.programs) {
                bench.say(&format!("burst to {clients}, round {round}: {}", kind.name()));
                let launch = Launch::of(kind).leads(changes);
                let mut sockets = Sockets::connect(bench, &launch, size, 64)?;
                let single = sockets.measure(if options.quick() { 10 } else { 100 })?;
                report.table("burst").add(&format!("single events to {clients}"), kind.name(), &single);
                // One write of many frames is no floor of a server that is sent many changes.
                if kind != Kind::Floor {
                    burst(bench, report, &mut sockets, changes)?;
                }
            }
        }
    }
    Ok(())
}

fn burst(bench: &Bench<'_>, report: &mut Report, sockets: &mut Sockets, changes: usize) -> Result<()> {
    let mut channels = vec![sockets.channel];
    while channels.len() < changes {
        channels.push(sockets.load.channel(sockets.peer.address)?);
    }
    sockets.load.restart();
    let (cpu, begun) = (sockets.peer.cpu()?, Instant::now());
    for _ in 0..if bench.options.quick() { 1 } else { BURSTS } {
        let requests: Vec<Vec<u8>> = (0..changes).map(|lead| sockets.peer.change(lead)).collect();
        let load = &mut sockets.load;
        let due = load.sink.deliveries + (changes * sockets.count) as u64;
        let answers = load.answers.count + changes as u64;
        let now = Instant::now();
        load.sink.sent = Sent::At(now);
        for (channel, request) in channels.iter().zip(&requests) {
            load.channels[*channel].send(request, now)?;
        }
        load.until("a burst at all sockets", |load| load.sink.deliveries >= due && load.answers.count >= answers)?;
    }
    let time = begun.elapsed();
    let cpu = sockets.peer.cpu()?.saturating_sub(cpu);
    sockets.load.check()?;
    let case = format!("{changes} changes to {}", shown(sockets.count as f64, 0));
    let figures = sockets.figures(cpu, time);
    report.table("burst").add(&case, sockets.peer.kind.name(), &figures);
    Ok(())
}
