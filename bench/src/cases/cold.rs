//! Cold start: from the start of the process until it is ready, with compiled plugins in the cache.

use anyhow::Result;

use crate::{
    cases::Bench,
    peers::{Launch, PLUGINS, Peer, leadwire},
    report::{Report, metric::*},
    stats::shown,
};

const STARTS: u32 = 5;

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    for leads in options.leads(&[100_000], &[200]) {
        let plugins = PLUGINS.len();
        let case = format!("{} leads, {plugins} plugins", shown(leads as f64, 0));
        let mut peers = Vec::new();
        for kind in options.leadwires(bench.programs) {
            bench.say(&format!("cold: {} gets {} leads", kind.name(), shown(leads as f64, 0)));
            let launch = Launch::of(kind).leads(leads).plugins(plugins);
            let mut peer = Peer::start(bench.programs, &launch)?;
            peer.server.stop()?;
            peers.push((launch, peer));
        }
        for _ in 0..options.rounds() * STARTS {
            for (launch, peer) in &mut peers {
                let time = leadwire::restart(bench.programs, launch, &mut peer.server)?;
                peer.server.stop()?;
                report.table("cold").add(&case, launch.kind.name(), &[(TIME, time.as_secs_f64() * 1e3)]);
            }
        }
    }
    Ok(())
}
