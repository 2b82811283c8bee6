//! The names of active plugins, kept across restarts in `<data dir>/plugin-state/active.json`.
//!
//! A file that goes away takes its code with it, but not what it stood for: a plugin that denied or hid something
//! keeps holding that back until an administrator says that it is gone. So what it held back is written down here.
//! The command line and a running server both change the file, each under a lock.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
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

/// Held by whoever changes the records.
pub(super) const LOCK: &str = "active.lock";

/// Where the server keeps what it knows of plugins.
pub(super) fn directory(data_dir: &Path) -> PathBuf {
    data_dir.join("plugin-state")
}

pub(super) fn read(data_dir: &Path) -> Result<Records, Error> {
    let file = directory(data_dir).join("active.json");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Records::new()),
        Err(error) => return Err(Error::Records { file, reason: error.to_string() }),
    };
    serde_json::from_str(&text).map_err(|error| Error::Records { file, reason: error.to_string() })
}

/// Changes what is written down; nothing is written when nothing changed.
pub(super) fn update(data_dir: &Path, change: impl FnOnce(&mut Records)) -> Result<(), Error> {
    let dir = directory(data_dir);
    let failed = |source| Error::DataDirectory { dir: dir.clone(), source };
    fs::create_dir_all(&dir).map_err(failed)?;
    let lock = File::create(dir.join(LOCK)).map_err(failed)?;
    lock.lock().map_err(failed)?;
    let before = read(data_dir)?;
    let mut records = before.clone();
    change(&mut records);
    if records == before {
        return Ok(());
    }
    replace(&dir, &records).map_err(failed)
}

/// Puts the new file in place whole, so that a crash leaves the old or the new one.
fn replace(dir: &Path, records: &Records) -> io::Result<()> {
    let next = dir.join("active.json.next");
    let mut file = File::create(&next)?;
    serde_json::to_writer_pretty(&mut file, records)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&next, dir.join("active.json"))?;
    File::open(dir)?.sync_all()
}
