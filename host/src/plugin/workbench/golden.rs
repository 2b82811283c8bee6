//! What really happens on a server: recorded events, commands, users and reminders, the same that the SDK has.
//!
//! A test of the server records them anew and compares, so they are what is emitted today, word for word.

use std::sync::LazyLock;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::question::{Question, Told};
use crate::domain::{role::Role, time::Timestamp};

/// What was recorded, each in the order in which it happened.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Golden {
    /// One of each role.
    pub users: Vec<Value>,
    /// Every kind of event, and what is asked about when something is read.
    pub events: Vec<Recorded>,
    pub commands: Vec<GoldenCommand>,
    /// Reminders that came due.
    pub reminders: Vec<Reminder>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
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
pub struct Reminder {
    pub payload: Value,
    pub context: Value,
}

/// The moment at which the clock of what is tried stands still: after all that was recorded.
pub(super) fn now() -> Timestamp {
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

    /// The user of a role.
    pub(super) fn user(&self, role: Role) -> Value {
        let user = self.users.iter().find(|user| user["role"] == role.as_str());
        user.cloned().unwrap_or_else(|| serde_json::json!({"id": "", "role": role}))
    }

    /// The first event of that name.
    pub(super) fn event(&self, name: &str) -> Option<&Recorded> {
        self.events.iter().find(|event| event.name == name)
    }

    /// A lead as it is read.
    pub(super) fn lead(&self) -> Option<&Value> {
        self.event("lead:read")?.payload.get("lead")
    }

    /// Every question that a server would ask any plugin; filters are asked about these roles.
    pub(super) fn questions(&self, roles: &[Role]) -> Vec<Question> {
        let mut questions = Vec::new();
        for role in Role::ALL {
            questions.push(Question::Connect { user: self.user(role) });
            for lead in [self.lead().cloned(), None] {
                let id = lead.as_ref().and_then(|lead| lead["id"].as_str()).unwrap_or("nothing-yet");
                questions.push(Question::Subscribe { user: self.user(role), room: format!("lead:{id}"), lead });
            }
        }
        questions.extend(self.commands.iter().map(|command| self.before(command)));
        questions.extend(self.events.iter().map(|event| Question::Enrich(event.told())));
        for event in &self.events {
            let one_by_one = roles.iter().map(|role| vec![*role]).filter(|_| roles.len() > 1);
            for roles in [roles.to_vec()].into_iter().chain(one_by_one) {
                questions.push(Question::Filter { told: event.told(), roles });
            }
        }
        questions.extend(self.occasions());
        questions
    }

    fn before(&self, command: &GoldenCommand) -> Question {
        let GoldenCommand { name, role, input, lead, activity } = command.clone();
        Question::Before { command: name, user: self.user(role), input, lead, activity }
    }

    fn occasions(&self) -> impl Iterator<Item = Question> {
        // What is read is no line of the log.
        let logged = self.events.iter().filter(|event| !event.name.ends_with(":read"));
        let events = logged.zip(1..).map(|(event, seq)| {
            let at = event.payload["timestamp"].as_str().and_then(|at| at.parse().ok()).unwrap_or_else(now);
            Question::After { told: event.told(), id: seq.to_string(), seq: Some(seq), at, state: None }
        });
        let reminders = self.reminders.iter().zip(1..).map(|(reminder, number)| {
            let Reminder { payload, context } = reminder.clone();
            let told = Told { name: super::super::after::REMINDER.into(), payload, context };
            Question::After { told, id: format!("reminder-{number}"), seq: None, at: now(), state: None }
        });
        events.chain(reminders)
    }
}

impl Recorded {
    pub(super) fn told(&self) -> Told {
        let Self { name, payload, context } = self.clone();
        Told { name, payload, context }
    }
}
