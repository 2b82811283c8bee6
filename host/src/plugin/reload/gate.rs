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
        entry::{DirectorySnapshot, Fingerprint, PluginEntry, making, refuse, settings},
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
        let slot = self.slots.get(name);
        let standing = slot.and_then(|slot| slot.view.standing.as_deref());
        wanting(slot, standing, &wanted).map_or(Ok(()), |why| Err(RolloutError::NotInForce(why)))
    }

    /// Records a command of an operator, unless it would have no effect; returns the artifact to activate.
    pub(crate) fn write_shift(&self, name: &str, shift: &RolloutCommand) -> Result<Option<Artifact>, RolloutError> {
        generations::shift(&self.settings.data_dir, name, shift, |shifted, wanted| self.rehearse(name, shifted, wanted))
    }

    /// Checks that a plugin with this rollout state would have the wanted artifact active.
    fn rehearse(&self, name: &str, shifted: &Rollout, wanted: &Artifact) -> Result<(), RolloutError> {
        let records = tombstones::read(&self.settings.data_dir)?;
        let files = self.files(&self.scan()?).remove(name).unwrap_or_default();
        let mut standing = shifted.clone();
        let slot = self.evaluate(name, files, records.get(name), self.slots.get(name).cloned(), &mut standing);
        wanting(slot.as_ref(), Some(&standing), wanted).map_or(Ok(()), |why| Err(RolloutError::Useless(why)))
    }

    /// Returns the entry as it was, unless an operator ordered another generation to be active.
    pub(crate) fn as_ordered(
        &self,
        name: &str,
        files: &Artifact,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        standing: &Rollout,
        today: &CurrentSettings<'_>,
    ) -> Option<PluginEntry> {
        let Some(current) = standing.current.as_ref().filter(|current| !current.is(files)) else { return old };
        match &old {
            Some(slot) if slot.view.plugin.is_some() && !slot.is_made_of(current) => {
                self.bring_back(name, current, record, old, today)
            }
            _ => old,
        }
    }

    /// Returns the entry that stays active while the files in the directory are rejected.
    pub(crate) fn stay(
        &self,
        name: &str,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        standing: &Rollout,
        today: &CurrentSettings<'_>,
    ) -> Option<PluginEntry> {
        let Some(current) = &standing.current else { return old };
        match old {
            Some(mut slot) if slot.is_made_of(current) && slot.is_allowed_by(today) => {
                slot.view.candidate = None;
                slot.view.reason = None;
                slot.refused = None;
                Some(slot)
            }
            old => self.bring_back(name, current, record, old, today),
        }
    }

    /// Loads a generation from its stored code and settings, with what is granted today.
    fn bring_back(
        &self,
        name: &str,
        making: &Artifact,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        today: &CurrentSettings<'_>,
    ) -> Option<PluginEntry> {
        let print: Fingerprint = (Some(making.hash.clone()), Some(making.settings.clone()));
        let loaded = code_store::kept(&self.settings.data_dir, &making.hash)
            .and_then(|code| Ok((code, PluginSettings::parse_over(&making.settings, &self.settings.limits)?)))
            .and_then(|(code, settings)| Ok((code, settings.allowed_by(today.as_ref().map_err(String::clone)?))))
            .map_err(LoadError)
            .and_then(|(code, settings)| {
                self.load(name, code, making.hash.clone(), settings, archive::settings_of(Some(&making.settings)))
            });
        Some(match loaded {
            Ok(plugin) => PluginEntry::working(plugin, print),
            Err(LoadError(reason)) => {
                let reason = format!("cannot load the generation to activate: {reason}");
                refuse(name, print, reason, record, old)
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
        standing: &mut Rollout,
    ) -> Option<PluginEntry> {
        let max_change = plugin.settings.gate.max_change.or(self.settings.gate.max_change)?;
        let was_active = old.is_some_and(|slot| slot.view.plugin.is_some()) || record.is_some();
        if !was_active || plugin.is_shadow() || standing.wants(files) {
            return None;
        }
        let slot = self.stay(plugin.name(), record, old.cloned(), standing, &Ok(&plugin.settings))?;
        let in_force = slot.view.plugin.as_ref().filter(|in_force| !in_force.is_shadow())?;
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
            plugin = name, %version, hash = plugin.hash, differing, asked,
            "held {name} {version}: its share of changed recent events exceeds gate.max_change = {max_change}"
        );
        standing.hold(files.clone(), comparison, max_change);
        Some(slot)
    }

    /// Compares recent events with one plugin in place of another, among the active ones.
    fn compare(&self, before: &Plugin, after: &Plugin) -> Comparison {
        let others = || self.slots.values().map(|slot| &slot.view).filter(|view| view.name != before.name());
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
        slots: &BTreeMap<String, PluginEntry>,
    ) -> Result<(), Error> {
        let plugins = slots.values().filter_map(|slot| slot.view.plugin.as_deref());
        let code: Vec<(&str, &[u8])> = plugins.map(|plugin| (plugin.hash.as_str(), &*plugin.origin.bytes)).collect();
        generations::update(&self.settings.data_dir, &code, |stored| {
            let names: BTreeSet<&String> = read.keys().chain(slots.keys()).collect();
            for name in names {
                if stored.get(name) != read.get(name) {
                    continue;
                }
                match slots.get(name).and_then(|slot| slot.view.standing.as_deref()) {
                    Some(standing) => drop(stored.insert(name.clone(), standing.clone())),
                    None => drop(stored.remove(name)),
                }
            }
        })
    }
}

/// Explains why something other than the wanted artifact is active, or nothing; `None` where it is active.
fn wanting(slot: Option<&PluginEntry>, standing: Option<&Rollout>, wanted: &Artifact) -> Option<String> {
    let Some(slot) = slot else { return Some("its file is missing".into()) };
    let is_loaded = slot.view.plugin.is_some() && slot.loaded.as_ref().is_some_and(|print| making(print).is(wanted));
    if is_loaded {
        return None;
    }
    let refused = slot.view.candidate.as_ref().map(|candidate| candidate.reason.clone());
    let aside = standing.and_then(|standing| standing.aside.as_ref()).map(|aside| aside.reason.clone());
    let why = refused.or_else(|| slot.view.reason.clone()).or(aside);
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

    fn is_made_of(&self, making: &Artifact) -> bool {
        let print = self.loaded.as_ref();
        print.is_some_and(|(hash, text)| hash.as_ref() == Some(&making.hash) && settings(text) == making.settings)
    }
}
