//! Memory of a server that has loaded large plugins, and after it has reloaded one of them many times.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::{
    cases::Bench,
    load::http::Client,
    peers::{
        Installed, Launch, Peer,
        leadwire::{self, Swapper},
    },
    report::{Report, metric::*},
};

/// Sample plugins in languages that bring an interpreter along.
static PLUGINS: [Installed; 2] =
    [Installed { name: "mask-email-js", settings: "" }, Installed { name: "card-guard-py", settings: "" }];
const RELOADS: u32 = 50;
/// Maximum wait for a reload, which compiles.
const PATIENCE: Duration = Duration::from_secs(120);

pub fn run(bench: &Bench<'_>, report: &mut Report) -> Result<()> {
    let options = bench.options;
    let reloads = if options.quick() { 1 } else { RELOADS };
    let file = |plugin: &Installed| bench.programs.plugins.join(format!("{}.wasm", plugin.name));
    if let Some(missing) = PLUGINS.iter().find(|plugin| !file(plugin).is_file()) {
        report.note(format!("memory was not measured: {} was not built", missing.name));
        return Ok(());
    }
    for kind in options.leadwires(bench.programs) {
        bench.say(&format!("memory: {}", kind.name()));
        let plain = Peer::start(bench.programs, &Launch::of(kind))?;
        report.table("memory").add("no plugins", kind.name(), &[(RESIDENT, mib(&plain)?)]);
        drop(plain);
        let peer = Peer::start(bench.programs, &Launch { plugins: &PLUGINS, ..Launch::of(kind) })?;
        report.table("memory").add("JavaScript and Python loaded", kind.name(), &[(RESIDENT, mib(&peer)?)]);
        let mut admin = Client::open(peer.address, Some(&leadwire::admin(peer.address)?))?;
        let mut swapper = Swapper::new(peer.server.home.path(), &PLUGINS[0])?;
        for reload in 1..=reloads {
            bench.say(&format!("memory: {}, reload {reload}", kind.name()));
            let before = generation(&mut admin)?;
            swapper.swap()?;
            let begun = Instant::now();
            while generation(&mut admin)? == before {
                ensure!(begun.elapsed() < PATIENCE, "a reload did not happen: {}", peer.server.log());
                thread::sleep(Duration::from_millis(100));
            }
        }
        let case = format!("after {reloads} reloads");
        report.table("memory").add(&case, kind.name(), &[(RESIDENT, mib(&peer)?)]);
    }
    Ok(())
}

fn mib(peer: &Peer) -> Result<f64> {
    Ok(peer.resident_kib()? as f64 / 1024.0)
}

fn generation(admin: &mut Client) -> Result<Value> {
    let listed = admin.expect("GET", "/api/plugins", None)?;
    listed.get("generation").cloned().context("plugins have a generation")
}
