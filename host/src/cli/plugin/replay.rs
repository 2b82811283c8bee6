//! `leadwire plugin replay FILE`: shows what a plugin would have changed if it had been in force for the recorded
//! events.
//!
//! Exit codes are those of `diff`: 0 when nobody would have received anything else, 1 when somebody would have, 2 on an
//! error.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use crate::{
    cli::{exit::NegativeResult, options::Options, print::say, runtime::runtime},
    domain::{
        counter::{Generation, Seq},
        event::Event,
        plugin_name::PluginName,
        time::Timestamp,
    },
    files,
    plugin::{
        self, Comparison, HistoricalSets, InlinePlugin, Limits, PinnedSet, Plugins, PluginsConfig,
        contract::settings::{PluginMode, PluginSettings},
    },
    store::Store,
};

/// Number of events read at once.
const BATCH: u32 = 256;

#[derive(Args)]
pub(crate) struct ReplayArgs {
    /// Component; its file name is the plugin's name: NAME.wasm
    file: PathBuf,
    /// Period to go back, such as 90m, 24h or 7days
    #[arg(long, value_name = "SPAN", default_value = "24h")]
    since: humantime::Duration,
    /// Baseline of the comparison: the plugins in force, the present plugin folder, or no plugins
    #[arg(long, value_enum, default_value = "active")]
    against: Against,
    /// Number of example events per difference
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    examples: usize,
    /// Show the values of the fields in these events
    #[arg(long)]
    values: bool,
    /// Print machine-readable JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Against {
    Active,
    Folder,
    None,
}

impl Against {
    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Folder => "folder",
            Self::None => "none",
        }
    }
}

pub(crate) fn run(replay: &ReplayArgs, options: &Options) -> Result<()> {
    let config = options.load()?;
    let file = config.database_file()?;
    if !file.exists() {
        bail!("there is no database {}", file.display());
    }
    let candidate = candidate(&replay.file, &config.plugins)?;
    let name = candidate.name.clone();
    if replay.against != Against::None && config.plugins.dir.is_none() {
        bail!("no plugin folder is set: name it with --plugins DIR, or compare with --against none");
    }
    let (runtime, cache) = (runtime()?, plugin::cache_dir(&config.data_dir()?));
    let past = HistoricalSets::new(cache.clone(), config.plugins.limits.clone());
    let store = runtime.block_on(Store::open_read_only(&config.database_url()?))?;
    let before = match (replay.against, &config.plugins.dir) {
        (Against::Active, _) => runtime.block_on(in_force(&store, &past))?,
        (Against::Folder, Some(dir)) => Plugins::fixed(in_folder(dir, &config.plugins.limits)?, &cache)?.pinned(),
        (Against::Folder | Against::None, _) => Plugins::none().pinned(),
    };
    let after = past.with(&before, candidate)?;

    let mut comparison = Comparison::new(replay.examples, replay.values);
    let from = Timestamp::now().minus(replay.since.into());
    let events = runtime.block_on(play(&store, from, |event| before.compare(&after, event, &mut comparison)))?;
    runtime.block_on(store.close());
    let (since, against, compared_with) = (replay.since, replay.against, before.made_of(&name));
    if replay.json {
        let made_of = compared_with.as_ref().map(|(version, hash)| json!({"version": version, "hash": hash}));
        let generation = (against == Against::Active).then(|| before.generation());
        let report = json!({
            "plugin": name, "against": against.name(), "generation": generation, "comparedWith": made_of, "since": from,
            "firstSeq": events.map(|(first, _)| first), "lastSeq": events.map(|(_, last)| last),
            "share": comparison.share(), "comparison": comparison,
        });
        say(serde_json::to_string_pretty(&report)?)?;
    } else {
        match events {
            Some((first, last)) => {
                let opponent = opponent(against, &before, &name);
                say(format_args!("{name}, events {first} to {last}\ncompared with {opponent}\n{comparison}"))?;
            }
            None => say(format_args!("{name}: there are no events of the last {since}"))?,
        }
    }
    if comparison.differing > 0 { Err(NegativeResult.into()) } else { Ok(()) }
}

/// Plugins that a server has in force, or had when it last ran; empty if there never were any.
async fn in_force(store: &Store, past: &HistoricalSets) -> Result<PinnedSet> {
    let mut reader = store.read().await?;
    let Some(generation) = reader.last_generation().await? else { return Ok(Plugins::none().pinned()) };
    let files = reader.plugin_files(&generation).await?;
    past.load(&generation, &files).with_context(|| format!("cannot load generation {} of the plugins", generation.id))
}

/// Baseline of the comparison, for people.
fn opponent(against: Against, before: &PinnedSet, name: &str) -> String {
    let place = match (against, before.generation()) {
        (Against::None, _) => return "no plugins".into(),
        (Against::Active, Generation::NONE) => return "no plugins: none was ever active here".into(),
        (Against::Active, generation) => format!("generation {generation} of the plugins, which is active"),
        (Against::Folder, _) => "the plugin folder".into(),
    };
    match before.made_of(name) {
        Some((version, hash)) => format!("{name} {version} (SHA-256 {hash}) of {place}"),
        None => format!("{place}, without a {name}"),
    }
}

/// Passes every event since then to `show`, and returns the first and the last seq.
async fn play(store: &Store, from: Timestamp, mut show: impl FnMut(&Event)) -> Result<Option<(Seq, Seq)>> {
    let first = store.read().await?.first_seq_since(from).await?;
    let (mut seq, mut shown) = (first.before(), None);
    loop {
        // One reader per batch: a long read would prevent a running server from emptying its write-ahead log.
        let events = store.read().await?.events_after(seq, BATCH).await?;
        let Some(last) = events.last() else { break };
        seq = last.seq;
        shown = Some((shown.map_or(events[0].seq, |(first, _)| first), seq));
        events.iter().for_each(&mut show);
    }
    Ok(shown)
}

fn candidate(file: &Path, server: &PluginsConfig) -> Result<InlinePlugin> {
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    stem.parse::<PluginName>().with_context(|| format!("cannot use {}", file.display()))?;
    let beside = settings(&file.with_extension("toml"), &server.limits)?;
    let settings = match (beside, &server.dir) {
        (Some(settings), _) => Some(settings),
        (None, Some(folder)) => settings(&folder.join(format!("{stem}.toml")), &server.limits)?,
        (None, None) => None,
    };
    let settings = settings.unwrap_or_else(|| PluginSettings::within(&server.limits));
    let bytes = component(file, &settings)?;
    Ok(InlinePlugin { name: stem.into(), bytes, settings })
}

/// Plugins of a folder that decide something there.
fn in_folder(folder: &Path, limits: &Limits) -> Result<Vec<InlinePlugin>> {
    let unread = || format!("cannot read the plugin folder {}", folder.display());
    let mut plugins = Vec::new();
    for entry in fs::read_dir(folder).with_context(unread)? {
        let file = entry.with_context(unread)?.path();
        let name = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default().to_owned();
        if file.extension().is_none_or(|extension| extension != "wasm") || name.starts_with('.') {
            continue;
        }
        let settings =
            settings(&file.with_extension("toml"), limits)?.unwrap_or_else(|| PluginSettings::within(limits));
        if settings.enabled && settings.mode == PluginMode::Active {
            let bytes = component(&file, &settings)?;
            plugins.push(InlinePlugin { name, bytes, settings });
        }
    }
    plugins.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(plugins)
}

fn component(file: &Path, settings: &PluginSettings) -> Result<Vec<u8>> {
    files::read(file, settings.limits.file_bytes()).with_context(|| format!("cannot read {}", file.display()))
}

/// Reads a settings file, if it exists.
fn settings(file: &Path, limits: &Limits) -> Result<Option<PluginSettings>> {
    let text = match files::read_text(file, limits.settings_bytes()) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", file.display())),
    };
    let settings = PluginSettings::parse_over(&text, limits).map_err(anyhow::Error::msg);
    settings.with_context(|| format!("cannot use {}", file.display())).map(Some)
}
