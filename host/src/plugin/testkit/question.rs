//! Questions to hooks, and their answers, in the words that check reports and test cases use.
//!
//! A [`Probe`] is asked without the circuit breaker; its [`HookAnswer`] is checked as a server would check it.

use serde_json::{Map, Value, json};

use crate::{
    domain::{
        activity::{Activity, ActivityFields},
        audience::Audience,
        command,
        counter::Seq,
        input::{Input, Invalid},
        lead::{Lead, LeadFields},
        role::Role,
        time::Timestamp,
    },
    plugin::{
        active::{
            plugin::Plugin,
            set::{Set, WorkingPlugin},
        },
        contract::{
            answer::{Answered, Decision, Verdict},
            effect::{self, AfterOutcome},
            error::Fault,
            pointer::{self, Edit},
            question::INPUT,
        },
        hooks::{
            after,
            facts::{Facts, Sources},
        },
        wasm::bindings::{CommandQuestion, UserQuestion},
    },
};

/// Question to one hook.
#[derive(Clone, Debug, PartialEq)]
pub enum Probe {
    Connect { user: Value },
    Subscribe { user: Value, room: String, lead: Option<Value> },
    Before { command: String, user: Value, input: Map<String, Value>, lead: Option<Value>, activity: Option<Value> },
    Enrich(ProbeEvent),
    Filter { event: ProbeEvent, roles: Vec<Role> },
    After { event: ProbeEvent, id: String, seq: Option<Seq>, at: Timestamp, state: Option<String> },
}

/// Event that happened, or is read.
#[derive(Clone, Debug, PartialEq)]
pub struct ProbeEvent {
    pub name: String,
    pub payload: Value,
    pub context: Value,
}

static NOTHING: Value = Value::Null;

impl Probe {
    pub(crate) fn hook(&self) -> &'static str {
        match self {
            Self::Connect { .. } | Self::Subscribe { .. } => "authorize",
            Self::Before { .. } => "before",
            Self::Enrich(_) => "enrich",
            Self::Filter { .. } => "filter",
            Self::After { .. } => "after",
        }
    }

    /// Title for people: the hook, and what it is asked about.
    pub(crate) fn title(&self) -> String {
        let role = |user: &Value| user["role"].as_str().unwrap_or("nobody").to_owned();
        match self {
            Self::Connect { user } => format!("authorize, {} connects", role(user)),
            Self::Subscribe { user, room, .. } => format!("authorize, {} subscribes to {room}", role(user)),
            Self::Before { command, user, .. } => format!("before {command} by {}", role(user)),
            Self::Enrich(event) => format!("enrich about {}", event.name),
            Self::Filter { event, roles } => {
                let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
                format!("filter about {} for {}", event.name, roles.join(", "))
            }
            Self::After { event, .. } => format!("after {}", event.name),
        }
    }

    pub(crate) fn is_for(&self, plugin: &Plugin, alone: &Set) -> bool {
        let hooks = plugin.hooks;
        match self {
            Self::Connect { .. } | Self::Subscribe { .. } => hooks.authorize,
            Self::Before { command, .. } => alone.guards(command).next().is_some(),
            Self::Enrich(event) => hooks.enrich && plugin.manifest.events.include(&event.name),
            Self::Filter { event, roles } => {
                let asked = roles.iter().all(|role| plugin.manifest.roles.contains(*role));
                hooks.filter && asked && !roles.is_empty() && plugin.manifest.events.include(&event.name)
            }
            Self::After { event, .. } => hooks.after && plugin.wants.include(&event.name),
        }
    }

    pub(crate) fn put(&self, plugin: &Plugin, alone: &Set, working: &WorkingPlugin) -> Result<HookAnswer, Fault> {
        let facts = |user, lead| {
            let sources = Sources { payload: &NOTHING, lead, before: None, user, activity: None };
            Facts::new(alone, sources)
        };
        match self {
            Self::Connect { user } => {
                let mut facts = facts(Some(user), None);
                let fields = &facts.fields(working)[..];
                plugin.try_connect(&subject(user, fields)).map(HookAnswer::Decided)
            }
            Self::Subscribe { user, room, lead } => {
                let mut facts = facts(Some(user), lead.as_ref());
                let fields = &facts.fields(working)[..];
                plugin.try_subscribe(&subject(user, fields), room).map(HookAnswer::Decided)
            }
            Self::Before { command, user, input, lead, activity } => {
                let document = json!({"input": input});
                let sources = Sources {
                    payload: &document,
                    lead: lead.as_ref(),
                    before: None,
                    user: Some(user),
                    activity: activity.as_ref(),
                };
                let mut facts = Facts::new(alone, sources);
                let fields = &facts.fields(working)[..];
                let UserQuestion { user_id, role, .. } = subject(user, fields);
                plugin
                    .try_before(&CommandQuestion { name: command, user_id, role: role.as_str(), fields })
                    .map(HookAnswer::Ruled)
            }
            Self::Enrich(event) => {
                let mut facts = Facts::new(alone, Sources::of_event(&event.payload, &event.context));
                facts.with_event(&event.name, working, |event| plugin.try_enrich(event)).map(HookAnswer::Edits)
            }
            Self::Filter { event, roles } => {
                let mut facts = Facts::new(alone, Sources::of_event(&event.payload, &event.context));
                facts
                    .with_event(&event.name, working, |event| plugin.try_filter(event, roles))
                    .map(HookAnswer::Verdicts)
            }
            Self::After { event, id, seq, at, state } => {
                let ProbeEvent { name, payload, context } = event;
                let occasion =
                    effect::Occasion { id, seq: *seq, at: *at, name, payload, context, state: state.as_deref() };
                after::put(alone, working, &occasion, |event| plugin.try_after(&occasion, event))
                    .map(HookAnswer::Outcome)
            }
        }
    }

    /// Returns the input that a command would run with after these edits, if that is valid.
    pub(crate) fn amended(&self, edits: &[Edit]) -> Result<Map<String, Value>, Fault> {
        let Self::Before { command, input, lead, activity, .. } = self else { return Ok(Map::new()) };
        let mut document = json!({"input": input});
        let mut edits = edits.to_vec();
        pointer::order(&mut edits);
        pointer::apply(&mut document, &edits);
        let Some(Value::Object(input)) = document.pointer_mut(INPUT).map(Value::take) else {
            return Err(Fault::Invalid("it removed the input".into()));
        };
        match check_input(command, input.clone(), lead.as_ref(), activity.as_ref()) {
            Ok(()) => Ok(input),
            Err(why) => Err(Fault::Invalid(format!("the amended input is not valid: {why}"))),
        }
    }
}

fn subject<'a>(user: &'a Value, fields: &'a [crate::plugin::wasm::bindings::Field<'a>]) -> UserQuestion<'a> {
    let role = user["role"].as_str().and_then(|role| role.parse().ok()).unwrap_or(Role::Viewer);
    UserQuestion { user_id: user["id"].as_str().unwrap_or_default(), role, fields }
}

/// Checks an input as the server would, whoever sent it.
pub(crate) fn check_input(
    command: &str,
    input: Map<String, Value>,
    lead: Option<&Value>,
    activity: Option<&Value>,
) -> Result<(), String> {
    let text = |invalid: Invalid| invalid.to_string();
    let read = |value: Option<&Value>, what: &str| value.cloned().ok_or_else(|| format!("there is no {what}"));
    match command {
        "lead:create" => LeadFields::parse(input).map(drop).map_err(text),
        "lead:update" => {
            let lead: Lead = serde_json::from_value(read(lead, "lead")?).map_err(|error| error.to_string())?;
            lead.update(&input).map(drop).map_err(text)
        }
        "lead:assign" => command::new_owner(input).map(drop).map_err(text),
        "activity:create" => ActivityFields::parse(input).map(drop).map_err(text),
        "activity:update" => {
            let activity = read(activity, "activity")?;
            let activity: Activity = serde_json::from_value(activity).map_err(|error| error.to_string())?;
            activity.fields.update(&input).map(drop).map_err(text)
        }
        _ => Input::expect_empty(input).map_err(text),
    }
}

/// Answer of a hook that the host found nothing wrong with.
pub(crate) enum HookAnswer {
    Decided(Decision),
    Ruled(Answered),
    Edits(Vec<Edit>),
    Verdicts(Vec<Verdict>),
    Outcome(AfterOutcome),
}

impl HookAnswer {
    /// Returns the answer as reports and test cases write it.
    pub(crate) fn to_json(&self) -> Value {
        match self {
            Self::Decided(Decision::Allow) => json!({"decision": "allow"}),
            Self::Decided(Decision::Deny(reason)) => json!({"decision": "deny", "reason": reason}),
            Self::Ruled(Answered::Accept) => json!({"ruling": "accept"}),
            Self::Ruled(Answered::Amend(edits)) => json!({"ruling": "amend", "edits": edits_json(edits)}),
            Self::Ruled(Answered::Refuse(refusal)) => json!({
                "ruling": "refuse", "code": refusal.code, "message": refusal.message, "field": refusal.field,
            }),
            Self::Edits(edits) => json!({"edits": edits_json(edits)}),
            Self::Verdicts(verdicts) => {
                let mut verdicts: Vec<&Verdict> = verdicts.iter().collect();
                verdicts.sort_by_key(|verdict| verdict.role);
                let by_role = verdicts.into_iter().map(|verdict| (verdict.role.to_string(), verdict_json(verdict)));
                Value::Object(by_role.collect())
            }
            Self::Outcome(outcome) => {
                let effect = |effect: &effect::RequestedEffect| json!({"name": effect.name, "input": effect.input});
                let effects: Vec<Value> = outcome.effects.iter().map(effect).collect();
                json!({"effects": effects, "state": outcome.state})
            }
        }
    }
}

fn verdict_json(verdict: &Verdict) -> Value {
    json!({"audience": audience_json(&verdict.audience), "edits": edits_json(&verdict.edits)})
}

/// Returns `"everyone"`, `"nobody"` or the list of users.
pub(crate) fn audience_json(audience: &Audience) -> Value {
    match audience {
        Audience::Everyone => "everyone".into(),
        Audience::Nobody => "nobody".into(),
        Audience::Only(users) => users.iter().map(ToString::to_string).collect(),
    }
}

pub(crate) fn edits_json(edits: &[Edit]) -> Value {
    let one = |edit: &Edit| match edit {
        Edit::Set(pointer, value) => json!({"set": pointer.as_str(), "value": value}),
        Edit::Mask(pointer, text) => json!({"mask": pointer.as_str(), "text": text}),
        Edit::Remove(pointer) => json!({"remove": pointer.as_str()}),
    };
    edits.iter().map(one).collect()
}
