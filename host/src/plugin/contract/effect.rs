//! Effects: what a plugin that follows the event log is asked in `after`, and what it may request in return.
//!
//! A plugin lists the events, effects and webhook hosts that it wants once, after it took its configuration.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::{Map, Value};

use crate::{
    domain::{
        counter::{Generation, Seq},
        plugin_name::PluginName,
        time::Timestamp,
    },
    plugin::contract::{answer::Unavailable, manifest::Events, text::cut},
};

/// Name of the occasion that a plugin gets when a reminder that it requested comes due.
pub const REMINDER: &str = "reminder";

const MAX_HOSTS: usize = 64;

/// Plugin that follows the event log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFollower {
    pub name: PluginName,
    pub version: String,
    pub generation: Generation,
}

/// Occasion that `after` is asked about: an event of the log, or a reminder.
#[derive(Clone, Copy, Debug)]
pub struct Occasion<'a> {
    /// Id that is the same each time that the plugin is asked about the same occasion.
    pub id: &'a str,
    /// Position of the event in the log; `None` for a reminder.
    pub seq: Option<Seq>,
    pub at: Timestamp,
    /// Name of the event, or [`REMINDER`].
    pub name: &'a str,
    pub payload: &'a Value,
    /// `{"lead": …, "before": …}`, each where it exists.
    pub context: &'a Value,
    /// State that the plugin last asked to keep.
    pub state: Option<&'a str>,
}

/// Answer of `after`: effects to execute, in this order, and state to keep.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AfterOutcome {
    pub effects: Vec<RequestedEffect>,
    /// New state; `None` keeps the current one.
    pub state: Option<String>,
}

/// Effect that is executed in the plugin's name.
#[derive(Clone, Debug, PartialEq)]
pub struct RequestedEffect {
    pub name: EffectName,
    pub input: Map<String, Value>,
}

/// Effect that a plugin may request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum EffectName {
    Notify,
    CreateActivity,
    UpdateLead,
    AssignLead,
    Remind,
    Webhook,
}

impl EffectName {
    pub const ALL: [Self; 6] =
        [Self::Notify, Self::CreateActivity, Self::UpdateLead, Self::AssignLead, Self::Remind, Self::Webhook];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notify => "notify",
            Self::CreateActivity => "activity:create",
            Self::UpdateLead => "lead:update",
            Self::AssignLead => "lead:assign",
            Self::Remind => "remind",
            Self::Webhook => "webhook",
        }
    }
}

impl fmt::Display for EffectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for EffectName {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|effect| effect.as_str() == name).ok_or_else(|| {
            let names = Self::ALL.map(Self::as_str).join(", ");
            format!("unknown effect {:?}: expected one of {names}", cut(name, 64))
        })
    }
}

impl TryFrom<String> for EffectName {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl Serialize for EffectName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// Reason why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AfterError {
    /// No such plugin is loaded, or it does not follow the log.
    #[error("the plugin is not loaded")]
    Gone,
    /// It failed, or its circuit breaker is open; it may answer later.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Destinations that the webhooks of a plugin may reach, and the secret that signs them.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookGrant {
    /// Host names and addresses in lower case, each for the default port of the scheme or with a port
    /// (`hooks.example.com:8443`).
    pub hosts: Vec<String>,
    /// Networks that may be reached although they are private.
    pub networks: Vec<IpNet>,
    /// Secret that signs the webhooks: `whsec_` and the key in base64.
    pub secret: Option<String>,
}

impl fmt::Debug for WebhookGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { hosts, networks, secret } = self;
        let secret = secret.as_ref().map(|_| "…");
        f.debug_struct("WebhookGrant")
            .field("hosts", hosts)
            .field("networks", networks)
            .field("secret", &secret)
            .finish()
    }
}

/// Requests of a plugin that follows the event log, read once after it took its configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wants {
    pub events: Events,
    /// Sorted, each once.
    pub effects: Vec<EffectName>,
    pub webhook_hosts: Vec<String>,
}

impl Wants {
    pub(crate) fn check(events: Vec<String>, effects: &[String], hosts: Vec<String>) -> Result<Self, String> {
        let mut effects = effects.iter().map(|name| name.parse()).collect::<Result<Vec<EffectName>, _>>()?;
        effects.sort_unstable();
        effects.dedup();
        if hosts.len() > MAX_HOSTS {
            return Err(format!("it names {} webhook hosts; {MAX_HOSTS} are allowed", hosts.len()));
        }
        let webhook_hosts = hosts.into_iter().map(|host| check_host(&host)).collect::<Result<_, _>>()?;
        Ok(Self { events: Events::parse(events)?, effects, webhook_hosts })
    }

    /// Returns true if the plugin has to be asked about events of that name. A plugin that may set reminders is asked
    /// about those that come due.
    pub(crate) fn include(&self, name: &str) -> bool {
        match name {
            REMINDER => self.effects.contains(&EffectName::Remind),
            name => self.events.include(name),
        }
    }
}

/// Checks a host as URLs name it, with or without a port, and returns it in lower case.
pub(crate) fn check_host(text: &str) -> Result<String, String> {
    let host = text.to_ascii_lowercase();
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host.as_str(), None),
    };
    let is_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|number| number > 0));
    let is_name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => address.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6()),
        None => {
            let label = |label: &str| {
                (1..=63).contains(&label.len())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
                    && label.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'))
            };
            name.len() <= 253 && name.split('.').all(label)
        }
    };
    if is_name && is_port {
        return Ok(host);
    }
    let shown = cut(text, 100);
    Err(format!(
        "{shown:?} is not a webhook host: expected \"hooks.example.com\" or, with a port, \"hooks.example.com:8443\""
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_host_is_a_name_or_address_with_an_optional_port() {
        for (text, host) in [
            ("Hooks.Example.com", "hooks.example.com"),
            ("hooks.example.com:8443", "hooks.example.com:8443"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:80", "[::1]:80"),
            ("[::1]", "[::1]"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(check_host(text).as_deref(), Ok(host));
        }
        for text in [
            "",
            "https://a.example",
            "a.example/x",
            "a b",
            "*.a.example",
            "a..example",
            "a:0",
            "a:x",
            "::1",
            "[x]",
            "-a",
        ] {
            assert!(check_host(text).expect_err("refused").contains("is not a webhook host"), "{text}");
        }
    }

    #[test]
    fn wanted_effects_are_checked_by_name() {
        let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let refusal = |effects: &[&str]| Wants::check(vec![], &names(effects), vec![]).expect_err("refused");
        assert!(
            refusal(&["lead:delete"])
                .contains("unknown effect \"lead:delete\": expected one of notify, activity:create")
        );
        let wants = Wants::check(names(&["lead:*"]), &names(&["remind", "notify", "remind"]), vec![]).expect("valid");
        assert_eq!(wants.effects, [EffectName::Notify, EffectName::Remind]);
        assert!(wants.include("lead:created") && wants.include(REMINDER) && !wants.include("activity:created"));
        assert!(!Wants::check(names(&["*"]), &[], vec![]).expect("valid").include(REMINDER));
    }

    #[test]
    fn a_secret_is_not_printed() {
        let grant =
            WebhookGrant { hosts: vec!["a.example".into()], networks: vec![], secret: Some("whsec_abc".into()) };
        let printed = format!("{grant:?}");
        assert!(printed.contains("a.example") && !printed.contains("abc"), "{printed}");
    }
}
