//! Effects that a plugin requests, and the builders of their inputs.

use serde_json::{Map, Value, json};

use crate::{Timestamp, bindings::afters::exports::leadwire::plugin::after as wit};

pub(super) const NOTIFY: &str = "notify";
pub(super) const ADD_ACTIVITY: &str = "activity:create";
pub(super) const PATCH_LEAD: &str = "lead:update";
pub(super) const ASSIGN: &str = "lead:assign";
pub(super) const REMIND: &str = "remind";
pub(super) const WEBHOOK: &str = "webhook";

/// Action that the host executes with the plugin as its actor. It is executed once, however often the host has to ask
/// the plugin about the occasion.
///
/// ```
/// use leadwire_plugin_sdk::{ActivityType, Effect, Timestamp, json};
///
/// let effects: [Effect; 7] = [
///     Effect::notify("user-1", "lead_waits", "lead-1"),
///     Effect::add_activity("lead-1", ActivityType::Task, "Call back").due(Timestamp::from_millis(0)).into(),
///     Effect::patch_lead("lead-1").set("status", "CONTACTED").clear("source").into(),
///     Effect::assign("lead-1", "user-1"),
///     Effect::unassign("lead-1"),
///     Effect::remind(Timestamp::from_millis(0), "call back").about("lead-1").with(json!({"attempt": 2})).into(),
///     Effect::webhook("https://hooks.example.com/leads", "lead.won", json!({"id": "lead-1"})),
/// ];
/// assert_eq!(effects[2].name(), "lead:update");
/// assert_eq!(effects[2].get("/patch"), Some(&json!({"status": "CONTACTED", "source": null})));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Effect {
    name: &'static str,
    input: Value,
}

impl Effect {
    /// Notifies a user about a lead, on all of the user's connections. `kind` is for clients: lower-case letters,
    /// digits and underscores.
    pub fn notify(user: impl Into<String>, kind: impl Into<String>, lead: impl Into<String>) -> Self {
        let input = json!({"userId": user.into(), "kind": kind.into(), "leadId": lead.into()});
        Self { name: NOTIFY, input }
    }

    /// Adds an activity to a lead.
    pub fn add_activity(lead: impl Into<String>, kind: ActivityType, body: impl Into<String>) -> NewActivity {
        NewActivity(json!({"leadId": lead.into(), "type": kind.as_str(), "body": body.into()}))
    }

    /// Changes fields of a lead; name them with [`LeadPatch::set`] and [`LeadPatch::clear`].
    pub fn patch_lead(lead: impl Into<String>) -> LeadPatch {
        LeadPatch { lead: lead.into(), patch: Map::new() }
    }

    /// Assigns a lead to a user.
    pub fn assign(lead: impl Into<String>, owner: impl Into<String>) -> Self {
        Self { name: ASSIGN, input: json!({"leadId": lead.into(), "ownerId": owner.into()}) }
    }

    /// Removes the owner of a lead.
    pub fn unassign(lead: impl Into<String>) -> Self {
        Self { name: ASSIGN, input: json!({"leadId": lead.into(), "ownerId": null}) }
    }

    /// Makes the host call [`After::reminded`](crate::After::reminded) at that time, or at once if it is past. It
    /// replaces an earlier reminder of the plugin with the same key.
    pub fn remind(at: Timestamp, key: impl Into<String>) -> Remind {
        Remind(json!({"at": at.to_string(), "key": key.into()}))
    }

    /// Posts `data` to a URL, signed, as a message of the given type (`lead.won`).
    pub fn webhook(url: impl Into<String>, kind: impl Into<String>, data: impl Into<Value>) -> Self {
        Self { name: WEBHOOK, input: json!({"url": url.into(), "type": kind.into(), "data": data.into()}) }
    }

    /// Name of the effect in the host: `notify`, `activity:create`, `lead:update`, `lead:assign`, `remind` or
    /// `webhook`.
    pub fn name(&self) -> &str {
        self.name
    }

    /// Part of the effect's input, by JSON Pointer.
    pub fn get(&self, pointer: &str) -> Option<&Value> {
        self.input.pointer(pointer)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let Self { name, input } = self;
        if let Some(lacking) =
            ["leadId", "userId", "ownerId", "key", "url", "type"].iter().find(|&key| input[key] == "")
        {
            return Err(format!("the effect {name} has an empty {lacking}"));
        }
        let kind = input["kind"].as_str().unwrap_or("kind");
        if !kind.starts_with(|first: char| first.is_ascii_lowercase())
            || !kind.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
        {
            return Err(format!("the effect {name} has the kind {kind:?}: write it in snake_case"));
        }
        match input["patch"].as_object() {
            Some(patch) if patch.is_empty() => Err(format!("the effect {name} changes nothing: use LeadPatch::set")),
            Some(patch) if patch.contains_key("ownerId") || patch.contains_key("owner") => {
                Err(format!("the effect {name} changes the owner: use Effect::assign"))
            }
            _ => Ok(()),
        }
    }
}

/// Type of an activity.
///
/// ```
/// use leadwire_plugin_sdk::{ActivityType, Effect, json};
///
/// let effect: Effect = Effect::add_activity("lead-1", ActivityType::Note, "Seen").into();
/// assert_eq!(effect.get("/type"), Some(&json!("NOTE")));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActivityType {
    /// Information to record.
    Note,
    /// A phone call.
    Call,
    /// An e-mail.
    Email,
    /// A meeting.
    Meeting,
    /// Something to do.
    Task,
}

impl ActivityType {
    fn as_str(self) -> &'static str {
        match self {
            Self::Note => "NOTE",
            Self::Call => "CALL",
            Self::Email => "EMAIL",
            Self::Meeting => "MEETING",
            Self::Task => "TASK",
        }
    }
}

/// Activity to be added; created by [`Effect::add_activity`].
///
/// ```
/// use leadwire_plugin_sdk::{ActivityType, Effect, Timestamp, json};
///
/// let noon = Timestamp::parse("2026-06-01T12:00:00Z").unwrap();
/// let call = Effect::add_activity("lead-1", ActivityType::Call, "Quote").due(noon).meta("minutes", 4);
/// assert_eq!(Effect::from(call).get("/dueAt"), Some(&json!("2026-06-01T12:00:00.000Z")));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct NewActivity(Value);

impl NewActivity {
    /// Sets the time when it is due.
    pub fn due(mut self, at: Timestamp) -> Self {
        self.0["dueAt"] = json!(at.to_string());
        self
    }

    /// Sets the time when it was done.
    pub fn completed(mut self, at: Timestamp) -> Self {
        self.0["completedAt"] = json!(at.to_string());
        self
    }

    /// Adds an item to its `meta`.
    pub fn meta(mut self, key: &str, value: impl Into<Value>) -> Self {
        self.0["meta"][key] = value.into();
        self
    }
}

impl From<NewActivity> for Effect {
    fn from(NewActivity(input): NewActivity) -> Self {
        Self { name: ADD_ACTIVITY, input }
    }
}

/// Changes to a lead; created by [`Effect::patch_lead`]. The owner can be changed only by [`Effect::assign`].
///
/// ```
/// use leadwire_plugin_sdk::{Effect, json};
///
/// let patch = Effect::patch_lead("lead-1").set("custom", json!({"score": 80})).clear("phone");
/// assert_eq!(Effect::from(patch).get("/patch"), Some(&json!({"custom": {"score": 80}, "phone": null})));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LeadPatch {
    lead: String,
    patch: Map<String, Value>,
}

impl LeadPatch {
    /// Sets a field. An object is merged into the present value (JSON merge patch).
    pub fn set(mut self, field: &str, value: impl Into<Value>) -> Self {
        self.patch.insert(field.into(), value.into());
        self
    }

    /// Clears a field.
    pub fn clear(self, field: &str) -> Self {
        self.set(field, Value::Null)
    }
}

impl From<LeadPatch> for Effect {
    fn from(LeadPatch { lead, patch }: LeadPatch) -> Self {
        Self { name: PATCH_LEAD, input: json!({"leadId": lead, "patch": patch}) }
    }
}

/// Reminder to be set; created by [`Effect::remind`].
///
/// ```
/// use leadwire_plugin_sdk::{Effect, Timestamp, json};
///
/// let remind = Effect::remind(Timestamp::from_millis(0), "call back").about("lead-1").with(2);
/// let input = Effect::from(remind);
/// assert_eq!((input.get("/leadId"), input.get("/data")), (Some(&json!("lead-1")), Some(&json!(2))));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Remind(Value);

impl Remind {
    /// Sets the lead that it is about: the plugin gets the lead as it is when the reminder comes due.
    pub fn about(mut self, lead: impl Into<String>) -> Self {
        self.0["leadId"] = lead.into().into();
        self
    }

    /// Sets data that is returned when the reminder comes due.
    pub fn with(mut self, data: impl Into<Value>) -> Self {
        self.0["data"] = data.into();
        self
    }
}

impl From<Remind> for Effect {
    fn from(Remind(input): Remind) -> Self {
        Self { name: REMIND, input }
    }
}

impl From<Effect> for wit::Effect {
    fn from(Effect { name, input }: Effect) -> Self {
        Self { name: name.into(), input: input.to_string() }
    }
}
