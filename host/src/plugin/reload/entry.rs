//! Entry of one plugin in the reloader: its view and the fingerprints of its files, kept between two reloads.
//!
//! Also the entries of plugins that are missing or refused.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::SystemTime};

use crate::{
    domain::counter::Generation,
    plugin::{
        active::{
            plugin::Plugin,
            rollout::{Artifact, Candidate, PluginState},
            set::PluginView,
            tombstone::Tombstone,
        },
        contract::grant::Grant,
    },
};

/// State of one plugin that is kept between two reloads.
#[derive(Clone)]
pub(crate) struct PluginEntry {
    pub(crate) view: PluginView,
    /// Fingerprint of the loaded plugin.
    pub(crate) loaded: Option<Fingerprint>,
    /// Fingerprint that was refused last, and is not tried again.
    pub(crate) refused: Option<Fingerprint>,
}

/// Fingerprint of a plugin's files: the hash of the code, and the text of the settings.
pub(crate) type Fingerprint = (Option<String>, Option<String>);

/// Snapshot of the directory from outside (path, size, time): enough to see that nothing happened.
pub(crate) type DirectorySnapshot = Vec<(PathBuf, u64, Option<SystemTime>)>;

#[derive(Default)]
pub(crate) struct EntryFiles {
    pub(crate) code: Option<PathBuf>,
    pub(crate) settings: Option<PathBuf>,
}

impl PluginEntry {
    pub(crate) fn idle(name: &str, state: PluginState, reason: Option<String>, absent: Option<&Tombstone>) -> Self {
        let absent = absent.map(|record| Arc::new(record.clone()));
        let view = PluginView {
            name: name.into(),
            state,
            reason,
            hash: None,
            candidate: None,
            plugin: None,
            absent,
            rollout: None,
        };
        Self { view, loaded: None, refused: None }
    }

    pub(crate) fn working(plugin: Arc<Plugin>, fingerprint: Fingerprint) -> Self {
        Self { view: PluginView::working(plugin), loaded: Some(fingerprint), refused: None }
    }

    /// Returns true if the loaded plugin, if there is one, requests no more than `grant` allows.
    pub(crate) fn is_within(&self, grant: &Grant) -> bool {
        self.view.plugin.as_ref().is_none_or(|plugin| plugin.is_within(grant))
    }
}

/// Makes the entry of a plugin whose file is missing: `None`, unless it held something back.
pub(crate) fn missing(name: &str, record: Option<&Tombstone>, old: &Option<PluginEntry>) -> Option<PluginEntry> {
    let record = record?;
    tracing_once(old, PluginState::Missing, || {
        tracing::error!(
            plugin = name,
            "{name}.wasm is missing; its hooks fail closed until the file is back or the plugin is removed"
        );
    });
    let reason = format!("its file is missing: put {name}.wasm back, or run `leadwire plugin remove {name}`");
    Some(PluginEntry::idle(name, PluginState::Missing, Some(reason), Some(record)))
}

/// Makes the entry of a file that is refused: the plugin loaded before stays active, if there is one.
pub(crate) fn refuse(
    name: &str,
    fingerprint: Fingerprint,
    reason: String,
    record: Option<&Tombstone>,
    old: Option<PluginEntry>,
) -> PluginEntry {
    tracing::error!(plugin = name, "{name} is refused: {reason}");
    if let Some(mut old) = old.filter(|old| old.view.plugin.is_some()) {
        old.view.reason = Some(format!("a newer file is refused: {reason}"));
        old.view.candidate = Some(Candidate::refused(fingerprint.0.clone(), reason));
        old.refused = Some(fingerprint);
        return old;
    }
    let mut entry = PluginEntry::idle(name, PluginState::Refused, Some(reason), record);
    entry.view.hash = fingerprint.0.clone();
    entry.refused = Some(fingerprint);
    entry
}

/// Returns true if other plugins are active.
pub(crate) fn differs(old: &BTreeMap<String, PluginEntry>, new: &BTreeMap<String, PluginEntry>) -> bool {
    let force = |entries: &BTreeMap<String, PluginEntry>| -> Vec<(String, Option<Generation>, bool)> {
        let counts = entries.values().map(|entry| &entry.view);
        let counts = counts.filter(|view| view.plugin.is_some() || view.absent.is_some());
        counts
            .map(|view| {
                (view.name.clone(), view.plugin.as_ref().map(|plugin| plugin.generation), view.absent.is_some())
            })
            .collect()
    };
    force(old) != force(new)
}

/// Text of the settings; without a file it is empty.
pub(crate) fn settings(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// Returns the artifact of a fingerprint, without its version.
pub(crate) fn artifact(fingerprint: &Fingerprint) -> Artifact {
    let (hash, text) = fingerprint;
    Artifact { hash: hash.clone().unwrap_or_default(), version: String::new(), settings: settings(text).into() }
}

/// Updates the view of a refused file, in case the tombstone of the plugin has changed meanwhile.
pub(crate) fn held(mut view: PluginView, record: Option<&Tombstone>) -> PluginView {
    if view.plugin.is_none() {
        view.absent = record.map(|record| Arc::new(record.clone()));
    }
    view
}

pub(crate) fn tracing_once(old: &Option<PluginEntry>, state: PluginState, log: impl FnOnce()) {
    if old.as_ref().is_none_or(|old| old.view.state != state) {
        log();
    }
}
