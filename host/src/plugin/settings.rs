//! What an operator sets: `[plugins]` of the configuration, and `<name>.toml` beside each `<name>.wasm`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// `[plugins]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Where `<name>.wasm` files are looked for; without it there are no plugins.
    pub dir: Option<PathBuf>,
    /// Where the server keeps what it knows of plugins: the names of active ones, and compiled code.
    #[serde(skip)]
    pub data_dir: PathBuf,
    /// What happens when the file of an active plugin goes away; `<name>.toml` may say otherwise.
    pub on_missing: OnMissing,
    /// Warm instances kept a plugin.
    pub warm_instances: usize,
    /// How many recent events a new plugin is tried on.
    pub dry_run_events: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            dir: None,
            data_dir: PathBuf::from("."),
            on_missing: OnMissing::Fail,
            warm_instances: 8,
            dry_run_events: 50,
        }
    }
}

/// What a missing or refused file means for a plugin that may deny or hide.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnMissing {
    /// The plugin counts as failing: what it would decide is held back.
    #[default]
    Fail,
    /// The plugin is gone, and so is what it hid. For development.
    Unload,
}

/// What stands in `<name>.toml`. Without the file, everything is as in `default`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct PluginSettings {
    pub enabled: bool,
    /// Plugins are asked in this order, and by name where it is equal.
    pub order: i32,
    pub mode: Mode,
    /// What a failure means for every hook of the plugin, instead of each hook's own answer to that.
    pub on_failure: Option<OnFailure>,
    pub on_missing: Option<OnMissing>,
    pub timeout_ms: u64,
    pub memory_mib: u64,
    /// Handed to the plugin's `init` as a JSON object.
    pub config: toml::Table,
    pub grant: Grant,
}

impl Default for PluginSettings {
    fn default() -> Self {
        Self {
            enabled: true,
            order: 0,
            mode: Mode::Active,
            on_failure: None,
            on_missing: None,
            timeout_ms: 10,
            memory_mib: 64,
            config: toml::Table::new(),
            grant: Grant::default(),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    #[default]
    Active,
    Shadow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Go on without the plugin.
    Open,
    /// Hold back, or deny.
    Closed,
}

/// What `describe` may ask for only with the operator's leave.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    pub whole_payload: bool,
}

const MAX_TIMEOUT_MS: u64 = 10_000;
/// The largest memory that fits into a slot of the engine's pool.
pub(super) const MAX_MEMORY_MIB: u64 = 1024;

impl PluginSettings {
    const KEYS: [&str; 9] =
        ["enabled", "order", "mode", "on_failure", "on_missing", "timeout_ms", "memory_mib", "config", "grant"];
    const GRANTS: [&str; 1] = ["whole_payload"];

    pub fn parse(text: &str) -> Result<Self, String> {
        let table: toml::Table =
            text.parse().map_err(|error: toml::de::Error| error.to_string().trim_end().to_owned())?;
        known(table.keys(), &Self::KEYS, "")?;
        if let Some(grant) = table.get("grant").and_then(toml::Value::as_table) {
            known(grant.keys(), &Self::GRANTS, "grant.")?;
        }
        let settings: Self = table.try_into().map_err(|error| error.to_string().trim_end().replace('\n', " "))?;
        settings.check()
    }

    fn check(self) -> Result<Self, String> {
        if self.mode == Mode::Shadow {
            return Err("mode = \"shadow\" is not available in this version: expected \"active\"".into());
        }
        if !(1..=MAX_TIMEOUT_MS).contains(&self.timeout_ms) {
            return Err(format!("timeout_ms is {}: expected 1 to {MAX_TIMEOUT_MS}", self.timeout_ms));
        }
        if !(1..=MAX_MEMORY_MIB).contains(&self.memory_mib) {
            return Err(format!("memory_mib is {}: expected 1 to {MAX_MEMORY_MIB}", self.memory_mib));
        }
        Ok(self)
    }

    pub fn timeout(&self) -> Duration {
        Duration::from_millis(self.timeout_ms)
    }

    /// The `config` table as JSON text.
    pub fn config_json(&self) -> String {
        serde_json::to_string(&self.config).expect("a TOML table has text keys and finite depth")
    }
}

fn known<'a>(mut keys: impl Iterator<Item = &'a String>, names: &[&str], prefix: &str) -> Result<(), String> {
    let Some(key) = keys.find(|key| !names.contains(&key.as_str())) else { return Ok(()) };
    let nearest = names.iter().max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key)));
    Err(match nearest.filter(|name| strsim::jaro(name, key) > 0.7) {
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
             timeout_ms = 20\nmemory_mib = 8\n[config]\nroles = [\"VIEWER\"]\n[grant]\nwhole_payload = true\n",
        )
        .expect("valid");
        assert!(!settings.enabled && settings.grant.whole_payload);
        assert_eq!((settings.order, settings.timeout(), settings.memory_mib), (-1, Duration::from_millis(20), 8));
        assert_eq!(settings.config_json(), r#"{"roles":["VIEWER"]}"#);
        assert_eq!(PluginSettings::parse("").expect("valid"), PluginSettings::default());
    }

    #[test]
    fn what_cannot_be_is_refused_by_name() {
        let refusal = |text| PluginSettings::parse(text).expect_err("refused");
        assert_eq!(refusal("enabeld = true"), "unknown key enabeld: did you mean enabled?");
        assert_eq!(
            refusal("[grant]\nwhole-payload = true"),
            "unknown key grant.whole-payload: did you mean grant.whole_payload?"
        );
        assert!(refusal("zzz = 1").starts_with("unknown key zzz: expected one of enabled, order"));
        assert!(refusal("mode = \"shadow\"").contains("not available"));
        assert!(refusal("timeout_ms = 0").contains("expected 1 to 10000"));
        assert!(refusal("memory_mib = 4096").contains("expected 1 to 1024"));
        assert!(refusal("order = \"first\"").contains("order"));
        assert!(refusal("= =").contains("line 1") || refusal("= =").contains("key"));
    }
}
