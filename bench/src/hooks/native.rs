//! The hooks of the plugins, compiled natively: the baseline without a guest boundary.
//!
//! Values are taken at their declared paths and passed unchanged. The answers are applied as the host applies them:
//! equal edits once, and no copies without edits.

use std::sync::Arc;

use leadwire::{
    domain::{role::Role, user::User},
    plugin,
};
use leadwire_plugin_sdk::{
    After, Audience, Authorize, Before, Command, Decision, Enrich, Event, Filter, Occasion, Outcome, Ruling, Subject,
    Timestamp, Verdict, testing,
};
use serde_json::{Map, Value, json};

/// Native counterpart of `Plugins::shape` for a set with one filter.
pub fn filter<F: Filter>(
    plugin: &F,
    name: &str,
    payload: &Arc<Value>,
    roles: &[Role],
) -> Vec<(Role, Audience, Arc<Value>)> {
    let shape = |(role, verdict): (&Role, Verdict)| {
        let edited = if verdict.edits.is_empty() {
            payload.clone()
        } else {
            testing::edited(Value::clone(payload), &verdict.edits).into()
        };
        (*role, verdict.audience, edited)
    };
    roles.iter().zip(verdicts(plugin, name, payload, roles)).map(shape).collect()
}

/// Answer of one call of `filter`.
pub fn verdicts<F: Filter>(plugin: &F, name: &str, payload: &Value, roles: &[Role]) -> Vec<Verdict> {
    let lead = &payload["lead"];
    let fields = [("/lead/email", lead["email"].clone()), ("/lead/valueCents", lead["valueCents"].clone())];
    let event = Event::from_fields(name, fields);
    roles.iter().map(|role| plugin.filter(&event, role.as_str()).expect("a verdict")).collect()
}

/// Native counterpart of `Plugins::shape` for a set with one enricher.
pub fn enrich<E: Enrich>(plugin: &E, name: &str, payload: &Arc<Value>, roles: &[Role]) -> Vec<(Role, Arc<Value>)> {
    let edits = plugin.enrich(&worth(name, payload)).expect("edits");
    let enriched = Arc::new(testing::edited(Value::clone(payload), &edits));
    roles.iter().map(|role| (*role, enriched.clone())).collect()
}

/// Native counterpart of `Plugins::after` for a plugin that keeps a number.
pub fn after<A: After>(plugin: &A, occasion: &plugin::Occasion<'_>, state: u64) -> Outcome {
    let event = worth(occasion.name, occasion.payload);
    let at = Timestamp::from_millis(occasion.at.millis());
    let occasion =
        Occasion::new(occasion.id, occasion.seq.map(|seq| seq.0), at, event).with_state(&state).expect("JSON");
    plugin.after(&occasion).expect("an outcome")
}

/// Input of `enrich` and `after`.
fn worth(name: &str, payload: &Value) -> Event {
    let lead = &payload["lead"];
    let fields = [("/lead/valueCents", lead["valueCents"].clone()), ("/lead/status", lead["status"].clone())];
    Event::from_fields(name, fields)
}

/// Native counterpart of `Plugins::authorize_connect`.
pub fn connect<A: Authorize>(plugin: &A, user: &User) -> Decision {
    let email = ("/context/user/email", Value::from(user.email.as_str()));
    plugin.connect(&Subject::from_fields(user.id.to_string(), user.role.as_str(), [email])).expect("a decision")
}

/// Native counterpart of `Plugins::before`.
pub fn before<B: Before>(plugin: &B, name: &str, user: &User, input: Map<String, Value>) -> Option<Value> {
    let fields = [("/input/source", "source"), ("/input/valueCents", "valueCents")];
    let fields = fields.into_iter().filter_map(|(at, name)| Some((at, input.get(name)?.clone())));
    let email = ("/context/user/email", Value::from(user.email.as_str()));
    let fields = [email].into_iter().chain(fields);
    let command = Command::from_fields(name, user.id.to_string(), user.role.as_str(), fields);
    match plugin.before(&command).expect("a ruling") {
        Ruling::Accept => Some(input.into()),
        Ruling::Amend(amendment) => Some(testing::edited(json!({"input": input}), amendment.edits())["input"].take()),
        Ruling::Refuse(_) => None,
    }
}
