//! Status file: the status of the plugins of a running server, for the command line of whoever may read the data
//! directory. It needs no token and no port.
//!
//! A lock beside the file is held as long as the server lives, so the file of a server that is gone is not trusted.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    files::{self, FileAccess},
    plugin::{
        active::counts::Counts,
        contract::error::Error,
        reload::{active_set::ActiveSet, state_file},
        report::status::PluginStatus,
    },
};

/// Interval of writes: a change may take this long to appear.
const ROUND: Duration = Duration::from_millis(500);
/// Interval of writes when only numbers have changed: they alone are not worth a write each time.
const NUMBERS: Duration = Duration::from_secs(10);

/// Writes the status file, and keeps it up to date as long as the plugins are there.
///
/// Does nothing without the lock: another server of this data directory writes the file.
pub(crate) fn start(data_dir: &Path, plugins: &Path, shared: &Arc<ActiveSet>) -> Result<(), Error> {
    let dir = directory(data_dir);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(failed)?;
    let lock = File::create(dir.join("lock")).map_err(failed)?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let folder = fs::canonicalize(plugins).unwrap_or_else(|_| plugins.to_owned());
    let mut writer = StatusWriter { dir: dir.clone(), folder, shown: Value::Null, since: Instant::now() };
    writer.write(shared).map_err(failed)?;
    let weak = Arc::downgrade(shared);
    let run = move || {
        // Held until the thread ends.
        let _lock = lock;
        run_loop(writer, &weak);
    };
    thread::Builder::new().name("plugin-status".into()).spawn(run).map_err(failed)?;
    Ok(())
}

/// Reads the status of the server that runs on this data directory: `{pid, directory, generation, items}`, the items
/// as in `GET /api/plugins`. `None` when no server runs.
///
/// # Errors
///
/// When there is a status file that cannot be read.
pub fn read(data_dir: &Path) -> Result<Option<Value>, Error> {
    let dir = directory(data_dir);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    match File::open(dir.join("lock")).map(|lock| lock.try_lock_shared()) {
        Ok(Err(TryLockError::WouldBlock)) => {}
        Ok(_) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    let file = dir.join("plugins.json");
    let text = files::read_text(&file, state_file::MAX_BYTES).map_err(failed)?;
    let read = serde_json::from_str(&text).map_err(|error| Error::Records { file, reason: error.to_string() });
    read.map(Some)
}

/// Directory of the status file, separate from the one above, which is watched for changes that matter to the plugins.
/// Its name on disk stays as it was: under another one, an upgrade would leave this one behind in the data directory.
fn directory(data_dir: &Path) -> PathBuf {
    state_file::directory(data_dir).join("bulletin")
}

fn run_loop(mut writer: StatusWriter, shared: &Weak<ActiveSet>) {
    let mut is_failing = false;
    loop {
        thread::sleep(ROUND);
        let Some(shared) = shared.upgrade() else { return };
        let written = writer.write(&shared);
        if let (Err(error), false) = (&written, is_failing) {
            tracing::warn!("cannot write {}: {error}", writer.dir.display());
        }
        is_failing = written.is_err();
    }
}

struct StatusWriter {
    dir: PathBuf,
    /// Directory that the server loads plugins from.
    folder: PathBuf,
    /// Status that was written last, without numbers that change by themselves.
    shown: Value,
    since: Instant,
}

impl StatusWriter {
    fn write(&mut self, shared: &ActiveSet) -> io::Result<()> {
        let set = shared.set.load();
        let items: Vec<PluginStatus> = set.views.iter().map(PluginStatus::of).collect();
        let still = |status: &PluginStatus| {
            json!(PluginStatus {
                counts: Counts::default(),
                metrics: Default::default(),
                shadow: None,
                last_fault: None,
                breaker: None,
                instances: None,
                ..status.clone()
            })
        };
        let shown: Value = items.iter().map(still).collect();
        if shown == self.shown && self.since.elapsed() < NUMBERS {
            return Ok(());
        }
        let status =
            json!({"pid": std::process::id(), "directory": self.folder, "generation": set.generation, "items": items});
        files::replace_unsynced(&self.dir.join("plugins.json"), status.to_string().as_bytes(), FileAccess::Owner)?;
        (self.shown, self.since) = (shown, Instant::now());
        Ok(())
    }
}
