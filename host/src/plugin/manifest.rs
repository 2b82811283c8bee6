//! What a plugin says of itself in `describe`, checked.

use semver::Version;
use serde::{Deserialize, Serialize};

use super::{bindings::Described, pointer::Pointer};
use crate::domain::role::Role;

const MAX_PATTERNS: usize = 64;
const MAX_FIELDS: usize = 64;

/// The names that Socket.IO keeps for itself.
const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manifest {
    pub name: String,
    pub version: Version,
    pub events: Events,
    pub roles: Roles,
    pub fields: Vec<Field>,
    pub whole_payload: bool,
}

impl Manifest {
    pub(super) fn check(described: Described) -> Result<Self, String> {
        let Described { name, version, events, roles, fields, whole_payload } = described;
        check_name(&name)?;
        let version =
            Version::parse(&version).map_err(|error| format!("version {version:?} is not a semantic one: {error}"))?;
        if fields.len() > MAX_FIELDS {
            return Err(format!("it declares {} fields; {MAX_FIELDS} are allowed", fields.len()));
        }
        let fields = fields.into_iter().map(Field::parse).collect::<Result<_, _>>()?;
        Ok(Self { name, version, events: Events::parse(events)?, roles: Roles::parse(&roles)?, fields, whole_payload })
    }
}

/// Whether a text can name a plugin: lower-case letters, digits and hyphens.
pub fn check_name(name: &str) -> Result<(), String> {
    let valid = (1..=64).contains(&name.len())
        && name.starts_with(|first: char| first.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
    if valid {
        return Ok(());
    }
    let shown: String = name.chars().take(64).collect();
    Err(format!("{shown:?} is no plugin name: expected a lower-case letter, then letters, digits and hyphens"))
}

/// The events a plugin wants: names, `lead:*`, or `*`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub(super) struct Events(Vec<String>);

impl TryFrom<Vec<String>> for Events {
    type Error = String;

    fn try_from(patterns: Vec<String>) -> Result<Self, String> {
        Self::parse(patterns)
    }
}

impl Events {
    pub(super) fn parse(patterns: Vec<String>) -> Result<Self, String> {
        if patterns.len() > MAX_PATTERNS {
            return Err(format!("it declares {} events; {MAX_PATTERNS} are allowed", patterns.len()));
        }
        for pattern in &patterns {
            let name = if pattern == "*" { "a" } else { pattern.strip_suffix(":*").unwrap_or(pattern) };
            let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, ':' | '-' | '_');
            if name.is_empty() || name.len() > 64 || !name.chars().all(known) {
                let shown: String = pattern.chars().take(64).collect();
                return Err(format!("{shown:?} is no event: expected a name, \"lead:*\" or \"*\""));
            }
            if RESERVED_EVENTS.contains(&name) {
                return Err(format!("the event name {name:?} is reserved by Socket.IO"));
            }
        }
        Ok(Self(patterns))
    }

    /// Whether an event of that name is wanted. Who wants any event of a lead wants its reads as well: what a
    /// broadcast hides, a list must not show.
    pub(super) fn include(&self, name: &str) -> bool {
        self.0.iter().any(|pattern| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => pattern == name || name.strip_suffix("read").is_some_and(|noun| is_of(pattern, noun)),
        })
    }

    pub(super) fn patterns(&self) -> &[String] {
        &self.0
    }
}

/// Whether an event tells of that noun: `lead:updated` tells of `lead:`. Who looks at a lead says nothing of the lead.
fn is_of(event: &str, noun: &str) -> bool {
    noun.ends_with(':') && event.starts_with(noun) && event != "lead:viewers"
}

/// A set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Roles(u8);

impl Roles {
    pub(super) const ALL: Self = Self(0b1111);
    pub(super) const NONE: Self = Self(0);

    /// Reads names; none at all means all of them.
    pub(super) fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, String> {
        if names.is_empty() {
            return Ok(Self::ALL);
        }
        let mut roles = Self::NONE;
        for name in names {
            roles.insert(name.as_ref().parse::<Role>().map_err(|error| error.to_string())?);
        }
        Ok(roles)
    }

    pub(super) fn insert(&mut self, role: Role) {
        self.0 |= 1 << role as u8;
    }

    pub(super) fn remove(&mut self, role: Role) {
        self.0 &= !(1 << role as u8);
    }

    pub(super) fn contain(self, role: Role) -> bool {
        self.0 & (1 << role as u8) != 0
    }

    pub(super) fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contain(*role))
    }
}

/// A value that a plugin reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Field {
    pointer: Pointer,
    source: Source,
    /// Where the pointer goes on inside of its source.
    start: usize,
}

/// Where a field is taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Source {
    Payload,
    /// The lead that the event, the read or the subscription is about, as it is now.
    Lead,
    /// The same lead before the change.
    Before,
    /// The user who connects, subscribes or wants something done.
    User,
    /// The activity that a command is about, as it is now.
    Activity,
}

impl Field {
    pub(super) fn parse(text: String) -> Result<Self, String> {
        let pointer = Pointer::parse(text)?;
        let sources = [
            ("/context/lead", Source::Lead),
            ("/context/before", Source::Before),
            ("/context/user", Source::User),
            ("/context/activity", Source::Activity),
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
        Ok(Self { pointer, source: Source::Payload, start: 0 })
    }

    pub(super) fn pointer(&self) -> &str {
        self.pointer.as_str()
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// The pointer inside of the source.
    pub(super) fn within_source(&self) -> &str {
        &self.pointer.as_str()[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described() -> Described {
        Described {
            name: "redact-contact".into(),
            version: "1.2.3".into(),
            events: vec!["lead:*".into()],
            roles: vec!["VIEWER".into()],
            fields: vec!["/lead/email".into(), "/context/lead/owner/id".into()],
            whole_payload: false,
        }
    }

    fn refusal(change: impl FnOnce(&mut Described)) -> String {
        let mut described = described();
        change(&mut described);
        Manifest::check(described).expect_err("refused")
    }

    #[test]
    fn a_good_manifest_is_taken() {
        let manifest = Manifest::check(described()).expect("valid");
        assert!(manifest.events.include("lead:updated") && !manifest.events.include("activity:created"));
        assert!(manifest.roles.contain(Role::Viewer) && !manifest.roles.contain(Role::Admin));
        assert_eq!(manifest.fields[1].within_source(), "/owner/id");
    }

    #[test]
    fn a_bad_one_is_refused_by_what_is_wrong() {
        for name in ["", "Redact", "re dact", "../x", "9lives", &"a".repeat(65)] {
            assert!(refusal(|it| it.name = name.into()).contains("no plugin name"), "{name}");
        }
        assert!(refusal(|it| it.version = "one".into()).contains("semantic"));
        assert!(refusal(|it| it.events = vec!["lead *".into()]).contains("is no event"));
        assert!(refusal(|it| it.events = vec!["connect".into()]).contains("reserved"));
        assert!(refusal(|it| it.events = vec!["a".into(); 100]).contains("64 are allowed"));
        assert!(refusal(|it| it.roles = vec!["VEIWER".into()]).contains("is not a role"));
        assert!(refusal(|it| it.fields = vec!["lead".into()]).contains("must start with"));
        assert!(refusal(|it| it.fields = vec!["/context/secret".into()]).contains("/context/lead"));
    }

    #[test]
    fn who_wants_an_event_of_a_lead_wants_its_reads() {
        let events = Events::parse(vec!["lead:updated".into()]).expect("valid");
        assert!(events.include("lead:read") && events.include("lead:updated"));
        assert!(!events.include("activity:read") && !events.include("lead:created"));
        assert!(Events::parse(vec!["*".into()]).expect("valid").include("activity:read"));
        assert!(!Events::default().include("lead:read"));
        assert!(!Events::parse(vec!["lead:viewers".into()]).expect("valid").include("lead:read"), "no lead is in it");
    }
}
