//! Test cases of an author: a question in a few lines of JSON, and the answer that the component has to give.
//!
//! A case starts from a golden recording and changes only what it is about, so that it says no more than it means. Its
//! expectation is compared with the checked answer and with what a role would be sent.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::{
    domain::{command::Command, counter::Seq, event_name::EventName, lead::LeadFields, role::Role, time::Timestamp},
    plugin::{
        contract::{answer::Shaped, effect::REMINDER, error::LoadError, pointer, settings::PluginSettings},
        testkit::{
            Specimen, Testkit,
            difference::{CaseHook, Difference, compare, unasked},
            golden::{self, Golden},
            question::{Probe, ProbeEvent, audience_json, check_input},
        },
    },
};

/// One case of a `tests/*.json` file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// Claim of the case, for the reader of the report.
    pub name: String,
    hook: CaseHook,
    /// Configuration in place of `[config]` of the folder's `plugin.toml`.
    config: Option<toml::Table>,
    /// Time at which the clock is frozen.
    now: Option<Timestamp>,
    /// Name of an event; the case starts from what was recorded under that name.
    event: Option<String>,
    /// Merge patch (RFC 7396) over the recorded payload; `context` is one over the recorded context.
    payload: Option<Value>,
    context: Option<Value>,
    /// Merge patch over the lead, wherever it is; null for no lead.
    #[serde(default, deserialize_with = "given")]
    lead: Option<Value>,
    #[serde(default, deserialize_with = "given")]
    activity: Option<Value>,
    command: Option<String>,
    /// Input that the user sent, in place of the recorded one.
    input: Option<Map<String, Value>>,
    /// Role, or members that override those of the recorded user of that role.
    user: Option<Value>,
    room: Option<String>,
    roles: Option<Vec<Role>>,
    state: Option<String>,
    expect: Map<String, Value>,
}

/// Deserialises a member that is there, even if it is null.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

impl Case {
    /// Reads a file of one case or a list of them.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong with it, and in which case.
    pub fn read(text: &str) -> Result<Vec<Self>, String> {
        let value: Value = serde_json::from_str(text).map_err(|error| format!("it is not valid JSON: {error}"))?;
        let cases = match value {
            Value::Array(cases) => cases,
            case => vec![case],
        };
        let read = |(index, case): (usize, Value)| {
            let named = case.get("name").and_then(Value::as_str).map(|name| format!(" ({name})")).unwrap_or_default();
            serde_json::from_value(case).map_err(|error| format!("case {}{named}: {error}", index + 1))
        };
        cases.into_iter().enumerate().map(read).collect()
    }

    /// Refuses keys that this case must not have, because its hook has no use for them.
    fn check_keys(&self) -> Result<(), String> {
        let about_event = matches!(self.hook, CaseHook::Enrich | CaseHook::Filter | CaseHook::After);
        let keys = [
            ("event", self.event.is_some(), about_event),
            ("payload", self.payload.is_some(), about_event),
            ("context", self.context.is_some(), about_event),
            ("lead", self.lead.is_some(), self.hook != CaseHook::Init),
            ("activity", self.activity.is_some(), about_event || self.hook == CaseHook::Before),
            ("command", self.command.is_some(), self.hook == CaseHook::Before),
            ("input", self.input.is_some(), self.hook == CaseHook::Before),
            ("user", self.user.is_some(), matches!(self.hook, CaseHook::Authorize | CaseHook::Before)),
            ("room", self.room.is_some(), self.hook == CaseHook::Authorize),
            ("roles", self.roles.is_some(), self.hook == CaseHook::Filter),
            ("state", self.state.is_some(), self.hook == CaseHook::After),
        ];
        if let Some((key, ..)) = keys.into_iter().find(|(_, is_there, has_use)| *is_there && !has_use) {
            return Err(format!("{key}: {} does not take this key", self.hook.as_str()));
        }
        Ok(())
    }

    fn probe_event(&self) -> Result<ProbeEvent, String> {
        let name = self.event.clone().ok_or_else(|| {
            let names: Vec<&str> = Golden::recorded().events.iter().map(|event| event.name.as_str()).collect();
            format!("event: name one, such as {}", names.first().unwrap_or(&EventName::LeadUpdated.as_str()))
        })?;
        let mut event = match (name.as_str(), Golden::recorded().event(&name)) {
            (REMINDER, _) => {
                let reminder = Golden::recorded().reminders.first().cloned().ok_or("event: no reminder is recorded")?;
                ProbeEvent { name, payload: reminder.payload, context: reminder.context }
            }
            (_, Some(event)) => event.to_probe(),
            (_, None) => ProbeEvent { name, payload: json!({}), context: json!({}) },
        };
        for (member, patch) in [("lead", &self.lead), ("activity", &self.activity)] {
            let Some(patch) = patch else { continue };
            let mut found = false;
            for place in [&mut event.payload, &mut event.context] {
                found |= change(place, member, patch);
            }
            // An event without such a member gets it in its context.
            if !found && !patch.is_null() {
                event.context[member] = patch.clone();
            }
        }
        for (whole, patch) in [(&mut event.payload, &self.payload), (&mut event.context, &self.context)] {
            if let Some(patch) = patch {
                json_patch::merge(whole, patch);
            }
        }
        Ok(event)
    }

    fn user(&self, usual: Role) -> Result<Value, String> {
        let role = |text: &str| text.parse::<Role>().map_err(|error| format!("user: {error}"));
        match &self.user {
            None => Ok(Golden::recorded().user(usual)),
            Some(Value::String(name)) => Ok(Golden::recorded().user(role(name)?)),
            Some(patch @ Value::Object(_)) => {
                let named = patch["role"].as_str().map(role).transpose()?;
                let mut user = Golden::recorded().user(named.unwrap_or(usual));
                json_patch::merge(&mut user, patch);
                Ok(user)
            }
            Some(_) => Err("user: expected a role, or an object".into()),
        }
    }

    fn before(&self) -> Result<Probe, String> {
        let names = Command::NAMES.join(", ");
        let name = self.command.clone().ok_or_else(|| format!("command: expected one of {names}"))?;
        let role = match &self.user {
            Some(Value::String(role)) => role.parse().ok(),
            Some(user) => user["role"].as_str().and_then(|role| role.parse().ok()),
            None => None,
        };
        let recorded = || Golden::recorded().commands.iter().filter(|command| command.name == name);
        let command = recorded().find(|command| Some(command.role) == role).or_else(|| recorded().next());
        let command =
            command.ok_or_else(|| format!("command: {name:?} is not a command; expected one of {names}"))?.clone();
        let patched = |recorded: Option<Value>, patch: &Option<Value>| match (recorded, patch) {
            (recorded, None) => recorded,
            (_, Some(Value::Null)) => None,
            (recorded, Some(patch)) => {
                let mut whole = recorded.unwrap_or_else(|| json!({}));
                json_patch::merge(&mut whole, patch);
                Some(whole)
            }
        };
        let (lead, activity) = (patched(command.lead, &self.lead), patched(command.activity, &self.activity));
        let input = match &self.input {
            Some(input) => whole_input(&name, input.clone()).map_err(|why| format!("input: {why}"))?,
            None => command.input,
        };
        check_input(&name, input.clone(), lead.as_ref(), activity.as_ref()).map_err(|why| format!("input: {why}"))?;
        Ok(Probe::Before { user: self.user(command.role)?, command: name, input, lead, activity })
    }

    fn authorize(&self) -> Result<Probe, String> {
        let user = self.user(Role::Sales)?;
        let lead = match &self.lead {
            Some(Value::Null) => None,
            patch => {
                let mut lead = Golden::recorded().lead().cloned().unwrap_or_else(|| json!({}));
                patch.iter().for_each(|patch| json_patch::merge(&mut lead, patch));
                Some(lead)
            }
        };
        Ok(match (&self.room, &self.lead) {
            (None, None) => Probe::Connect { user },
            (room, _) => {
                let id = lead.as_ref().and_then(|lead| lead["id"].as_str()).unwrap_or("nothing-yet");
                let room = room.clone().unwrap_or_else(|| format!("lead:{id}"));
                Probe::Subscribe { user, room, lead }
            }
        })
    }
}

/// Merges a patch into the member and returns true, where there is one; null removes the member.
fn change(whole: &mut Value, member: &str, patch: &Value) -> bool {
    let Some(members) = whole.as_object_mut() else { return false };
    match (members.get_mut(member), patch) {
        (None, _) => return false,
        (Some(_), Value::Null) => drop(members.shift_remove(member)),
        (Some(found), patch) => json_patch::merge(found, patch),
    }
    true
}

/// Completes an input as the server passes it on: all fields of a new lead, with null for those that were not sent.
fn whole_input(command: &str, input: Map<String, Value>) -> Result<Map<String, Value>, String> {
    if command != "lead:create" {
        return Ok(input);
    }
    let fields = LeadFields::parse(input).map_err(|invalid| invalid.to_string())?;
    Ok(Command::CreateLead { fields }.input())
}

impl Testkit {
    /// Runs a case on the component with the case's settings, and returns the differences from what it expects.
    ///
    /// # Errors
    ///
    /// A message that says what is wrong with the case itself.
    pub fn run_case(
        &self,
        name: &str,
        bytes: &[u8],
        settings: &PluginSettings,
        case: &Case,
    ) -> Result<Vec<Difference>, String> {
        case.check_keys()?;
        let mut settings = settings.clone();
        settings.enabled = true;
        if let Some(config) = &case.config {
            settings.config = config.clone();
        }
        let opened = self.open(name, bytes, settings);
        if case.hook == CaseHook::Init {
            let answer = match opened {
                Ok(specimen) => json!({"hides": specimen.hidden()}),
                Err(LoadError(why)) => json!({"fails": why}),
            };
            return compare(case.hook, &case.expect, &answer, "");
        }
        let specimen = match opened {
            Ok(specimen) => specimen,
            Err(LoadError(why)) => return Err(format!("the plugin does not load: {why}")),
        };
        specimen.stop_clock(case.now.unwrap_or_else(golden::now));
        specimen.run(case)
    }
}

impl Specimen {
    fn run(&self, case: &Case) -> Result<Vec<Difference>, String> {
        if !self.hooks().contains(&case.hook.as_str()) {
            return Err(format!("hook: the plugin has no {}", case.hook.as_str()));
        }
        let question = match case.hook {
            CaseHook::Filter => return self.filtered(case),
            CaseHook::Init => return Ok(Vec::new()),
            CaseHook::Authorize => case.authorize()?,
            CaseHook::Before => case.before()?,
            CaseHook::Enrich => Probe::Enrich(case.probe_event()?),
            CaseHook::After => {
                let (id, at) = ("1".into(), case.now.unwrap_or_else(golden::now));
                let event = case.probe_event()?;
                let seq = (event.name != REMINDER).then_some(Seq(1));
                Probe::After { event, id, seq, at, state: case.state.clone() }
            }
        };
        let answer = if self.wants(&question) { self.answer(&question) } else { Ok(unasked(case.hook)) };
        let mut answer = answer.unwrap_or_else(|fault| json!({"fails": fault.to_string()}));
        match &question {
            Probe::Before { input, .. } if answer["ruling"] == "accept" => answer["input"] = json!(input),
            Probe::Enrich(event) if answer.get("fails").is_none() => {
                if let Some(payload) = self.enriched(event) {
                    answer["payload"] = payload;
                }
            }
            _ => {}
        }
        compare(case.hook, &case.expect, &answer, "")
    }

    /// Compares the verdict of each role, and what the role would be sent.
    fn filtered(&self, case: &Case) -> Result<Vec<Difference>, String> {
        let event = case.probe_event()?;
        let mut expected = Vec::new();
        for (role, expect) in &case.expect {
            let role: Role = role.parse().map_err(|error| format!("expect: {error}"))?;
            let expect = expect.as_object().ok_or_else(|| format!("expect.{role}: expected an object"))?;
            expected.push((role, expect));
        }
        let asked = case.roles.clone().unwrap_or_else(|| expected.iter().map(|(role, _)| *role).collect());
        if let Some((role, _)) = expected.iter().find(|(role, _)| !asked.contains(role)) {
            return Err(format!("expect.{role}: the case does not ask about that role"));
        }
        if expected.is_empty() {
            return Err("expect: name a role at least, and what is expected for it".into());
        }
        let own: Vec<Role> = asked.iter().copied().filter(|role| self.plugin.manifest.roles.contains(*role)).collect();
        let base =
            ProbeEvent { payload: self.enriched(&event).unwrap_or_else(|| event.payload.clone()), ..event.clone() };
        let question = Probe::Filter { event: base, roles: own };
        let verdicts = if self.wants(&question) { self.answer(&question) } else { Ok(json!({})) };
        let sent = self.shaped(&event, &asked);
        let mut differences = Vec::new();
        for (role, expect) in expected {
            let mut answer = match &verdicts {
                Ok(verdicts) => verdicts.get(role.as_str()).cloned().unwrap_or_else(|| unasked(CaseHook::Filter)),
                Err(fault) => json!({"fails": fault.to_string()}),
            };
            if let Some((_, Shaped::Sent { payload, audience })) = sent.iter().find(|(of, _)| *of == role) {
                answer["audience"] = audience_json(audience);
                if !payload.is_null() {
                    answer["payload"] = Value::clone(payload);
                }
            }
            differences.extend(compare(case.hook, expect, &answer, role.as_str())?);
        }
        Ok(differences)
    }

    /// Returns the payload with the plugin's own `enrich` edits, if it would be asked for them.
    fn enriched(&self, event: &ProbeEvent) -> Option<Value> {
        let question = Probe::Enrich(event.clone());
        let mut payload = event.payload.clone();
        if self.wants(&question) {
            let crate::plugin::testkit::question::HookAnswer::Edits(mut edits) = self.ask(&question).ok()? else {
                return None;
            };
            pointer::order(&mut edits);
            pointer::apply(&mut payload, &edits);
        }
        Some(payload)
    }

    fn hidden(&self) -> Value {
        let of = |role: Role| self.plugin.hides.of(role).iter().map(ToString::to_string).collect::<Vec<_>>();
        let by_role = Role::ALL.into_iter().map(|role| (role.to_string(), json!(of(role))));
        Value::Object(by_role.filter(|(_, pointers)| *pointers != json!([])).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn differences(expect: Value, answer: Value) -> Vec<Difference> {
        let expect = expect.as_object().expect("an object");
        compare(CaseHook::Enrich, expect, &answer, "").expect("a good case")
    }

    #[test]
    fn only_differences_are_reported_with_their_path() {
        let answer = json!({"edits": [], "payload": {"lead": {"a": 1, "b": [1, 2], "c/d": 3}}});
        assert_eq!(differences(json!({"payload": {"lead": {"a": 1, "b": [1, 2], "c/d": 3}}}), answer.clone()), []);
        let found = differences(json!({"payload": {"lead": {"a": 2, "b": [1], "e": 0}}}), answer.clone());
        let places: Vec<&str> = found.iter().map(|difference| difference.at.as_str()).collect();
        assert_eq!(places, ["payload/lead/a", "payload/lead/b/1", "payload/lead/e", "payload/lead/c~1d"]);
        assert_eq!((&found[1].expected, &found[1].found), (&None, &Some(json!(2))));
        let found =
            differences(json!({"values": {"/lead/a": 1, "/lead/x": 1}, "gone": ["/lead/b", "/lead/y"]}), answer);
        let places: Vec<&str> = found.iter().map(|difference| difference.at.as_str()).collect();
        assert_eq!(places, ["/lead/x", "/lead/b"]);
    }

    #[test]
    fn an_unexpected_failure_is_a_difference() {
        let failed = || json!({"fails": "answered with an error: no idea"});
        assert_eq!(differences(json!({"fails": "no idea"}), failed()), []);
        assert_eq!(differences(json!({"edits": []}), failed()).len(), 1);
        assert_eq!(differences(json!({"fails": "no idea"}), json!({"edits": []})).len(), 1);
    }

    #[test]
    fn an_invalid_case_is_refused_by_key() {
        let refusal = |case: Value| {
            let case = Case::read(&case.to_string()).map(|mut cases| cases.remove(0));
            case.and_then(|case| case.check_keys().and_then(|()| case.probe_event().map(drop))).expect_err("refused")
        };
        let case = |key: &str, value: Value| {
            let mut case = json!({"name": "n", "hook": "filter", "event": "lead:read", "expect": {}});
            case[key] = value;
            case
        };
        assert!(refusal(case("evnt", json!("x"))).starts_with("case 1 (n): unknown field `evnt`"));
        assert!(refusal(case("hook", json!("shape"))).contains("unknown variant `shape`"));
        assert!(refusal(case("command", json!("lead:create"))).starts_with("command: filter does not take this key"));
        assert!(
            refusal(case("roles", json!(["VIEWER", "PLUGIN"])))
                .starts_with("case 1 (n): \"PLUGIN\" is not a role: expected ADMIN, MANAGER, SALES or VIEWER")
        );
        assert!(refusal(json!({"name": "n", "hook": "filter", "expect": {}})).starts_with("event: name one"));
        assert!(
            compare(CaseHook::After, json!({"edits": []}).as_object().expect("an object"), &json!({}), "").is_err()
        );
    }
}
