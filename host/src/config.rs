//! Configuration, in layers: `leadwire.toml` < `LEADWIRE_*` < flags.
//!
//! The names in each layer are checked separately, so that the error for a typo names the place and the key that was
//! probably meant. Each module defines the settings that it reads; this file only combines them.

pub(crate) mod layer;
mod log;
mod metrics;

use std::{
    env,
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Result, bail};
use figment::Figment;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use self::layer::{ConfigLayer, KnownKeys, explain};
pub use self::log::LogConfig;
pub use self::metrics::MetricsConfig;
use crate::{
    auth::{
        self,
        settings::{MIN_SECRET_BYTES, Secret},
        token::Tokens,
    },
    domain::policy::Visibility,
    effects, plugin,
    store::DatabaseUrl,
    transport,
};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Address for clients; port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub listen: SocketAddr,
    /// Database file, or its `sqlite://` URL.
    pub database: String,
    /// Directory for what the server keeps beside the database: its secret and compiled plugins.
    pub data_dir: Option<PathBuf>,
    pub mode: ServerMode,
    /// Maximum duration of a graceful shutdown: sockets are sent away and requests finished.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    pub log: LogConfig,
    pub http: transport::http::HttpConfig,
    pub socket: transport::socket::settings::SocketConfig,
    pub presence: transport::socket::presence::settings::PresenceConfig,
    pub limits: transport::limits::LimitsConfig,
    pub auth: auth::AuthConfig,
    pub visibility: Visibility,
    pub plugins: plugin::contract::settings::PluginsConfig,
    pub effects: effects::EffectsConfig,
    pub metrics: MetricsConfig,
    /// Set when `serve` accepts a database that the data directory does not belong to: a flag, not a setting.
    #[serde(skip)]
    pub new_database: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3001)),
            database: "sqlite://leadwire.db".into(),
            data_dir: None,
            mode: ServerMode::Production,
            drain_timeout: Duration::from_secs(30),
            log: LogConfig::default(),
            http: transport::http::HttpConfig::default(),
            socket: transport::socket::settings::SocketConfig::default(),
            presence: transport::socket::presence::settings::PresenceConfig::default(),
            limits: transport::limits::LimitsConfig::default(),
            auth: auth::AuthConfig::default(),
            visibility: Visibility::default(),
            plugins: plugin::contract::settings::PluginsConfig::default(),
            effects: effects::EffectsConfig::default(),
            metrics: MetricsConfig::default(),
            new_database: false,
        }
    }
}

/// Selects the defaults. The demo lets pages of this machine call, forgets plugins whose file is gone, and may be
/// seeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum ServerMode {
    Production,
    Demo,
}

impl ServerMode {
    /// Name of the mode, as the configuration has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Demo => "demo",
        }
    }
}

/// Value given on the command line: the key, the flag, and the text.
pub type Flag = (&'static str, &'static str, String);

impl Config {
    /// Reads the file (`leadwire.toml` if none is named), the environment, then the flags.
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
        N: AsRef<OsStr>,
    {
        let known = KnownKeys::of(&Config::default());
        let mut layers = Vec::new();
        layers.extend(ConfigLayer::from_file(&known, file)?);
        layers.extend(ConfigLayer::from_environment(&known, environment)?);
        for (key, flag, text) in flags {
            layers.push(ConfigLayer::from_text(
                &known,
                format!("--{flag}"),
                &key.split('.').collect::<Vec<_>>(),
                text,
            )?);
        }
        let figment = layers.into_iter().fold(Figment::new(), Figment::merge);
        let mut config: Self = figment.extract().map_err(|error| anyhow::anyhow!(explain(&error)))?;
        config.plugins.data_dir = config.data_dir()?;
        if config.mode == ServerMode::Demo {
            config.demo_defaults(&figment);
            config.http.any_origin_is_loopback = true;
        }
        config.check()?;
        Ok(config)
    }

    fn demo_defaults(&mut self, given: &Figment) {
        if !given.contains("http.cors_origins") {
            self.http.cors_origins = vec!["*".into()];
        }
        if !given.contains("plugins.on_missing") {
            self.plugins.on_missing = plugin::contract::settings::OnMissing::Unload;
        }
    }

    /// Checks constraints that the types cannot express.
    fn check(&self) -> Result<()> {
        self.log.check()?;
        self.plugins.gate.check().map_err(|why| anyhow::anyhow!("plugins.{why}"))?;
        self.database_url()?;
        let (auth, http, socket, effects) = (&self.auth, &self.http, &self.socket, &self.effects);
        let limits = &self.limits;
        for (key, span) in [
            ("drain_timeout", self.drain_timeout),
            ("log.keep_for", self.log.keep_for),
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
            ("socket.stall_timeout", socket.stall_timeout),
            ("presence.grace", self.presence.grace),
            ("presence.interval", self.presence.interval),
            ("limits.refusal_window", limits.refusal_window),
            ("auth.login_limits.known_for", auth.login_limits.known_for),
            ("auth.audit.keep_for", auth.audit.keep_for),
            ("effects.first_delay", effects.first_delay),
            ("effects.longest_delay", effects.longest_delay),
            ("effects.webhook_timeout", effects.webhook_timeout),
            ("effects.keep_done", effects.keep_done),
            ("plugins.quiet", self.plugins.quiet),
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
        let lanes = auth.password_hash.parallelism as usize;
        for (key, number, least) in [
            ("log.keep_events", self.log.keep_events as usize, 1000),
            ("http.body_limit", http.body_limit, 1024),
            ("http.page_bytes", http.page_bytes, 1024),
            ("socket.max_frame", socket.max_frame, 1024),
            ("socket.outbox_packets", socket.outbox_packets, 1),
            ("socket.outbox_bytes", socket.outbox_bytes, socket.max_frame),
            ("socket.inbound_packets", socket.inbound_packets, 1),
            ("socket.inbound_bytes", socket.inbound_bytes, socket.max_frame),
            ("limits.refusals", limits.refusals as usize, 0),
            ("limits.subscriptions", limits.subscriptions, 1),
            ("limits.handshakes", limits.handshakes as usize, 1),
            ("limits.connections_per_user", limits.connections_per_user, 1),
            ("limits.connections_per_address", limits.connections_per_address, 1),
            ("limits.requests_per_user", limits.requests_per_user, 1),
            ("limits.requests_per_address", limits.requests_per_address, 1),
            ("limits.tcp_connections_per_address", limits.tcp_connections_per_address, 1),
            ("plugins.warm_instances", self.plugins.warm_instances, 1),
            ("plugins.dry_run_events", self.plugins.dry_run_events, 0),
            ("effects.attempts", effects.attempts as usize, 1),
            ("effects.parallel_webhooks", effects.parallel_webhooks, 1),
            ("auth.password_hash.memory_kib", auth.password_hash.memory_kib as usize, 8 * lanes),
            ("auth.audit.keep_rows", auth.audit.keep_rows as usize, 1000),
            ("auth.password_hash.iterations", auth.password_hash.iterations as usize, 1),
            ("auth.password_hash.parallelism", lanes, 1),
        ] {
            // 1 GiB, or the same number of whatever is counted.
            if !(least..=1 << 30).contains(&number) {
                bail!("{key}: expected between {least} and {}, found {number}", 1 << 30);
            }
        }
        self.plugins.limits.check().map_err(|reason| anyhow::anyhow!("plugins.limits.{reason}"))?;
        http.check().map_err(|why| anyhow::anyhow!("http.{why}"))?;
        // Parse the keys as the server will; a placeholder stands in for a secret that `serve` has not created yet.
        let mut auth = auth.clone();
        auth.jwt_secret.get_or_insert_with(|| Secret::new("-".repeat(MIN_SECRET_BYTES)));
        Tokens::new(&auth)?;
        Ok(())
    }

    /// Path of the database file.
    ///
    /// # Errors
    /// When the setting does not name an SQLite file.
    pub fn database_file(&self) -> Result<PathBuf> {
        Ok(self.database_url()?.into_file())
    }

    /// URL of the database for the store.
    ///
    /// # Errors
    /// When the setting does not name an SQLite file.
    pub fn database_url(&self) -> Result<DatabaseUrl> {
        Ok(self.database.parse()?)
    }

    /// Data directory of the server: `leadwire-data` beside the database, unless it is configured.
    ///
    /// # Errors
    /// When the setting does not name an SQLite file.
    pub fn data_dir(&self) -> Result<PathBuf> {
        match &self.data_dir {
            Some(dir) => Ok(dir.clone()),
            None => Ok(self.database_file()?.with_file_name("leadwire-data")),
        }
    }

    /// Returns the configuration in force as a `leadwire.toml`: keys without a value as comments, secrets redacted.
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
