//! Where sets of plugins are kept, so that what they did can be told when they are long gone.
//!
//! The plugins do not know the database: `server` gives them an [`Archive`]. A set is recorded before it is in
//! force, with the bytes of its files and the text of its settings, because both decide about verdicts. Where there
//! is a log, the set takes force at a place in it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use super::{
    loaded::Plugin,
    records::Record,
    set::{self, Set},
    settings::SECRETS,
};
use crate::store::generation::{Absence, Generation, Member};

/// Keeps sets of plugins. Called on a thread of its own, and in `Plugins::open_recorded` on the caller's; may block.
pub trait Archive: Send + Sync {
    /// The set that was recorded last.
    ///
    /// # Errors
    /// A reason for people.
    fn last(&self) -> Result<Option<Generation>, String>;

    /// Keeps a set and its files, by hash, and gives it a number that is larger than any before.
    ///
    /// # Errors
    /// A reason for people. The set does not take force.
    fn record(&self, members: &[Member], files: &[(&str, &[u8])]) -> Result<u64, String>;

    /// Sees to it that `swap`, which never blocks, is called where the recorded set is to take force: at once, or by
    /// another thread and later. `resets` says whether the set may shape something otherwise than the one before it.
    ///
    /// # Errors
    /// A reason for people. The set does not take force.
    fn switch(&self, generation: u64, resets: bool, swap: Box<dyn FnOnce() + Send>) -> Result<(), String>;
}

/// Keeps nothing but count.
#[derive(Default)]
pub(super) struct Nowhere(AtomicU64);

impl Archive for Nowhere {
    fn last(&self) -> Result<Option<Generation>, String> {
        Ok(None)
    }

    fn record(&self, _: &[Member], _: &[(&str, &[u8])]) -> Result<u64, String> {
        Ok(self.0.fetch_add(1, Relaxed) + 1)
    }

    fn switch(&self, _: u64, _: bool, swap: Box<dyn FnOnce() + Send>) -> Result<(), String> {
        swap();
        Ok(())
    }
}

/// What a plugin was made from, for the archive.
#[derive(Clone, Default)]
pub(super) struct Origin {
    pub(super) bytes: Arc<[u8]>,
    /// See [`settings_of`].
    pub(super) settings: String,
}

/// The settings of a plugin as they are kept: what a person wrote there for people, and secrets, are left out.
pub(super) fn settings_of(text: Option<&str>) -> String {
    let mut settings: toml::Table = text.unwrap_or_default().parse().unwrap_or_default();
    SECRETS.iter().for_each(|key| drop(settings.remove(*key)));
    settings.to_string()
}

/// Those who decide in a set, as they are recorded.
pub(super) fn members(set: &Set) -> Vec<Member> {
    let working = set.members().iter().filter_map(|member| match member {
        set::Member::Working(working) => Some(of_plugin(&working.plugin)),
        set::Member::Absent(_) => None,
    });
    let absent = set.views.iter().filter_map(|view| {
        let record = view.absent.as_deref()?;
        Some(of_record(&view.name, record, view.reason.clone().unwrap_or_default()))
    });
    working.chain(absent).collect()
}

/// The files of a set, by hash.
pub(super) fn files(set: &Set) -> Vec<(&str, &[u8])> {
    let working = set.members().iter().filter_map(|member| match member {
        set::Member::Working(working) => Some((working.plugin.hash.as_str(), &*working.plugin.origin.bytes)),
        set::Member::Absent(_) => None,
    });
    working.collect()
}

fn of_plugin(plugin: &Plugin) -> Member {
    Member {
        name: plugin.name().into(),
        version: plugin.manifest.version.to_string(),
        hash: plugin.hash.clone(),
        settings: plugin.origin.settings.clone(),
        generation: plugin.generation,
        shapes: Some(plugin.hooks.filter || plugin.hooks.enrich),
        absent: None,
    }
}

fn of_record(name: &str, record: &Record, reason: String) -> Member {
    let known = serde_json::to_value(record).expect("a record is plain JSON with text keys");
    Member {
        name: name.into(),
        version: record.version.clone(),
        hash: record.hash.clone(),
        settings: record.settings.clone().unwrap_or_default(),
        generation: 0,
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
