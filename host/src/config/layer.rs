//! Layers of the configuration: the file, the environment and the flags.
//!
//! The names in each layer are checked separately, and every error is one line.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::{Context, Result, bail};
use figment::{Metadata, Profile, Provider, error::Kind, value};
use serde::Serialize;
use serde_json::Value;

use crate::domain::text::{LIKELY, likeness};

pub(crate) const DEFAULT_FILE: &str = "leadwire.toml";

/// Tree of known keys, with the default of each.
pub(crate) struct KnownKeys(Value);

impl KnownKeys {
    /// Keys and default values of `defaults`.
    pub(crate) fn of(defaults: &impl Serialize) -> Self {
        Self(serde_json::to_value(defaults).expect("settings are plain data"))
    }

    /// Refuses unknown keys.
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
        let near = self
            .keys()
            .into_iter()
            .map(|known| {
                let last = |key: &str| key.rsplit('.').next().unwrap_or_default().to_owned();
                // A key in the wrong table, or without its table, counts as about as similar as one with a typo.
                let whole = likeness(&known, key);
                let name = likeness(&last(&known), &last(key)) - 0.02;
                (whole.max(name), known)
            })
            .max_by(|left, right| left.0.total_cmp(&right.0));
        match near {
            Some((likeness, known)) if likeness > LIKELY => format!("; did you mean {known}?"),
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

/// Values from one source, which errors name.
pub(crate) struct ConfigLayer {
    source: String,
    dict: value::Dict,
}

impl Provider for ConfigLayer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.source.clone())
    }

    fn data(&self) -> Result<value::Map<Profile, value::Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.dict.clone()))
    }
}

impl ConfigLayer {
    /// Values of the file; `None` when no file was named and the default one does not exist.
    pub(crate) fn from_file(known: &KnownKeys, file: Option<&Path>) -> Result<Option<Self>> {
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

    pub(crate) fn from_environment<N: AsRef<OsStr>, T>(
        known: &KnownKeys,
        variables: impl Iterator<Item = (N, Result<String, T>)>,
    ) -> Result<Vec<Self>> {
        let mut layers = Vec::new();
        for (name, text) in variables {
            let Some(name) = name.as_ref().to_str() else { continue };
            let key = match name {
                "RUST_LOG" => "log.level".to_owned(),
                "LEADWIRE_LOG" => "log.level".to_owned(),
                // Used by the command line, by `plugin build`, and by the tests.
                "LEADWIRE_CONFIG" | "LEADWIRE_WASM_TOOLCHAIN" => continue,
                _ if name.starts_with("LEADWIRE_TEST_") => continue,
                _ => match name.strip_prefix("LEADWIRE_") {
                    Some(key) => key.to_lowercase().replace("__", "."),
                    None => continue,
                },
            };
            let Ok(text) = text else { bail!("{name}: expected UTF-8") };
            layers.push(Self::from_text(known, name.to_owned(), &key.split('.').collect::<Vec<_>>(), &text)?);
        }
        // The general variable comes first, so that the more specific one overrides it.
        layers.sort_by_key(|layer| (layer.source != "RUST_LOG", layer.source.clone()));
        Ok(layers)
    }

    /// One value from text, parsed by the type of its default, because a secret of digits only is still a text.
    pub(crate) fn from_text(known: &KnownKeys, source: String, path: &[&str], text: &str) -> Result<Self> {
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

/// Parses `a,b`, or a TOML list.
fn list(text: &str) -> Result<value::Value> {
    if !text.trim_start().starts_with('[') {
        let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
        return Ok(items.map(value::Value::from).collect::<Vec<_>>().into());
    }
    let mut dict: value::Dict = toml::from_str(&format!("list = {text}"))
        .map_err(|error| anyhow::anyhow!("expected a list: {}", error.message().replace('\n', ", ")))?;
    dict.remove("list").context("expected a list")
}

/// Converts an error of figment to one line. Of the value found it names only the kind, because it may be a secret.
pub(crate) fn explain(error: &figment::Error) -> String {
    let source = error.metadata.as_ref().map(|metadata| format!("{}: ", metadata.name)).unwrap_or_default();
    let key = error.path.join(".");
    let what = match &error.kind {
        // A string that cannot be parsed, such as a duration of "15 minutes or so".
        Kind::InvalidValue(figment::error::Actual::Str(_), expected) => {
            format!("expected {}, found another string", plainly(expected))
        }
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
        Actual::Str(_) | Actual::Char(_) => "a string",
        Actual::Seq => "a list",
        Actual::Map => "a table",
        _ => "something else",
    }
}
