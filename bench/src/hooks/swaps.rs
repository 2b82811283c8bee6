//! Cost of replacing a plugin: the time until it is active, and the effect on concurrent calls.

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
    plugin::{Plugins, PluginsConfig},
};
use leadwire_plugin_sdk::testing;
use serde_json::json;
use tempfile::TempDir;

use crate::hooks::{measure, tables};

const SWAPS: usize = 40;
/// Maximum wait for a swap.
const PATIENCE: Duration = Duration::from_secs(30);

pub fn run(folder: &Path) -> Result<()> {
    let file = folder.join("bench-filter.wasm");
    let bytes = fs::read(&file).with_context(|| format!("{} cannot be read", file.display()))?;
    let home = TempDir::new()?;
    let dir = home.path().join("plugins");
    fs::create_dir(&dir)?;
    let target = dir.join("bench-filter.wasm");
    fs::write(&target, &bytes)?;
    let settings = PluginsConfig { dir: Some(dir), data_dir: home.path().join("data"), ..PluginsConfig::default() };
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
        // Two files in turn, which are both compiled after the first swaps, so that only the swap is measured.
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
    tables::table("swaps", &cases, None, None);
    Ok(())
}

/// Calls the plugin until `done` is set.
fn ask(plugins: &Plugins, done: &AtomicBool) -> Vec<Duration> {
    let lead = testing::lead();
    let (payload, context) = (Arc::new(json!({"lead": lead})), json!({"lead": lead}));
    let mut times = Vec::new();
    while !done.load(Relaxed) {
        let start = Instant::now();
        plugins.shape("lead:updated", &payload, &context, &[Role::Manager, Role::Sales, Role::Viewer]);
        times.push(start.elapsed());
        // Leaves a core for the compiling thread.
        thread::sleep(Duration::from_micros(200));
    }
    times
}

/// Time from writing a file until it is active.
fn swap(plugins: &Plugins, target: &Path, bytes: &[u8]) -> Result<Duration> {
    let before = plugins.generation();
    // Written atomically, like `leadwire plugin build` does.
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

/// The same component as a different file: with a meaningless custom section.
fn with_section(component: &[u8]) -> Vec<u8> {
    [component, &[0, 2, 1, b'x']].concat()
}
