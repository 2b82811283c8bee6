//! State files in `<data dir>/plugin-state`: what is known of each plugin, by its name, across restarts.
//!
//! The command line and a running server both change them, each under a lock. Like any file, they can be damaged or
//! edited by hand: then nobody goes on without their contents, and nothing is written over them.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self},
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{
    domain::plugin_name::PluginName,
    files::{self, FileAccess},
    plugin::contract::error::Error,
};

/// Limit of the size of a state file: far more than a server ever writes into one.
pub(crate) const MAX_BYTES: u64 = 64 << 20;

pub(crate) struct StateFile {
    pub(crate) name: &'static str,
    /// Description of what is lost without the file.
    pub(crate) bears: &'static str,
}

impl StateFile {
    pub(crate) fn path(&self, data_dir: &Path) -> PathBuf {
        directory(data_dir).join(self.name)
    }

    /// Reads the entries; there are none without the file.
    pub(crate) fn read<T: DeserializeOwned>(&self, data_dir: &Path) -> Result<BTreeMap<String, T>, Error> {
        let file = self.path(data_dir);
        let text = match files::read_text(&file, MAX_BYTES) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
            Err(error) => return Err(Error::Records { file, reason: error.to_string() }),
        };
        let damaged = |reason| Error::Damaged { file, reason, forgotten: self.bears };
        match serde_json::from_str::<BTreeMap<String, T>>(&text) {
            Ok(known) => match known.keys().find_map(|name| name.parse::<PluginName>().err()) {
                Some(invalid) => Err(damaged(invalid.to_string())),
                None => Ok(known),
            },
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    /// Changes the entries; the caller has to hold the [`lock`]. Returns the new entries, or `None` if nothing changed.
    pub(crate) fn change<T: Clone + PartialEq + Serialize + DeserializeOwned>(
        &self,
        data_dir: &Path,
        change: impl FnOnce(&mut BTreeMap<String, T>),
    ) -> Result<Option<BTreeMap<String, T>>, Error> {
        let before = self.read(data_dir)?;
        let mut after = before.clone();
        change(&mut after);
        if after == before {
            return Ok(None);
        }
        let failed = |source| Error::DataDirectory { dir: directory(data_dir), source };
        let mut text = serde_json::to_vec_pretty(&after).map_err(|error| failed(error.into()))?;
        text.push(b'\n');
        files::replace(&self.path(data_dir), &text, FileAccess::Owner).map_err(failed)?;
        Ok(Some(after))
    }
}

/// Directory of the state files.
pub(crate) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("plugin-state")
}

/// Name of the lock file, which is held by whoever changes a state file.
pub(crate) const LOCK: &str = "active.lock";

/// Takes the lock, after waiting for whoever else holds it. Nobody else changes a state file until the returned file
/// is dropped.
pub(crate) fn lock(data_dir: &Path) -> Result<File, Error> {
    let dir = directory(data_dir);
    let locked = || {
        fs::create_dir_all(&dir)?;
        let lock = File::create(dir.join(LOCK))?;
        lock.lock().map(|()| lock)
    };
    locked().map_err(|source| Error::DataDirectory { dir: dir.clone(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_damaged_state_file_is_an_error_that_names_it_and_is_not_changed() {
        let (dir, file) = (tempfile::tempdir().expect("a folder"), StateFile { name: "some.json", bears: "it all" });
        let _lock = lock(dir.path()).expect("locked");
        for text in ["", "{\"a\": ", "[]", "{\"a\": -1}", "{\"../a\": 1}"] {
            fs::write(file.path(dir.path()), text).expect("written");
            let error = file.change(dir.path(), |map: &mut BTreeMap<String, u8>| map.clear()).expect_err("damaged");
            let error = error.to_string();
            assert!(error.starts_with(&format!("{} is damaged: ", file.path(dir.path()).display())), "{error}");
            assert!(error.ends_with("or move it away to discard it all"), "{error}");
            assert_eq!(fs::read_to_string(file.path(dir.path())).expect("there"), text);
        }
        fs::write(file.path(dir.path()), [0xff]).expect("written");
        assert!(matches!(file.read::<u8>(dir.path()), Err(Error::Records { .. })), "no text at all");
    }

    #[test]
    fn writes_0600_and_skips_unchanged() {
        let (dir, file) = (tempfile::tempdir().expect("a folder"), StateFile { name: "some.json", bears: "it" });
        let _lock = lock(dir.path()).expect("locked");
        let change = |change: fn(&mut BTreeMap<String, u8>)| file.change(dir.path(), change).expect("written");
        assert_eq!(change(|_| {}), None);
        assert!(!file.path(dir.path()).exists());
        let written = change(|map| map.extend([("a".to_owned(), 1)]));
        assert_eq!(written, Some(file.read(dir.path()).expect("read")));
        let mode = fs::metadata(file.path(dir.path())).expect("there").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
