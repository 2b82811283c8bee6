//! What is in force while the directory says otherwise: a reload that the gate holds, one that an operator dropped,
//! a generation that was brought back.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{Keeper, Print, Seen, Slot, TriedOn, archive, refuse};
use crate::plugin::{
    Comparison, Shared,
    error::{Error, Refused},
    loaded::Plugin,
    records::{self, Record},
    set::{Set, View},
    settings::PluginSettings,
    standing::{self, Making, Shift, ShiftError, Standing, Standings},
};

impl Keeper {
    /// Does what an operator asks for, and puts in force what comes of it.
    pub(super) fn shift(&mut self, shared: &Arc<Shared>, name: &str, shift: &Shift) -> Result<(), ShiftError> {
        let wanted = self.write_shift(name, shift)?;
        self.seen = self.look()?;
        if let Err(error) = self.settle(shared) {
            // The next look finds something new, and so tries again.
            self.seen = Seen::new();
            return Err(error.into());
        }
        let Some(wanted) = wanted else { return Ok(()) };
        let slot = self.slots.get(name);
        let standing = slot.and_then(|slot| slot.view.standing.as_deref());
        wanting(slot, standing, &wanted).map_or(Ok(()), |why| Err(ShiftError::NotInForce(why)))
    }

    /// Writes down what an operator asks for, unless nothing would come of it; returns what is to come into force.
    pub(super) fn write_shift(&self, name: &str, shift: &Shift) -> Result<Option<Making>, ShiftError> {
        standing::shift(&self.settings.data_dir, name, shift, |shifted, wanted| self.rehearse(name, shifted, wanted))
    }

    /// Whether a plugin that stands so would have in force what is wanted.
    fn rehearse(&self, name: &str, shifted: &Standing, wanted: &Making) -> Result<(), ShiftError> {
        let records = records::read(&self.settings.data_dir)?;
        let files = self.files(&self.look()?).remove(name).unwrap_or_default();
        let mut standing = shifted.clone();
        let slot = self.examine(name, files, records.get(name), self.slots.get(name).cloned(), &mut standing);
        wanting(slot.as_ref(), Some(&standing), wanted).map_or(Ok(()), |why| Err(ShiftError::Useless(why)))
    }

    /// The slot as it was, unless an operator ordered another generation into force.
    pub(super) fn as_ordered(
        &self,
        name: &str,
        files: &Making,
        record: Option<&Record>,
        old: Option<Slot>,
        standing: &Standing,
        today: &Today<'_>,
    ) -> Option<Slot> {
        let Some(current) = standing.current.as_ref().filter(|current| !current.is(files)) else { return old };
        match &old {
            Some(slot) if slot.view.plugin.is_some() && !slot.is_made_of(current) => {
                self.bring_back(name, current, record, old, today)
            }
            _ => old,
        }
    }

    /// What goes on while the files in the directory are not taken.
    pub(super) fn stay(
        &self,
        name: &str,
        record: Option<&Record>,
        old: Option<Slot>,
        standing: &Standing,
        today: &Today<'_>,
    ) -> Option<Slot> {
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

    /// A generation from the code and settings that were kept; what it may do is what is granted today.
    fn bring_back(
        &self,
        name: &str,
        making: &Making,
        record: Option<&Record>,
        old: Option<Slot>,
        today: &Today<'_>,
    ) -> Option<Slot> {
        let print: Print = (Some(making.hash.clone()), Some(making.settings.clone()));
        let loaded = standing::kept(&self.settings.data_dir, &making.hash)
            .and_then(|code| Ok((code, PluginSettings::parse_over(&making.settings, &self.settings.limits)?)))
            .and_then(|(code, settings)| Ok((code, settings.allowed_by(today.as_ref().map_err(String::clone)?))))
            .map_err(Refused)
            .and_then(|(code, settings)| {
                self.load(name, code, making.hash.clone(), settings, archive::settings_of(Some(&making.settings)))
            });
        Some(match loaded {
            Ok(plugin) => Slot::working(plugin, print),
            Err(Refused(reason)) => {
                let reason = format!("the generation that is to be in force cannot be loaded: {reason}");
                refuse(name, print, reason, record, old)
            }
        })
    }

    /// What goes on in place of a reload that changes more than the operator lets pass; `None` when it may pass.
    ///
    /// Nothing is held that takes the place of nothing: a first activation, one after a time of being disabled or in
    /// shadow mode. Nor of what is no longer granted.
    pub(super) fn hold(
        &self,
        plugin: &Arc<Plugin>,
        files: &Making,
        record: Option<&Record>,
        old: Option<&Slot>,
        standing: &mut Standing,
    ) -> Option<Slot> {
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
            "{name} {version} is held: it would change more of recent events than gate.max_change = {max_change}"
        );
        standing.hold(files.clone(), comparison, max_change);
        Some(slot)
    }

    /// What recent events would be with one plugin in place of another, among those that are in force.
    fn compare(&self, before: &Plugin, after: &Plugin) -> Comparison {
        let others = || self.slots.values().map(|slot| &slot.view).filter(|view| view.name != before.name());
        let views: Vec<View> = others().cloned().collect();
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

    /// Writes down which generations there are, and keeps their code. `read` is what this look began with: what
    /// somebody has changed since then is left alone, and looked at next.
    pub(super) fn write_generations(&self, read: &Standings, slots: &BTreeMap<String, Slot>) -> Result<(), Error> {
        let plugins = slots.values().filter_map(|slot| slot.view.plugin.as_deref());
        let code: Vec<(&str, &[u8])> = plugins.map(|plugin| (plugin.hash.as_str(), &*plugin.origin.bytes)).collect();
        standing::update(&self.settings.data_dir, &code, |stored| {
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

/// Why something else than what is wanted is in force, or nothing; `None` where it is in force.
fn wanting(slot: Option<&Slot>, standing: Option<&Standing>, wanted: &Making) -> Option<String> {
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

/// What stands in the directory as the settings, or what is wrong with it.
pub(super) type Today<'a> = Result<&'a PluginSettings, String>;

impl Slot {
    /// Whether the loaded plugin may do what is granted today. Settings that are not taken say nothing.
    fn is_allowed_by(&self, today: &Today<'_>) -> bool {
        let (Some(plugin), Ok(today)) = (&self.view.plugin, today) else { return self.view.plugin.is_some() };
        plugin.settings.clone().allowed_by(today) == plugin.settings
    }

    fn is_made_of(&self, making: &Making) -> bool {
        let print = self.loaded.as_ref();
        print.is_some_and(|(hash, text)| hash.as_ref() == Some(&making.hash) && settings(text) == making.settings)
    }
}

/// Settings without a file are as empty ones.
fn settings(text: &Option<String>) -> &str {
    text.as_deref().unwrap_or_default()
}

/// The files that a print is of.
pub(super) fn making(print: &Print) -> Making {
    let (hash, text) = print;
    Making { hash: hash.clone().unwrap_or_default(), version: String::new(), settings: settings(text).into() }
}
