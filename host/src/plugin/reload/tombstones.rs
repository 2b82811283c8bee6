//! Tombstones of active plugins, by name, kept across restarts in `<data dir>/plugin-state/active.json`.
//!
//! A plugin whose file was deleted keeps failing closed: what it denied or hid stays held back until an administrator
//! removes the plugin. So what it held back is recorded here while it is active.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use crate::plugin::{
    active::tombstone::Tombstone,
    contract::error::Error,
    reload::state_file::{self, StateFile},
};

pub(crate) type Records = BTreeMap<String, Tombstone>;

const FILE: StateFile = StateFile { name: "active.json", bears: "the tombstones of plugins whose files are missing" };

pub(crate) fn file(data_dir: &Path) -> PathBuf {
    FILE.path(data_dir)
}

pub(crate) fn read(data_dir: &Path) -> Result<Records, Error> {
    FILE.read(data_dir)
}

/// Changes the tombstones; writes nothing when nothing changed.
pub(crate) fn update(data_dir: &Path, change: impl FnOnce(&mut Records)) -> Result<(), Error> {
    let _lock = state_file::lock(data_dir)?;
    FILE.change(data_dir, change).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_invalid_tombstone_is_an_error_and_not_ignored() {
        let record = json!({
            "version": "1.0.0", "hash": "", "hooks": {"filter": true}, "holds": true, "enrichHolds": false,
            "onMissing": "fail", "events": ["*"], "roles": ["VIEWER"], "hides": {"VIEWER": ["/lead/phone"]},
        });
        assert!(serde_json::from_value::<Tombstone>(record.clone()).is_ok());
        let refusal = |key: &str, value| {
            let mut record = record.clone();
            record[key] = value;
            serde_json::from_value::<Tombstone>(record).expect_err("refused").to_string()
        };
        assert!(refusal("events", json!(["lead *"])).contains("is not an event: expected a name"));
        assert!(refusal("commands", json!([""])).contains("is not an event"));
        assert!(refusal("hides", json!({"VIEWER": ["lead"]})).contains("must start with"));
        assert!(refusal("roles", json!(["viewer"])).contains("\"viewer\" is not a role: expected ADMIN"));
    }
}
