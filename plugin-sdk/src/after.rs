//! Questions and answers of the hook `after`: occasions, reminders, effects, and the state that is kept with them.

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

use crate::{Event, Lead, Timestamp, bindings::afters::exports::leadwire::plugin::after as wit, event::owned};

/// Events that a plugin wants to follow and effects that it may request, for [`After::wants`](crate::After::wants).
///
/// The operator has to grant each effect and each host in the plugin's settings. Until then the plugin is refused, with
/// the lines that grant its requests.
///
/// ```
/// use leadwire_plugin_sdk::Wants;
///
/// let wants = Wants::events(["lead:created"]).to_assign_leads().to_remind().to_call(["hooks.example.com"]);
/// # let _ = wants;
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    pub(crate) events: Vec<String>,
    pub(crate) effects: Vec<&'static str>,
    pub(crate) webhook_hosts: Vec<String>,
}

impl Wants {
    /// Requests these events of the log, and no effects yet: names, `lead:*` or `*`.
    pub fn events(events: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { events: events.into_iter().map(Into::into).collect(), ..Self::default() }
    }

    /// Requests permission to notify users: [`Effect::notify`].
    pub fn to_notify(self) -> Self {
        self.and(NOTIFY)
    }

    /// Requests permission to add activities to leads: [`Effect::add_activity`].
    pub fn to_add_activities(self) -> Self {
        self.and(ADD_ACTIVITY)
    }

    /// Requests permission to change leads: [`Effect::patch_lead`].
    pub fn to_patch_leads(self) -> Self {
        self.and(PATCH_LEAD)
    }

    /// Requests permission to assign and unassign leads: [`Effect::assign`] and [`Effect::unassign`].
    pub fn to_assign_leads(self) -> Self {
        self.and(ASSIGN)
    }

    /// Requests permission to set reminders: [`Effect::remind`].
    pub fn to_remind(self) -> Self {
        self.and(REMIND)
    }

    /// Requests permission to call webhooks on these hosts: [`Effect::webhook`]. A host is a name, with a port if it is
    /// not the default of the scheme: `hooks.example.com:8443`.
    pub fn to_call(mut self, hosts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.webhook_hosts.extend(hosts.into_iter().map(Into::into));
        self.and(WEBHOOK)
    }

    fn and(mut self, effect: &'static str) -> Self {
        if !self.effects.contains(&effect) {
            self.effects.push(effect);
        }
        self
    }
}

const NOTIFY: &str = "notify";
const ADD_ACTIVITY: &str = "activity:create";
const PATCH_LEAD: &str = "lead:update";
const ASSIGN: &str = "lead:assign";
const REMIND: &str = "remind";
const WEBHOOK: &str = "webhook";

/// Event that happened, for [`After::after`](crate::After::after).
///
/// ```
/// use leadwire_plugin_sdk::{Event, Occasion, Timestamp, json};
///
/// let event = Event::from_fields("lead:created", [("/lead/title", json!("New roof"))]);
/// let occasion = Occasion::new("7", Some(7), Timestamp::from_millis(0), event).with_state(&3).unwrap();
/// assert_eq!(occasion.event().lead().and_then(|lead| lead.title()), Some("New roof"));
/// assert_eq!(occasion.state(), Ok(3));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Occasion {
    id: String,
    seq: Option<u64>,
    at: Timestamp,
    event: Event,
    state: Option<String>,
}

impl Occasion {
    /// Creates an occasion without kept state.
    pub fn new(id: impl Into<String>, seq: Option<u64>, at: Timestamp, event: Event) -> Self {
        Self { id: id.into(), seq, at, event, state: None }
    }

    /// Sets the state that was kept earlier.
    ///
    /// # Errors
    ///
    /// When the state cannot be written as JSON.
    pub fn with_state(self, state: &impl Serialize) -> Result<Self, String> {
        Ok(Self { state: Some(write_state(state)?), ..self })
    }

    pub(crate) fn with_kept(self, state: Option<String>) -> Self {
        Self { state, ..self }
    }

    /// Id of the occasion, the same each time that the plugin is asked about it. It may be asked again after a crash or
    /// a failure; in that case the effects of its earlier answer were not executed.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Seq of the event in the log.
    pub fn seq(&self) -> Option<u64> {
        self.seq
    }

    /// Time of the event.
    pub fn at(&self) -> Timestamp {
        self.at
    }

    /// The event, as far as the manifest declares it: the payload, and below `/context` the lead as it was then.
    pub fn event(&self) -> &Event {
        &self.event
    }

    /// State that the plugin last kept with [`Outcome::keep`]; the default if it has kept none yet.
    ///
    /// # Errors
    ///
    /// When the kept state has another type. A plugin that changes the type of its state must read both.
    pub fn state<T: DeserializeOwned + Default>(&self) -> Result<T, String> {
        read_state(self.state.as_deref())
    }
}

/// Reminder that came due, for [`After::reminded`](crate::After::reminded).
///
/// ```
/// use leadwire_plugin_sdk::{Reminder, json, testing};
///
/// let reminder = Reminder::new("call back", Some(&testing::lead()), json!({"attempt": 2}));
/// assert_eq!(reminder.key(), "call back");
/// assert_eq!(reminder.data()["attempt"], 2);
/// assert_eq!(reminder.lead().and_then(|lead| lead.status()), Some("NEW"));
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Reminder(Occasion);

impl Reminder {
    /// Creates a reminder with a key and data, about a lead as it is now, or about none.
    pub fn new(key: impl Into<String>, lead: Option<&Value>, data: Value) -> Self {
        let now = crate::host::now();
        let id = lead.map_or(&Value::Null, |lead| &lead["id"]);
        let payload = json!({"key": key.into(), "at": now.to_string(), "leadId": id, "data": data});
        let fields = lead.map(|lead| ("/context/lead", lead.clone()));
        Self(Occasion::new("reminder", None, now, Event::new(REMINDER.into(), Some(payload), owned(fields))))
    }

    pub(crate) fn of(occasion: Occasion) -> Self {
        Self(occasion)
    }

    /// Id of the reminder, the same each time that the plugin is asked about it.
    pub fn id(&self) -> &str {
        self.0.id()
    }

    /// Key that it was set with.
    pub fn key(&self) -> &str {
        self.0.event.text("/key").unwrap_or_default()
    }

    /// Time at which it came due.
    pub fn at(&self) -> Timestamp {
        self.0.at
    }

    /// Data given to [`Remind::with`]; null if there was none.
    pub fn data(&self) -> &Value {
        self.0.event.get("/data").unwrap_or(&Value::Null)
    }

    /// Id of the lead that it is about, even if that lead no longer exists.
    pub fn lead_id(&self) -> Option<&str> {
        self.0.event.text("/leadId")
    }

    /// Lead that it is about, as it is now; declare `/context/lead/…` for it. `None` if it was deleted.
    pub fn lead(&self) -> Option<Lead<'_>> {
        self.0.event.context_lead()
    }

    /// State that the plugin last kept; see [`Occasion::state`].
    ///
    /// # Errors
    ///
    /// When the kept state has another type.
    pub fn state<T: DeserializeOwned + Default>(&self) -> Result<T, String> {
        self.0.state()
    }
}

pub(crate) const REMINDER: &str = "reminder";

/// Answer to an occasion: effects to execute and state to keep. If something fails, none of it happens.
///
/// ```
/// use leadwire_plugin_sdk::{Effect, Outcome};
///
/// let outcome = Outcome::nothing().then(Effect::assign("lead-1", "user-1")).keep(&1).unwrap();
/// assert_eq!(outcome.effects(), [Effect::assign("lead-1", "user-1")]);
/// assert_eq!(Outcome::from(Effect::assign("lead-1", "user-1")).effects(), outcome.effects());
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    effects: Vec<Effect>,
    state: Option<String>,
}

impl Outcome {
    /// No effects; the kept state stays.
    pub fn nothing() -> Self {
        Self::default()
    }

    /// Adds an effect after the previous ones.
    pub fn then(mut self, effect: impl Into<Effect>) -> Self {
        self.effects.push(effect.into());
        self
    }

    /// Keeps `state` for the next occasion, in place of the earlier state. As JSON it may be up to 64 KiB.
    ///
    /// # Errors
    ///
    /// When the state cannot be written as JSON.
    pub fn keep(self, state: &impl Serialize) -> Result<Self, String> {
        Ok(Self { state: Some(write_state(state)?), ..self })
    }

    /// Effects to execute.
    pub fn effects(&self) -> &[Effect] {
        &self.effects
    }

    /// Checks that the host would accept the effects, as far as possible here. Answers of `after` are checked
    /// automatically.
    ///
    /// # Errors
    ///
    /// When an effect lacks an id or a key, changes nothing or an owner, or has an invalid kind. The text gives the
    /// reason.
    ///
    /// ```
    /// use leadwire_plugin_sdk::{Effect, Outcome};
    ///
    /// let outcome = Outcome::from(Effect::notify("user-1", "Lead waits", "lead-1"));
    /// assert_eq!(outcome.check().unwrap_err(), "the effect notify has the kind \"Lead waits\": write it in snake_case");
    /// let outcome = Outcome::from(Effect::patch_lead("lead-1").set("ownerId", "user-1"));
    /// assert_eq!(outcome.check().unwrap_err(), "the effect lead:update changes the owner: use Effect::assign");
    /// ```
    pub fn check(&self) -> Result<(), String> {
        self.effects.iter().try_for_each(Effect::check)
    }

    pub(crate) fn into_parts(self) -> (Vec<Effect>, Option<String>) {
        (self.effects, self.state)
    }
}

impl<E: Into<Effect>> From<E> for Outcome {
    fn from(effect: E) -> Self {
        Self::nothing().then(effect)
    }
}

impl<E: Into<Effect>> FromIterator<E> for Outcome {
    fn from_iter<I: IntoIterator<Item = E>>(effects: I) -> Self {
        effects.into_iter().fold(Self::nothing(), Self::then)
    }
}

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

    fn check(&self) -> Result<(), String> {
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

impl From<Wants> for wit::Wanted {
    fn from(Wants { events, effects, webhook_hosts }: Wants) -> Self {
        Self { events, effects: effects.into_iter().map(Into::into).collect(), webhook_hosts }
    }
}

impl From<Outcome> for wit::Outcome {
    fn from(Outcome { effects, state }: Outcome) -> Self {
        let lower = |Effect { name, input }: Effect| wit::Effect { name: name.into(), input: input.to_string() };
        Self { effects: effects.into_iter().map(lower).collect(), state }
    }
}

fn write_state(state: &impl Serialize) -> Result<String, String> {
    serde_json::to_string(state).map_err(|error| format!("the state cannot be written as JSON: {error}"))
}

pub(crate) fn read_state<T: DeserializeOwned + Default>(kept: Option<&str>) -> Result<T, String> {
    let Some(text) = kept else { return Ok(T::default()) };
    serde_json::from_str(text).map_err(|error| format!("the kept state has another type: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_state_is_returned_and_defaults_to_empty() {
        let occasion = Occasion::new("1", None, Timestamp::from_millis(0), Event::from_fields("lead:created", []));
        assert_eq!(occasion.state::<Vec<u8>>(), Ok(vec![]));
        let (_, kept) = Outcome::nothing().keep(&[1, 2]).expect("JSON").into_parts();
        let occasion = occasion.with_kept(kept);
        assert_eq!(occasion.state::<Vec<u8>>(), Ok(vec![1, 2]));
        assert!(occasion.state::<String>().expect_err("a list").contains("another type"));
    }

    #[test]
    fn an_invalid_effect_is_detected_before_the_host_sees_it() {
        let at = Timestamp::from_millis(0);
        let bad: [(Effect, &str); 6] = [
            (Effect::notify("", "waits", "lead-1"), "notify has an empty userId"),
            (Effect::notify("user-1", "", "lead-1"), "write it in snake_case"),
            (Effect::assign("", "user-1"), "lead:assign has an empty leadId"),
            (Effect::remind(at, "").into(), "remind has an empty key"),
            (Effect::patch_lead("lead-1").into(), "lead:update changes nothing"),
            (Effect::webhook("", "lead.won", json!({})), "webhook has an empty url"),
        ];
        for (effect, expected) in bad {
            let refused = Outcome::nothing().then(Effect::unassign("lead-1")).then(effect).check();
            assert!(refused.as_ref().is_err_and(|why| why.contains(expected)), "{refused:?}");
        }
        let patch = Effect::patch_lead("lead-1").clear("phone");
        assert_eq!(Outcome::from(patch).then(Effect::remind(at, "k")).check(), Ok(()));
    }

    #[test]
    fn wants_name_each_effect_once() {
        let wants = Wants::events(["*"]).to_notify().to_notify().to_call(["a.example"]).to_call(["b.example"]);
        assert_eq!(wants.effects, [NOTIFY, WEBHOOK]);
        assert_eq!(wants.webhook_hosts, ["a.example", "b.example"]);
    }
}
