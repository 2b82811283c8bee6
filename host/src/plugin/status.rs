//! What an administrator is told of each plugin.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;

use super::{
    Comparison,
    grant::Access,
    limits::Limits,
    loaded::Plugin,
    set::View,
    settings::Mode,
    shadow::ShadowReport,
    standing::{Aside, Making, Why},
};
use crate::domain::time::Timestamp;

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    pub name: String,
    pub file: String,
    pub state: State,
    /// Why the plugin is not active; for an active one, why what stands in the directory is not in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What stands in the directory, where it is not what is in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    pub version: Option<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: Option<String>,
    /// What a rollback would bring back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// The hash of what was in force until an administrator brought this generation back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back_from: Option<String>,
    /// The generation of the set in which this file was loaded.
    pub generation: Option<u64>,
    pub hooks: Vec<&'static str>,
    /// What the loaded plugin asks for, and what its settings grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<Access>,
    pub mode: Mode,
    /// For one in shadow mode: what it would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
    /// Whether something is denied or held back because of the state it is in.
    pub holds: bool,
    pub counts: Counts,
    /// What gives a failing plugin a rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstanceCounts>,
    /// The bounds in force for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, u64>>,
    /// What the plugin counted by itself.
    pub metrics: BTreeMap<String, f64>,
    /// What was left out because there was too much of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    pub last_fault: Option<LastFault>,
    /// How it did on recent events, and on leads from all over the table, before it took part.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

/// What a plugin was tried on. Of one that failed and is in force all the same, also how often and what on first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Trial {
    pub events: usize,
    pub leads: usize,
    pub failed: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl PluginStatus {
    pub(super) fn of(view: &View) -> Self {
        let (plugin, absent) = (view.plugin.as_deref(), view.absent.as_deref());
        let resting = plugin.filter(|plugin| plugin.health.is_resting());
        let hooks = plugin.map(|plugin| plugin.hooks).or(absent.map(|record| record.hooks)).unwrap_or_default();
        let version = plugin.map(|plugin| plugin.manifest.version.to_string());
        let standing = view.standing.as_deref();
        let aside = standing.and_then(|standing| standing.aside.as_ref()).filter(|_| plugin.is_some());
        Self {
            name: view.name.clone(),
            file: format!("{}.wasm", view.name),
            state: resting.map_or(view.state, |_| State::Failing),
            reason: resting.map(|plugin| plugin.health.why()).or_else(|| view.reason.clone()).or_else(|| {
                aside.map(|aside| format!("what stands in the directory is not in force: {}", aside.reason))
            }),
            candidate: view.candidate.clone().or_else(|| aside.map(Candidate::of)),
            version: version.or_else(|| absent.map(|record| record.version.clone())),
            hash: view.hash.clone().or_else(|| absent.map(|record| record.hash.clone())),
            previous: standing.and_then(|standing| standing.previous.as_ref()).map(Previous::of),
            rolled_back_from: standing.and_then(|standing| standing.rolled_back_from.clone()),
            generation: plugin.map(|plugin| plugin.generation),
            hooks: hooks.names(),
            asked: plugin.map(|plugin| plugin.asked()),
            granted: plugin.map(|plugin| plugin.granted()),
            mode: plugin.map(|plugin| plugin.settings.mode).unwrap_or_default(),
            shadow: plugin.filter(|plugin| plugin.is_shadow()).map(|plugin| plugin.observed.lock().report()),
            holds: absent.is_some() || resting.is_some_and(|plugin| plugin.holds()),
            counts: plugin.map(|plugin| plugin.health.counts(plugin.instances().made)).unwrap_or_default(),
            breaker: plugin.map(|plugin| plugin.health.breaker(Instant::now())),
            instances: plugin.map(Plugin::instances),
            limits: plugin.map(|plugin| limits(&plugin.settings.limits)),
            metrics: plugin.map(|plugin| plugin.counters()).unwrap_or_default(),
            dropped: plugin.map(Plugin::dropped),
            last_fault: plugin.and_then(|plugin| plugin.health.last_fault()),
            trial: plugin.and_then(|plugin| plugin.trial.lock().clone()),
        }
    }
}

/// Each by its name, as JSON has names.
pub(super) fn limits(limits: &Limits) -> BTreeMap<String, u64> {
    let camel_case = |name: &str| {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
    };
    limits.list().map(|(name, limit)| (camel_case(name), limit)).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    Active,
    /// It looks on, and nothing comes of what it says.
    Shadow,
    /// Loaded, but in quarantine: after faults in a row it rests, and is asked again by one probe at a time.
    Failing,
    /// The file is not taken, and nothing was loaded before.
    Refused,
    Disabled,
    /// The file went away, and what the plugin decided is held back.
    Missing,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Candidate {
    pub state: CandidateState,
    pub hash: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    pub reason: String,
    /// What it would change, where the gate holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comparison: Option<Comparison>,
}

impl Candidate {
    pub(super) fn refused(hash: Option<String>, reason: String) -> Self {
        Self { state: CandidateState::Refused, hash, version: None, reason, comparison: None }
    }

    fn of(Aside { making, why, reason, comparison }: &Aside) -> Self {
        let state = match why {
            Why::Held => CandidateState::Held,
            Why::Dropped => CandidateState::Dropped,
            Why::RolledBack => CandidateState::RolledBack,
        };
        let (hash, version) = (Some(making.hash.clone()), Some(making.version.clone()));
        Self { state, hash, version, reason: reason.clone(), comparison: comparison.clone() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CandidateState {
    /// It cannot be loaded.
    Refused,
    /// It waits to be promoted or dropped.
    Held,
    Dropped,
    RolledBack,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    pub version: String,
    pub hash: String,
}

impl Previous {
    fn of(Making { hash, version, .. }: &Making) -> Self {
        Self { version: version.clone(), hash: hash.clone() }
    }
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BreakerStatus {
    pub state: Breaker,
    /// Since the last good answer.
    pub faults_in_a_row: u32,
    /// How long this rest is, and how much is left of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rest_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub left_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Breaker {
    /// The plugin is asked.
    Closed,
    /// It rests.
    Open,
    /// The rest is over: the next question is a probe, or one is under way.
    HalfOpen,
}

/// What became of a plugin's instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceCounts {
    pub made: u64,
    /// Waiting to be asked.
    pub warm: u64,
    /// Dropped after a trap, a deadline or an answer that could not be read.
    pub broken: u64,
    /// Replaced after as many calls as one may have.
    pub aged: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dropped {
    /// Lines of the log beyond those of a second.
    pub log_lines: u64,
    /// Counts under names that are none, or one too many.
    pub metrics: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LastFault {
    pub at: Timestamp,
    pub hook: &'static str,
    pub reason: String,
}
