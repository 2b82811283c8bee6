//! Tombstone of a plugin: what it still holds back when its file is gone, until an operator removes it.
//!
//! It is recorded while the plugin is active, and kept across restarts.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    domain::role::{Role, Roles},
    plugin::{
        active::plugin::Plugin,
        contract::{
            answer::Hides,
            manifest::{Events, Hooks},
            pointer::Pointer,
            settings::OnMissing,
        },
    },
};

/// Tombstone: what is known of a plugin that was active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Tombstone {
    pub(crate) version: String,
    pub(crate) hash: String,
    /// Settings as the archive keeps them. Not known of older tombstones.
    #[serde(default)]
    pub(crate) settings: Option<String>,
    pub(crate) hooks: Hooks,
    /// Set when its failure holds something back.
    pub(crate) holds: bool,
    /// Set when that applies to `enrich` too.
    pub(crate) enrich_holds: bool,
    pub(crate) on_missing: OnMissing,
    events: Events,
    #[serde(default)]
    commands: Events,
    roles: Vec<Role>,
    hides: BTreeMap<Role, Vec<Pointer>>,
}

impl Tombstone {
    pub(crate) fn of(plugin: &Plugin, on_missing: OnMissing) -> Self {
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

    pub(crate) fn events(&self) -> Events {
        self.events.clone()
    }

    pub(crate) fn commands(&self) -> Events {
        self.commands.clone()
    }

    pub(crate) fn roles(&self) -> Roles {
        let mut roles = Roles::NONE;
        self.roles.iter().for_each(|role| roles.insert(*role));
        roles
    }

    pub(crate) fn hides(&self) -> Hides {
        let mut hides = Hides::default();
        for (role, pointers) in &self.hides {
            pointers.iter().for_each(|pointer| hides.insert(*role, pointer.clone()));
        }
        hides
    }
}
