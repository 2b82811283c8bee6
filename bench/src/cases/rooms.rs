//! Many rooms: sockets that follow some leads each, and activities that only the viewers of a lead get.

use std::time::Instant;

use anyhow::Result;

use crate::{
    cases::{Bench, sockets::Sockets},
    load::clock::Sent,
    peers::Launch,
    report::{Report, metric::*},
    stats::{micros_each, quantile_ms, rate, shown},
};

const LEADS: usize = 5000;
const VIEWERS: usize = 3;
const SOCKETS: usize = 1000;
const EVENTS: u64 = 2000;

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let quick = bench.options.quick();
    let (leads, size, events) = if quick { (40, 20, 20) } else { (LEADS, SOCKETS, EVENTS) };
    let case = format!("{} leads, {VIEWERS} viewers each", shown(leads as f64, 0));
    for round in 1..=bench.options.rounds() {
        for kind in bench.options.servers(bench.programs) {
            bench.say(&format!("rooms, {case}, round {round}: {}", kind.name()));
            let mut sockets = Sockets::connect(bench, &Launch::of(kind).leads(leads), size, 64)?;
            subscribe(&mut sockets)?;
            let load = &mut sockets.load;
            load.sink.wanted = b"42[\"activity:created\"";
            load.restart();
            let (cpu, begun) = (sockets.peer.cpu()?, Instant::now());
            for event in 1..=events {
                // A stride that meets all leads, none of them twice in a row.
                let request = sockets.peer.activity((event as usize * 7919) % leads);
                let now = Instant::now();
                load.sink.sent = Sent::At(now);
                load.channels[sockets.channel].send(&request, now)?;
                load.until("an activity at its viewers", |load| {
                    load.sink.deliveries >= event * VIEWERS as u64 && load.answers.count >= event
                })?;
            }
            let time = begun.elapsed();
            let cpu = sockets.peer.cpu()?.saturating_sub(cpu);
            load.check()?;
            let figures = [
                (OPERATION_CPU, micros_each(cpu, events)),
                (OPERATIONS, rate(events, time)),
                (P50, quantile_ms(&load.sink.latency, 0.5)),
                (P99, quantile_ms(&load.sink.latency, 0.99)),
            ];
            report.table("rooms").add(&case, kind.name(), &figures);
        }
    }
    Ok(())
}

/// Subscribes each lead by [`VIEWERS`] sockets, and each socket to equally many leads.
fn subscribe(sockets: &mut Sockets) -> Result<()> {
    let Sockets { load, peer, count, .. } = sockets;
    load.restart();
    for (index, lead) in peer.leads.iter().enumerate() {
        for viewer in 0..VIEWERS {
            let socket = (index * VIEWERS + viewer) % *count;
            load.sockets[socket].emit(&format!(r#"420["lead:subscribe",{{"leadId":"{lead}"}}]"#))?;
        }
        // Now and then, so that no buffer fills up.
        if index % 100 == 99 {
            let asked = ((index + 1) * VIEWERS) as u64;
            load.until("subscriptions", |load| load.sink.replies >= asked)?;
        }
    }
    let asked = (peer.leads.len() * VIEWERS) as u64;
    load.until("subscriptions", |load| load.sink.replies >= asked)
}
