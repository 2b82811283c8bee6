//! What replacing a plugin costs: how long until it is in force, and what those who ask meanwhile notice.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use leadwire::{
    domain::role::Role,
    plugin::{Plugins, Settings},
};
use leadwire_plugin_sdk::testing;
use serde_json::json;
use tempfile::TempDir;

use crate::{measure, report};

const SWAPS: usize = 40;
/// What a swap may take until nobody waits for it any more.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(folder: &Path) -> Result<()> {
    let file = folder.join("bench-filter.wasm");
    let bytes = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let home = TempDir::new()?;
    let dir = home.path().join("plugins");
    fs::create_dir(&dir)?;
    let target = dir.join("bench-filter.wasm");
    fs::write(&target, &bytes)?;
    let settings = Settings { dir: Some(dir), data_dir: home.path().join("data"), ..Settings::default() };
    let open = || {
        let start = Instant::now();
        let plugins = Plugins::open(settings.clone(), Box::new(|_| Vec::new()));
        plugins.map(|plugins| (plugins, start.elapsed()))
    };
    let (_, compiled) = open()?;
    let (plugins, cached) = open()?;

    let (done, asked) = (Arc::new(AtomicBool::new(false)), plugins.clone());
    let caller = thread::spawn({
        let done = done.clone();
        move || ask(&asked, &done)
    });
    let mut swaps = Vec::new();
    for number in 0..SWAPS {
        // Two files in turn, which both are compiled after the first of them: what is measured is the swap.
        let version = if number % 2 == 0 { with_section(&bytes) } else { bytes.clone() };
        swaps.push(swap(&plugins, &target, &version)?);
    }
    done.store(true, Relaxed);
    let calls = caller.join().expect("the caller does not panic");
    let cases = [
        measure::of("opening a folder, compiling", [compiled]),
        measure::of("opening a folder, from the cache", [cached]),
        measure::of("from the file being written to the new one in force", swaps.into_iter().skip(2)),
        measure::of("a call while plugins are swapped", calls),
    ];
    report::table("swaps", &cases, None, None);
    Ok(())
}

/// Calls, until it is told to stop.
fn ask(plugins: &Plugins, done: &AtomicBool) -> Vec<Duration> {
    let lead = testing::lead();
    let (payload, context) = (Arc::new(json!({"lead": lead})), json!({"lead": lead}));
    let mut times = Vec::new();
    while !done.load(Relaxed) {
        let start = Instant::now();
        plugins.shape("lead:updated", &payload, &context, &[Role::Manager, Role::Sales, Role::Viewer]);
        times.push(start.elapsed());
        // A core is left for the one who compiles.
        thread::sleep(Duration::from_micros(200));
    }
    times
}

/// The time from writing a file to its being in force.
fn swap(plugins: &Plugins, target: &Path, bytes: &[u8]) -> Result<Duration> {
    let before = plugins.generation();
    // Whole or not at all, as `leadwire plugin build` puts it there.
    let next = target.with_extension("next");
    fs::write(&next, bytes)?;
    let start = Instant::now();
    fs::rename(next, target)?;
    while plugins.generation() == before {
        if start.elapsed() > PATIENCE {
            bail!("a swap did not happen: {:?}", plugins.status());
        }
        thread::sleep(Duration::from_micros(100));
    }
    Ok(start.elapsed())
}

/// The same component in another file: with a custom section, which means nothing to anybody.
fn with_section(component: &[u8]) -> Vec<u8> {
    [component, &[0, 2, 1, b'x']].concat()
}
