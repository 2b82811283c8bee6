//! The one configuration: `leadwire.toml` < `LEADWIRE_*` < flags.
//!
//! Each layer is checked for names by itself, so that a typo is answered with the place where it stands and
//! the key that was probably meant. Each module owns the settings it reads; this file only puts them together.

use std::{
    collections::BTreeSet,
    env, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use figment::{Figment, Metadata, Profile, Provider, error::Kind, value};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    auth::{self, settings::MIN_SECRET_BYTES},
    domain::policy::Visibility,
    plugin, telemetry, transport,
};

pub const DEFAULT_FILE: &str = "leadwire.toml";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where clients connect; port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// A file, or its `sqlite://` URL.
    pub database: String,
    /// What the server keeps beside the database: its secret and what it compiled.
    pub data_dir: Option<PathBuf>,
    pub mode: Mode,
    pub log: telemetry::Settings,
    pub http: transport::http::Settings,
    pub socket: transport::socket::Settings,
    pub auth: auth::Settings,
    pub visibility: Visibility,
    pub plugins: plugin::settings::Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3001)),
            database: "sqlite://leadwire.db".into(),
            data_dir: None,
            mode: Mode::Production,
            log: telemetry::Settings::default(),
            http: transport::http::Settings::default(),
            socket: transport::socket::Settings::default(),
            auth: auth::Settings::default(),
            visibility: Visibility::default(),
            plugins: plugin::settings::Settings::default(),
        }
    }
}

/// What the defaults are for: the demo lets any page call and forgets plugins whose file is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    Production,
    Demo,
}

/// Values given on the command line: a key, the flag that bears it, and its text.
pub type Flag = (&'static str, &'static str, String);

impl Config {
    /// Reads the file (`leadwire.toml` where none is named), the environment, then the flags.
    ///
    /// # Errors
    /// In one line: the source, the key and what was expected there.
    pub fn load(file: Option<&Path>, flags: &[Flag]) -> Result<Self> {
        Self::from_layers(file, env::vars_os().map(|(name, text)| (name, text.into_string())), flags)
    }

    fn from_layers<N, T>(
        file: Option<&Path>,
        environment: impl Iterator<Item = (N, Result<String, T>)>,
        flags: &[Flag],
    ) -> Result<Self>
    where
        N: AsRef<std::ffi::OsStr>,
    {
        let known = Known::new();
        let mut layers = Vec::new();
        layers.extend(Layer::from_file(&known, file)?);
        layers.extend(Layer::from_environment(&known, environment)?);
        for (key, flag, text) in flags {
            layers.push(Layer::from_text(&known, format!("--{flag}"), &key.split('.').collect::<Vec<_>>(), text)?);
        }
        let figment = layers.into_iter().fold(Figment::new(), Figment::merge);
        let mut config: Self = figment.extract().map_err(|error| anyhow::anyhow!(explain(&error)))?;
        config.plugins.data_dir = config.data_dir()?;
        if config.mode == Mode::Demo {
            config.demo_defaults(&figment);
        }
        config.check()?;
        Ok(config)
    }

    fn demo_defaults(&mut self, given: &Figment) {
        if !given.contains("http.cors_origins") {
            self.http.cors_origins = vec!["*".into()];
        }
        if !given.contains("plugins.on_missing") {
            self.plugins.on_missing = plugin::settings::OnMissing::Unload;
        }
    }

    /// What the types alone cannot say.
    fn check(&self) -> Result<()> {
        self.log.filter()?;
        self.database_file()?;
        let (auth, http, socket) = (&self.auth, &self.http, &self.socket);
        for (key, span) in [
            ("http.request_timeout", http.request_timeout),
            ("http.header_timeout", http.header_timeout),
            ("http.body_timeout", http.body_timeout),
            ("http.tcp_user_timeout", http.tcp_user_timeout),
            ("socket.ping_interval", socket.ping_interval),
            ("socket.ping_timeout", socket.ping_timeout),
            ("socket.connect_timeout", socket.connect_timeout),
            ("auth.access_token_ttl", auth.access_token_ttl),
            ("auth.refresh_token_ttl", auth.refresh_token_ttl),
            ("auth.refresh_reuse_window", auth.refresh_reuse_window),
            ("socket.held_timeout", socket.held_timeout),
        ] {
            // Clocks overflow far beyond this.
            let longest = Duration::from_secs(10 * 365 * 24 * 60 * 60);
            if span < Duration::from_millis(1) || span > longest {
                bail!(
                    "{key}: expected between 1ms and 10 years, found {}",
                    humantime_serde::re::humantime::format_duration(span)
                );
            }
        }
        for (key, number, least) in [
            ("http.body_limit", http.body_limit, 1024),
            ("socket.max_frame", socket.max_frame, 1024),
            ("socket.outbox_packets", socket.outbox_packets, 1),
            ("socket.outbox_bytes", socket.outbox_bytes, socket.max_frame),
            ("socket.inbound_packets", socket.inbound_packets, 1),
            ("socket.inbound_bytes", socket.inbound_bytes, socket.max_frame),
            ("plugins.warm_instances", self.plugins.warm_instances, 1),
            ("plugins.dry_run_events", self.plugins.dry_run_events, 0),
            ("auth.password_hash.memory_kib", auth.password_hash.memory_kib as usize, 8),
            ("auth.password_hash.iterations", auth.password_hash.iterations as usize, 1),
            ("auth.password_hash.parallelism", auth.password_hash.parallelism as usize, 1),
        ] {
            // 1 GiB, or as many of whatever is counted.
            if !(least..=1 << 30).contains(&number) {
                bail!("{key}: expected between {least} and {}, found {number}", 1 << 30);
            }
        }
        for (key, secret) in
            [("auth.jwt_secret", &auth.jwt_secret), ("auth.previous_jwt_secret", &auth.previous_jwt_secret)]
        {
            let Some(bytes) = secret.as_ref().map(|secret| secret.reveal().len()) else { continue };
            if bytes < MIN_SECRET_BYTES {
                bail!("{key}: expected at least {MIN_SECRET_BYTES} bytes, found {bytes}");
            }
        }
        let mut seen = BTreeSet::new();
        let own = [&auth.jwt_key_id, &auth.previous_jwt_key_id].into_iter().flatten();
        for kid in own.chain(auth.trusted_keys.iter().map(|key| &key.kid)) {
            if !seen.insert(kid) {
                bail!("auth: the key id {kid:?} stands for two keys");
            }
        }
        Ok(())
    }

    /// The database's file.
    ///
    /// # Errors
    /// When the database is not a file of SQLite's.
    pub fn database_file(&self) -> Result<PathBuf> {
        let path = self.database.strip_prefix("sqlite://").or_else(|| self.database.strip_prefix("sqlite:"));
        let path = path.unwrap_or(&self.database);
        if path.is_empty() || path.contains("://") || path.contains('?') || path == ":memory:" {
            // Not repeated here: a URL may bear a password.
            bail!("database: expected a file such as \"sqlite://leadwire.db\"");
        }
        Ok(path.into())
    }

    /// The database as the store takes it.
    ///
    /// # Errors
    /// When the database is not a file of SQLite's.
    pub fn database_url(&self) -> Result<String> {
        Ok(format!("sqlite://{}", self.database_file()?.display()))
    }

    /// Where the server keeps what it makes: `leadwire-data` beside the database, unless it was said.
    ///
    /// # Errors
    /// When the database is not a file of SQLite's.
    pub fn data_dir(&self) -> Result<PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.database_file()?.with_file_name("leadwire-data")),
        }
    }

    /// The configuration in force as a `leadwire.toml`, keys without a value as comments, secrets redacted.
    pub fn show(&self) -> String {
        let mut effective = self.clone();
        effective.data_dir = self.data_dir().ok();
        let Value::Object(members) = serde_json::to_value(&effective).expect("settings are plain data") else {
            unreachable!("a struct serialises to an object")
        };
        let mut text = String::new();
        write_table(&mut text, "", &members);
        text
    }
}

fn write_table(text: &mut String, path: &str, members: &serde_json::Map<String, Value>) {
    let (tables, keys): (Vec<_>, Vec<_>) = members.iter().partition(|(_, value)| value.is_object());
    text.extend(keys.into_iter().map(|(key, value)| line(key, value)));
    for (name, table) in tables {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        text.push_str(&format!("\n[{path}]\n"));
        write_table(text, &path, table.as_object().expect("partitioned so"));
    }
}

fn line(key: &str, value: &Value) -> String {
    match toml::Value::try_from(value) {
        Ok(value) => format!("{key} = {value}\n"),
        Err(_) => format!("# {key} is not set\n"),
    }
}

fn address<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse().map_err(|_| {
        serde::de::Error::custom(format!("expected an address and a port such as \"127.0.0.1:3001\", found {text:?}"))
    })
}

/// The tree of keys, with the default of each.
struct Known(Value);

impl Known {
    fn new() -> Self {
        Self(serde_json::to_value(Config::default()).expect("settings are plain data"))
    }

    /// Refuses keys that nobody reads.
    fn check(&self, source: &str, dict: &value::Dict) -> Result<()> {
        self.check_at(source, &self.0, dict, "")
    }

    fn check_at(&self, source: &str, known: &Value, dict: &value::Dict, prefix: &str) -> Result<()> {
        for (key, value) in dict {
            let Some(expected) = known.get(key) else {
                bail!("{source}: unknown key {prefix}{key}{}", self.suggestion(&format!("{prefix}{key}")));
            };
            match value {
                value::Value::Dict(_, dict) if expected.is_object() => {
                    self.check_at(source, expected, dict, &format!("{prefix}{key}."))?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn suggestion(&self, key: &str) -> String {
        let lower = key.to_lowercase();
        let near = self
            .keys()
            .into_iter()
            .map(|known| {
                let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
                // A key under the wrong table, or without its table, is as near as one with a typo.
                let whole = strsim::jaro_winkler(&known.to_lowercase(), &lower);
                let name = strsim::jaro_winkler(&last(&known).to_lowercase(), &last(&lower)) - 0.02;
                (whole.max(name), known)
            })
            .max_by(|left, right| left.0.total_cmp(&right.0));
        match near {
            Some((likeness, known)) if likeness > 0.85 => format!("; did you mean {known}?"),
            _ => String::new(),
        }
    }

    fn keys(&self) -> Vec<String> {
        fn walk(value: &Value, prefix: &str, keys: &mut Vec<String>) {
            for (key, value) in value.as_object().into_iter().flatten() {
                keys.push(format!("{prefix}{key}"));
                walk(value, &format!("{prefix}{key}."), keys);
            }
        }
        let mut keys = Vec::new();
        walk(&self.0, "", &mut keys);
        keys
    }
}

/// Values from one place, which errors will name.
struct Layer {
    source: String,
    dict: value::Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<value::Map<Profile, value::Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

impl Layer {
    /// The file's values; nothing when none was named and the usual one is not there.
    fn from_file(known: &Known, file: Option<&Path>) -> Result<Option<Self>> {
        let path = file.unwrap_or(Path::new(DEFAULT_FILE));
        let source = path.display().to_string();
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if file.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read the configuration {source}")),
        };
        let dict: value::Dict = toml::from_str(&text).map_err(|error| {
            let line = error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            anyhow::anyhow!("{source}, line {line}: {}", error.message().replace('\n', ", "))
        })?;
        known.check(&source, &dict)?;
        Ok(Some(Self { source, dict }))
    }

    fn from_environment<N: AsRef<std::ffi::OsStr>, T>(
        known: &Known,
        variables: impl Iterator<Item = (N, Result<String, T>)>,
    ) -> Result<Vec<Self>> {
        let mut layers = Vec::new();
        for (name, text) in variables {
            let Some(name) = name.as_ref().to_str() else { continue };
            let key = match name {
                "RUST_LOG" => "log.level".to_owned(),
                "LEADWIRE_LOG" => "log.level".to_owned(),
                // Read by the command line, and by the tests.
                "LEADWIRE_CONFIG" => continue,
                _ if name.starts_with("LEADWIRE_TEST_") => continue,
                _ => match name.strip_prefix("LEADWIRE_") {
                    Some(key) => key.to_lowercase().replace("__", "."),
                    None => continue,
                },
            };
            let Ok(text) = text else { bail!("{name}: expected UTF-8") };
            layers.push(Self::from_text(known, name.to_owned(), &key.split('.').collect::<Vec<_>>(), &text)?);
        }
        // The general variable comes first, so that the particular one wins.
        layers.sort_by_key(|layer| (layer.source != "RUST_LOG", layer.source.clone()));
        Ok(layers)
    }

    /// One value as text: read as what its default is, because an all-digit secret is still a text.
    fn from_text(known: &Known, source: String, path: &[&str], text: &str) -> Result<Self> {
        let mut names = Vec::new();
        let mut default = Some(&known.0);
        for segment in path {
            let members = default.and_then(Value::as_object);
            let found = members.and_then(|members| members.iter().find(|(key, _)| key.eq_ignore_ascii_case(segment)));
            names.push(found.map_or((*segment).to_owned(), |(key, _)| key.clone()));
            default = found.map(|(_, value)| value);
        }
        let value = match default {
            Some(Value::Number(_)) => text.parse::<i64>().map_or_else(|_| text.into(), value::Value::from),
            Some(Value::Bool(_)) => text.parse::<bool>().map_or_else(|_| text.into(), value::Value::from),
            Some(Value::Array(_)) => list(text).with_context(|| source.clone())?,
            _ => text.into(),
        };
        let nested = names.iter().rev().fold(value, |value, name| value::Dict::from([(name.clone(), value)]).into());
        let dict = nested.into_dict().unwrap_or_default();
        known.check(&source, &dict)?;
        Ok(Self { source, dict })
    }
}

/// `a,b`, or a list as TOML writes it.
fn list(text: &str) -> Result<value::Value> {
    if !text.trim_start().starts_with('[') {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Ok(items.map(value::Value::from).collect::<Vec<_>>().into());
    }
    let mut dict: value::Dict = toml::from_str(&format!("list = {text}"))
        .map_err(|error| anyhow::anyhow!("expected a list: {}", error.message().replace('\n', ", ")))?;
    dict.remove("list").context("expected a list")
}

/// One line for an error of figment's. The value found is named by its kind only: it may be a secret.
fn explain(error: &figment::Error) -> String {
    let source = error.metadata.as_ref().map(|metadata| format!("{}: ", metadata.name)).unwrap_or_default();
    let key = error.path.join(".");
    let what = match &error.kind {
        Kind::InvalidType(found, expected) | Kind::InvalidValue(found, expected) => {
            format!("expected {}, found {}", plainly(expected), kind_of(found))
        }
        Kind::UnknownVariant(found, expected) => format!("expected one of {}, found {found:?}", expected.join(", ")),
        Kind::UnknownField(found, expected) => {
            format!("unknown key {found}: expected one of {}", expected.join(", "))
        }
        Kind::MissingField(name) => format!("{name} is missing"),
        Kind::ISizeOutOfRange(_) | Kind::USizeOutOfRange(_) => "the number is out of range".to_owned(),
        kind => kind.to_string(),
    };
    let line = if key.is_empty() { format!("{source}{what}") } else { format!("{source}{key}: {what}") };
    line.replace('\n', " ")
}

fn plainly(expected: &str) -> &str {
    match expected {
        "a duration" => "a duration such as \"15m\"",
        "u16" | "u32" | "u64" | "usize" | "a nonzero u32" => "a whole number",
        "a sequence" => "a list",
        expected if expected.starts_with("struct") => "a table",
        expected => expected,
    }
}

fn kind_of(found: &figment::error::Actual) -> &'static str {
    use figment::error::Actual;
    match found {
        Actual::Bool(_) => "true or false",
        Actual::Unsigned(_) | Actual::Signed(_) | Actual::Float(_) => "a number",
        Actual::Str(_) | Actual::Char(_) => "a text that is none",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}
