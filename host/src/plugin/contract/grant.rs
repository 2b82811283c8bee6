//! Grants: what a plugin requests is checked against what its operator granted in `<name>.toml`.
//!
//! Requests that only read leads and events are granted unless the operator lists something else. Requests that reach
//! further have to be granted by name: whole payloads, effects, hosts for webhooks.

use serde::{Deserialize, Serialize};

use crate::plugin::contract::{
    effect::{EffectName, check_host},
    manifest::Events,
    pointer::{Pointer, is_within},
};

/// `[grant]` of `<name>.toml`. A list that is `None` grants what is requested.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grant {
    pub hooks: Option<Vec<String>>,
    /// Names and patterns; `lead:*` covers `lead:updated`.
    pub events: Option<Vec<String>>,
    pub commands: Option<Vec<String>>,
    /// JSON Pointers; each covers what is below it.
    pub fields: Option<Vec<String>>,
    pub whole_payload: bool,
    pub effects: Vec<EffectName>,
    pub webhook_hosts: Vec<String>,
    /// Networks that webhooks may reach although they are private; no plugin requests these.
    pub webhook_networks: Vec<ipnet::IpNet>,
}

const HOOKS: [&str; 5] = ["authorize", "before", "enrich", "filter", "after"];

impl Grant {
    pub(crate) const KEYS: [&str; 8] =
        ["hooks", "events", "commands", "fields", "whole_payload", "effects", "webhook_hosts", "webhook_networks"];

    /// Checks the grant and normalises its hosts; the error says what is wrong with it.
    pub(crate) fn check(mut self) -> Result<Self, String> {
        if let Some(hook) = self.hooks.iter().flatten().find(|hook| !HOOKS.contains(&hook.as_str())) {
            return Err(format!("grant.hooks: {hook:?} is not a hook: expected one of {}", HOOKS.join(", ")));
        }
        for (key, patterns) in [("events", &self.events), ("commands", &self.commands)] {
            Events::parse(patterns.clone().unwrap_or_default()).map_err(|why| format!("grant.{key}: {why}"))?;
        }
        for field in self.fields.iter().flatten() {
            Pointer::parse(field.clone()).map_err(|why| format!("grant.fields: {why}"))?;
        }
        for host in &mut self.webhook_hosts {
            *host = check_host(host).map_err(|why| format!("grant.webhook_hosts: {why}"))?;
        }
        Ok(self)
    }
}

/// Access of a plugin: as it requests it, or as it is granted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Access {
    pub hooks: Vec<String>,
    /// Events for `enrich` and `filter`, and for `after`.
    pub events: Vec<String>,
    /// Commands for `before`.
    pub commands: Vec<String>,
    pub fields: Vec<String>,
    pub whole_payload: bool,
    pub effects: Vec<EffectName>,
    pub webhook_hosts: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub webhook_networks: Vec<ipnet::IpNet>,
}

impl Access {
    /// Returns what `grant` gives to a plugin that requests this.
    pub(crate) fn granted(&self, grant: &Grant) -> Self {
        let listed = |list: &Option<Vec<String>>, asked: &[String]| list.clone().unwrap_or_else(|| asked.to_vec());
        Self {
            hooks: listed(&grant.hooks, &self.hooks),
            events: listed(&grant.events, &self.events),
            commands: listed(&grant.commands, &self.commands),
            fields: listed(&grant.fields, &self.fields),
            whole_payload: grant.whole_payload,
            effects: grant.effects.clone(),
            webhook_hosts: grant.webhook_hosts.clone(),
            webhook_networks: grant.webhook_networks.clone(),
        }
    }

    /// Refuses a plugin that requests more than is granted. The error names all of it, and the lines that grant it.
    pub(crate) fn check(&self, grant: &Grant, name: &str) -> Result<(), String> {
        let granted = self.granted(grant);
        let mut missing = Missing::default();
        missing.list("hooks", "the hook", &self.hooks, &granted.hooks, |asked, given| asked == given);
        missing.list("events", "the event", &self.events, &granted.events, covers);
        missing.list("commands", "the command", &self.commands, &granted.commands, covers);
        missing.list("fields", "the field", &self.fields, &granted.fields, is_within);
        if self.whole_payload && !granted.whole_payload {
            missing.what.push("whole payloads".into());
            missing.lines.push("whole_payload = true".into());
        }
        let names = |effects: &[EffectName]| effects.iter().map(EffectName::to_string).collect::<Vec<_>>();
        let (asked, given) = (names(&self.effects), names(&granted.effects));
        missing.list("effects", "the effect", &asked, &given, |asked, given| asked == given);
        let (asked, given) = (&self.webhook_hosts, &granted.webhook_hosts);
        missing.list("webhook_hosts", "webhooks to", asked, given, |asked, given| asked == given);
        if missing.what.is_empty() {
            return Ok(());
        }
        let (what, lines) = (missing.what.join(", "), missing.lines.join("\n"));
        Err(format!(
            "it requests access that is not granted: {what}; to grant all of it, add to {name}.toml:\n[grant]\n{lines}"
        ))
    }
}

/// Requests that are not granted, in words and as lines of `[grant]`.
#[derive(Default)]
struct Missing {
    what: Vec<String>,
    lines: Vec<String>,
}

impl Missing {
    fn list(
        &mut self,
        key: &str,
        noun: &str,
        asked: &[String],
        granted: &[String],
        covers: impl Fn(&str, &str) -> bool,
    ) {
        let lacking = |asked: &&String| !granted.iter().any(|granted| covers(asked, granted));
        let lacking: Vec<&String> = asked.iter().filter(lacking).collect();
        if lacking.is_empty() {
            return;
        }
        self.what.extend(lacking.iter().map(|item| format!("{noun} {}", item.escape_debug())));
        // The line replaces an existing one, so it repeats what that one grants.
        let all = granted.iter().chain(lacking).map(|item| toml::Value::from(item.as_str()));
        self.lines.push(format!("{key} = {}", toml::Value::Array(all.collect())));
    }
}

/// Returns true if the granted pattern covers everything that the requested one names.
fn covers(asked: &str, granted: &str) -> bool {
    match granted.strip_suffix('*') {
        Some(prefix) => asked.starts_with(prefix),
        None => asked == granted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin::contract::settings::PluginSettings;

    fn grant(text: &str) -> Grant {
        PluginSettings::parse(&format!("[grant]\n{text}")).expect("valid").grant
    }

    fn owned<const N: usize>(texts: [&str; N]) -> Vec<String> {
        texts.map(str::to_owned).to_vec()
    }

    fn asked() -> Access {
        Access {
            hooks: owned(["filter", "after"]),
            events: owned(["lead:updated", "activity:*"]),
            commands: Vec::new(),
            fields: owned(["/lead/email", "/context/lead/owner/id"]),
            ..Access::default()
        }
    }

    fn refusal(access: &Access, text: &str) -> String {
        access.check(&grant(text), "guard").expect_err("refused")
    }

    #[test]
    fn the_default_grant_allows_only_read_access() {
        assert_eq!(asked().check(&Grant::default(), "guard"), Ok(()));
        let whole = Access { whole_payload: true, ..asked() };
        assert!(refusal(&whole, "").contains("whole payloads"));
        let acting = Access { effects: vec![EffectName::Notify], ..asked() };
        assert!(refusal(&acting, "").contains("the effect notify"));
        let calling = Access { webhook_hosts: owned(["a.example"]), ..asked() };
        assert!(refusal(&calling, "").contains("webhooks to a.example"));
    }

    #[test]
    fn a_grant_list_allows_its_entries_and_their_children() {
        let fits = |text: &str| asked().check(&grant(text), "guard").is_ok();
        assert!(fits("hooks = [\"after\", \"filter\", \"enrich\"]"));
        assert!(!fits("hooks = [\"filter\"]") && !fits("hooks = []"));
        assert!(fits("events = [\"*\"]") && fits("events = [\"lead:*\", \"activity:*\"]"));
        assert!(!fits("events = [\"lead:*\", \"activity:created\"]"), "a name grants no pattern");
        assert!(fits("fields = [\"/lead\", \"/context/lead/owner\"]"));
        assert!(!fits("fields = [\"/lead/ema\", \"/context/lead\"]"), "half a name is not above the field");
        let everything = Access { events: owned(["*"]), ..asked() };
        assert!(everything.check(&grant("events = [\"lead:*\"]"), "guard").is_err());
    }

    #[test]
    fn all_missing_grants_are_listed_with_the_lines_that_add_them() {
        let asked = Access {
            whole_payload: true,
            effects: vec![EffectName::Notify, EffectName::AssignLead, EffectName::Webhook],
            webhook_hosts: owned(["hooks.example.com:8443"]),
            commands: owned(["lead:create"]),
            ..asked()
        };
        let granted = "hooks = [\"filter\"]\nevents = [\"lead:*\"]\ncommands = []\nfields = [\"/lead\"]\neffects = [\"notify\"]\n";
        let reason = refusal(&asked, granted);
        let (what, lines) = reason.split_once("; to grant all of it, add to guard.toml:\n").expect("two parts");
        assert_eq!(
            what,
            "it requests access that is not granted: the hook after, the event activity:*, the command lead:create, the field \
             /context/lead/owner/id, whole payloads, the effect lead:assign, the effect webhook, webhooks to \
             hooks.example.com:8443"
        );
        // With those lines, and nothing else, it is accepted.
        let settings = PluginSettings::parse(lines).expect("valid");
        assert_eq!(asked.check(&settings.grant, "guard"), Ok(()));
    }

    #[test]
    fn an_invalid_grant_is_refused_by_key() {
        let refusal = |text: &str| PluginSettings::parse(&format!("[grant]\n{text}")).expect_err("refused");
        assert!(
            refusal("hooks = [\"later\"]").contains("grant.hooks: \"later\" is not a hook: expected one of authorize")
        );
        assert!(refusal("events = [\"lead *\"]").contains("grant.events: \"lead *\" is not an event"));
        assert!(refusal("commands = [\"\"]").contains("grant.commands"));
        assert!(refusal("fields = [\"lead\"]").contains("grant.fields"));
        assert!(refusal("effects = [\"lead:delete\"]").contains("unknown effect \"lead:delete\""));
        assert!(refusal("webhook_hosts = [\"https://a\"]").contains("grant.webhook_hosts"));
        assert!(refusal("webhook_networks = [\"10.0.0.0/33\"]").contains("webhook_networks"));
        assert!(refusal("webhook_host = []").contains("did you mean grant.webhook_hosts?"));
    }
}
