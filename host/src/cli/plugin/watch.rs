//! `leadwire plugin watch`: on each save, a plugin is built, checked and put where a server takes it up.
//!
//! A file event is only a hint, as it is for the server: editors write, rename and touch as they like. After a moment
//! of quiet the folder is looked at as a whole, and what is the same as before is not built again. What does not
//! build, or fails a check, is told, and the plugin that was there goes on.

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

use super::{Component, build, check, toolchain::Toolchain};
use crate::{
    cli::{Options, say},
    plugin::{
        self, Limits,
        workbench::{Pains, Workbench},
    },
};

/// No event for so long means that an editor is done.
const QUIET: Duration = Duration::from_millis(100);
/// Somebody who never stops writing is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the folder is looked at although nobody hinted: not every file system tells.
const ROUND: Duration = Duration::from_secs(1);
/// What a save is worth; `leadwire plugin check` takes more.
const PAINS: Pains = Pains { seed: 1, fuzzed: 50, timed: 3 };

#[derive(Args)]
pub(in crate::cli) struct Watch {
    /// The plugin's folder
    #[arg(value_name = "DIR", default_value = ".")]
    dir: PathBuf,
    /// The folder that a server takes plugins from [default: that of --plugins or the configuration]
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

enum Hint {
    Look,
    Stop,
}

pub(super) fn run(watch: &Watch, options: &Options) -> Result<()> {
    let into = match &watch.into {
        Some(into) => into.clone(),
        None => super::manage::folder(options)?,
    };
    fs::create_dir_all(&into).with_context(|| format!("cannot create {}", into.display()))?;
    let toolchain = build::toolchain(&watch.dir).with_context(|| format!("cannot build {}", watch.dir.display()))?;
    let toolchain = toolchain.hasty();
    let (hints, hinted) = mpsc::channel();
    stop_on_signal(hints.clone())?;
    let mut eyes = Eyes { dir: watch.dir.clone(), watcher: watcher(hints), watched: Vec::new() };
    let (limits, limits_from) = options.plugin_limits()?;
    let (dir, workbench) = (watch.dir.clone(), super::workbench()?);
    let mut line = Line { dir, into, toolchain, workbench, limits, limits_from, copied: None };
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

/// Waits for a hint and the quiet after it, or for a round to pass; false when it is time to stop.
fn wait(hinted: &mpsc::Receiver<Hint>) -> bool {
    match hinted.recv_timeout(ROUND) {
        Ok(Hint::Look) => {}
        Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
        Err(RecvTimeoutError::Timeout) => return true,
    }
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match hinted.recv_timeout(QUIET) {
            Ok(Hint::Look) => {}
            Ok(Hint::Stop) | Err(RecvTimeoutError::Disconnected) => return false,
            Err(RecvTimeoutError::Timeout) => break,
        }
    }
    true
}

/// Sees to it that ctrl-c, or being told to end, ends the watch between two steps and not within one.
fn stop_on_signal(hints: mpsc::Sender<Hint>) -> Result<()> {
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
        let _ = hints.send(Hint::Stop);
    };
    thread::Builder::new().name("watch-stop".into()).spawn(wait).context("cannot wait for ctrl-c")?;
    Ok(())
}

fn watcher(hints: mpsc::Sender<Hint>) -> Option<RecommendedWatcher> {
    let hint = move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            let _ = hints.send(Hint::Look);
        }
    };
    notify::recommended_watcher(hint).ok()
}

/// What the folder looks like from outside: enough to tell that nothing was saved.
type Seen = Vec<(PathBuf, u64, Option<SystemTime>)>;

struct Eyes {
    dir: PathBuf,
    watcher: Option<RecommendedWatcher>,
    /// The folders that hints come from; a new one is added when it is seen.
    watched: Vec<PathBuf>,
}

impl Eyes {
    fn look(&mut self) -> Seen {
        let (mut seen, mut folders) = (Seen::new(), vec![self.dir.clone()]);
        while let Some(folder) = folders.pop() {
            if let Some(watcher) = self.watcher.as_mut().filter(|_| !self.watched.contains(&folder))
                && watcher.watch(&folder, RecursiveMode::NonRecursive).is_ok()
            {
                self.watched.push(folder.clone());
            }
            // A folder that vanishes meanwhile has nothing in it.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (path, Ok(meta)) = (entry.path(), fs::metadata(entry.path())) else { continue };
                match is_source(&path) {
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

/// Whether a change of it can change the plugin. Cargo writes its lock itself, and editors what they hide.
fn is_source(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    let theirs = name.starts_with(['.', '#']) || name.ends_with(['~', '#']) || name.ends_with(".swp");
    !theirs && !["target", "node_modules", "Cargo.lock", "4913"].contains(&name)
}

/// From a save to the folder of a server.
struct Line {
    dir: PathBuf,
    into: PathBuf,
    toolchain: Toolchain,
    workbench: Workbench,
    /// Those that a server has for all plugins, and what says so.
    limits: Limits,
    limits_from: String,
    /// The settings that were put beside the component from here; others are somebody's own.
    copied: Option<String>,
}

impl Line {
    /// Tells how it went; an error is one of telling.
    fn turn(&mut self) -> Result<()> {
        let start = Instant::now();
        match self.deliver() {
            Ok(Delivered::New(what)) => {
                say(format_args!("{what} is in {} after {:.1} s", self.into.display(), start.elapsed().as_secs_f64()))
            }
            Ok(Delivered::Same(what)) => say(format_args!("{what} is the same as before")),
            Err(error) => say(format_args!("not taken: {error:#}\nwhat is in {} goes on", self.into.display())),
        }
    }

    fn deliver(&mut self) -> Result<Delivered> {
        let file = build::component_with(&self.toolchain, &self.dir, None)?;
        let name = file.file_stem().and_then(|stem| stem.to_str()).context("the component has no name")?.to_owned();
        let read = |path: &Path| plugin::file::read_text(path, self.limits.settings_bytes()).ok();
        let own = read(&self.dir.join("plugin.toml"));
        let settings = self.into.join(format!("{name}.toml"));
        let theirs = read(&settings);
        let is_ours = theirs.is_none() || theirs == self.copied;
        let from = if is_ours { own.as_ref().map(|_| self.dir.join("plugin.toml")) } else { Some(settings.clone()) };
        let component = Component::read(&file, from.as_deref(), &self.limits)?;
        let limits_from = component.limits_from(&self.limits_from);
        let report = self.workbench.check(&name, &component.bytes, component.settings, PAINS);
        if !report.ok {
            return Err(anyhow!("a check failed\n{}", check::text(&report, &limits_from, false)));
        }
        let what = format!("{name} {}", report.version.unwrap_or_default());
        // Settings first: without them a server would load the component with none.
        if let Some(own) = own.filter(|own| is_ours && theirs.as_ref() != Some(own)) {
            super::replace(&settings, own.as_bytes())?;
            self.copied = Some(own);
        }
        let target = self.into.join(format!("{name}.wasm"));
        if plugin::file::read(&target, self.limits.file_bytes()).is_ok_and(|bytes| bytes == component.bytes) {
            return Ok(Delivered::Same(what));
        }
        super::replace(&target, &component.bytes)?;
        Ok(Delivered::New(what))
    }
}

/// The plugin and its version, and whether it is another one than was there.
enum Delivered {
    New(String),
    Same(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_and_cargo_leave_behind_is_no_source() {
        for name in [".lib.rs.swp", "lib.rs~", "#lib.rs#", "4913", "target", "Cargo.lock", ".git"] {
            assert!(!is_source(Path::new(name)), "{name}");
        }
        for name in ["lib.rs", "plugin.toml", "Cargo.toml", "data.csv", "src"] {
            assert!(is_source(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn a_save_by_renaming_is_seen_and_a_look_alone_is_not() {
        let dir = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(dir.path().join("src/deep")).expect("made");
        fs::write(dir.path().join("src/deep/a.rs"), "one").expect("written");
        let mut eyes = Eyes { dir: dir.path().into(), watcher: None, watched: Vec::new() };
        let before = eyes.look();
        assert_eq!(before, eyes.look());
        fs::write(dir.path().join("src/deep/.a.rs.part"), "two!").expect("written");
        assert_eq!(before, eyes.look());
        fs::rename(dir.path().join("src/deep/.a.rs.part"), dir.path().join("src/deep/a.rs")).expect("renamed");
        assert_ne!(before, eyes.look());
    }
}
