//! Sets made from bytes instead of a directory: for a tool that tries something out, and for sets of the past.
//!
//! Nobody watches such a set and nothing replaces it. A fault is an answer like any other here: it is neither logged
//! nor counted, and no circuit breaker keeps the plugin from being asked the next time.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use serde_json::Value;

use crate::{
    domain::{counter::Generation, event::Event, plugin_name::PluginName, role::Role},
    plugin::{
        active::{
            plugin::Plugin,
            set::{PluginView, Set},
        },
        contract::{
            answer::Shaped,
            diff::Comparison,
            error::{Error, LoadError},
            hash::digest,
            limits::Limits,
            settings::{PluginMode, PluginSettings},
        },
        hooks::{
            shape,
            trace::{self, TraceStep},
        },
        wasm::engine::Engine,
    },
    store::generation::{GenerationMember, StoredGeneration},
};

/// One set of plugins that stays the same, whatever is activated meanwhile.
#[derive(Clone)]
pub struct PinnedSet(pub(crate) Arc<Set>);

impl PinnedSet {
    /// Number of the set; 0 where there are no plugins.
    pub fn generation(&self) -> Generation {
        self.0.generation
    }

    /// Returns the version and the hash of a plugin of the set, also of one that is missing and holds something back.
    pub fn made_of(&self, name: &str) -> Option<(String, String)> {
        let view = self.0.views.iter().find(|view| view.name == name)?;
        let loaded = view.plugin.as_ref().map(|plugin| (plugin.manifest.version.to_string(), plugin.hash.clone()));
        loaded.or_else(|| view.absent.as_ref().map(|record| (record.version.clone(), record.hash.clone())))
    }

    /// Adds to `comparison` what each role would get of a recorded event if `candidate` were in place of this set.
    ///
    /// Both are asked as about a live event, so failures count and circuit breakers open.
    pub fn compare(&self, candidate: &Self, event: &Event, comparison: &mut Comparison) {
        comparison.try_both(&self.0, &candidate.0, event);
    }

    /// Shapes a payload, as [`Plugins::shape`](crate::plugin::Plugins::shape) does.
    pub fn shape(&self, name: &str, payload: &Arc<Value>, context: &Value, roles: &[Role]) -> Vec<(Role, Shaped)> {
        shape::run(&self.0, name, payload, context, roles)
    }

    /// Shapes a payload for one role, and returns each decision that led to the result.
    pub fn explain(
        &self,
        name: &str,
        payload: &Arc<Value>,
        context: &Value,
        role: Role,
    ) -> (Vec<(Role, Shaped)>, Vec<TraceStep>) {
        let mut trace = trace::Trace::of(&self.0);
        let shaped = shape::run_observed(&self.0, name, payload, context, &[role], &mut trace);
        (shaped, trace.steps)
    }
}

/// Number of sets of the past that stay compiled.
const MAX_COMPILED: usize = 4;
/// Number of warm instances per plugin: as many threads may ask at once without a new one being created.
const WARM_INSTANCES: usize = 8;

/// Plugin that is not read from the plugin directory.
#[derive(Clone, Debug)]
pub struct InlinePlugin {
    /// Name that the plugin's manifest must have.
    pub name: String,
    pub bytes: Vec<u8>,
    /// Settings of the plugin; `enabled` and `mode` are ignored: it is always active.
    pub settings: PluginSettings,
}

/// Loads every one of `files`; the error says which of them is refused and why.
pub(crate) fn load(files: Vec<InlinePlugin>, cache_dir: &Path) -> Result<Set, Error> {
    let engine = engine(cache_dir)?;
    let mut views: Vec<PluginView> = Vec::with_capacity(files.len());
    for file in files {
        if views.iter().any(|view| view.name == file.name) {
            return Err(Error::Refused { plugin: file.name, reason: "it is given twice".into() });
        }
        views.push(working(&engine, file)?);
    }
    Ok(Set::new(Generation(1), views))
}

fn working(engine: &Engine, file: InlinePlugin) -> Result<PluginView, Error> {
    let InlinePlugin { name, bytes, settings } = file;
    let refused = |LoadError(reason)| Error::Refused { plugin: name.clone(), reason };
    name.parse::<PluginName>().map_err(|invalid| refused(invalid.into()))?;
    let plugin = plugin(engine, &name, &bytes, digest(&bytes), settings, Generation(1)).map_err(refused)?;
    Ok(PluginView::working(Arc::new(plugin)))
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
    generation: Generation,
) -> Result<Plugin, LoadError> {
    let settings = PluginSettings { mode: PluginMode::Active, ..settings };
    let mut plugin = Plugin::load(engine, name, bytes, hash, settings, WARM_INSTANCES, generation)?;
    plugin.is_fixed = true;
    Ok(plugin)
}

/// Sets of the past. The few that were asked for last stay compiled.
pub struct HistoricalSets {
    cache_dir: PathBuf,
    limits: Limits,
    cache: Mutex<CompiledSet>,
}

#[derive(Default)]
struct CompiledSet {
    /// Engine that is started with the first set: one for all of them, separate from that of the active plugins.
    engine: Option<Engine>,
    /// Compiled sets, least recently used first.
    sets: Vec<Arc<Set>>,
}

impl HistoricalSets {
    /// Creates an empty collection. `cache_dir` is where compiled code is kept, as for
    /// [`Plugins::fixed`](crate::plugin::Plugins::fixed); `limits` are the server's for all plugins, which are not
    /// recorded.
    pub fn new(cache_dir: PathBuf, limits: Limits) -> Self {
        Self { cache_dir, limits, cache: Mutex::default() }
    }

    /// Returns a set that is compiled already.
    pub fn get(&self, generation: Generation) -> Option<PinnedSet> {
        let mut cache = self.cache.lock();
        let place = cache.sets.iter().position(|set| set.generation == generation)?;
        let set = cache.sets.remove(place);
        cache.sets.push(Arc::clone(&set));
        Some(PinnedSet(set))
    }

    /// Makes a set as it was, from its files by hash. Blocks while they are compiled.
    ///
    /// # Errors
    ///
    /// When a file is missing, or a plugin is refused that was not refused then; the error names it and says why.
    pub fn load(&self, generation: &StoredGeneration, files: &BTreeMap<String, Vec<u8>>) -> Result<PinnedSet, Error> {
        let mut cache = self.cache.lock();
        let engine = cache.engine(&self.cache_dir)?;
        let views = generation.members.iter().map(|member| view(&engine, member, files, &self.limits));
        let set = Arc::new(Set::new(generation.id, views.collect::<Result<_, _>>()?));
        if cache.sets.len() >= MAX_COMPILED {
            cache.sets.remove(0);
        }
        cache.sets.push(Arc::clone(&set));
        Ok(PinnedSet(set))
    }

    /// Returns the same set with `plugin` in the place of the one of its name, or beside the others. Blocks while it is
    /// compiled.
    ///
    /// # Errors
    ///
    /// When the plugin is refused; the error says why.
    pub fn with(&self, set: &PinnedSet, plugin: InlinePlugin) -> Result<PinnedSet, Error> {
        let engine = self.cache.lock().engine(&self.cache_dir)?;
        let mut views: Vec<PluginView> = set.0.views.iter().filter(|view| view.name != plugin.name).cloned().collect();
        views.push(working(&engine, plugin)?);
        Ok(PinnedSet(Arc::new(Set::new(set.generation(), views))))
    }
}

impl CompiledSet {
    fn engine(&mut self, cache_dir: &Path) -> Result<Engine, Error> {
        Ok(match &self.engine {
            Some(engine) => engine.clone(),
            None => self.engine.insert(engine(cache_dir)?).clone(),
        })
    }
}

fn view(
    engine: &Engine,
    member: &GenerationMember,
    files: &BTreeMap<String, Vec<u8>>,
    limits: &Limits,
) -> Result<PluginView, Error> {
    let GenerationMember { name, hash, settings, generation, absent, .. } = member;
    let refused = |reason: String| Error::Refused { plugin: name.clone(), reason };
    if let Some(absence) = absent {
        let record = serde_json::from_value(absence.record.clone())
            .map_err(|error| refused(format!("cannot read its stored record: {error}")))?;
        return Ok(PluginView::absent(name, Arc::new(record), absence.reason.clone()));
    }
    let settings = PluginSettings::parse_over(settings, limits).map_err(&refused)?;
    let bytes = files.get(hash).ok_or_else(|| refused(format!("its file {hash} was not stored")))?;
    if digest(bytes) != *hash {
        return Err(refused(format!("its stored file {hash} is damaged")));
    }
    let plugin = plugin(engine, name, bytes, hash.clone(), settings, *generation);
    Ok(PluginView::working(Arc::new(plugin.map_err(|LoadError(reason)| refused(reason))?)))
}
