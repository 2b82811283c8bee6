//! Gate of reloads: what is active while the directory says otherwise.
//!
//! That is the case for a reload that the gate holds, one that an operator dropped, and a generation that was brought
//! back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::plugin::{
    active::{
        plugin::Plugin,
        rollout::{Artifact, Rollout, RolloutCommand, RolloutError, Rollouts},
        set::{PluginView, Set},
        tombstone::Tombstone,
    },
    contract::{
        diff::Comparison,
        error::{Error, LoadError},
        settings::PluginSettings,
    },
    reload::{
        active_set::{ActiveSet, TriedOn},
        archive, code_store,
        entry::{DirectorySnapshot, Fingerprint, PluginEntry, artifact, refuse, settings},
        generations,
        reloader::Reloader,
        tombstones,
    },
};

impl Reloader {
    /// Executes a command of an operator, and activates the result.
    pub(crate) fn shift(
        &mut self,
        shared: &Arc<ActiveSet>,
        name: &str,
        shift: &RolloutCommand,
    ) -> Result<(), RolloutError> {
        let wanted = self.write_shift(name, shift)?;
        self.seen = self.scan()?;
        if let Err(error) = self.apply(shared) {
            // The next scan differs from an empty snapshot, and so tries again.
            self.seen = DirectorySnapshot::new();
            return Err(error.into());
        }
        let Some(wanted) = wanted else { return Ok(()) };
        let entry = self.entries.get(name);
        let rollout = entry.and_then(|entry| entry.view.rollout.as_deref());
        wanting(entry, rollout, &wanted).map_or(Ok(()), |why| Err(RolloutError::NotInForce(why)))
    }

    /// Records a command of an operator, unless it would have no effect; returns the artifact to activate.
    pub(crate) fn write_shift(&self, name: &str, shift: &RolloutCommand) -> Result<Option<Artifact>, RolloutError> {
        generations::shift(&self.settings.data_dir, name, shift, |shifted, wanted| self.rehearse(name, shifted, wanted))
    }

    /// Checks that a plugin with this rollout state would have the wanted artifact active.
    fn rehearse(&self, name: &str, shifted: &Rollout, wanted: &Artifact) -> Result<(), RolloutError> {
        let records = tombstones::read(&self.settings.data_dir)?;
        let files = self.files(&self.scan()?).remove(name).unwrap_or_default();
        let mut rollout = shifted.clone();
        let entry = self.evaluate(name, files, records.get(name), self.entries.get(name).cloned(), &mut rollout);
        wanting(entry.as_ref(), Some(&rollout), wanted).map_or(Ok(()), |why| Err(RolloutError::Useless(why)))
    }

    /// Returns the entry as it was, unless an operator ordered another generation to be active.
    pub(crate) fn as_ordered(
        &self,
        name: &str,
        files: &Artifact,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        rollout: &Rollout,
        today: &CurrentSettings<'_>,
    ) -> Option<PluginEntry> {
        let Some(current) = rollout.current.as_ref().filter(|current| !current.is(files)) else { return old };
        match &old {
            Some(entry) if entry.view.plugin.is_some() && !entry.is_made_of(current) => {
                self.bring_back(name, current, record, old, today)
            }
            _ => old,
        }
    }

    /// Returns the entry that stays active while the files in the directory are rejected.
    pub(crate) fn keep_active(
        &self,
        name: &str,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        rollout: &Rollout,
        today: &CurrentSettings<'_>,
    ) -> Option<PluginEntry> {
        let Some(current) = &rollout.current else { return old };
        match old {
            Some(mut entry) if entry.is_made_of(current) && entry.is_allowed_by(today) => {
                entry.view.candidate = None;
                entry.view.reason = None;
                entry.refused = None;
                Some(entry)
            }
            old => self.bring_back(name, current, record, old, today),
        }
    }

    /// Loads a generation from its stored code and settings, with what is granted today.
    fn bring_back(
        &self,
        name: &str,
        artifact: &Artifact,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        today: &CurrentSettings<'_>,
    ) -> Option<PluginEntry> {
        let fingerprint: Fingerprint = (Some(artifact.hash.clone()), Some(artifact.settings.clone()));
        let loaded = code_store::load(&self.settings.data_dir, &artifact.hash)
            .and_then(|code| Ok((code, PluginSettings::parse_over(&artifact.settings, &self.settings.limits)?)))
            .and_then(|(code, settings)| Ok((code, settings.allowed_by(today.as_ref().map_err(String::clone)?))))
            .map_err(LoadError)
            .and_then(|(code, settings)| {
                self.load(name, code, artifact.hash.clone(), settings, archive::settings_of(Some(&artifact.settings)))
            });
        Some(match loaded {
            Ok(plugin) => PluginEntry::working(plugin, fingerprint),
            Err(LoadError(reason)) => {
                let reason = format!("cannot load the generation to activate: {reason}");
                refuse(name, fingerprint, reason, record, old)
            }
        })
    }

    /// Holds a reload that changes more than the operator allows: returns the entry that stays active in its place, or
    /// `None` when the reload may pass.
    ///
    /// A reload that replaces nothing is not held: a first activation, or one after a time of being disabled or in
    /// shadow mode. Nor is one that replaces a plugin whose access is no longer granted.
    pub(crate) fn hold(
        &self,
        plugin: &Arc<Plugin>,
        files: &Artifact,
        record: Option<&Tombstone>,
        old: Option<&PluginEntry>,
        rollout: &mut Rollout,
    ) -> Option<PluginEntry> {
        let max_change = plugin.settings.gate.max_change.or(self.settings.gate.max_change)?;
        let was_active = old.is_some_and(|entry| entry.view.plugin.is_some()) || record.is_some();
        if !was_active || plugin.is_shadow() || rollout.wants(files) {
            return None;
        }
        let entry = self.keep_active(plugin.name(), record, old.cloned(), rollout, &Ok(&plugin.settings))?;
        let in_force = entry.view.plugin.as_ref().filter(|in_force| !in_force.is_shadow())?;
        if !in_force.is_within(&plugin.settings.grant) {
            return None;
        }
        let comparison = self.compare(in_force, plugin);
        if comparison.share() <= max_change {
            return None;
        }
        let (name, version) = (plugin.name(), &plugin.manifest.version);
        let (differing, asked) = (comparison.differing, comparison.role_events);
        tracing::warn!(
            plugin = name.as_str(), %version, hash = plugin.hash, differing, asked,
            "held {name} {version}: its share of changed recent events exceeds gate.max_change = {max_change}"
        );
        rollout.hold(files.clone(), comparison, max_change);
        Some(entry)
    }

    /// Compares recent events with one plugin in place of another, among the active ones.
    fn compare(&self, before: &Plugin, after: &Plugin) -> Comparison {
        let others = || self.entries.values().map(|entry| &entry.view).filter(|view| *before.name() != view.name);
        let views: Vec<PluginView> = others().cloned().collect();
        let set = |plugin: &Plugin| {
            let active = others().filter_map(|view| view.plugin.as_deref()).filter(|plugin| !plugin.is_shadow());
            Set::assemble(active.chain([plugin]).map(|plugin| Arc::new(plugin.apart())).collect(), &views)
        };
        let (before, after) = (set(before), set(after));
        let mut comparison = Comparison::default();
        for event in (self.recent)(TriedOn::Recent(self.settings.dry_run_events)) {
            comparison.try_both(&before, &after, &event);
        }
        comparison
    }

    /// Records the generations, and stores their code. `read` is what this reload began with: what somebody has changed
    /// since then is left alone, and handled by the next reload.
    pub(crate) fn write_generations(
        &self,
        read: &Rollouts,
        entries: &BTreeMap<String, PluginEntry>,
    ) -> Result<(), Error> {
        let plugins = entries.values().filter_map(|entry| entry.view.plugin.as_deref());
        let code: Vec<(&str, &[u8])> = plugins.map(|plugin| (plugin.hash.as_str(), &*plugin.origin.bytes)).collect();
        generations::update(&self.settings.data_dir, &code, |stored| {
            let names: BTreeSet<&String> = read.keys().chain(entries.keys()).collect();
            for name in names {
                if stored.get(name) != read.get(name) {
                    continue;
                }
                match entries.get(name).and_then(|entry| entry.view.rollout.as_deref()) {
                    Some(rollout) => drop(stored.insert(name.clone(), rollout.clone())),
                    None => drop(stored.remove(name)),
                }
            }
        })
    }
}

/// Explains why something other than the wanted artifact is active, or nothing; `None` where it is active.
fn wanting(entry: Option<&PluginEntry>, rollout: Option<&Rollout>, wanted: &Artifact) -> Option<String> {
    let Some(entry) = entry else { return Some("its file is missing".into()) };
    let is_loaded = entry.view.plugin.is_some()
        && entry.loaded.as_ref().is_some_and(|fingerprint| artifact(fingerprint).is(wanted));
    if is_loaded {
        return None;
    }
    let refused = entry.view.candidate.as_ref().map(|candidate| candidate.reason.clone());
    let aside = rollout.and_then(|rollout| rollout.aside.as_ref()).map(|aside| aside.reason.clone());
    let why = refused.or_else(|| entry.view.reason.clone()).or(aside);
    Some(why.unwrap_or_else(|| "other files have been put into the plugin directory".into()))
}

/// Settings in the directory, or what is wrong with them.
pub(crate) type CurrentSettings<'a> = Result<&'a PluginSettings, String>;

impl PluginEntry {
    /// Returns true if the loaded plugin has what is granted today. Settings that are not valid say nothing.
    fn is_allowed_by(&self, today: &CurrentSettings<'_>) -> bool {
        let (Some(plugin), Ok(today)) = (&self.view.plugin, today) else { return self.view.plugin.is_some() };
        plugin.settings.clone().allowed_by(today) == plugin.settings
    }

    fn is_made_of(&self, artifact: &Artifact) -> bool {
        let fingerprint = self.loaded.as_ref();
        fingerprint
            .is_some_and(|(hash, text)| hash.as_ref() == Some(&artifact.hash) && settings(text) == artifact.settings)
    }
}
