//! What an administrator is told of each plugin.

use serde::Serialize;

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
    pub counts: Counts,
    pub last_fault: Option<LastFault>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    /// Loaded, or remembered, but not answering.
    Failing,
    Refused,
    Disabled,
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
