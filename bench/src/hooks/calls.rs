//! Cost of a call of each hook: through the whole host, natively, and of an empty call.

use std::{fs, hint::black_box, iter, ops::Deref, path::Path, sync::Arc};

use anyhow::{Context, Result, anyhow, bail};
use bench_enrich::Worth;
use bench_filter::Contacts;
use bench_follow::Follow;
use bench_guard::Guard;
use leadwire::{
    domain::{actor::ActorAccount, counter::Seq, plugin_name::PluginName, role::Role, time::Timestamp, user::User},
    plugin::{
        Occasion, PluginState, Plugins, PluginsConfig, ProposedCommand,
        contract::{error::LoadError, settings::PluginSettings},
        testkit::{self, ProbeEvent, Specimen, Testkit},
    },
};
use leadwire_plugin_sdk::testing;
use serde_json::{Map, Value, json};
use tempfile::TempDir;

use crate::hooks::{
    measure::{self, Case, beside},
    native, tables,
};

/// A debug build only shows that the bench itself works.
const ROUNDS: usize = if cfg!(debug_assertions) { 4 } else { 400 };
const CALLS: usize = 100;
const ROLES: [Role; 3] = [Role::Manager, Role::Sales, Role::Viewer];
const EVENT: &str = "lead:updated";

/// Languages other than Rust, with the suffix of their plugins' names.
const LANGUAGES: [(&str, &str); 2] = [("JavaScript", "js"), ("Python", "py")];

/// Performance gate of the bench: a Rust filter with three roles and two fields.
pub struct Gate {
    /// Call alone, in nanoseconds: from the event to verified verdicts.
    call: f64,
    /// Ratio to the same work done natively, from the event to a payload per role.
    of_native: f64,
}

impl Gate {
    const CALL: f64 = 2500.0;
    const OF_NATIVE: f64 = 4.0;

    pub fn holds(&self) -> bool {
        self.call <= Self::CALL && self.of_native <= Self::OF_NATIVE
    }

    /// Each limit, and whether it is kept.
    pub fn lines(&self) -> [String; 2] {
        let Self { call, of_native } = *self;
        let verdict = |holds| if holds { "pass" } else { "FAIL" };
        let (took, most) = (tables::span(call), tables::span(Self::CALL));
        [
            format!(
                "gate: a Rust filter, 3 roles, 2 fields: a call {took}, at most {most}: {}",
                verdict(call <= Self::CALL)
            ),
            format!(
                "gate: the same, until the payloads are made: {of_native:.1} times native, at most {:.0}: {}",
                Self::OF_NATIVE,
                verdict(of_native <= Self::OF_NATIVE)
            ),
        ]
    }
}

/// Inputs of the questions: an event as the server writes it, and a user.
struct World {
    payload: Arc<Value>,
    context: Value,
    user: User,
    input: Map<String, Value>,
}

/// Plugins in other languages than Rust: per language a filter, and one plugin with all other hooks.
struct Others {
    filters: Vec<(&'static str, Loaded)>,
    hooks: Vec<(&'static str, Loaded)>,
}

impl Others {
    /// Loads the plugins; a missing one is reported and left out.
    fn load(folder: &Path) -> Result<Self> {
        Ok(Self { filters: Self::each(folder, "bench-filter")?, hooks: Self::each(folder, "bench-hooks")? })
    }

    fn each(folder: &Path, name: &str) -> Result<Vec<(&'static str, Loaded)>> {
        let mut found = Vec::new();
        for (language, suffix) in LANGUAGES {
            let name = format!("{name}-{suffix}");
            match load(folder, &name, 8)? {
                Some(plugins) => found.push((language, plugins)),
                None => println!("\nskipped: {name}.wasm was not built"),
            }
        }
        Ok(found)
    }
}

pub fn run(folder: &Path) -> Result<Gate> {
    let world = World::new();
    let none = Plugins::none();
    let empty = rust(folder, "bench-empty", 8)?;
    let others = Others::load(folder)?;
    let cache = TempDir::new()?;
    let specimen = specimen(folder, "bench-filter", cache.path())?;
    let mut call = TheCall::new(&world, &empty, &specimen)?;
    let of_native = filter(folder, &world, call.measure(), &others)?;
    enrich(folder, &world, call.measure(), &others)?;
    authorize(folder, &world, call.measure(), &others)?;
    before(folder, &world, call.measure(), &others)?;
    after(folder, &world, call.measure(), &others)?;

    let unwanted = rust(folder, "bench-filter", 8)?;
    let mut cases = [
        Case::new("an event, and no plugins", shaping(&none, &world, EVENT)).batched(100),
        Case::new("an event that no plugin wants", shaping(&unwanted, &world, "user:created")).batched(100),
        Case::new("a copy of its payload, for comparison", || drop(black_box(Value::clone(&world.payload))))
            .batched(10),
        measure::clock(),
    ];
    beside(&mut cases, ROUNDS, 10);
    tables::table("beside the point", &cases, None, None);

    let cold = rust(folder, "bench-filter", 0)?;
    let mut cases = [
        Case::new("filter, a warm instance", shaping(&unwanted, &world, EVENT)),
        Case::new("filter, a fresh instance for each call", shaping(&cold, &world, EVENT)),
    ];
    beside(&mut cases, 100, 20);
    tables::table("warm and fresh", &cases, Some(0), None);
    call.measure();
    Ok(Gate { call: call.report(), of_native })
}

/// The call that the gate limits, measured repeatedly in the course of the run, because the clock speed of a shared
/// machine changes by the minute.
struct TheCall<'a> {
    world: &'a World,
    empty: &'a Plugins,
    specimen: &'a Specimen,
    question: testkit::Probe,
    /// Cases of the measurement in which an empty call was fastest.
    best: Option<[Case<'static>; 3]>,
}

impl<'a> TheCall<'a> {
    const EMPTY: usize = 1;
    const RUST: usize = 2;

    fn new(world: &'a World, empty: &'a Plugins, specimen: &'a Specimen) -> Result<Self> {
        let event =
            ProbeEvent { name: EVENT.into(), payload: Value::clone(&world.payload), context: world.context.clone() };
        let question = testkit::Probe::Filter { event, roles: ROLES.to_vec() };
        specimen.call(&question).map_err(anyhow::Error::msg)?;
        Ok(Self { world, empty, specimen, question, best: None })
    }

    /// Measures again, and returns the present duration of an empty call.
    fn measure(&mut self) -> f64 {
        let Self { world, empty, specimen, question, .. } = self;
        let mut cases = [
            Case::new("the call alone, native", || {
                drop(black_box(native::verdicts(&Contacts, EVENT, &world.payload, &ROLES)));
            }),
            Case::new("an empty call", shaping(empty, world, EVENT)),
            Case::new("the call alone, Rust", || specimen.call(question).expect("it was answered before")),
        ];
        beside(&mut cases, ROUNDS, CALLS);
        let cases = cases.map(Case::measured);
        let took = cases[Self::EMPTY].median();
        if self.best.as_ref().is_none_or(|best| took < best[Self::EMPTY].median()) {
            self.best = Some(cases);
        }
        took
    }

    /// Prints the best measurement, and returns the duration of the call in it.
    fn report(&self) -> f64 {
        let best = self.best.as_ref().expect("it was measured");
        tables::table("filter: 3 roles, 2 fields, the call", best, Some(0), Some(best[Self::EMPTY].median()));
        best[Self::RUST].median()
    }
}

/// Returns the ratio of its duration to that of the native work.
fn filter(folder: &Path, world: &World, empty: f64, others: &Others) -> Result<f64> {
    let rust = rust(folder, "bench-filter", 8)?;
    let native = || drop(black_box(native::filter(&Contacts, EVENT, &world.payload, &ROLES)));
    let mut cases = vec![Case::new("filter, native", native)];
    let shape = |language, plugins| Case::new(format!("filter, {language}"), shaping(plugins, world, EVENT));
    cases.extend(all(&rust, &others.filters).map(|(language, plugins)| shape(language, plugins)));
    beside(&mut cases, ROUNDS, CALLS);
    sound(&rust, &others.filters)?;
    tables::table("filter: 3 roles, 2 fields, until the payloads are made", &cases, Some(0), Some(empty));
    Ok(cases[1].median() / cases[0].median())
}

fn enrich(folder: &Path, world: &World, empty: f64, others: &Others) -> Result<()> {
    let rust = rust(folder, "bench-enrich", 8)?;
    let native = || drop(black_box(native::enrich(&Worth, EVENT, &world.payload, &ROLES)));
    let mut cases = vec![Case::new("enrich, native", native)];
    let shape = |language, plugins| Case::new(format!("enrich, {language}"), shaping(plugins, world, EVENT));
    cases.extend(all(&rust, &others.hooks).map(|(language, plugins)| shape(language, plugins)));
    beside(&mut cases, ROUNDS, CALLS);
    sound(&rust, &others.hooks)?;
    tables::table("enrich: 2 fields, 1 edit", &cases, Some(0), Some(empty));
    Ok(())
}

fn authorize(folder: &Path, world: &World, empty: f64, others: &Others) -> Result<()> {
    let rust = rust(folder, "bench-guard", 8)?;
    let mut cases = vec![Case::new("authorize, native", || drop(black_box(native::connect(&Guard, &world.user))))];
    cases.extend(all(&rust, &others.hooks).map(|(language, plugins)| {
        Case::new(format!("authorize, {language}"), || drop(black_box(plugins.authorize_connect(&world.user))))
    }));
    beside(&mut cases, ROUNDS, CALLS);
    sound(&rust, &others.hooks)?;
    tables::table("authorize: 1 field", &cases, Some(0), Some(empty));
    Ok(())
}

fn before(folder: &Path, world: &World, empty: f64, others: &Others) -> Result<()> {
    let rust = rust(folder, "bench-guard", 8)?;
    let native = || drop(black_box(native::before(&Guard, "lead:create", &world.user, world.input.clone())));
    let actor = ActorAccount::from(world.user.clone());
    let mut cases = vec![Case::new("before, native", native)];
    cases.extend(all(&rust, &others.hooks).map(|(language, plugins)| {
        Case::new(format!("before, {language}"), || {
            let question = ProposedCommand {
                name: "lead:create",
                actor: &actor,
                input: world.input.clone(),
                lead: None,
                activity: None,
            };
            drop(black_box(plugins.before(&question, |_| Ok(()))));
        })
    }));
    beside(&mut cases, ROUNDS, CALLS);
    sound(&rust, &others.hooks)?;
    tables::table("before: 3 fields, 1 amendment", &cases, Some(0), Some(empty));
    Ok(())
}

fn after(folder: &Path, world: &World, empty: f64, others: &Others) -> Result<()> {
    let rust = rust(folder, "bench-follow", 8)?;
    let occasion = world.occasion();
    let mut cases =
        vec![Case::new("after, native", || drop(black_box(native::after(&Follow, &occasion, World::STATE))))];
    cases.extend(all(&rust, &others.hooks).map(|(language, plugins)| {
        Case::new(format!("after, {language}"), || drop(black_box(plugins.after(&plugins.name, &occasion))))
    }));
    beside(&mut cases, ROUNDS, CALLS);
    sound(&rust, &others.hooks)?;
    tables::table("after: 2 fields, 1 effect, a state", &cases, Some(0), Some(empty));
    Ok(())
}

/// Plugin by itself, called without a server.
fn specimen(folder: &Path, name: &str, cache: &Path) -> Result<Specimen> {
    let bytes = fs::read(folder.join(format!("{name}.wasm")))?;
    Testkit::start(cache)?.open(name, &bytes, PluginSettings::default()).map_err(|LoadError(why)| anyhow!(why))
}

/// Fails if a call failed, because its duration would be meaningless.
fn sound(rust: &Loaded, others: &[(&'static str, Loaded)]) -> Result<()> {
    for (_, plugins) in all(rust, others) {
        for status in plugins.status() {
            if status.counts.faults + status.counts.skipped > 0 {
                bail!(
                    "{} failed while it was measured: {:?}",
                    status.name,
                    status.last_fault.map(|fault| fault.reason)
                );
            }
        }
    }
    Ok(())
}

/// The plugin in Rust, then those in other languages.
fn all<'a>(rust: &'a Loaded, others: &'a [(&'static str, Loaded)]) -> impl Iterator<Item = (&'static str, &'a Loaded)> {
    iter::once(("Rust", rust)).chain(others.iter().map(|(language, plugins)| (*language, plugins)))
}

fn shaping<'a>(plugins: &'a Plugins, world: &'a World, name: &'a str) -> impl FnMut() + 'a {
    move || drop(black_box(plugins.shape(name, &world.payload, &world.context, &ROLES)))
}

/// Plugin by itself, in a folder of its own.
struct Loaded {
    name: PluginName,
    plugins: Plugins,
    _home: TempDir,
}

impl Deref for Loaded {
    type Target = Plugins;

    fn deref(&self) -> &Plugins {
        &self.plugins
    }
}

fn rust(folder: &Path, name: &str, warm_instances: usize) -> Result<Loaded> {
    load(folder, name, warm_instances)?.with_context(|| format!("{name}.wasm is missing: run cargo xtask bench"))
}

/// Loads a plugin; `None` if there is no such file.
fn load(folder: &Path, name: &str, warm_instances: usize) -> Result<Option<Loaded>> {
    let file = folder.join(format!("{name}.wasm"));
    if !file.is_file() {
        return Ok(None);
    }
    let home = TempDir::new()?;
    let dir = home.path().join("plugins");
    fs::create_dir(&dir)?;
    fs::copy(file, dir.join(format!("{name}.wasm")))?;
    fs::write(dir.join(format!("{name}.toml")), "[grant]\neffects = [\"remind\"]\n")?;
    let settings = PluginsConfig {
        dir: Some(dir),
        data_dir: home.path().join("data"),
        warm_instances,
        ..PluginsConfig::default()
    };
    let plugins = Plugins::open(settings, Box::new(|_| Vec::new()))?;
    match plugins.status().first() {
        Some(status) if status.state == PluginState::Active => {
            Ok(Some(Loaded { name: name.parse()?, plugins, _home: home }))
        }
        status => bail!("{name} is not active: {:?}", status.and_then(|status| status.reason.as_deref())),
    }
}

impl World {
    /// State that the follower kept earlier.
    const STATE: u64 = 41;

    fn occasion(&self) -> Occasion<'_> {
        Occasion {
            id: "42",
            seq: Some(Seq(42)),
            at: self.user.created_at,
            name: EVENT,
            payload: &self.payload,
            context: &self.context,
            state: Some("41"),
        }
    }

    fn new() -> Self {
        let lead = testing::lead();
        let ann = lead["owner"].clone();
        let timestamp = "2026-01-15T09:30:00.000Z";
        let payload = json!({"lead": lead, "updatedBy": ann, "changes": ["status"], "timestamp": timestamp});
        let mut before = lead.clone();
        before["status"] = "CONTACTED".into();
        let at = Timestamp::from_millis(0).expect("in range");
        let id = "01980000-0000-7000-8000-0000000000aa".parse().expect("an id");
        let user = User {
            id,
            email: "ann@example.com".into(),
            name: "Ann".into(),
            role: Role::Sales,
            active: true,
            created_at: at,
            updated_at: at,
        };
        let input = json!({"title": "Roof", "source": "www", "valueCents": 120_000, "email": "bob@miller.example"});
        let Value::Object(input) = input else { unreachable!("it was written as an object") };
        Self { payload: payload.into(), context: json!({"lead": lead, "before": before}), user, input }
    }
}
