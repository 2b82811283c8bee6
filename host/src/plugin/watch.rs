//! Hot reload: looks after the plugin directory, and replaces the set in force.
//!
//! A file event is only a hint. After a moment of quiet the directory is read again, whole; what is new is
//! compiled, described, initialised and tried on recent events on this thread, and only then put in force, by one
//! pointer. A bad file changes nothing and says why; the generation before it goes on.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};
use sha2::{Digest, Sha256};

use super::{
    Recent, Settings, Shared,
    engine::Engine,
    error::{Error, Refused},
    loaded::Plugin,
    manifest::check_name,
    pipeline,
    records::{self, Record, Records},
    set::{Set, View},
    settings::{OnMissing, PluginSettings},
    status::{Candidate, State},
};

/// No event for so long means that whoever writes a file is done.
const QUIET: Duration = Duration::from_millis(150);
/// Somebody who never stops writing is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the directory is looked at although nobody hinted: not every file system tells.
const ROUND: Duration = Duration::from_secs(2);
const MAX_FILE: u64 = 64 << 20;

pub(super) enum Hint {
    Look,
    Stop,
}

/// Loads what is there, and starts the thread that goes on doing so.
pub(super) fn start(dir: PathBuf, settings: Settings, recent: Recent) -> Result<Arc<Shared>, Error> {
    let data = records::directory(&settings.data_dir);
    let failed = |source| Error::DataDirectory { dir: data.clone(), source };
    fs::create_dir_all(data.join("cache")).map_err(failed)?;
    let engine = Engine::start(&fs::canonicalize(data.join("cache")).map_err(failed)?)?;
    let (hints, hinted) = mpsc::channel();
    let shared = Arc::new(Shared::new(Some(hints.clone())));
    let mut keeper = Keeper { dir, settings, engine, recent, slots: BTreeMap::new(), generation: 0, seen: Seen::new() };
    keeper.seen = keeper.look().map_err(|source| Error::Directory { dir: keeper.dir.clone(), source })?;
    keeper.settle(&shared)?;
    let watchers = [&keeper.dir, &data].map(|dir| watch(dir, hints.clone()));
    let weak = Arc::downgrade(&shared);
    let run = move || {
        let _watchers = watchers;
        // Compiling is not urgent, serving is. On Linux this is about the calling thread alone.
        let _ = rustix::process::nice(10);
        keep(keeper, &weak, &hinted);
    };
    thread::Builder::new().name("plugin-watch".into()).spawn(run).map_err(failed)?;
    Ok(shared)
}

fn watch(dir: &Path, hints: mpsc::Sender<Hint>) -> Option<notify::RecommendedWatcher> {
    let hint = move |event: notify::Result<notify::Event>| {
        // Our own reading must not make us read again, nor the lock that we take to write down what we read.
        let reading = event.is_ok_and(|event| match event.kind {
            _ if event.paths.iter().all(|path| path.ends_with(records::LOCK)) => true,
            EventKind::Access(AccessKind::Close(AccessMode::Write)) => false,
            kind => kind.is_access(),
        });
        if !reading {
            let _ = hints.send(Hint::Look);
        }
    };
    let watcher = notify::recommended_watcher(hint).and_then(|mut watcher| {
        watcher.watch(dir, RecursiveMode::NonRecursive)?;
        Ok(watcher)
    });
    watcher
        .inspect_err(|error| tracing::warn!("no file events for {}, looking every {ROUND:?}: {error}", dir.display()))
        .ok()
}

fn keep(mut keeper: Keeper, shared: &Weak<Shared>, hinted: &mpsc::Receiver<Hint>) {
    loop {
        let forced = match hinted.recv_timeout(ROUND) {
            Ok(Hint::Look) => quiet(hinted),
            Ok(Hint::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => Some(false),
        };
        let Some(forced) = forced else { return };
        let Some(shared) = shared.upgrade() else { return };
        let seen = match keeper.look() {
            Ok(seen) => seen,
            Err(error) => {
                tracing::warn!("cannot read the plugin directory {}: {error}", keeper.dir.display());
                continue;
            }
        };
        if !forced && seen == keeper.seen {
            continue;
        }
        keeper.seen = seen;
        if let Err(error) = keeper.settle(&shared) {
            tracing::error!("plugins stay as they are: {error}");
        }
    }
}

/// Waits until no more hints come; `None` when it is time to stop.
fn quiet(hinted: &mpsc::Receiver<Hint>) -> Option<bool> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match hinted.recv_timeout(QUIET) {
            Ok(Hint::Look) => {}
            Ok(Hint::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return None,
            Err(mpsc::RecvTimeoutError::Timeout) => break,
        }
    }
    Some(true)
}

/// What the directory looks like from outside: enough to tell that nothing happened.
type Seen = Vec<(PathBuf, u64, Option<SystemTime>)>;

struct Keeper {
    dir: PathBuf,
    settings: Settings,
    engine: Engine,
    recent: Recent,
    slots: BTreeMap<String, Slot>,
    generation: u64,
    seen: Seen,
}

/// What is kept between two looks about one name.
#[derive(Clone)]
struct Slot {
    view: View,
    /// What the loaded plugin was made from.
    loaded: Option<Print>,
    /// What was refused last: not to be tried again.
    refused: Option<Print>,
}

/// What a plugin is made from: the hash of the code, and the text of the settings.
type Print = (Option<String>, Option<String>);

#[derive(Default)]
struct Files {
    code: Option<PathBuf>,
    settings: Option<PathBuf>,
}

impl Keeper {
    fn look(&self) -> io::Result<Seen> {
        let mut seen = Seen::new();
        let record = records::directory(&self.settings.data_dir).join("active.json");
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            // Once it has been there, a directory that is gone is an empty one: its plugins are missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.generation > 0 => Vec::new(),
            Err(error) => return Err(error),
        };
        for path in entries.into_iter().chain([record]) {
            let Ok(meta) = fs::metadata(&path) else { continue };
            seen.push((path, meta.len(), meta.modified().ok()));
        }
        seen.sort();
        Ok(seen)
    }

    /// Makes the set what the directory says, and puts it in force.
    fn settle(&mut self, shared: &Shared) -> Result<(), Error> {
        let mut files = self.files();
        let records = records::read(&self.settings.data_dir)?;
        let names: BTreeSet<String> = files.keys().chain(records.keys()).chain(self.slots.keys()).cloned().collect();
        let mut slots = BTreeMap::new();
        for name in names {
            let old = self.slots.get(&name).cloned();
            let slot = self.examine(&name, files.remove(&name).unwrap_or_default(), records.get(&name), old);
            if let Some(slot) = slot {
                slots.insert(name, slot);
            }
        }
        // Written before it is in force: what has hidden something once is not forgotten by a crash.
        self.write_down(&slots)?;
        let swapped = self.generation == 0 || differs(&self.slots, &slots);
        self.slots = slots;
        if swapped {
            self.generation += 1;
        }
        shared.replace(Set::new(self.generation, self.slots.values().map(|slot| slot.view.clone()).collect()));
        Ok(())
    }

    fn files(&self) -> BTreeMap<String, Files> {
        let mut files: BTreeMap<String, Files> = BTreeMap::new();
        for (path, ..) in self.seen.iter().filter(|(path, ..)| path.parent() == Some(&self.dir)) {
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

    fn write_down(&self, slots: &BTreeMap<String, Slot>) -> Result<(), Error> {
        records::update(&self.settings.data_dir, |records| {
            let is_known = |slot: &Slot| slot.view.absent.is_some() || slot.view.plugin.is_some();
            records.retain(|name, _| slots.get(name).is_some_and(is_known));
            for (name, slot) in slots {
                let Some(plugin) = &slot.view.plugin else { continue };
                // Somebody may just have removed the plugin: files first, then this record.
                if records.contains_key(name) || self.dir.join(format!("{name}.wasm")).exists() {
                    records.insert(name.clone(), Record::of(plugin, self.settings.on_missing));
                }
            }
        })
    }

    /// What becomes of one name; `None` when there is nothing to tell of it.
    fn examine(&self, name: &str, files: Files, record: Option<&Record>, old: Option<Slot>) -> Option<Slot> {
        let text = files.settings.as_ref().map(fs::read_to_string).transpose();
        let (text, settings) = match text {
            Ok(text) => (text.clone(), PluginSettings::parse(text.as_deref().unwrap_or_default())),
            Err(error) => (None, Err(error.to_string())),
        };
        let on_missing = settings.as_ref().ok().and_then(|settings| settings.on_missing);
        let on_missing = on_missing.or(record.map(|record| record.on_missing)).unwrap_or(self.settings.on_missing);
        let record = record.filter(|record| record.holds && on_missing == OnMissing::Fail);
        if settings.as_ref().is_ok_and(|settings| !settings.enabled) {
            tracing_once(&old, State::Disabled, || tracing::info!(plugin = name, "{name} is disabled"));
            return Some(Slot::idle(name, State::Disabled, Some(format!("{name}.toml says enabled = false")), None));
        }
        let Some(code) = files.code else { return missing(name, record, &old) };
        let (bytes, hash) = match read(&code) {
            Ok(bytes) => {
                let hash = hash(&bytes);
                (bytes, hash)
            }
            // Gone since the directory was listed; the next look will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return old,
            Err(error) => return Some(refuse(name, (None, text), error.to_string(), record, old)),
        };
        let print = (Some(hash.clone()), text);
        if let Some(old) = old.as_ref().filter(|old| old.refused.as_ref() == Some(&print)) {
            return Some(Slot { view: held(old.view.clone(), record), ..old.clone() });
        }
        if let Some(mut old) = old.clone().filter(|old| old.loaded.as_ref() == Some(&print)) {
            old.view.candidate = None;
            old.view.reason = None;
            old.refused = None;
            return Some(old);
        }
        let loaded = settings
            .map_err(|reason| Refused(format!("{name}.toml: {reason}")))
            .and_then(|settings| self.load(name, &bytes, hash, settings));
        match loaded {
            Ok(plugin) => Some(Slot::working(name, plugin, print)),
            Err(Refused(reason)) => Some(refuse(name, print, reason, record, old)),
        }
    }

    fn load(&self, name: &str, bytes: &[u8], hash: String, settings: PluginSettings) -> Result<Arc<Plugin>, Refused> {
        check_name(name).map_err(Refused)?;
        let warm = self.settings.warm_instances;
        let plugin = Plugin::load(&self.engine, name, bytes, hash, settings, warm, self.generation + 1)?;
        let plugin = Arc::new(plugin);
        if plugin.hooks.enrich || plugin.hooks.filter {
            self.dry_run(&plugin)?;
        }
        let (version, generation) = (&plugin.manifest.version, plugin.generation);
        tracing::info!(plugin = name, %version, generation, "{name} {version} is in force: {}", plugin.hooks.names().join(", "));
        Ok(plugin)
    }

    /// Tries a plugin on what happened lately, before it takes part in what happens next.
    fn dry_run(&self, plugin: &Arc<Plugin>) -> Result<(), Refused> {
        let alone = Set::new(0, vec![Slot::working(plugin.name(), plugin.clone(), (None, None)).view]);
        let events = (self.recent)(self.settings.dry_run_events);
        for event in events.iter().filter(|event| !event.rooms.is_empty()) {
            pipeline::try_on(&alone, event).map_err(|(hook, fault)| {
                Refused(format!("in a trial on event {} ({}), {hook} {fault}", event.seq, event.name))
            })?;
        }
        Ok(())
    }
}

impl Slot {
    fn idle(name: &str, state: State, reason: Option<String>, absent: Option<&Record>) -> Self {
        let absent = absent.map(|record| Arc::new(record.clone()));
        let view = View { name: name.into(), state, reason, hash: None, candidate: None, plugin: None, absent };
        Self { view, loaded: None, refused: None }
    }

    fn working(name: &str, plugin: Arc<Plugin>, print: Print) -> Self {
        let mut slot = Self::idle(name, State::Active, None, None);
        slot.view.hash = Some(plugin.hash.clone());
        slot.view.plugin = Some(plugin);
        slot.loaded = Some(print);
        slot
    }
}

/// A plugin whose file is not there: of no account, unless it held something back.
fn missing(name: &str, record: Option<&Record>, old: &Option<Slot>) -> Option<Slot> {
    let record = record?;
    tracing_once(old, State::Missing, || {
        tracing::error!(
            plugin = name,
            "the file of {name} is missing; what it decides is held back until it is back or removed"
        );
    });
    let reason = format!("its file is missing: put {name}.wasm back, or run `leadwire plugin remove {name}`");
    Some(Slot::idle(name, State::Missing, Some(reason), Some(record)))
}

/// A file that is not taken: the plugin loaded before goes on, if there is one.
fn refuse(name: &str, print: Print, reason: String, record: Option<&Record>, old: Option<Slot>) -> Slot {
    tracing::error!(plugin = name, "{name} is refused: {reason}");
    if let Some(mut old) = old.filter(|old| old.view.plugin.is_some()) {
        old.view.reason = Some(format!("a newer file is refused: {reason}"));
        old.view.candidate = Some(Candidate { hash: print.0.clone(), reason });
        old.refused = Some(print);
        return old;
    }
    let mut slot = Slot::idle(name, State::Refused, Some(reason), record);
    slot.view.hash = print.0.clone();
    slot.refused = Some(print);
    slot
}

/// A refused file's view, when what is remembered of the plugin has changed meanwhile.
fn held(mut view: View, record: Option<&Record>) -> View {
    if view.plugin.is_none() {
        view.absent = record.map(|record| Arc::new(record.clone()));
    }
    view
}

fn tracing_once(old: &Option<Slot>, state: State, tell: impl FnOnce()) {
    if old.as_ref().is_none_or(|old| old.view.state != state) {
        tell();
    }
}

/// Whether other plugins are in force.
fn differs(old: &BTreeMap<String, Slot>, new: &BTreeMap<String, Slot>) -> bool {
    let force = |slots: &BTreeMap<String, Slot>| -> Vec<(String, Option<u64>, bool)> {
        let counts = slots.values().map(|slot| &slot.view);
        let counts = counts.filter(|view| view.plugin.is_some() || view.absent.is_some());
        counts
            .map(|view| {
                (view.name.clone(), view.plugin.as_ref().map(|plugin| plugin.generation), view.absent.is_some())
            })
            .collect()
    };
    force(old) != force(new)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let length = fs::metadata(path)?.len();
    if length > MAX_FILE {
        let why = format!("the file has {length} bytes; {MAX_FILE} are allowed");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    fs::read(path)
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Forgets a plugin, so that what it held back is let go. False when it was not known.
pub(super) fn forget(data_dir: &Path, name: &str) -> Result<bool, Error> {
    let mut known = false;
    records::update(data_dir, |records: &mut Records| known = records.remove(name).is_some())?;
    Ok(known)
}
