//! Manifest of a plugin: its answer to `describe`, checked.
//!
//! It has the name and version of the plugin, and the events, roles and fields that its hooks want.

use semver::Version;
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        event_name::{EventName, SOCKET_IO_RESERVED},
        plugin_name::{InvalidPluginName, PluginName},
        role::Roles,
    },
    plugin::contract::pointer::Pointer,
};

const MAX_PATTERNS: usize = 64;
const MAX_FIELDS: usize = 64;

/// Manifest as the guest returned it, unchecked.
#[derive(Clone, Debug)]
pub(crate) struct RawManifest {
    pub name: String,
    pub version: String,
    pub events: Vec<String>,
    pub roles: Vec<String>,
    pub fields: Vec<String>,
    pub whole_payload: bool,
}

/// Hooks that a plugin has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Hooks {
    pub authorize: bool,
    pub before: bool,
    pub enrich: bool,
    pub filter: bool,
    pub after: bool,
}

impl Hooks {
    pub(crate) fn names(self) -> Vec<&'static str> {
        let all = [
            ("authorize", self.authorize),
            ("before", self.before),
            ("enrich", self.enrich),
            ("filter", self.filter),
            ("after", self.after),
        ];
        all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub name: PluginName,
    pub version: Version,
    pub events: Events,
    pub roles: Roles,
    pub fields: Vec<PluginField>,
    pub whole_payload: bool,
}

impl Manifest {
    pub(crate) fn check(described: RawManifest) -> Result<Self, String> {
        let RawManifest { name, version, events, roles, fields, whole_payload } = described;
        let name = name.parse().map_err(|invalid: InvalidPluginName| invalid.to_string())?;
        let version = Version::parse(&version)
            .map_err(|error| format!("version {version:?} is not a semantic version: {error}"))?;
        if fields.len() > MAX_FIELDS {
            return Err(format!("it declares {} fields; {MAX_FIELDS} are allowed", fields.len()));
        }
        let fields = fields.into_iter().map(PluginField::parse).collect::<Result<_, _>>()?;
        Ok(Self {
            name,
            version,
            events: Events::parse(events)?,
            roles: Roles::parse(&roles).map_err(|error| error.to_string())?,
            fields,
            whole_payload,
        })
    }
}

/// Events that a plugin wants: names, `lead:*`, or `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(crate) struct Events(Vec<String>);

impl TryFrom<Vec<String>> for Events {
    type Error = String;

    fn try_from(patterns: Vec<String>) -> Result<Self, String> {
        Self::parse(patterns)
    }
}

impl Events {
    pub(crate) fn parse(patterns: Vec<String>) -> Result<Self, String> {
        if patterns.len() > MAX_PATTERNS {
            return Err(format!("it declares {} events; {MAX_PATTERNS} are allowed", patterns.len()));
        }
        for pattern in &patterns {
            let name = if pattern == "*" { "a" } else { pattern.strip_suffix(":*").unwrap_or(pattern) };
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
            if name.is_empty() || name.len() > 64 || !name.chars().all(known) {
                let shown: String = pattern.chars().take(64).collect();
                return Err(format!("{shown:?} is not an event: expected a name, \"lead:*\" or \"*\""));
            }
            if SOCKET_IO_RESERVED.contains(&name) {
                return Err(format!("the event name {name:?} is reserved by Socket.IO"));
            }
        }
        Ok(Self(patterns))
    }

    /// Returns true if an event of that name is wanted. A plugin that wants any event of a lead wants its reads as
    /// well: what a broadcast hides, a list must not show.
    pub(crate) fn include(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name || name.strip_suffix("read").is_some_and(|noun| is_of(pattern, noun)),
        })
    }

    pub(crate) fn patterns(&self) -> &[String] {
        &self.0
    }
}

/// Returns true if an event is about that noun: `lead:updated` is about `lead:`. `lead:viewers` is not: who looks at a
/// lead says nothing about the lead.
fn is_of(event: &str, noun: &str) -> bool {
    noun.ends_with(':') && event.starts_with(noun) && event != EventName::LeadViewers.as_str()
}

/// PluginField that a plugin reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct PluginField {
    pointer: Pointer,
    source: FieldSource,
    /// Offset in the pointer where the part inside of its source starts.
    start: usize,
}

/// Source that a field is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum FieldSource {
    Payload,
    /// The lead that the event, the read or the subscription is about, as it is now.
    Lead,
    /// The same lead before the change.
    Before,
    /// The user who connects, subscribes or sends a command.
    User,
    /// The activity that a command is about, as it is now.
    Activity,
}

impl PluginField {
    pub(crate) fn parse(text: String) -> Result<Self, String> {
        let pointer = Pointer::parse(text)?;
        let sources = [
            ("/context/lead", FieldSource::Lead),
            ("/context/before", FieldSource::Before),
            ("/context/user", FieldSource::User),
            ("/context/activity", FieldSource::Activity),
        ];
        if let Some((prefix, source)) = sources.into_iter().find(|(prefix, _)| pointer.is_within(prefix)) {
            return Ok(Self { pointer, source, start: prefix.len() });
        }
        if pointer.is_within("/context") {
            return Err(format!(
                "the field {pointer} does not exist: expected /context/lead, /context/before, /context/user or \
                 /context/activity"
            ));
        }
        Ok(Self { pointer, source: FieldSource::Payload, start: 0 })
    }

    pub(crate) fn pointer(&self) -> &str {
        self.pointer.as_str()
    }

    pub(crate) fn source(&self) -> FieldSource {
        self.source
    }

    /// Returns the part of the pointer inside of the source.
    pub(crate) fn within_source(&self) -> &str {
        &self.pointer.as_str()[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::role::Role;

    fn described() -> RawManifest {
        RawManifest {
            name: "redact-contact".into(),
            version: "1.2.3".into(),
            events: vec!["lead:*".into()],
            roles: vec!["VIEWER".into()],
            fields: vec!["/lead/email".into(), "/context/lead/owner/id".into()],
            whole_payload: false,
        }
    }

    fn refusal(change: impl FnOnce(&mut RawManifest)) -> String {
        let mut described = described();
        change(&mut described);
        Manifest::check(described).expect_err("refused")
    }

    #[test]
    fn a_valid_manifest_is_accepted() {
        let manifest = Manifest::check(described()).expect("valid");
        assert!(manifest.events.include("lead:updated") && !manifest.events.include("activity:created"));
        assert!(manifest.roles.contains(Role::Viewer) && !manifest.roles.contains(Role::Admin));
        assert_eq!(manifest.fields[1].within_source(), "/owner/id");
    }

    #[test]
    fn an_invalid_manifest_is_refused_with_the_reason() {
        for name in ["", "Redact", "re dact", "../x", "9lives", &"a".repeat(65)] {
            assert!(refusal(|it| it.name = name.into()).contains("is not a plugin name"), "{name}");
        }
        assert!(refusal(|it| it.version = "one".into()).contains("semantic"));
        assert!(refusal(|it| it.events = vec!["lead *".into()]).contains("is not an event"));
        assert!(refusal(|it| it.events = vec!["connect".into()]).contains("reserved"));
        assert!(refusal(|it| it.events = vec!["a".into(); 100]).contains("64 are allowed"));
        assert!(refusal(|it| it.roles = vec!["VEIWER".into()]).contains("is not a role"));
        assert!(refusal(|it| it.fields = vec!["lead".into()]).contains("must start with"));
        assert!(refusal(|it| it.fields = vec!["/context/secret".into()]).contains("/context/lead"));
    }

    #[test]
    fn a_lead_event_pattern_includes_lead_read() {
        let events = Events::parse(vec!["lead:updated".into()]).expect("valid");
        assert!(events.include("lead:read") && events.include("lead:updated"));
        assert!(!events.include("activity:read") && !events.include("lead:created"));
        assert!(Events::parse(vec!["*".into()]).expect("valid").include("activity:read"));
        assert!(!Events::default().include("lead:read"));
        assert!(!Events::parse(vec!["lead:viewers".into()]).expect("valid").include("lead:read"), "no lead is in it");
    }
}
