//! Golden recordings of what really happens on a server: events, commands, users and reminders, the same that the SDK
//! has.
//!
//! A test of the server records them again and compares, so they are what is emitted today, word for word.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::{
    domain::{counter::Seq, event_name::EventName, role::Role, time::Timestamp},
    plugin::testkit::question::{Probe, ProbeEvent},
};

/// Recordings of a server, each in the order in which it happened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// One user per role.
    pub users: Vec<Value>,
    /// Events of every kind, and those that are asked about when something is read.
    pub events: Vec<RecordedEvent>,
    pub commands: Vec<GoldenCommand>,
    /// Reminders that came due.
    pub reminders: Vec<GoldenReminder>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordedEvent {
    pub name: String,
    pub payload: Value,
    pub context: Value,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenCommand {
    pub name: String,
    pub role: Role,
    pub input: Map<String, Value>,
    #[serde(default)]
    pub lead: Option<Value>,
    #[serde(default)]
    pub activity: Option<Value>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenReminder {
    pub payload: Value,
    pub context: Value,
}

/// Time at which the clock of a tested plugin is frozen: after all that was recorded.
pub(crate) fn now() -> Timestamp {
    "2026-06-01T12:00:00.000Z".parse().expect("a constant that is a time")
}

impl Golden {
    pub fn recorded() -> &'static Self {
        static RECORDED: LazyLock<Golden> = LazyLock::new(|| {
            let text = include_str!("../../../../plugin-sdk/fixtures/golden.json");
            serde_json::from_str(text).expect("the recording is written by a test that reads it")
        });
        &RECORDED
    }

    /// Returns the user of a role.
    pub(crate) fn user(&self, role: Role) -> Value {
        let user = self.users.iter().find(|user| user["role"] == role.as_str());
        user.cloned().unwrap_or_else(|| serde_json::json!({"id": "", "role": role}))
    }

    /// Returns the first event of that name.
    pub(crate) fn event(&self, name: &str) -> Option<&RecordedEvent> {
        self.events.iter().find(|event| event.name == name)
    }

    /// Returns a lead as it is read.
    pub(crate) fn lead(&self) -> Option<&Value> {
        self.event(EventName::LeadRead.as_str())?.payload.get("lead")
    }

    /// Lists every question that a server would ask any plugin; filters are asked about these roles.
    pub(crate) fn questions(&self, roles: &[Role]) -> Vec<Probe> {
        let mut questions = Vec::new();
        for role in Role::ALL {
            questions.push(Probe::Connect { user: self.user(role) });
            for lead in [self.lead().cloned(), None] {
                let id = lead.as_ref().and_then(|lead| lead["id"].as_str()).unwrap_or("nothing-yet");
                questions.push(Probe::Subscribe { user: self.user(role), room: format!("lead:{id}"), lead });
            }
        }
        questions.extend(self.commands.iter().map(|command| self.before(command)));
        questions.extend(self.events.iter().map(|event| Probe::Enrich(event.to_probe())));
        for event in &self.events {
            let one_by_one = roles.iter().map(|role| vec![*role]).filter(|_| roles.len() > 1);
            for roles in [roles.to_vec()].into_iter().chain(one_by_one) {
                questions.push(Probe::Filter { event: event.to_probe(), roles });
            }
        }
        questions.extend(self.occasions());
        questions
    }

    fn before(&self, command: &GoldenCommand) -> Probe {
        let GoldenCommand { name, role, input, lead, activity } = command.clone();
        Probe::Before { command: name, user: self.user(role), input, lead, activity }
    }

    fn occasions(&self) -> impl Iterator<Item = Probe> {
        // A read is not an event of the log.
        let logged = self.events.iter().filter(|event| !event.name.ends_with(":read"));
        let events = logged.zip(1..).map(|(event, seq)| {
            let at = event.payload["timestamp"].as_str().and_then(|at| at.parse().ok()).unwrap_or_else(now);
            Probe::After { event: event.to_probe(), id: seq.to_string(), seq: Some(Seq(seq)), at, state: None }
        });
        let reminders = self.reminders.iter().zip(1..).map(|(reminder, number)| {
            let GoldenReminder { payload, context } = reminder.clone();
            let event = ProbeEvent { name: crate::plugin::contract::effect::REMINDER.into(), payload, context };
            Probe::After { event, id: format!("reminder-{number}"), seq: None, at: now(), state: None }
        });
        events.chain(reminders)
    }
}

impl RecordedEvent {
    pub(crate) fn to_probe(&self) -> ProbeEvent {
        let Self { name, payload, context } = self.clone();
        ProbeEvent { name, payload, context }
    }
}
