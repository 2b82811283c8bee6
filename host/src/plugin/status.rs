//! What an administrator is told of each plugin.

use std::collections::BTreeMap;

use serde::Serialize;

use super::set::View;
use crate::domain::time::Timestamp;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    pub name: String,
    pub file: String,
    pub state: State,
    /// Why the plugin is not active; for an active one, why a newer file was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// A newer file that was refused while the loaded one goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    pub version: Option<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: Option<String>,
    /// The generation of the set in which this file was loaded.
    pub generation: Option<u64>,
    pub hooks: Vec<&'static str>,
    pub mode: &'static str,
    /// Whether something is denied or held back because of the state it is in.
    pub holds: bool,
    pub counts: Counts,
    /// What the plugin counted by itself.
    pub metrics: BTreeMap<String, f64>,
    pub last_fault: Option<LastFault>,
}

impl PluginStatus {
    pub(super) fn of(view: &View) -> Self {
        let (plugin, absent) = (view.plugin.as_deref(), view.absent.as_deref());
        let resting = plugin.filter(|plugin| plugin.health.is_resting());
        let hooks = plugin.map(|plugin| plugin.hooks).or(absent.map(|record| record.hooks)).unwrap_or_default();
        let version = plugin.map(|plugin| plugin.manifest.version.to_string());
        Self {
            name: view.name.clone(),
            file: format!("{}.wasm", view.name),
            state: resting.map_or(view.state, |_| State::Failing),
            reason: resting.map(|plugin| plugin.health.why()).or_else(|| view.reason.clone()),
            candidate: view.candidate.clone(),
            version: version.or_else(|| absent.map(|record| record.version.clone())),
            hash: view.hash.clone().or_else(|| absent.map(|record| record.hash.clone())),
            generation: plugin.map(|plugin| plugin.generation),
            hooks: hooks.names(),
            mode: "active",
            holds: absent.is_some() || resting.is_some_and(|plugin| plugin.holds()),
            counts: plugin.map(|plugin| plugin.health.counts(plugin.instances())).unwrap_or_default(),
            metrics: plugin.map(|plugin| plugin.counters()).unwrap_or_default(),
            last_fault: plugin.and_then(|plugin| plugin.health.last_fault()),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    /// Loaded, but not answering.
    Failing,
    /// The file is not taken, and nothing was loaded before.
    Refused,
    Disabled,
    /// The file went away, and what the plugin decided is held back.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub hash: Option<String>,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    pub calls: u64,
    pub faults: u64,
    /// Questions that were not asked because the plugin was resting after faults.
    pub skipped: u64,
    /// Instances made so far.
    pub instances: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFault {
    pub at: Timestamp,
    pub hook: &'static str,
    pub reason: String,
}
