//! Hot reload: looks after the plugin directory, and replaces the set in force.
//!
//! A file event is only a hint. After a moment of quiet the directory is read again, whole; what is new is
//! compiled, described, initialised and tried on recent events on this thread, and only then put in force, by one
//! pointer, at a place in the log where there is one. A bad file changes nothing and says why; the generation before
//! it goes on.

mod generations;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Weak, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Archive, Recent, Settings, Shared, TriedOn,
    archive::{self, Origin},
    engine::Engine,
    error::{Error, Refused},
    file,
    grant::Grant,
    loaded::Plugin,
    manifest::check_name,
    pipeline,
    records::{self, Record, Records},
    set::{Set, View},
    settings::{Mode, OnMissing, PluginSettings},
    standing::{self, Shift, ShiftError, Standing},
    state_file,
    status::{Candidate, State, Trial},
};
use crate::store::generation::Generation;
use generations::making;
use notify::{
    EventKind, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode},
};

/// Somebody who never stops writing is not waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the directory is looked at although nobody hinted: not every file system tells.
const ROUND: Duration = Duration::from_secs(2);
/// How long a set may take to take force, once its place in the log is written.
const LATE: Duration = Duration::from_secs(30);
/// How soon it is looked at again after what was there could not take force.
const RETRY: Duration = Duration::from_millis(800);
/// Leads that a plugin is tried on.
const TRIED_LEADS: usize = 1000;
/// A trial whose outcome does not matter ends after so many faults, each of which may take as long as a call may.
const MOST_FAILED: usize = 20;
const LEAD_READ: &str = "lead:read";

pub(super) enum Hint {
    Look,
    /// What an operator asks for; answered once it is in force.
    Shift(Order),
    Stop,
}

pub(super) struct Order {
    pub(super) name: String,
    pub(super) shift: Shift,
    pub(super) reply: mpsc::SyncSender<Result<(), ShiftError>>,
}

/// Loads what is there, and starts the thread that goes on doing so.
pub(super) fn start(
    dir: PathBuf,
    settings: Settings,
    recent: Recent,
    archive: Arc<dyn Archive>,
) -> Result<Arc<Shared>, Error> {
    let data = state_file::directory(&settings.data_dir);
    let mut keeper = Keeper::new(dir, settings, recent, archive)?;
    let (hints, hinted) = mpsc::channel();
    let shared = Arc::new(Shared::new(Some(hints.clone())));
    keeper.seen = keeper.look()?;
    keeper.settle(&shared)?;
    let watchers = [&keeper.dir, &data].map(|dir| watch(dir, hints.clone()));
    let weak = Arc::downgrade(&shared);
    let run = move || {
        let _watchers = watchers;
        // Compiling is not urgent, serving is. On Linux this is about the calling thread alone.
        let _ = rustix::process::nice(10);
        keep(keeper, &weak, &hinted);
    };
    let thread = thread::Builder::new().name("plugin-watch".into()).spawn(run);
    thread.map_err(|source| Error::DataDirectory { dir: data, source })?;
    Ok(shared)
}

fn watch(dir: &Path, hints: mpsc::Sender<Hint>) -> Option<notify::RecommendedWatcher> {
    let hint = move |event: notify::Result<notify::Event>| {
        // Our own reading must not make us read again, nor the lock that we take to write down what we read.
        let reading = event.is_ok_and(|event| match event.kind {
            _ if event.paths.iter().all(|path| path.ends_with(state_file::LOCK)) => true,
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
    let mut round = ROUND;
    loop {
        let woken = match hinted.recv_timeout(round) {
            Ok(Hint::Look) => quiet(hinted, keeper.settings.quiet),
            Ok(Hint::Shift(order)) => Woken::ToShift(order),
            Ok(Hint::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return,
            Err(mpsc::RecvTimeoutError::Timeout) => Woken::ByTime,
        };
        let Some(shared) = shared.upgrade() else { return };
        let forced = match woken {
            Woken::ToStop => return,
            Woken::ToShift(Order { name, shift, reply }) => {
                // Nobody may be left who waits for it.
                let _ = reply.send(keeper.shift(&shared, &name, &shift));
                continue;
            }
            Woken::ToLook => true,
            Woken::ByTime => false,
        };
        round = RETRY;
        let seen = match keeper.look() {
            Ok(seen) => seen,
            Err(error) => {
                shared.reload_failed(error.to_string());
                continue;
            }
        };
        if forced || seen != keeper.seen {
            keeper.seen = seen;
            if let Err(error) = keeper.settle(&shared) {
                shared.reload_failed(error.to_string());
                // The next look finds something new, and so tries again.
                keeper.seen = Seen::new();
                continue;
            }
        }
        shared.reload_worked();
        round = ROUND;
    }
}

/// Why the keeper goes on.
enum Woken {
    ToLook,
    ToShift(Order),
    ToStop,
    ByTime,
}

/// Waits until no more hints come for so long, which means that whoever writes a file is done; or until one comes that
/// does not wait.
fn quiet(hinted: &mpsc::Receiver<Hint>, quiet: Duration) -> Woken {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        match hinted.recv_timeout(quiet) {
            Ok(Hint::Look) => {}
            Ok(Hint::Shift(order)) => return Woken::ToShift(order),
            Ok(Hint::Stop) | Err(mpsc::RecvTimeoutError::Disconnected) => return Woken::ToStop,
            Err(mpsc::RecvTimeoutError::Timeout) => break,
        }
    }
    Woken::ToLook
}

/// What the directory looks like from outside: enough to tell that nothing happened.
type Seen = Vec<(PathBuf, u64, Option<SystemTime>)>;

struct Keeper {
    dir: PathBuf,
    settings: Settings,
    engine: Engine,
    recent: Recent,
    archive: Arc<dyn Archive>,
    slots: BTreeMap<String, Slot>,
    generation: u64,
    /// What was in force before this process began; until the first set of its own.
    last: Option<Generation>,
    is_settled: bool,
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
    /// One that has not looked yet.
    fn new(dir: PathBuf, settings: Settings, recent: Recent, archive: Arc<dyn Archive>) -> Result<Self, Error> {
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
            slots: BTreeMap::new(),
            generation: last.as_ref().map_or(0, |last| last.id),
            last,
            is_settled: false,
            seen: Seen::new(),
        })
    }

    fn look(&self) -> Result<Seen, Error> {
        self.list().map_err(|source| Error::Directory { dir: self.dir.clone(), source })
    }

    fn list(&self) -> io::Result<Seen> {
        let mut seen = Seen::new();
        let record = records::file(&self.settings.data_dir);
        let generations = standing::file(&self.settings.data_dir);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>()?,
            // Once it has been there, a directory that is gone is an empty one: its plugins are missing.
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.is_settled => Vec::new(),
            Err(error) => return Err(error),
        };
        for path in entries.into_iter().chain([record, generations]) {
            // A link that leads nowhere is there as well, and is refused by what reads it.
            let Ok(meta) = fs::metadata(&path).or_else(|_| fs::symlink_metadata(&path)) else { continue };
            seen.push((path, meta.len(), meta.modified().ok()));
        }
        seen.sort();
        Ok(seen)
    }

    /// Makes the set what the directory says, and puts it in force.
    fn settle(&mut self, shared: &Arc<Shared>) -> Result<(), Error> {
        let mut files = self.files(&self.seen);
        let records = records::read(&self.settings.data_dir)?;
        let standings = standing::read(&self.settings.data_dir)?;
        let names: BTreeSet<String> = files.keys().chain(records.keys()).chain(self.slots.keys()).cloned().collect();
        let mut slots = BTreeMap::new();
        for name in names {
            let old = self.slots.get(&name).cloned();
            let mut standing = standings.get(&name).cloned().unwrap_or_default();
            let files = files.remove(&name).unwrap_or_default();
            let slot = self.examine(&name, files, records.get(&name), old, &mut standing);
            if let Some(mut slot) = slot {
                slot.view.standing = Some(Arc::new(standing));
                slots.insert(name, slot);
            }
        }
        // Written before it is in force: what has hidden something once is not forgotten by a crash.
        self.write_down(&slots)?;
        self.write_generations(&standings, &slots)?;
        let mut set = Set::new(self.generation, slots.values().map(|slot| slot.view.clone()).collect());
        let is_other = !self.is_settled || differs(&self.slots, &slots);
        if is_other {
            set.generation = self.record(&set)?;
        }
        let was_there = |plugin: &&Arc<Plugin>| {
            let mut before = self.slots.values().filter_map(|slot| slot.view.plugin.as_ref());
            before.any(|old| Arc::ptr_eq(old, plugin))
        };
        let plugins = slots.values().filter_map(|slot| slot.view.plugin.as_ref());
        let new: Vec<Arc<Plugin>> = plugins.filter(|plugin| !was_there(plugin)).cloned().collect();

        let generation = set.generation;
        let in_force = match is_other && self.is_settled {
            true => self.switch(shared, set)?,
            // Nobody is served yet; or there is only something else to tell of the same plugins.
            false => {
                shared.refresh(set);
                Ok(())
            }
        };
        self.slots = slots;
        self.generation = generation;
        (self.last, self.is_settled) = (None, true);
        // Not before: each of several new plugins is loaded by itself, and they take force together.
        new.iter().for_each(|plugin| plugin.announce());
        in_force
    }

    /// Lets a recorded set take force at its place in the log. The inner error says that it will, but has not yet.
    fn switch(&self, shared: &Arc<Shared>, set: Set) -> Result<Result<(), Error>, Error> {
        let generation = set.generation;
        let resets = shared.prepare(set);
        let (done, passed) = mpsc::sync_channel(1);
        let weak = Arc::downgrade(shared);
        let swap = move || {
            // What is replaced may take its time to go: that is for the thread that waits.
            let before = weak.upgrade().and_then(|shared| shared.take_force(generation));
            let _ = done.send(before);
        };
        self.archive.switch(generation, resets, Box::new(swap)).map_err(Error::Archive)?;
        match passed.recv_timeout(LATE) {
            Ok(_) => Ok(Ok(())),
            Err(mpsc::RecvTimeoutError::Timeout) => Ok(Err(Error::Late(LATE))),
            Err(mpsc::RecvTimeoutError::Disconnected) => Err(Error::Archive("the server stops".into())),
        }
    }

    /// The number of a set that is about to take force. After a restart with the same plugins it is the old one.
    fn record(&self, set: &Set) -> Result<u64, Error> {
        let members = archive::members(set);
        match &self.last {
            Some(last) if last.members == members => Ok(last.id),
            _ => self.archive.record(&members, &archive::files(set)).map_err(Error::Archive),
        }
    }

    fn files(&self, seen: &Seen) -> BTreeMap<String, Files> {
        let mut files: BTreeMap<String, Files> = BTreeMap::new();
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

    fn write_down(&self, slots: &BTreeMap<String, Slot>) -> Result<(), Error> {
        records::update(&self.settings.data_dir, |records| {
            let is_active = |slot: &Slot| slot.view.plugin.as_ref().is_some_and(|plugin| !plugin.is_shadow());
            let is_known = |slot: &Slot| slot.view.absent.is_some() || is_active(slot);
            records.retain(|name, _| slots.get(name).is_some_and(is_known));
            for (name, slot) in slots {
                let Some(plugin) = slot.view.plugin.as_ref().filter(|_| is_active(slot)) else { continue };
                // Somebody may just have removed the plugin: files first, then this record.
                if records.contains_key(name) || self.dir.join(format!("{name}.wasm")).exists() {
                    records.insert(name.clone(), Record::of(plugin, self.settings.on_missing));
                }
            }
        })
    }

    /// What becomes of one name; `None` when there is nothing to tell of it.
    fn examine(
        &self,
        name: &str,
        files: Files,
        record: Option<&Record>,
        old: Option<Slot>,
        standing: &mut Standing,
    ) -> Option<Slot> {
        let limits = &self.settings.limits;
        let text = files.settings.as_ref().map(|path| file::read_text(path, limits.settings_bytes())).transpose();
        let text = match text {
            Ok(text) => text,
            // Gone since the directory was listed; the next look will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return old,
            Err(error) => {
                let record = record.filter(|record| record.holds && record.on_missing == OnMissing::Fail);
                // A print of nothing is like no other: the next look tries again.
                return Some(refuse(name, (None, None), format!("{name}.toml: {error}"), record, old));
            }
        };
        let settings = PluginSettings::parse_over(text.as_deref().unwrap_or_default(), limits);
        let on_missing = settings.as_ref().ok().and_then(|settings| settings.on_missing);
        let on_missing = on_missing.or(record.map(|record| record.on_missing)).unwrap_or(self.settings.on_missing);
        // Whoever puts a plugin into shadow mode says that it is to hold nothing, also when it cannot be loaded.
        // But settings that are not taken say nothing.
        let is_aside = standing.aside.is_some();
        let in_shadow = !is_aside && settings.as_ref().is_ok_and(|settings| settings.mode == Mode::Shadow);
        let was_active = record;
        let record = record.filter(|record| record.holds && on_missing == OnMissing::Fail && !in_shadow);
        if settings.as_ref().is_ok_and(|settings| !settings.enabled) {
            tracing_once(&old, State::Disabled, || tracing::info!(plugin = name, "{name} is disabled"));
            return Some(Slot::idle(name, State::Disabled, Some(format!("{name}.toml says enabled = false")), None));
        }
        let Some(code) = files.code else { return missing(name, record, &old) };
        let most = settings.as_ref().map_or(limits, |settings| &settings.limits).file_bytes();
        let (bytes, hash) = match file::read(&code, most) {
            Ok(bytes) => {
                let hash = standing::digest(&bytes);
                (bytes, hash)
            }
            // Gone since the directory was listed; the next look will tell.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return old,
            Err(error) => return Some(refuse(name, (None, text), format!("{name}.wasm: {error}"), record, old)),
        };
        let print = (Some(hash.clone()), text);
        let mut making = making(&print);
        let today = settings.as_ref().map_err(|reason| format!("{name}.toml: {reason}"));
        let old = self.as_ordered(name, &making, record, old, standing, &today);
        // What an operator takes back is taken back now: the old one does not go on with it while the new one is refused.
        let old = old.filter(|old| today.as_ref().map_or(true, |today| old.is_within(&today.grant)));
        if standing.sets_aside(&making) {
            return self.stay(name, record, old, standing, &today);
        }
        if let Some(old) = old.as_ref().filter(|old| old.refused.as_ref() == Some(&print)) {
            return Some(Slot { view: held(old.view.clone(), record), ..old.clone() });
        }
        if let Some(mut old) = old.clone().filter(|old| old.loaded.as_ref() == Some(&print)) {
            old.view.candidate = None;
            old.view.reason = None;
            old.refused = None;
            making.version =
                old.view.plugin.as_ref().map(|plugin| plugin.manifest.version.to_string()).unwrap_or_default();
            standing.take(making);
            return Some(old);
        }
        let loaded = today.map_err(Refused).and_then(|settings| {
            self.load(name, bytes, hash, settings.clone(), archive::settings_of(print.1.as_deref()))
        });
        match loaded {
            Ok(plugin) => {
                making.version = plugin.manifest.version.to_string();
                if let Some(slot) = self.hold(&plugin, &making, was_active, old.as_ref(), standing) {
                    return Some(slot);
                }
                standing.take(making);
                Some(Slot::working(plugin, print))
            }
            Err(Refused(reason)) => Some(refuse(name, print, reason, record, old)),
        }
    }

    fn load(
        &self,
        name: &str,
        bytes: Vec<u8>,
        hash: String,
        settings: PluginSettings,
        text: String,
    ) -> Result<Arc<Plugin>, Refused> {
        check_name(name).map_err(Refused)?;
        let warm = self.settings.warm_instances;
        let known = self.known_generation(name, &hash, &text);
        let (is_known, generation) = (known.is_some(), known.unwrap_or(self.generation + 1));
        let mut plugin = Plugin::load(&self.engine, name, &bytes, hash, settings, warm, generation)?;
        plugin.origin = Origin { bytes: bytes.into(), settings: text };
        let plugin = Arc::new(plugin);
        if plugin.hooks.enrich || plugin.hooks.filter {
            self.dry_run(&plugin, is_known)?;
        }
        Ok(plugin)
    }

    /// The generation in which these files were loaded first, if they were in force before a restart.
    fn known_generation(&self, name: &str, hash: &str, settings: &str) -> Option<u64> {
        let mut before = self.last.iter().flat_map(|last| &last.members).filter(|member| member.absent.is_none());
        let same = before.find(|member| member.name == name && member.hash == hash && member.settings == settings);
        same.map(|member| member.generation)
    }

    /// Tries a plugin on what happened lately, and on leads of every age, before it takes part in what happens next.
    ///
    /// One that was in force before a restart stays in force: what it fails on is withheld, and nothing else.
    fn dry_run(&self, plugin: &Arc<Plugin>, is_known: bool) -> Result<(), Refused> {
        let alone = Set::alone(plugin.clone());
        let events = (self.recent)(TriedOn::Recent(self.settings.dry_run_events)).into_iter();
        let events = events.filter(|event| !event.rooms.is_empty() && !event.is_erasure());
        // Who wants no trial wants none at all.
        let leads = if self.settings.dry_run_events > 0 { TRIED_LEADS } else { 0 };
        let leads = (self.recent)(TriedOn::Leads(leads)).into_iter().filter(|event| event.name == LEAD_READ);
        let mut trial = Trial::default();
        for event in events.chain(leads) {
            let is_lead = event.name == LEAD_READ;
            *(if is_lead { &mut trial.leads } else { &mut trial.events }) += 1;
            let Err((hook, fault)) = pipeline::try_on(&alone, &event) else { continue };
            let of = match event.lead_id.filter(|_| is_lead) {
                Some(lead) => format!("lead {lead}"),
                None => format!("event {} ({})", event.seq, event.name),
            };
            let why = format!("in a trial on {of}, {hook} {fault}");
            if !is_known {
                return Err(Refused(why));
            }
            if trial.failed == 0 {
                tracing::warn!(plugin = plugin.name(), "{} goes on although it failed {why}", plugin.name());
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

impl Slot {
    fn idle(name: &str, state: State, reason: Option<String>, absent: Option<&Record>) -> Self {
        let absent = absent.map(|record| Arc::new(record.clone()));
        let view = View {
            name: name.into(),
            state,
            reason,
            hash: None,
            candidate: None,
            plugin: None,
            absent,
            standing: None,
        };
        Self { view, loaded: None, refused: None }
    }

    fn working(plugin: Arc<Plugin>, print: Print) -> Self {
        Self { view: View::working(plugin), loaded: Some(print), refused: None }
    }

    /// Whether the loaded plugin, if there is one, asks for no more than that.
    fn is_within(&self, grant: &Grant) -> bool {
        self.view.plugin.as_ref().is_none_or(|plugin| plugin.is_within(grant))
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
        old.view.candidate = Some(Candidate::refused(print.0.clone(), reason));
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

/// Forgets a plugin, so that what it held back is let go. False when it was not known.
pub(super) fn forget(data_dir: &Path, name: &str) -> Result<bool, Error> {
    let mut known = false;
    records::update(data_dir, |records: &mut Records| known = records.remove(name).is_some())?;
    standing::update(data_dir, &[], |standings| drop(standings.remove(name)))?;
    Ok(known)
}

/// As [`Keeper::shift`], for who is not the server: a running one takes note by itself.
pub(super) fn shift(settings: Settings, name: &str, shift: &Shift) -> Result<(), ShiftError> {
    let dir = settings.dir.clone().ok_or(ShiftError::Unknown)?;
    let keeper = Keeper::new(dir, settings, Box::new(|_| Vec::new()), Arc::new(archive::Nowhere::default()))?;
    keeper.write_shift(name, shift).map(drop)
}
