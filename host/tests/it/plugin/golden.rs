//! The golden recording in `plugin-sdk/fixtures`: the inputs for checks, tests and benchmarks of plugins are exactly
//! what a server emits.
//!
//! Ids become numbers in order of appearance, and generated times become one constant. After an intended change,
//! `LEADWIRE_TEST_RECORD=1` makes the test rewrite the file.

use std::{collections::HashMap, fs, path::Path};

use leadwire::domain::{
    activity::ActivityFields,
    actor::Actor,
    command::Command,
    counter::Seq,
    id::{ActivityId, LeadId},
    lead::LeadFields,
    policy::Scope,
    role::Role,
    time::Timestamp,
};
use reqwest::StatusCode;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::{
    guest::{Edit, Guest},
    socket_client::{SocketClient, Transport},
    support::{TestApp, open_store},
};

/// A scripted session that records the questions to plugins.
struct Recorder {
    app: TestApp,
    minute: i64,
    commands: Vec<Value>,
}

fn members(value: Value) -> Map<String, Value> {
    value.as_object().expect("an object").clone()
}

fn morning(minute: i64) -> Timestamp {
    let nine: Timestamp = "2026-06-01T09:00:00.000Z".parse().expect("a time");
    Timestamp::from_millis(nine.millis() + minute * 60_000).expect("a time")
}

impl Recorder {
    /// Runs a command and records the input of `before`.
    async fn record(&mut self, role: Role, command: Command) -> Option<LeadId> {
        self.minute += 1;
        let mut reader = self.app.app().store().read().await.expect("reads");
        let (lead_id, activity_id) = match &command {
            Command::CreateLead { .. } => (None, None),
            Command::UpdateLead { lead, .. }
            | Command::DeleteLead { lead, .. }
            | Command::RestoreLead { lead, .. }
            | Command::AssignLead { lead, .. }
            | Command::CreateActivity { lead, .. } => (Some(*lead), None),
            Command::UpdateActivity { activity, .. } | Command::DeleteActivity { activity } => (None, Some(*activity)),
        };
        let activity = match activity_id {
            Some(id) => reader.activity(id).await.expect("reads"),
            None => None,
        };
        let lead_id = lead_id.or(activity.as_ref().map(|activity| activity.lead_id));
        let lead = match lead_id {
            Some(id) => match reader.lead(id).await.expect("reads") {
                Some(lead) => Some(lead),
                None => reader.deleted_lead(id).await.expect("reads"),
            },
            None => None,
        };
        drop(reader);
        let mut noted = json!({"name": command.name(), "role": role, "input": command.input()});
        if let Some(lead) = lead {
            noted["lead"] = json!(lead);
        }
        if let Some(activity) = activity {
            noted["activity"] = json!(activity);
        }
        self.commands.push(noted);
        let actor = Actor::from(self.app.user(role));
        let mut batch = self.app.app().batch().await.expect("a batch");
        let lead = batch.execute(&actor, morning(self.minute), command).await.expect("carried out");
        batch.commit().await.expect("committed");
        lead
    }

    async fn activity(&mut self, role: Role, lead: LeadId, fields: Value) -> ActivityId {
        let fields = ActivityFields::parse(members(fields)).expect("valid");
        self.record(role, Command::CreateActivity { lead, fields }).await;
        let list = format!("/api/leads/{lead}/activities");
        let list = self.app.client(Role::Admin).get(&list).await.expect(StatusCode::OK);
        list["items"][0]["id"].as_str().expect("an id").parse().expect("an id")
    }

    async fn work(&mut self) -> LeadId {
        let create = |fields: Value| Command::CreateLead { fields: LeadFields::parse(members(fields)).expect("valid") };
        let full = create(json!({
            "title": "New roof", "contactName": "Bob Miller", "company": "Miller & Sons",
            "email": "bob@miller.example", "phone": "+1 555 0100", "source": "fair", "valueCents": 1_250_000,
            "currency": "EUR", "description": "Wants a quote by June.", "custom": {"territory": "north", "size": 3},
        }));
        let lead = self.record(Role::Admin, full).await.expect("a lead");
        let bare = self.record(Role::Sales, create(json!({"title": "Solar panels"}))).await.expect("a lead");
        let update = |lead, patch: Value| Command::UpdateLead { lead, patch: members(patch), version: None };
        self.record(Role::Manager, update(lead, json!({"status": "QUALIFIED", "valueCents": 1_500_000}))).await;
        self.record(Role::Sales, update(bare, json!({"custom": {"territory": "south"}, "email": "ed@solar.example"})))
            .await;
        self.record(Role::Manager, update(lead, json!({"description": null, "phone": "+1 555 0199"}))).await;
        let owner = |app: &TestApp, role| Some(app.user(role).id);
        let (sales, manager) = (owner(&self.app, Role::Sales), owner(&self.app, Role::Manager));
        self.record(Role::Manager, Command::AssignLead { lead, owner: sales, version: None }).await;
        let call = json!({"type": "CALL", "body": "Call back on Monday.", "meta": {"minutes": 4}});
        let call = self.activity(Role::Sales, lead, call).await;
        self.activity(
            Role::Sales,
            lead,
            json!({"type": "TASK", "body": "Send the quote.", "dueAt": "2026-06-05T15:00:00.000Z"}),
        )
        .await;
        let patch = members(json!({"body": "Called back.", "completedAt": "2026-06-01T09:09:00.000Z"}));
        self.record(Role::Sales, Command::UpdateActivity { activity: call, patch }).await;
        self.record(Role::Sales, Command::DeleteActivity { activity: call }).await;
        self.record(Role::Manager, Command::AssignLead { lead, owner: manager, version: None }).await;
        self.record(Role::Admin, Command::AssignLead { lead: bare, owner: None, version: None }).await;
        self.record(Role::Admin, update(bare, json!({"status": "WON"}))).await;
        self.record(Role::Admin, Command::DeleteLead { lead: bare, version: None }).await;
        self.record(Role::Admin, Command::RestoreLead { lead: bare, version: None }).await;
        lead
    }

    /// Payloads of `lead:read` and `activity:read`, echoed by a plugin into the answers.
    async fn reads(&self, lead: LeadId) -> Vec<Value> {
        let client = self.app.client(Role::Admin);
        let read = client.get(&format!("/api/leads/{lead}")).await.expect(StatusCode::OK);
        let activities = client.get(&format!("/api/leads/{lead}/activities")).await.expect(StatusCode::OK);
        let of = |name: &str, item: &Value| {
            assert!(item["payload"].is_object() && item["context"].is_object(), "{item}");
            json!({"name": name, "payload": item["payload"], "context": {"lead": item["context"]}})
        };
        let own = activities["items"].as_array().expect("items").iter().map(|item| of("activity:read", item));
        [of("lead:read", &read)].into_iter().chain(own).collect()
    }

    /// Payload of `lead:viewers`, and the question about the lead as read.
    async fn viewers(&self, lead: LeadId, read: &Value) -> Value {
        let (address, token) = (self.app.server.address().to_string(), self.app.token(Role::Manager));
        let socket = SocketClient::connect(Transport::WebSocket, &address, token).await;
        let mut socket = socket.hearing_viewers();
        socket.subscribe(&lead.to_string()).await;
        let payload = socket.event("lead:viewers").await;
        json!({"name": "lead:viewers", "payload": payload, "context": read["context"]})
    }
}

/// A plugin that answers a read with its input.
fn echo() -> Vec<u8> {
    let edits = ["lead", "activity"].into_iter().flat_map(|noun| {
        [Edit::SetPayload(format!("/{noun}/payload")), Edit::SetFirstField(format!("/{noun}/context"))]
    });
    let guest = Guest::new("echo").events(["lead:read", "activity:read"]).fields(["/context/lead"]).whole_payload();
    guest.enrich(edits).build()
}

/// Normalizes ids and times.
#[derive(Default)]
struct Normal {
    ids: HashMap<Uuid, usize>,
}

impl Normal {
    fn value(&mut self, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Ok(id) = text.parse::<Uuid>() {
                    let next = self.ids.len() + 1;
                    let number = *self.ids.entry(id).or_insert(next);
                    *text = format!("01980000-0000-7000-8000-{number:012}");
                } else if let Ok(time) = text.parse::<Timestamp>() {
                    let chosen = ["2026-06-05T15:00:00.000Z".parse().expect("a time")];
                    if !(morning(0)..=morning(180)).contains(&time) && !chosen.contains(&time) {
                        *text = "2026-05-01T08:00:00.000Z".into();
                    }
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(item)),
            Value::Object(members) => members.values_mut().for_each(|member| self.value(member)),
            _ => {}
        }
    }
}

/// One item per line, for readable diffs.
fn printed(golden: &[(&str, Vec<Value>)]) -> String {
    let part = |(name, items): &(&str, Vec<Value>)| {
        let lines: Vec<String> = items.iter().map(|item| format!("    {item}")).collect();
        format!("  \"{name}\": [\n{}\n  ]", lines.join(",\n"))
    };
    format!("{{\n{}\n}}\n", golden.iter().map(part).collect::<Vec<_>>().join(",\n"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_golden_recording_is_what_the_server_emits() {
    let app = TestApp::with(|config| {
        config.visibility.sales = Scope::Own;
        let dir = config.plugins.dir.clone().expect("a folder");
        fs::write(dir.join("echo.toml"), "[grant]\nwhole_payload = true\n").expect("written");
        fs::write(dir.join("echo.wasm"), echo()).expect("written");
    })
    .await;
    let temp = app.add_user("temp", Role::Sales).await;
    let mut recorder = Recorder { app, minute: 0, commands: Vec::new() };
    let lead = recorder.work().await;
    let admin = recorder.app.client(Role::Admin);
    admin.patch(&format!("/api/users/{}", temp.id), json!({"role": "MANAGER"})).await.expect(StatusCode::OK);
    let mut reads = recorder.reads(lead).await;
    reads.push(recorder.viewers(lead, &reads[0]).await);

    let store = open_store(recorder.app.dir.path()).await;
    let events = store.read().await.expect("reads").events_after(Seq(0), 1000).await.expect("events");
    // Events that are sent to no client are not passed to plugins.
    let events = events.into_iter().filter(|event| !event.rooms.is_empty());
    let events = events.map(|event| json!({"name": event.name, "payload": event.payload, "context": event.context}));
    let events: Vec<Value> = events.chain(reads).collect();
    let read =
        events.iter().find(|event| event["name"] == "lead:read").expect("a lead is read")["payload"]["lead"].clone();
    let payload = json!({"key": "call-back", "at": morning(175), "leadId": lead, "data": {"attempt": 1}});
    let reminders = vec![json!({"payload": payload, "context": {"lead": read}})];
    let users = Role::ALL.map(|role| json!(recorder.app.user(role))).to_vec();
    let mut golden = [("users", users), ("events", events), ("commands", recorder.commands), ("reminders", reminders)];
    let mut normal = Normal::default();
    golden.iter_mut().flat_map(|(_, items)| items).for_each(|item| normal.value(item));

    let kinds = [
        "lead:created",
        "lead:updated",
        "lead:deleted",
        "lead:assigned",
        "activity:created",
        "activity:updated",
        "activity:deleted",
        "notification",
        "session:updated",
        "lead:read",
        "activity:read",
        "lead:viewers",
    ];
    for kind in kinds {
        assert!(golden[1].1.iter().any(|event| event["name"] == kind), "no {kind} was recorded");
    }
    for name in Command::NAMES {
        assert!(golden[2].1.iter().any(|command| command["name"] == name), "no {name} was recorded");
    }
    let printed = printed(&golden);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugin-sdk/fixtures/golden.json");
    if std::env::var_os("LEADWIRE_TEST_RECORD").is_some() {
        fs::write(&file, &printed).expect("written");
    }
    let recorded = fs::read_to_string(&file).expect("there");
    for (line, (recorded, now)) in recorded.lines().zip(printed.lines()).enumerate() {
        assert_eq!(recorded, now, "line {} of {}", line + 1, file.display());
    }
    assert_eq!(recorded.lines().count(), printed.lines().count());
}
