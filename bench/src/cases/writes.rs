//! Commands over HTTP: how many a second from how many connections.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::{
    cases::Bench,
    load::{generator::Generator, http},
    peers::{Launch, Peer, leadwire},
    report::{Report, metric::*},
    stats::{micros_each, quantile_ms, rate},
};

/// Leads that are changed in turn: more than there are connections.
const LEADS: usize = 256;

/// One kind of request from a number of connections.
struct Writes {
    what: &'static str,
    connections: usize,
    requests: u64,
    make: fn(&Peer, u64) -> Vec<u8>,
}

const WRITES: [Writes; 7] = [
    Writes { what: "create", connections: 1, requests: 500, make: create },
    Writes { what: "create", connections: 16, requests: 4000, make: create },
    Writes { what: "patch", connections: 1, requests: 500, make: patch },
    Writes { what: "patch", connections: 16, requests: 4000, make: patch },
    Writes { what: "patch", connections: 64, requests: 8000, make: patch },
    Writes { what: "login", connections: 1, requests: 40, make: login },
    Writes { what: "login", connections: 8, requests: 80, make: login },
];

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    for round in 1..=options.rounds() {
        for kind in options.leadwires(bench.programs) {
            bench.say(&format!("writes, round {round}: {}", kind.name()));
            let mut peer = Peer::start(bench.programs, &Launch::of(kind).leads(LEADS))?;
            for writes in &WRITES {
                let requests = if options.quick() { writes.requests / 40 } else { writes.requests };
                let mut load = Generator::new(b"none")?;
                let channels =
                    (0..writes.connections).map(|_| load.channel(peer.address)).collect::<Result<Vec<_>>>()?;
                load.requests(&channels, requests / 10, |number| (writes.make)(&peer, number))?;
                load.restart();
                let (cpu, begun) = (peer.cpu()?, Instant::now());
                load.requests(&channels, requests, |number| (writes.make)(&peer, requests + number))?;
                let time = begun.elapsed();
                let cpu = peer.cpu()?.saturating_sub(cpu);
                let figures = [
                    (OPERATIONS, rate(requests, time)),
                    (OPERATION_CPU, micros_each(cpu, requests)),
                    (P50, quantile_ms(&load.answers.latency, 0.5)),
                    (P99, quantile_ms(&load.answers.latency, 0.99)),
                ];
                let plural = if writes.connections == 1 { "" } else { "s" };
                let case = format!("{}, {} connection{plural}", writes.what, writes.connections);
                report.table("writes").add(&case, kind.name(), &figures);
            }
        }
    }
    Ok(())
}

fn create(peer: &Peer, number: u64) -> Vec<u8> {
    let body = leadwire::lead(number as usize).to_string();
    http::request("POST", "/api/leads", Some(&peer.writer), Some(&body))
}

fn patch(peer: &Peer, number: u64) -> Vec<u8> {
    peer.change(number as usize % peer.leads.len())
}

fn login(_: &Peer, _: u64) -> Vec<u8> {
    let body = json!({"email": "sales@example.com", "password": leadwire::PASSWORD}).to_string();
    http::request("POST", "/api/auth/login", None, Some(&body))
}
