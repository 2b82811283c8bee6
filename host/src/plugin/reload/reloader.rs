//! Reloader: makes the set of plugins from the plugin directory, records it and activates it.
//!
//! For each plugin it decides from the files, the tombstone and the rollout state what is loaded, refused, held or
//! missing. A new plugin is tried on recent events and leads before it is activated.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    time::Duration,
};

use crate::{
    domain::{counter::Generation, event_name::EventName, plugin_name::PluginName},
    files,
    plugin::{
        active::{
            plugin::{ArtifactSource, Plugin},
            rollout::{PluginState, Rollout, RolloutCommand, RolloutError, Trial},
            set::Set,
            tombstone::Tombstone,
        },
        contract::{
            error::{Error, LoadError},
            hash,
            settings::{OnMissing, PluginMode, PluginSettings, PluginsConfig},
        },
        hooks::trial,
        reload::{
            active_set::{ActiveSet, Recent, TriedOn},
            archive::{self, Archive},
            entry::{
                DirectorySnapshot, EntryFiles, PluginEntry, artifact, differs, held, missing, refuse, tracing_once,
            },
            generations, state_file,
            tombstones::{self, Records},
        },
        wasm::engine::Engine,
    },
    store::generation::StoredGeneration,
};

/// Time that a set may take to become active, once its position in the log is written.
const LATE: Duration = Duration::from_secs(30);
/// Number of leads that a plugin is tried on.
const TRIED_LEADS: usize = 1000;
/// Number of faults after which a trial ends if its outcome does not matter: each may take a whole deadline.
const MOST_FAILED: usize = 20;
const LEAD_READ: &str = EventName::LeadRead.as_str();

pub(crate) struct Reloader {
    pub(crate) dir: PathBuf,
    pub(crate) settings: PluginsConfig,
    engine: Engine,
    pub(crate) recent: Recent,
    archive: Arc<dyn Archive>,
    pub(crate) entries: BTreeMap<String, PluginEntry>,
    generation: Generation,
    /// Set that was active before this process began; `None` after the first set of its own.
    last: Option<StoredGeneration>,
    is_settled: bool,
    pub(crate) seen: DirectorySnapshot,
}

impl Reloader {
    /// Creates a reloader that has not read the directory yet.
    pub(crate) fn new(
        dir: PathBuf,
        settings: PluginsConfig,
        recent: Recent,
        archive: Arc<dyn Archive>,
    ) -> Result<Self, Error> {
        let cache = state_file::directory(&settings.data_dir).join("cache");
        let failed = |source| Error::DataDirectory { dir: cache.clone(), source };
        fs::create_dir_all(&cache).map_err(failed)?;
        let engine = Engine::start(&fs::canonicalize(&cache).map_err(failed)?)?;
        let last = archive.last().map_err(Error::Archive)?;
        Ok(Self {
            dir,
            settings,
            engine,
            recent,
            archive,
            entries: BTreeMap::new(),
            generation: last.as_ref().map_or(Generation::NONE, |last| last.id),
            last,
            is_settled: false,
            seen: DirectorySnapshot::new(),
        })
    }

    pub(crate) fn scan(&self) -> Result<DirectorySnapshot, Error> {
        self.list().map_err(|source| Error::Directory { dir: self.dir.clone(), source })
    }

    fn list(&self) -> io::Result<DirectorySnapshot> {
        let mut seen = DirectorySnapshot::new();
        let record = tombstones::file(&self.settings.data_dir);
        let generations = generations::file(&self.settings.data_dir);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            // Once it has been there, a directory that is gone counts as empty: its plugins are missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_settled => Vec::new(),
            Err(error) => return Err(error),
        };
        for path in entries.into_iter().chain([record, generations]) {
            // A dangling link is listed as well, and is refused where it is read.
            let Ok(meta) = fs::metadata(&path).or_else(|_| fs::symlink_metadata(&path)) else { continue };
            seen.push((path, meta.len(), meta.modified().ok()));
        }
        seen.sort();
        Ok(seen)
    }

    /// Makes the set from the directory, and activates it.
    pub(crate) fn apply(&mut self, shared: &Arc<ActiveSet>) -> Result<(), Error> {
        let mut files = self.files(&self.seen);
        let records = tombstones::read(&self.settings.data_dir)?;
        let rollouts = generations::read(&self.settings.data_dir)?;
        let names: BTreeSet<String> = files.keys().chain(records.keys()).chain(self.entries.keys()).cloned().collect();
        let mut entries = BTreeMap::new();
        for name in names {
            let old = self.entries.get(&name).cloned();
            let mut rollout = rollouts.get(&name).cloned().unwrap_or_default();
            let files = files.remove(&name).unwrap_or_default();
            let entry = self.evaluate(&name, files, records.get(&name), old, &mut rollout);
            if let Some(mut entry) = entry {
                entry.view.rollout = Some(Arc::new(rollout));
                entries.insert(name, entry);
            }
        }
        // Written before activation, so that a crash does not forget what has once hidden something.
        self.write_tombstones(&entries)?;
        self.write_generations(&rollouts, &entries)?;
        let mut set = Set::new(self.generation, entries.values().map(|entry| entry.view.clone()).collect());
        let is_other = !self.is_settled || differs(&self.entries, &entries);
        if is_other {
            set.generation = self.record(&set)?;
        }
        let was_there = |plugin: &&Arc<Plugin>| {
            let mut before = self.entries.values().filter_map(|entry| entry.view.plugin.as_ref());
            before.any(|old| Arc::ptr_eq(old, plugin))
        };
        let plugins = entries.values().filter_map(|entry| entry.view.plugin.as_ref());
        let new: Vec<Arc<Plugin>> = plugins.filter(|plugin| !was_there(plugin)).cloned().collect();

        let generation = set.generation;
        let in_force = if is_other && self.is_settled {
            self.switch(shared, set)?
        } else {
            // No client is served yet, or only the status of the same plugins has changed.
            shared.refresh(set);
            Ok(())
        };
        self.entries = entries;
        self.generation = generation;
        (self.last, self.is_settled) = (None, true);
        // Not earlier: several new plugins are loaded one by one, but activated together.
        new.iter().for_each(|plugin| plugin.announce());
        in_force
    }

    /// Activates a recorded set at its position in the log. The inner error says that it will be active, but not yet.
    fn switch(&self, shared: &Arc<ActiveSet>, set: Set) -> Result<Result<(), Error>, Error> {
        let generation = set.generation;
        let resets = shared.stage(set);
        let (done, passed) = mpsc::sync_channel(1);
        let weak = Arc::downgrade(shared);
        let swap = move || {
            // Dropping the replaced set may take time, so the waiting thread does it.
            let before = weak.upgrade().and_then(|shared| shared.activate(generation));
            let _ = done.send(before);
        };
        self.archive.switch(generation, resets, Box::new(swap)).map_err(Error::Archive)?;
        match passed.recv_timeout(LATE) {
            Ok(_) => Ok(Ok(())),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(Err(Error::Late(LATE))),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Archive("the server is stopping".into())),
        }
    }

    /// Records a set that is about to be activated, and returns its number. After a restart with the same plugins,
    /// that is the old one.
    fn record(&self, set: &Set) -> Result<Generation, Error> {
        let members = archive::members(set);
        match &self.last {
            Some(last) if last.members == members => Ok(last.id),
            _ => self.archive.record(&members, &archive::files(set)).map_err(Error::Archive),
        }
    }

    pub(crate) fn files(&self, seen: &DirectorySnapshot) -> BTreeMap<String, EntryFiles> {
        let mut files: BTreeMap<String, EntryFiles> = BTreeMap::new();
        for (path, ..) in seen.iter().filter(|(path, ..)| path.parent() == Some(&self.dir)) {
            let Some(stem) = path.file_stem().and_then(|stem| stem.to_str()) else { continue };
            if stem.starts_with('.') {
                continue;
            }
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("wasm") => files.entry(stem.into()).or_default().code = Some(path.clone()),
                Some("toml") => files.entry(stem.into()).or_default().settings = Some(path.clone()),
                _ => {}
            }
        }
        files
    }

    fn write_tombstones(&self, entries: &BTreeMap<String, PluginEntry>) -> Result<(), Error> {
        tombstones::update(&self.settings.data_dir, |records| {
            let is_active = |entry: &PluginEntry| entry.view.plugin.as_ref().is_some_and(|plugin| !plugin.is_shadow());
            let is_known = |entry: &PluginEntry| entry.view.absent.is_some() || is_active(entry);
            records.retain(|name, _| entries.get(name).is_some_and(is_known));
            for (name, entry) in entries {
                let Some(plugin) = entry.view.plugin.as_ref().filter(|_| is_active(entry)) else { continue };
                // Somebody may just have removed the plugin: files first, then this tombstone.
                if records.contains_key(name) || self.dir.join(format!("{name}.wasm")).exists() {
                    records.insert(name.clone(), Tombstone::of(plugin, self.settings.on_missing));
                }
            }
        })
    }

    /// Decides what becomes of one plugin; `None` when there is nothing to report of it.
    pub(crate) fn evaluate(
        &self,
        name: &str,
        files: EntryFiles,
        record: Option<&Tombstone>,
        old: Option<PluginEntry>,
        rollout: &mut Rollout,
    ) -> Option<PluginEntry> {
        let limits = &self.settings.limits;
        let text = files.settings.as_ref().map(|path| files::read_text(path, limits.settings_bytes())).transpose();
        let text = match text {
            Ok(text) => text,
            // Deleted since the directory was listed; the next scan will show.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return old,
            Err(error) => {
                let record = record.filter(|record| record.holds && record.on_missing == OnMissing::Fail);
                // An empty fingerprint equals no other, so the next reload tries again.
                return Some(refuse(name, (None, None), format!("{name}.toml: {error}"), record, old));
            }
        };
        let settings = PluginSettings::parse_over(text.as_deref().unwrap_or_default(), limits);
        let on_missing = settings.as_ref().ok().and_then(|settings| settings.on_missing);
        let on_missing = on_missing.or(record.map(|record| record.on_missing)).unwrap_or(self.settings.on_missing);
        // An operator who puts a plugin into shadow mode says that it must hold nothing back, even when it cannot be
        // loaded. But settings that are rejected say nothing.
        let is_aside = rollout.aside.is_some();
        let in_shadow = !is_aside && settings.as_ref().is_ok_and(|settings| settings.mode == PluginMode::Shadow);
        let was_active = record;
        let record = record.filter(|record| record.holds && on_missing == OnMissing::Fail && !in_shadow);
        if settings.as_ref().is_ok_and(|settings| !settings.enabled) {
            tracing_once(&old, PluginState::Disabled, || tracing::info!(plugin = name, "{name} is disabled"));
            return Some(PluginEntry::idle(
                name,
                PluginState::Disabled,
                Some(format!("{name}.toml says enabled = false")),
                None,
            ));
        }
        let Some(code) = files.code else { return missing(name, record, &old) };
        let most = settings.as_ref().map_or(limits, |settings| &settings.limits).file_bytes();
        let (bytes, hash) = match files::read(&code, most) {
            Ok(bytes) => {
                let hash = hash::digest(&bytes);
                (bytes, hash)
            }
            // Deleted since the directory was listed; the next scan will show.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return old,
            Err(error) => return Some(refuse(name, (None, text), format!("{name}.wasm: {error}"), record, old)),
        };
        let fingerprint = (Some(hash.clone()), text);
        let mut artifact = artifact(&fingerprint);
        let today = settings.as_ref().map_err(|reason| format!("{name}.toml: {reason}"));
        let old = self.as_ordered(name, &artifact, record, old, rollout, &today);
        // A revoked grant ends now: the old plugin does not go on with it while the new one is refused.
        let old = old.filter(|old| today.as_ref().map_or(true, |today| old.is_within(&today.grant)));
        if rollout.sets_aside(&artifact) {
            return self.keep_active(name, record, old, rollout, &today);
        }
        if let Some(old) = old.as_ref().filter(|old| old.refused.as_ref() == Some(&fingerprint)) {
            return Some(PluginEntry { view: held(old.view.clone(), record), ..old.clone() });
        }
        if let Some(mut old) = old.clone().filter(|old| old.loaded.as_ref() == Some(&fingerprint)) {
            old.view.candidate = None;
            old.view.reason = None;
            old.refused = None;
            artifact.version =
                old.view.plugin.as_ref().map(|plugin| plugin.manifest.version.to_string()).unwrap_or_default();
            rollout.take(artifact);
            return Some(old);
        }
        let loaded = today.map_err(LoadError).and_then(|settings| {
            self.load(name, bytes, hash, settings.clone(), archive::settings_of(fingerprint.1.as_deref()))
        });
        match loaded {
            Ok(plugin) => {
                artifact.version = plugin.manifest.version.to_string();
                if let Some(entry) = self.hold(&plugin, &artifact, was_active, old.as_ref(), rollout) {
                    return Some(entry);
                }
                rollout.take(artifact);
                Some(PluginEntry::working(plugin, fingerprint))
            }
            Err(LoadError(reason)) => Some(refuse(name, fingerprint, reason, record, old)),
        }
    }

    pub(crate) fn load(
        &self,
        name: &str,
        bytes: Vec<u8>,
        hash: String,
        settings: PluginSettings,
        text: String,
    ) -> Result<Arc<Plugin>, LoadError> {
        name.parse::<PluginName>()?;
        let warm = self.settings.warm_instances;
        let known = self.known_generation(name, &hash, &text);
        let (is_known, generation) = (known.is_some(), known.unwrap_or(self.generation.next()));
        let mut plugin = Plugin::load(&self.engine, name, &bytes, hash, settings, warm, generation)?;
        plugin.origin = ArtifactSource { bytes: bytes.into(), settings: text };
        let plugin = Arc::new(plugin);
        if plugin.hooks.enrich || plugin.hooks.filter {
            self.dry_run(&plugin, is_known)?;
        }
        Ok(plugin)
    }

    /// Generation in which these files were loaded first, if they were active before a restart.
    fn known_generation(&self, name: &str, hash: &str, settings: &str) -> Option<Generation> {
        let mut before = self.last.iter().flat_map(|last| &last.members).filter(|member| member.absent.is_none());
        let same = before.find(|member| member.name == name && member.hash == hash && member.settings == settings);
        same.map(|member| member.generation)
    }

    /// Tries a plugin on recent events, and on leads of every age, before it is activated.
    ///
    /// One that was active before a restart stays active: what it fails on is withheld, and nothing else.
    fn dry_run(&self, plugin: &Arc<Plugin>, is_known: bool) -> Result<(), LoadError> {
        let alone = Set::alone(plugin.clone());
        let events = (self.recent)(TriedOn::Recent(self.settings.dry_run_events)).into_iter();
        let events = events.filter(|event| !event.rooms.is_empty() && !event.is_erasure());
        // An operator who turns off the trial on events turns off the trial on leads as well.
        let leads = if self.settings.dry_run_events > 0 { TRIED_LEADS } else { 0 };
        let leads = (self.recent)(TriedOn::Leads(leads)).into_iter().filter(|event| event.name == LEAD_READ);
        let mut trial = Trial::default();
        for event in events.chain(leads) {
            let is_lead = event.name == LEAD_READ;
            *(if is_lead { &mut trial.leads } else { &mut trial.events }) += 1;
            let Err((hook, fault)) = trial::try_on(&alone, &event) else { continue };
            let of = match event.lead_id.filter(|_| is_lead) {
                Some(lead) => format!("lead {lead}"),
                None => format!("event {} ({})", event.seq, event.name),
            };
            let why = format!("in a trial on {of}, {hook} {fault}");
            if !is_known {
                return Err(LoadError(why));
            }
            if trial.failed == 0 {
                tracing::warn!(
                    plugin = plugin.name().as_str(),
                    "{} stays active although it failed {why}",
                    plugin.name()
                );
            }
            trial.failed += 1;
            trial.first.get_or_insert(why);
            if trial.failed >= MOST_FAILED {
                break;
            }
        }
        *plugin.trial.lock() = Some(trial);
        Ok(())
    }
}

/// Removes the tombstone and the generations of a plugin, so that it holds nothing back. Returns false when it was not
/// known.
pub(crate) fn forget(data_dir: &Path, name: &str) -> Result<bool, Error> {
    let mut known = false;
    tombstones::update(data_dir, |records: &mut Records| known = records.remove(name).is_some())?;
    generations::update(data_dir, &[], |rollouts| drop(rollouts.remove(name)))?;
    Ok(known)
}

/// Like [`Reloader::shift`], for a process other than the server: a running server notices by itself.
pub(crate) fn shift(settings: PluginsConfig, name: &str, shift: &RolloutCommand) -> Result<(), RolloutError> {
    let dir = settings.dir.clone().ok_or(RolloutError::Unknown)?;
    let reloader = Reloader::new(dir, settings, Box::new(|_| Vec::new()), Arc::new(archive::Nowhere::default()))?;
    reloader.write_shift(name, shift).map(drop)
}
