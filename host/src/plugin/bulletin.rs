//! What a running server makes of its plugins, put up in a file for the command line of whoever may read the data
//! directory: no token is needed, and no port.
//!
//! A lock beside the file is held as long as the server lives, so a bulletin of one that is gone is not believed.

use std::{
    fs::{self, File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{PluginStatus, Shared, error::Error, file, state_file, status::Counts};

/// How old the news may be.
const ROUND: Duration = Duration::from_millis(500);
/// Numbers alone are no news; they are brought up to date now and then.
const NUMBERS: Duration = Duration::from_secs(10);

/// Puts up a bulletin, and keeps it true as long as the plugins are there.
///
/// Without the lock it does nothing: another server of this data directory has one up.
pub(super) fn start(data_dir: &Path, plugins: &Path, shared: &Arc<Shared>) -> Result<(), Error> {
    let dir = directory(data_dir);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(failed)?;
    let lock = File::create(dir.join("lock")).map_err(failed)?;
    if lock.try_lock().is_err() {
        return Ok(());
    }
    let folder = fs::canonicalize(plugins).unwrap_or_else(|_| plugins.to_owned());
    let mut board = Board { dir: dir.clone(), folder, shown: Value::Null, since: Instant::now() };
    board.put_up(shared).map_err(failed)?;
    let weak = Arc::downgrade(shared);
    let run = move || {
        // Held until the end.
        let _lock = lock;
        keep(board, &weak);
    };
    thread::Builder::new().name("plugin-bulletin".into()).spawn(run).map_err(failed)?;
    Ok(())
}

/// The bulletin of the server that runs on this data directory: `{pid, directory, generation, items}`, the items as
/// `GET /api/plugins` has them. `None` when no server runs.
///
/// # Errors
///
/// When there is a bulletin that cannot be read.
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
    let text = file::read_text(&file, state_file::MAX_BYTES).map_err(failed)?;
    let read = serde_json::from_str(&text).map_err(|error| Error::Records { file, reason: error.to_string() });
    read.map(Some)
}

/// A folder of its own: the one above is watched for changes that matter to the plugins.
fn directory(data_dir: &Path) -> PathBuf {
    state_file::directory(data_dir).join("bulletin")
}

fn keep(mut board: Board, shared: &Weak<Shared>) {
    let mut told = false;
    loop {
        thread::sleep(ROUND);
        let Some(shared) = shared.upgrade() else { return };
        let put_up = board.put_up(&shared);
        if let (Err(error), false) = (&put_up, told) {
            tracing::warn!("cannot write {}: {error}", board.dir.display());
        }
        told = put_up.is_err();
    }
}

struct Board {
    dir: PathBuf,
    /// Where the server takes plugins from.
    folder: PathBuf,
    /// What is up there, without numbers that change by themselves.
    shown: Value,
    since: Instant,
}

impl Board {
    fn put_up(&mut self, shared: &Shared) -> io::Result<()> {
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
        let bulletin =
            json!({"pid": std::process::id(), "directory": self.folder, "generation": set.generation, "items": items});
        let next = self.dir.join("plugins.json.next");
        fs::write(&next, bulletin.to_string())?;
        fs::rename(&next, self.dir.join("plugins.json"))?;
        (self.shown, self.since) = (shown, Instant::now());
        Ok(())
    }
}
