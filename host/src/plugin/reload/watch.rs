//! Hot reload: watches the plugin directory, and replaces the active set.
//!
//! A file event is only a hint. After a debounce the whole directory is read again. What is new is compiled,
//! described, initialised and tried on recent events on this thread. Only then is it activated: one pointer is swapped,
//! at a position in the log where there is one. A bad file changes nothing and its reason is reported; the generation
//! before it stays active.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant},
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};

use crate::plugin::{
    contract::{error::Error, settings::PluginsConfig},
    reload::{
        active_set::{ActiveSet, Recent, ReloaderMessage, RolloutRequest},
        archive::Archive,
        entry::DirectorySnapshot,
        reloader::Reloader,
        state_file,
    },
};

/// Longest debounce, for somebody who never stops writing.
const PATIENCE: Duration = Duration::from_secs(2);
/// Interval of scans without a hint: not every file system reports changes.
const ROUND: Duration = Duration::from_secs(2);
/// Delay of the next scan after the contents could not be activated.
const RETRY: Duration = Duration::from_millis(800);

/// Loads the directory, and starts the thread that keeps reloading it.
pub(crate) fn start(
    dir: PathBuf,
    settings: PluginsConfig,
    recent: Recent,
    archive: Arc<dyn Archive>,
) -> Result<Arc<ActiveSet>, Error> {
    let data = state_file::directory(&settings.data_dir);
    let mut reloader = Reloader::new(dir, settings, recent, archive)?;
    let (hints, hinted) = mpsc::channel();
    let shared = Arc::new(ActiveSet::new(Some(hints.clone())));
    reloader.seen = reloader.scan()?;
    reloader.apply(&shared)?;
    let watchers = [&reloader.dir, &data].map(|dir| watch(dir, hints.clone()));
    let weak = Arc::downgrade(&shared);
    let run = move || {
        let _watchers = watchers;
        // Compiling is not urgent, serving is. On Linux, `nice` is about the calling thread alone.
        let _ = rustix::process::nice(10);
        run_loop(reloader, &weak, &hinted);
    };
    let thread = thread::Builder::new().name("plugin-watch".into()).spawn(run);
    thread.map_err(|source| Error::DataDirectory { dir: data, source })?;
    Ok(shared)
}

fn watch(dir: &Path, hints: mpsc::Sender<ReloaderMessage>) -> Option<notify::RecommendedWatcher> {
    let hint = move |event: notify::Result<notify::Event>| {
        // Our own reading must not trigger another reload, nor the lock that we take to write the state files.
        let reading = event.is_ok_and(|event| match event.kind {
            _ if event.paths.iter().all(|path| path.ends_with(state_file::LOCK)) => true,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            kind => kind.is_access(),
        });
        if !reading {
            let _ = hints.send(ReloaderMessage::Look);
        }
    };
    let watcher = notify::recommended_watcher(hint).and_then(|mut watcher| {
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| tracing::warn!("no file events for {}, polling every {ROUND:?}: {error}", dir.display()))
        .ok()
}

fn run_loop(mut reloader: Reloader, shared: &Weak<ActiveSet>, hinted: &mpsc::Receiver<ReloaderMessage>) {
    let mut round = ROUND;
    loop {
        let woken = match hinted.recv_timeout(round) {
            Ok(ReloaderMessage::Look) => debounce(hinted, reloader.settings.quiet),
            Ok(ReloaderMessage::Shift(order)) => Woken::ToShift(order),
            Ok(ReloaderMessage::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => Woken::ByTime,
        };
        let Some(shared) = shared.upgrade() else { return };
        let forced = match woken {
            Woken::ToStop => return,
            Woken::ToShift(RolloutRequest { name, shift, reply }) => {
                // Nobody may wait for the answer any more.
                let _ = reply.send(reloader.shift(&shared, &name, &shift));
                continue;
            }
            Woken::ToLook => true,
            Woken::ByTime => false,
        };
        round = RETRY;
        let seen = match reloader.scan() {
            Ok(seen) => seen,
            Err(error) => {
                shared.reload_failed(error.to_string());
                continue;
            }
        };
        if forced || seen != reloader.seen {
            reloader.seen = seen;
            if let Err(error) = reloader.apply(&shared) {
                shared.reload_failed(error.to_string());
                // The next scan differs from an empty snapshot, and so tries again.
                reloader.seen = DirectorySnapshot::new();
                continue;
            }
        }
        shared.reload_worked();
        round = ROUND;
    }
}

/// Reason why the reloader woke up.
enum Woken {
    ToLook,
    ToShift(RolloutRequest),
    ToStop,
    ByTime,
}

/// Waits until no hint has come for `quiet`, which means that whoever writes a file is done; or until a message comes
/// that cannot wait.
fn debounce(hinted: &mpsc::Receiver<ReloaderMessage>, quiet: Duration) -> Woken {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match hinted.recv_timeout(quiet) {
            Ok(ReloaderMessage::Look) => {}
            Ok(ReloaderMessage::Shift(order)) => return Woken::ToShift(order),
            Ok(ReloaderMessage::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return Woken::ToStop,
            Err(mpsc::RecvTimeoutError::Timeout) => break,
        }
    }
    Woken::ToLook
}
