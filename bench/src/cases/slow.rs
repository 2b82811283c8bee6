//! Sockets beside ones that read nothing, or little.

use anyhow::Result;

use crate::{
    cases::{
        Bench,
        sockets::{Sockets, named},
    },
    peers::Launch,
    report::Report,
};

/// Changes before the measurement, which fill what the kernel takes for a reader that does not read.
const BACKLOG: u64 = 3000;
/// Connections that make them.
const WRITERS: usize = 32;
/// Receive buffer of a bad reader.
const BUFFER: usize = 4096;
/// Stalled sockets must not be cut off while the others are measured.
const CONFIG: &str = "[socket]\nstall_timeout = \"10m\"\n";

/// Readers beside the ones that are measured.
struct Bad {
    case: &'static str,
    count: usize,
    reads: bool,
}

const BAD: [Bad; 3] = [
    Bad { case: "none slow", count: 0, reads: false },
    Bad { case: "1 stalled beside", count: 1, reads: false },
    Bad { case: "50 slow beside", count: 50, reads: true },
];

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let (backlog, events) = if options.quick() { (50, 10) } else { (BACKLOG, 200) };
    for size in options.sizes(&[1000], &[20]) {
        for round in 1..=options.rounds() {
            for kind in options.servers(bench.programs) {
                for bad in &BAD {
                    bench.say(&format!("slow, {}, {}, round {round}: {}", named(size), bad.case, kind.name()));
                    let launch = Launch { config: CONFIG, ..Launch::of(kind).leads(WRITERS) };
                    let mut sockets = Sockets::connect(bench, &launch, bad.count, 64)?;
                    burden(&mut sockets, backlog)?;
                    sockets.join(size)?;
                    sockets.sippers = if bad.reads { bad.count } else { 0 };
                    let figures = sockets.measure(events)?;
                    let case = format!("{}, {}", named(size), bad.case);
                    report.table("slow").add(&case, kind.name(), &figures);
                }
            }
        }
    }
    Ok(())
}

/// Stops reading the first sockets, and makes changes until the kernel has no room for them.
fn burden(sockets: &mut Sockets, changes: u64) -> Result<()> {
    let Sockets { load, peer, .. } = sockets;
    for index in 0..load.sockets.len() {
        load.detach(index)?;
        load.sockets[index].shrink_receive_buffer(BUFFER)?;
    }
    let mut channels = vec![sockets.channel];
    while channels.len() < WRITERS {
        channels.push(load.channel(peer.address)?);
    }
    load.requests(&channels, changes, |number| peer.change(number as usize % WRITERS))
}
