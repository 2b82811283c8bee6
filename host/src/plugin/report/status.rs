//! Status snapshot of each plugin, for administrators.
//!
//! `GET /api/plugins` and the status file have it as JSON.

use std::{collections::BTreeMap, time::Instant};

use serde::Serialize;

use crate::{
    domain::counter::Generation,
    plugin::{
        active::{
            counts::{BreakerStatus, Counts, LastFault},
            observed::ShadowReport,
            plugin::Plugin,
            rollout::{Artifact, Candidate, PluginState, Trial},
            set::PluginView,
        },
        contract::{grant::Access, limits::Limits, settings::PluginMode},
        wasm::counts::{Dropped, InstanceCounts},
    },
};

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PluginStatus {
    pub name: String,
    pub file: String,
    pub state: PluginState,
    /// Reason why the plugin is not active; for an active one, why the files in the directory are not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Artifact in the directory, where it is not the active one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub candidate: Option<Candidate>,
    pub version: Option<String>,
    /// SHA-256 of the file, in hexadecimal.
    pub hash: Option<String>,
    /// Generation that a rollback would bring back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous: Option<Previous>,
    /// Hash of the code that was active until an administrator brought this generation back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back_from: Option<String>,
    /// Generation of the set in which this file was loaded.
    pub generation: Option<Generation>,
    pub hooks: Vec<&'static str>,
    /// Access that the loaded plugin requests; `granted` is what its settings grant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub asked: Option<Access>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granted: Option<Access>,
    pub mode: PluginMode,
    /// Report of a plugin in shadow mode: what it would have done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowReport>,
    /// True if something is denied or held back because of its state.
    pub holds: bool,
    pub counts: Counts,
    /// Circuit breaker, which stops the calls of a failing plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerStatus>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<InstanceCounts>,
    /// Limits of the plugin, by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<BTreeMap<String, u64>>,
    /// Metrics that the plugin counted by itself.
    pub metrics: BTreeMap<String, f64>,
    /// Log lines and metrics that were dropped because there were too many.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dropped: Option<Dropped>,
    pub last_fault: Option<LastFault>,
    /// Result of its trial on recent events, and on leads from all over the table, before it became active.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trial: Option<Trial>,
}

impl PluginStatus {
    pub(crate) fn of(view: &PluginView) -> Self {
        let (plugin, absent) = (view.plugin.as_deref(), view.absent.as_deref());
        let resting = plugin.filter(|plugin| plugin.breaker.is_open());
        let hooks = plugin.map(|plugin| plugin.hooks).or(absent.map(|record| record.hooks)).unwrap_or_default();
        let version = plugin.map(|plugin| plugin.manifest.version.to_string());
        let rollout = view.rollout.as_deref();
        let aside = rollout.and_then(|rollout| rollout.aside.as_ref()).filter(|_| plugin.is_some());
        Self {
            name: view.name.clone(),
            file: format!("{}.wasm", view.name),
            state: resting.map_or(view.state, |_| PluginState::Failing),
            reason: resting
                .map(|plugin| plugin.breaker.why())
                .or_else(|| view.reason.clone())
                .or_else(|| aside.map(|aside| format!("the file in the directory is not active: {}", aside.reason))),
            candidate: view.candidate.clone().or_else(|| aside.map(Candidate::of)),
            version: version.or_else(|| absent.map(|record| record.version.clone())),
            hash: view.hash.clone().or_else(|| absent.map(|record| record.hash.clone())),
            previous: rollout.and_then(|rollout| rollout.previous.as_ref()).map(Previous::of),
            rolled_back_from: rollout.and_then(|rollout| rollout.rolled_back_from.clone()),
            generation: plugin.map(|plugin| plugin.generation),
            hooks: hooks.names(),
            asked: plugin.map(Plugin::asked),
            granted: plugin.map(Plugin::granted),
            mode: plugin.map(|plugin| plugin.settings.mode).unwrap_or_default(),
            shadow: plugin.filter(|plugin| plugin.is_shadow()).map(|plugin| plugin.observed.lock().report()),
            holds: absent.is_some() || resting.is_some_and(Plugin::holds),
            counts: plugin.map(|plugin| plugin.breaker.counts(plugin.instances().made)).unwrap_or_default(),
            breaker: plugin.map(|plugin| plugin.breaker.breaker(Instant::now())),
            instances: plugin.map(Plugin::instances),
            limits: plugin.map(|plugin| limits(&plugin.settings.limits)),
            metrics: plugin.map(Plugin::counters).unwrap_or_default(),
            dropped: plugin.map(Plugin::dropped),
            last_fault: plugin.and_then(|plugin| plugin.breaker.last_fault()),
            trial: plugin.and_then(|plugin| plugin.trial.lock().clone()),
        }
    }
}

/// Lists the limits by name, in camel case as in JSON.
pub(crate) fn limits(limits: &Limits) -> BTreeMap<String, u64> {
    let camel_case = |name: &str| {
        let mut words = name.split('_');
        let first = words.next().unwrap_or_default().to_owned();
        words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
    };
    limits.list().map(|(name, limit)| (camel_case(name), limit)).collect()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Previous {
    pub version: String,
    pub hash: String,
}

impl Previous {
    fn of(Artifact { hash, version, .. }: &Artifact) -> Self {
        Self { version: version.clone(), hash: hash.clone() }
    }
}
