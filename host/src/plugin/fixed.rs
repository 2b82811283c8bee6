//! Sets made from bytes at hand instead of a directory: what a tool tries out, and what was in force once.
//!
//! Nobody watches such a set and nothing replaces it. A fault is an answer like any other here: it is neither
//! logged nor counted, and no breaker keeps the plugin from being asked the next time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::{
    Pinned,
    engine::Engine,
    error::{Error, Refused},
    limits::Limits,
    loaded::Plugin,
    manifest::check_name,
    set::{Set, View},
    settings::{Mode, PluginSettings},
    standing::digest,
};
use crate::store::generation::{Generation, Member};

/// Sets of the past that stay compiled.
const MAX_KEPT: usize = 4;
/// Warm instances a plugin: as many threads may ask at once without one being made.
const WARM_INSTANCES: usize = 8;

/// A plugin that is not read from the plugin directory.
#[derive(Clone, Debug)]
pub struct FixedPlugin {
    /// What the plugin has to call itself.
    pub name: String,
    pub bytes: Vec<u8>,
    /// `enabled` and `mode` are of no account: it takes part.
    pub settings: PluginSettings,
}

/// Loads every one of `files`, or says which of them is refused and why.
pub(super) fn load(files: Vec<FixedPlugin>, cache_dir: &Path) -> Result<Set, Error> {
    let engine = engine(cache_dir)?;
    let mut views: Vec<View> = Vec::with_capacity(files.len());
    for file in files {
        if views.iter().any(|view| view.name == file.name) {
            return Err(Error::Refused { plugin: file.name, reason: "it is given twice".into() });
        }
        views.push(working(&engine, file)?);
    }
    Ok(Set::new(1, views))
}

fn working(engine: &Engine, file: FixedPlugin) -> Result<View, Error> {
    let FixedPlugin { name, bytes, settings } = file;
    let refused = |Refused(reason)| Error::Refused { plugin: name.clone(), reason };
    check_name(&name).map_err(|reason| refused(Refused(reason)))?;
    let plugin = plugin(engine, &name, &bytes, digest(&bytes), settings, 1).map_err(refused)?;
    Ok(View::working(Arc::new(plugin)))
}

fn engine(cache_dir: &Path) -> Result<Engine, Error> {
    let failed = |source| Error::DataDirectory { dir: cache_dir.into(), source };
    fs::create_dir_all(cache_dir).map_err(failed)?;
    Engine::start(&fs::canonicalize(cache_dir).map_err(failed)?)
}

fn plugin(
    engine: &Engine,
    name: &str,
    bytes: &[u8],
    hash: String,
    settings: PluginSettings,
    generation: u64,
) -> Result<Plugin, Refused> {
    let settings = PluginSettings { mode: Mode::Active, ..settings };
    let mut plugin = Plugin::load(engine, name, bytes, hash, settings, WARM_INSTANCES, generation)?;
    plugin.is_fixed = true;
    Ok(plugin)
}

/// Sets that were in force once. The few that were asked for last stay compiled.
pub struct Past {
    cache_dir: PathBuf,
    limits: Limits,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Started when the first set is made: one for all of them, apart from that of the plugins in force.
    engine: Option<Engine>,
    /// Oldest first.
    sets: Vec<Arc<Set>>,
}

impl Past {
    /// `cache_dir` is where compiled code is kept, as for [`super::Plugins::fixed`]; `limits` are the server's for all
    /// plugins, which are not recorded.
    pub fn new(cache_dir: PathBuf, limits: Limits) -> Self {
        Self { cache_dir, limits, kept: Mutex::default() }
    }

    /// A set that is compiled already.
    pub fn get(&self, generation: u64) -> Option<Pinned> {
        let mut kept = self.kept.lock();
        let place = kept.sets.iter().position(|set| set.generation == generation)?;
        let set = kept.sets.remove(place);
        kept.sets.push(Arc::clone(&set));
        Some(Pinned(set))
    }

    /// Makes a set as it was from its files, by hash. Blocks while they are compiled.
    ///
    /// # Errors
    ///
    /// When a file is missing or one of the plugins is refused, as it was not then; the error names it and says why.
    pub fn load(&self, generation: &Generation, files: &BTreeMap<String, Vec<u8>>) -> Result<Pinned, Error> {
        let mut kept = self.kept.lock();
        let engine = kept.engine(&self.cache_dir)?;
        let views = generation.members.iter().map(|member| view(&engine, member, files, &self.limits));
        let set = Arc::new(Set::new(generation.id, views.collect::<Result<_, _>>()?));
        if kept.sets.len() >= MAX_KEPT {
            kept.sets.remove(0);
        }
        kept.sets.push(Arc::clone(&set));
        Ok(Pinned(set))
    }

    /// The same set with `plugin` in the place of the one of its name, or beside the others. Blocks while it is compiled.
    ///
    /// # Errors
    ///
    /// When the plugin is refused; the error says why.
    pub fn with(&self, set: &Pinned, plugin: FixedPlugin) -> Result<Pinned, Error> {
        let engine = self.kept.lock().engine(&self.cache_dir)?;
        let mut views: Vec<View> = set.0.views.iter().filter(|view| view.name != plugin.name).cloned().collect();
        views.push(working(&engine, plugin)?);
        Ok(Pinned(Arc::new(Set::new(set.generation(), views))))
    }
}

impl Kept {
    fn engine(&mut self, cache_dir: &Path) -> Result<Engine, Error> {
        Ok(match &self.engine {
            Some(engine) => engine.clone(),
            None => self.engine.insert(engine(cache_dir)?).clone(),
        })
    }
}

fn view(engine: &Engine, member: &Member, files: &BTreeMap<String, Vec<u8>>, limits: &Limits) -> Result<View, Error> {
    let Member { name, hash, settings, generation, absent, .. } = member;
    let refused = |reason: String| Error::Refused { plugin: name.clone(), reason };
    if let Some(absence) = absent {
        let record = serde_json::from_value(absence.record.clone())
            .map_err(|error| refused(format!("what was known of it cannot be read: {error}")))?;
        return Ok(View::absent(name, Arc::new(record), absence.reason.clone()));
    }
    let settings = PluginSettings::parse_over(settings, limits).map_err(&refused)?;
    let bytes = files.get(hash).ok_or_else(|| refused(format!("its file {hash} was not kept")))?;
    if digest(bytes) != *hash {
        return Err(refused(format!("what was kept of its file {hash} is damaged")));
    }
    let plugin = plugin(engine, name, bytes, hash.clone(), settings, *generation);
    Ok(View::working(Arc::new(plugin.map_err(|Refused(reason)| refused(reason))?)))
}
