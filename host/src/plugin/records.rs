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
    pub(super) hooks: Hooks,
    /// Whether its failure holds something back.
    pub(super) holds: bool,
    /// Whether that goes for `enrich` too.
    pub(super) enrich_holds: bool,
    pub(super) on_missing: OnMissing,
    events: Vec<String>,
    #[serde(default)]
    commands: Vec<String>,
    roles: Vec<Role>,
    hides: BTreeMap<Role, Vec<String>>,
}

impl Record {
    pub(super) fn of(plugin: &Plugin, on_missing: OnMissing) -> Self {
        let pointers = |role: Role| plugin.hides.of(role).iter().map(Pointer::to_string).collect::<Vec<_>>();
        let hides = Role::ALL.into_iter().map(|role| (role, pointers(role)));
        Self {
            version: plugin.manifest.version.to_string(),
            hash: plugin.hash.clone(),
            hooks: plugin.hooks,
            holds: plugin.holds(),
            enrich_holds: plugin.enrich_is_closed(),
            on_missing: plugin.settings.on_missing.unwrap_or(on_missing),
            events: plugin.manifest.events.patterns().to_vec(),
            commands: plugin.commands.patterns().to_vec(),
            roles: plugin.manifest.roles.iter().collect(),
            hides: hides.filter(|(_, pointers)| !pointers.is_empty()).collect(),
        }
    }

    pub(super) fn events(&self) -> Events {
        Events::parse(self.events.clone()).unwrap_or_default()
    }

    pub(super) fn commands(&self) -> Events {
        Events::parse(self.commands.clone()).unwrap_or_default()
    }

    pub(super) fn roles(&self) -> Roles {
        let mut roles = Roles::NONE;
        self.roles.iter().for_each(|role| roles.insert(*role));
        roles
    }

    pub(super) fn hides(&self) -> Hides {
        let mut hides = Hides::default();
        for (role, pointers) in &self.hides {
            let pointers = pointers.iter().filter_map(|text| Pointer::parse(text.clone()).ok());
            pointers.for_each(|pointer| hides.insert(*role, pointer));
        }
        hides
    }
}

const FILE: StateFile = StateFile { name: "active.json" };

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
