//! `leadwire plugin watch`: on each save, builds and checks a plugin, and installs it where a server loads it.
//!
//! A file event is only a hint, as for the server: editors write, rename and touch in any order. After a quiet period,
//! the whole folder is scanned, and an unchanged one is not built again. A plugin that does not build, or fails a
//! check, is reported, and the installed version stays.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::signal::unix::{SignalKind, signal};

use crate::{
    cli::{
        options::Options,
        plugin::{build, check, component::Component, toolchain::Toolchain},
        print::say,
    },
    files::{self, FileAccess},
    plugin::{
        Limits,
        testkit::{Testkit, check::CheckBudget},
    },
};

/// Quiet period without events after which an editor counts as finished.
const QUIET: Duration = Duration::from_millis(100);
/// Maximum wait when events never stop.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval of scans without a hint: not every file system reports changes.
const ROUND: Duration = Duration::from_secs(1);
/// Effort of the check after a save; `leadwire plugin check` does more.
const BUDGET: CheckBudget = CheckBudget { seed: 1, fuzzed: 50, timed: 3 };

#[derive(Args)]
pub(crate) struct WatchArgs {
    /// Folder of the plugin
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// Folder that a server loads plugins from [default: that of --plugins or the configuration]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

enum WatchSignal {
    Look,
    Stop,
}

pub(crate) fn run(watch: &WatchArgs, options: &Options) -> Result<()> {
    let into = match &watch.into {
        Some(into) => into.clone(),
        None => super::manage::folder(options)?,
    };
    fs::create_dir_all(&into).with_context(|| format!("cannot create {}", into.display()))?;
    let toolchain = build::toolchain(&watch.dir).with_context(|| format!("cannot build {}", watch.dir.display()))?;
    let toolchain = toolchain.hasty();
    let (hints, hinted) = mpsc::channel();
    stop_on_signal(hints.clone())?;
    // A server may load its plugins from a folder within this one: files that come and go there are no sources.
    let except = into.canonicalize().with_context(|| format!("cannot find {}", into.display()))?;
    let mut eyes = SourceWatcher { dir: watch.dir.clone(), except, watcher: watcher(hints), watched: Vec::new() };
    let (limits, limits_from) = options.plugin_limits()?;
    let (dir, workbench) = (watch.dir.clone(), crate::cli::plugin::component::workbench()?);
    let mut line = BuildCycle { dir, into, toolchain, workbench, limits, limits_from, copied: None, delivered: None };
    let mut built = None;
    loop {
        let seen = eyes.look();
        if built.as_ref() != Some(&seen) {
            built = Some(seen);
            line.turn()?;
        }
        if !wait(&hinted) {
            return say("stopped");
        }
    }
}

/// Waits for a hint and the quiet period after it, or until a round has passed; false when it is time to stop.
fn wait(hinted: &mpsc::Receiver<WatchSignal>) -> bool {
    match hinted.recv_timeout(ROUND) {
        Ok(WatchSignal::Look) => {}
        Ok(WatchSignal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        Err(RecvTimeoutError::Timeout) => return true,
    }
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match hinted.recv_timeout(QUIET) {
            Ok(WatchSignal::Look) => {}
            Ok(WatchSignal::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    true
}

/// Makes ctrl-c (SIGINT) or SIGTERM end the watch between two steps, not within one.
fn stop_on_signal(hints: mpsc::Sender<WatchSignal>) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_io().build().context("cannot wait for ctrl-c")?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let wait = move || {
        runtime.block_on(async {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        });
        let _ = hints.send(WatchSignal::Stop);
    };
    thread::Builder::new().name("watch-stop".into()).spawn(wait).context("cannot wait for ctrl-c")?;
    Ok(())
}

fn watcher(hints: mpsc::Sender<WatchSignal>) -> Option<RecommendedWatcher> {
    let hint = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = hints.send(WatchSignal::Look);
        }
    };
    notify::recommended_watcher(hint).ok()
}

/// Snapshot of the source files' metadata, sufficient to detect a save.
type SourceSnapshot = Vec<(PathBuf, u64, Option<SystemTime>)>;

struct SourceWatcher {
    dir: PathBuf,
    /// Folder that built components are put into, which may be within `dir`.
    except: PathBuf,
    watcher: Option<RecommendedWatcher>,
    /// Folders that hints come from; a new folder is added when it is found.
    watched: Vec<PathBuf>,
}

impl SourceWatcher {
    fn look(&mut self) -> SourceSnapshot {
        let (mut seen, mut folders) = (SourceSnapshot::new(), vec![self.dir.clone()]);
        while let Some(folder) = folders.pop() {
            if let Some(watcher) = self.watcher.as_mut().filter(|_| !self.watched.contains(&folder))
                && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.push(folder.clone());
            }
            // A folder that vanishes meanwhile counts as empty.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, Ok(meta)) = (entry.path(), fs::metadata(entry.path())) else { continue };
                match is_source(&path) {
                    true if meta.is_dir() && path.canonicalize().is_ok_and(|path| path == self.except) => {}
                    true if meta.is_dir() => folders.push(path),
                    true => seen.push((path, meta.len(), meta.modified().ok())),
                    false => {}
                }
            }
        }
        self.watched.retain(|folder| folder.is_dir());
        seen.sort();
        seen
    }
}

/// True if a change of the file can change the plugin. Cargo writes its lock file itself; editors write hidden files.
fn is_source(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let theirs = name.starts_with(['.', '#']) || name.ends_with(['~', '#']) || name.ends_with(".swp");
    !theirs && !["target", "node_modules", "Cargo.lock", "4913"].contains(&name)
}

/// Steps from a save to a server's folder.
struct BuildCycle {
    dir: PathBuf,
    into: PathBuf,
    toolchain: Toolchain,
    workbench: Testkit,
    /// Server's limits for all plugins, and their source.
    limits: Limits,
    limits_from: String,
    /// Component that this process delivered last: a plugin that an operator removes stays removed until a change.
    delivered: Option<Vec<u8>>,
    /// Settings that this process copied beside the component; any other settings are the operator's own.
    copied: Option<String>,
}

impl BuildCycle {
    /// Runs one cycle and prints its result; an error means that printing failed.
    fn turn(&mut self) -> Result<()> {
        let start = Instant::now();
        match self.deliver() {
            Ok(Delivered::New(what)) => {
                say(format_args!("{what} is in {} after {:.1} s", self.into.display(), start.elapsed().as_secs_f64()))
            }
            Ok(Delivered::Same(what)) => say(format_args!("{what} is the same as before")),
            Err(error) => {
                say(format_args!("build rejected: {error:#}\nthe version in {} stays active", self.into.display()))
            }
        }
    }

    fn deliver(&mut self) -> Result<Delivered> {
        let file = build::component_with(&self.toolchain, &self.dir, None)?;
        let name = file.file_stem().and_then(|stem| stem.to_str()).context("the component has no name")?.to_owned();
        let read = |path: &Path| files::read_text(path, self.limits.settings_bytes()).ok();
        let own = read(&self.dir.join("plugin.toml"));
        let settings = self.into.join(format!("{name}.toml"));
        let theirs = read(&settings);
        let is_ours = theirs.is_none() || theirs == self.copied;
        let from = if is_ours { own.as_ref().map(|_| self.dir.join("plugin.toml")) } else { Some(settings.clone()) };
        let component = Component::read(&file, from.as_deref(), &self.limits)?;
        let limits_from = component.limits_from(&self.limits_from);
        let report = self.workbench.check(&name, &component.bytes, component.settings, BUDGET);
        if !report.ok {
            return Err(anyhow!("a check failed\n{}", check::text(&report, &limits_from, false)));
        }
        let what = format!("{name} {}", report.version.unwrap_or_default());
        let target = self.into.join(format!("{name}.wasm"));
        if self.delivered.as_ref() == Some(&component.bytes) && !target.exists() {
            return Ok(Delivered::Same(what));
        }
        // Settings first: without them a server would load the component with none.
        if let Some(own) = own.filter(|own| is_ours && theirs.as_ref() != Some(own)) {
            files::replace(&settings, own.as_bytes(), FileAccess::Inherited)
                .with_context(|| format!("cannot write {}", settings.display()))?;
            self.copied = Some(own);
        }
        let is_same = files::read(&target, self.limits.file_bytes()).is_ok_and(|bytes| bytes == component.bytes);
        if is_same {
            self.delivered = Some(component.bytes);
            return Ok(Delivered::Same(what));
        }
        files::replace(&target, &component.bytes, FileAccess::Inherited)
            .with_context(|| format!("cannot write {}", target.display()))?;
        self.delivered = Some(component.bytes);
        Ok(Delivered::New(what))
    }
}

/// Name and version of the plugin, and whether the installed component changed.
enum Delivered {
    New(String),
    Same(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editor_and_cargo_files_are_not_sources() {
        for name in [".lib.rs.swp", "lib.rs~", "#lib.rs#", "4913", "target", "Cargo.lock", ".git"] {
            assert!(!is_source(Path::new(name)), "{name}");
        }
        for name in ["lib.rs", "plugin.toml", "Cargo.toml", "data.csv", "src"] {
            assert!(is_source(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_save_by_rename_is_detected_and_a_read_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("src/deep")).expect("made");
        fs::write(dir.path().join("src/deep/a.rs"), "one").expect("written");
        let except = dir.path().canonicalize().expect("there").join("plugins");
        let mut eyes = SourceWatcher { dir: dir.path().into(), except, watcher: None, watched: Vec::new() };
        let before = eyes.look();
        assert_eq!(before, eyes.look());
        fs::write(dir.path().join("src/deep/.a.rs.part"), "two!").expect("written");
        assert_eq!(before, eyes.look());
        fs::rename(dir.path().join("src/deep/.a.rs.part"), dir.path().join("src/deep/a.rs")).expect("renamed");
        assert_ne!(before, eyes.look());

        let seen = eyes.look();
        fs::create_dir(dir.path().join("plugins")).expect("made");
        fs::write(dir.path().join("plugins/a.wasm"), "built").expect("written");
        assert_eq!(eyes.look(), seen, "what was built is no source");
    }
}
