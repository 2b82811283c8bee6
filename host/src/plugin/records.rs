//! The names of active plugins, kept across restarts in `<data dir>/plugin-state/active.json`.
//!
//! A file that goes away takes its code with it, but not what it stood for: a plugin that denied or hid something
//! keeps holding that back until an administrator says that it is gone. So what it held back is written down here.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    bindings::{Hides, Hooks},
    error::Error,
    loaded::Plugin,
    manifest::{Events, Roles},
    pointer::Pointer,
    settings::OnMissing,
    state_file::{self, StateFile},
};
use crate::domain::role::Role;

pub(super) type Records = BTreeMap<String, Record>;

/// What is known of a plugin that was active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) version: String,
    pub(super) hash: String,
    /// As the archive keeps them. Not known of older records.
    #[serde(default)]
    pub(super) settings: Option<String>,
    pub(super) hooks: Hooks,
    /// Whether its failure holds something back.
    pub(super) holds: bool,
    /// Whether that goes for `enrich` too.
    pub(super) enrich_holds: bool,
    pub(super) on_missing: OnMissing,
    events: Events,
    #[serde(default)]
    commands: Events,
    roles: Vec<Role>,
    hides: BTreeMap<Role, Vec<Pointer>>,
}

impl Record {
    pub(super) fn of(plugin: &Plugin, on_missing: OnMissing) -> Self {
        let pointers = |role: Role| plugin.hides.of(role).to_vec();
        let hides = Role::ALL.into_iter().map(|role| (role, pointers(role)));
        Self {
            version: plugin.manifest.version.to_string(),
            hash: plugin.hash.clone(),
            settings: Some(plugin.origin.settings.clone()),
            hooks: plugin.hooks,
            holds: plugin.holds(),
            enrich_holds: plugin.enrich_is_closed(),
            on_missing: plugin.settings.on_missing.unwrap_or(on_missing),
            events: plugin.manifest.events.clone(),
            commands: plugin.commands.clone(),
            roles: plugin.manifest.roles.iter().collect(),
            hides: hides.filter(|(_, pointers)| !pointers.is_empty()).collect(),
        }
    }

    pub(super) fn events(&self) -> Events {
        self.events.clone()
    }

    pub(super) fn commands(&self) -> Events {
        self.commands.clone()
    }

    pub(super) fn roles(&self) -> Roles {
        let mut roles = Roles::NONE;
        self.roles.iter().for_each(|role| roles.insert(*role));
        roles
    }

    pub(super) fn hides(&self) -> Hides {
        let mut hides = Hides::default();
        for (role, pointers) in &self.hides {
            pointers.iter().for_each(|pointer| hides.insert(*role, pointer.clone()));
        }
        hides
    }
}

const FILE: StateFile = StateFile { name: "active.json", bears: "what plugins without their files hold back" };

pub(super) fn file(data_dir: &Path) -> PathBuf {
    FILE.path(data_dir)
}

pub(super) fn read(data_dir: &Path) -> Result<Records, Error> {
    FILE.read(data_dir)
}

/// Changes what is written down; nothing is written when nothing changed.
pub(super) fn update(data_dir: &Path, change: impl FnOnce(&mut Records)) -> Result<(), Error> {
    let _lock = state_file::lock(data_dir)?;
    FILE.change(data_dir, change).map(drop)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_a_plugin_held_back_is_an_error_where_it_cannot_be_rather_than_nothing() {
        let record = json!({
            "version": "1.0.0", "hash": "", "hooks": {"filter": true}, "holds": true, "enrichHolds": false,
            "onMissing": "fail", "events": ["*"], "roles": ["VIEWER"], "hides": {"VIEWER": ["/lead/phone"]},
        });
        assert!(serde_json::from_value::<Record>(record.clone()).is_ok());
        let refusal = |key: &str, value| {
            let mut record = record.clone();
            record[key] = value;
            serde_json::from_value::<Record>(record).expect_err("refused").to_string()
        };
        assert!(refusal("events", json!(["lead *"])).contains("is no event: expected a name"));
        assert!(refusal("commands", json!([""])).contains("is no event"));
        assert!(refusal("hides", json!({"VIEWER": ["lead"]})).contains("must start with"));
        assert!(refusal("roles", json!(["viewer"])).contains("expected one of"));
    }
}
