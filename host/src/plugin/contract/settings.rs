//! Settings of an operator: `[plugins]` of the configuration, and `<name>.toml` beside each `<name>.wasm`.
//!
//! An unknown key is refused with the nearest known one, and a secret is never shown.

use std::{fmt, path::PathBuf, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};

use crate::domain::text::nearest;

pub use crate::plugin::contract::{grant::Grant, limits::Limits};

/// `[plugins]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginsConfig {
    /// Directory of the `<name>.wasm` files; without it there are no plugins.
    pub dir: Option<PathBuf>,
    /// Directory where the server keeps what it knows of plugins: the names of active ones, and compiled code.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// Behaviour when the file of an active plugin is deleted; `<name>.toml` may override it.
    pub on_missing: OnMissing,
    /// Number of warm instances kept per plugin.
    pub warm_instances: usize,
    /// Number of recent events that a new plugin is tried on.
    pub dry_run_events: usize,
    pub gate: Gate,
    /// Debounce: time without a write to the directory before it is read again.
    #[serde(with = "humantime_serde")]
    pub quiet: Duration,
    /// Limits of a plugin; `<name>.toml` may override them.
    pub limits: Limits,
}

/// Gate: the change that a reload may make without a review.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gate {
    /// Share of recent events, each counted once per role, from 0 to 1. `None` allows any change.
    pub max_change: Option<f64>,
}

impl Gate {
    pub fn check(&self) -> Result<(), String> {
        match self.max_change {
            Some(share) if !(0.0..=1.0).contains(&share) => {
                Err(format!("gate.max_change is {share}: expected 0.0 to 1.0"))
            }
            _ => Ok(()),
        }
    }
}

impl Default for PluginsConfig {
    fn default() -> Self {
        Self {
            dir: None,
            data_dir: PathBuf::from("."),
            on_missing: OnMissing::Fail,
            warm_instances: 8,
            dry_run_events: 50,
            gate: Gate::default(),
            quiet: Duration::from_millis(150),
            limits: Limits::default(),
        }
    }
}

/// Meaning of a missing or refused file for a plugin that may deny or hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// The plugin counts as failing: what it would decide is held back (fail closed).
    #[default]
    Fail,
    /// The plugin is gone, and what it hid is no longer hidden. For development.
    Unload,
}

/// Contents of `<name>.toml`. Without the file, everything is as in `default`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSettings {
    pub enabled: bool,
    /// Plugins are asked in this order, and by name where it is equal.
    pub order: i32,
    pub mode: PluginMode,
    /// Meaning of a failure for every hook of the plugin, in place of each hook's own default.
    pub on_failure: Option<OnFailure>,
    pub on_missing: Option<OnMissing>,
    /// Limits from `timeout_ms`, `memory_mib` and the table `limits`, which override those of the server.
    #[serde(skip)]
    pub limits: Limits,
    /// Configuration that is passed to the plugin's `init` as a JSON object.
    pub config: toml::Table,
    pub grant: Grant,
    /// Gate of this plugin, in place of the server's.
    pub gate: Gate,
    /// Secret that signs the plugin's webhooks.
    pub webhook_secret: Option<WebhookSecret>,
}

impl Default for PluginSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            order: 0,
            mode: PluginMode::Active,
            on_failure: None,
            on_missing: None,
            limits: Limits::default(),
            config: toml::Table::new(),
            grant: Grant::default(),
            gate: Gate::default(),
            webhook_secret: None,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PluginMode {
    #[default]
    Active,
    /// Shadow mode: the plugin is asked and its answers are counted, but they have no effect.
    Shadow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Fail open: go on without the plugin.
    Open,
    /// Fail closed: hold back, or deny.
    Closed,
}

/// Secret in the form of Standard Webhooks: `whsec_` and a key of 24 to 64 bytes in base64. Never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct WebhookSecret(String);

impl WebhookSecret {
    /// Returns the text itself, for the place that uses it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for WebhookSecret {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let key = text.strip_prefix("whsec_").and_then(|key| STANDARD.decode(key).ok());
        match key {
            Some(key) if (24..=64).contains(&key.len()) => Ok(Self(text)),
            _ => Err("expected \"whsec_\" and then 24 to 64 bytes in base64"),
        }
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// Keys that hold secrets: only the host needs them, and they are stored nowhere else.
pub(crate) const SECRETS: [&str; 1] = ["webhook_secret"];

/// Limits that are set at the top of the file, where most operators will look for them.
const TOP_LIMITS: [&str; 2] = ["timeout_ms", "memory_mib"];

impl PluginSettings {
    const KEYS: [&str; 12] = [
        "enabled",
        "order",
        "mode",
        "on_failure",
        "on_missing",
        "timeout_ms",
        "memory_mib",
        "limits",
        "config",
        "grant",
        "gate",
        "webhook_secret",
    ];

    /// Returns the settings of a plugin without a `<name>.toml`.
    pub fn within(limits: &Limits) -> Self {
        Self { limits: limits.clone(), ..Self::default() }
    }

    /// Reads the text of a `<name>.toml`, for a server with the default limits.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_over(text, &Limits::default())
    }

    /// Reads the text of a `<name>.toml`; limits that it does not set are those of the server.
    pub fn parse_over(text: &str, limits: &Limits) -> Result<Self, String> {
        let mut table: toml::Table = text.parse().map_err(|error| syntax(text, &error))?;
        known(table.keys(), &Self::KEYS, "")?;
        if let Some(grant) = table.get("grant").and_then(toml::Value::as_table) {
            known(grant.keys(), &Grant::KEYS, "grant.")?;
        }
        if let Some(gate) = table.get("gate").and_then(toml::Value::as_table) {
            known(gate.keys(), &["max_change"], "gate.")?;
        }
        let limits = over(limits, &mut table)?;
        let settings: Self = table.try_into().map_err(one_line)?;
        settings.gate.check()?;
        Ok(Self { limits, grant: settings.grant.check()?, ..settings })
    }

    /// Returns these settings with the authorisation of `other`: `enabled`, the grant and the webhook secret.
    pub(crate) fn allowed_by(self, other: &Self) -> Self {
        let Self { enabled, grant, webhook_secret, .. } = other.clone();
        Self { enabled, grant, webhook_secret, ..self }
    }

    pub fn timeout(&self) -> Duration {
        self.limits.timeout()
    }

    /// Returns the `config` table as JSON text.
    pub fn config_json(&self) -> String {
        serde_json::to_string(&self.config).expect("a TOML table has string keys and finite depth")
    }
}

/// Merges the limits of the file, which are removed from `table`, over those of the server.
fn over(limits: &Limits, table: &mut toml::Table) -> Result<Limits, String> {
    let mut given = match table.remove("limits") {
        None => toml::Table::new(),
        Some(toml::Value::Table(given)) => given,
        Some(_) => return Err("limits: expected a table".into()),
    };
    if let Some(name) = TOP_LIMITS.iter().find(|name| given.contains_key(**name)) {
        return Err(format!("limits.{name}: expected at the top of the file, as {name}"));
    }
    known(given.keys(), Limits::NAMES, "limits.")?;
    given.extend(TOP_LIMITS.iter().filter_map(|name| table.remove_entry(*name)));
    let mut all = toml::Table::try_from(limits).map_err(|error| error.to_string())?;
    all.extend(given);
    let limits: Limits = all.try_into().map_err(one_line)?;
    limits.check().map(|()| limits)
}

fn one_line(error: toml::de::Error) -> String {
    error.to_string().trim_end().replace('\n', " ")
}

/// Describes what is wrong with the text, and in which line. The line itself is left out: it may contain a secret.
fn syntax(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    format!("line {}: {}", before.matches('\n').count() + 1, error.message())
}

fn known<'a>(mut keys: impl Iterator<Item = &'a String>, names: &[&str], prefix: &str) -> Result<(), String> {
    let Some(key) = keys.find(|key| !names.contains(&key.as_str())) else { return Ok(()) };
    Err(match nearest(key, names.iter().copied()) {
        Some(name) => format!("unknown key {prefix}{key}: did you mean {prefix}{name}?"),
        None => format!("unknown key {prefix}{key}: expected one of {}", names.join(", ")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_set() {
        let settings = PluginSettings::parse(
            "enabled = false\norder = -1\nmode = \"active\"\non_failure = \"open\"\non_missing = \"unload\"\n\
             timeout_ms = 20\nmemory_mib = 8\nwebhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"\n\
             [limits]\nedits = 7\n[config]\nroles = [\"VIEWER\"]\n[grant]\nhooks = [\"after\"]\nevents = [\"lead:*\"]\ncommands = [\"*\"]\n\
             fields = [\"/lead\"]\nwhole_payload = true\neffects = [\"lead:assign\"]\nwebhook_hosts = [\"A.example\"]\n\
             webhook_networks = [\"10.0.0.0/8\"]\n",
        )
        .expect("valid");
        assert!(!settings.enabled && settings.grant.whole_payload);
        assert_eq!(settings.grant.webhook_hosts, ["a.example"]);
        assert_eq!(
            (settings.order, settings.timeout(), settings.limits.memory_mib),
            (-1, Duration::from_millis(20), 8)
        );
        assert_eq!(settings.config_json(), r#"{"roles":["VIEWER"]}"#);
        assert_eq!(PluginSettings::parse("").expect("valid"), PluginSettings::default());
    }

    #[test]
    fn invalid_settings_are_refused_by_key() {
        let refusal = |text| PluginSettings::parse(text).expect_err("refused");
        assert_eq!(refusal("enabeld = true"), "unknown key enabeld: did you mean enabled?");
        assert_eq!(
            refusal("[grant]\nwhole-payload = true"),
            "unknown key grant.whole-payload: did you mean grant.whole_payload?"
        );
        assert!(refusal("zzz = 1").starts_with("unknown key zzz: expected one of enabled, order"));
        assert!(refusal("mode = \"shade\"").contains("expected `active` or `shadow`"));
        assert!(refusal("timeout_ms = 0").contains("expected 1 to 10000"));
        assert!(refusal("memory_mib = 4096").contains("expected 1 to 1024"));
        assert!(refusal("memory_mib = \"64\"").contains("memory_mib"));
        assert!(refusal("limits = 1").contains("expected a table"));
        assert_eq!(refusal("[limits]\nedit = 1"), "unknown key limits.edit: did you mean limits.edits?");
        assert_eq!(refusal("[limits]\nrest_ms = 0"), "rest_ms is 0: expected 1 to 3600000");
        assert!(refusal("[limits]\ntimeout_ms = 5").contains("expected at the top of the file"));
        assert!(refusal("order = \"first\"").contains("order"));
        assert!(refusal("order = 1\n= =").starts_with("line 2: "));
    }

    #[test]
    fn missing_limits_use_those_of_the_server() {
        let server = Limits { timeout_ms: 50, edits: 3, ..Limits::default() };
        let settings = PluginSettings::parse_over("memory_mib = 8\n[limits]\nedits = 9\n", &server).expect("valid");
        assert_eq!(settings.limits, Limits { memory_mib: 8, edits: 9, ..server });
    }

    #[test]
    fn a_webhook_secret_is_refused_without_being_shown() {
        let refusal = |text: &str| PluginSettings::parse(&format!("webhook_secret = {text}")).expect_err("refused");
        for text in ["\"c2VjcmV0\"", "\"whsec_c2VjcmV0\"", "\"whsec_c2VjcmV0!\""] {
            let reason = refusal(text);
            assert!(reason.contains("24 to 64 bytes in base64") && reason.contains("webhook_secret"), "{reason}");
            assert!(!reason.contains("c2VjcmV0"), "{reason}");
        }
        let reason = refusal("\"whsec_c2VjcmV0");
        assert!(reason.starts_with("line 1: ") && !reason.contains("c2VjcmV0"), "{reason}");
        let secret = "webhook_secret = \"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"";
        assert!(!format!("{:?}", PluginSettings::parse(secret).expect("valid")).contains("MfKQ"));
    }
}
