//! Archive of plugin sets, so that what they did can be explained when they are long gone.
//!
//! The plugins do not know the database: `server` gives them an [`Archive`]. A set is recorded before it is active,
//! with the bytes of its files and the text of its settings, because both decide about verdicts. Where there is a log,
//! the set is activated at a position in it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::{
    domain::counter::Generation,
    plugin::{
        active::{
            plugin::Plugin,
            set::{self, Set},
            tombstone::Tombstone,
        },
        contract::settings::SECRETS,
    },
    store::generation::{Absence, GenerationMember, StoredGeneration},
};

/// Archive of plugin sets. Called on the reloader's thread, and in `Plugins::open_recorded` on the caller's; may
/// block.
pub trait Archive: Send + Sync {
    /// Returns the set that was recorded last.
    ///
    /// # Errors
    /// A reason for people.
    fn last(&self) -> Result<Option<StoredGeneration>, String>;

    /// Stores a set and its files, by hash, and returns its number, which is larger than any before.
    ///
    /// # Errors
    /// A reason for people. The set is not activated.
    fn record(&self, members: &[GenerationMember], files: &[(&str, &[u8])]) -> Result<Generation, String>;

    /// Arranges that `swap`, which never blocks, is called at the position where the recorded set becomes active: at
    /// once, or later by another thread. `resets` is true if the set may shape something differently from the one
    /// before it.
    ///
    /// # Errors
    /// A reason for people. The set is not activated.
    fn switch(&self, generation: Generation, resets: bool, swap: Box<dyn FnOnce() + Send>) -> Result<(), String>;
}

/// Archive that stores nothing and only counts.
#[derive(Default)]
pub(crate) struct Nowhere(AtomicU64);

impl Archive for Nowhere {
    fn last(&self) -> Result<Option<StoredGeneration>, String> {
        Ok(None)
    }

    fn record(&self, _: &[GenerationMember], _: &[(&str, &[u8])]) -> Result<Generation, String> {
        Ok(Generation(self.0.fetch_add(1, Relaxed)).next())
    }

    fn switch(&self, _: Generation, _: bool, swap: Box<dyn FnOnce() + Send>) -> Result<(), String> {
        swap();
        Ok(())
    }
}

/// Returns the settings of a plugin as they are stored: without comments and secrets.
pub(crate) fn settings_of(text: Option<&str>) -> String {
    let mut settings: toml::Table = text.unwrap_or_default().parse().unwrap_or_default();
    SECRETS.iter().for_each(|key| drop(settings.remove(*key)));
    settings.to_string()
}

/// Lists the members that decide in a set, as they are recorded.
pub(crate) fn members(set: &Set) -> Vec<GenerationMember> {
    let working = set.members().iter().filter_map(|member| match member {
        set::SetMember::Working(working) => Some(of_plugin(&working.plugin)),
        set::SetMember::Absent(_) => None,
    });
    let absent = set.views.iter().filter_map(|view| {
        let record = view.absent.as_deref()?;
        Some(of_record(&view.name, record, view.reason.clone().unwrap_or_default()))
    });
    working.chain(absent).collect()
}

/// Lists the files of a set, by hash.
pub(crate) fn files(set: &Set) -> Vec<(&str, &[u8])> {
    let working = set.members().iter().filter_map(|member| match member {
        set::SetMember::Working(working) => Some((working.plugin.hash.as_str(), &*working.plugin.origin.bytes)),
        set::SetMember::Absent(_) => None,
    });
    working.collect()
}

fn of_plugin(plugin: &Plugin) -> GenerationMember {
    GenerationMember {
        name: plugin.name().to_string(),
        version: plugin.manifest.version.to_string(),
        hash: plugin.hash.clone(),
        settings: plugin.origin.settings.clone(),
        generation: plugin.generation,
        shapes: Some(plugin.hooks.filter || plugin.hooks.enrich),
        absent: None,
    }
}

fn of_record(name: &str, record: &Tombstone, reason: String) -> GenerationMember {
    let known = serde_json::to_value(record).expect("a record is plain JSON with string keys");
    GenerationMember {
        name: name.into(),
        version: record.version.clone(),
        hash: record.hash.clone(),
        settings: record.settings.clone().unwrap_or_default(),
        generation: Generation::NONE,
        shapes: Some(record.hooks.filter || record.hooks.enrich),
        absent: Some(Absence {
            record: known,
            reason,
            is_held: record.settings.is_some() && (!record.hooks.enrich || record.enrich_holds),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_kept_without_secrets_and_comments() {
        let text = "# mine\norder = 3\nwebhook_secret = \"whsec_abc\"\n[config]\nroles = [\"VIEWER\"] # all\n";
        assert_eq!(settings_of(Some(text)), "order = 3\n\n[config]\nroles = [\"VIEWER\"]\n");
        assert_eq!(settings_of(None), "");
    }
}
