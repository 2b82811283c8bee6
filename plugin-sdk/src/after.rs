//! Questions and answers of the hook `after`: occasions, reminders, effects, and the state that is kept with them.

mod effect;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{
    Event, Lead, Timestamp,
    after::effect::{ADD_ACTIVITY, ASSIGN, NOTIFY, PATCH_LEAD, REMIND, WEBHOOK},
    bindings::afters::exports::leadwire::plugin::after as wit,
    event::owned,
};

pub use effect::{ActivityType, Effect, LeadPatch, NewActivity, Remind};

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

impl From<Wants> for wit::Wanted {
    fn from(Wants { events, effects, webhook_hosts }: Wants) -> Self {
        Self { events, effects: effects.into_iter().map(Into::into).collect(), webhook_hosts }
    }
}

impl From<Outcome> for wit::Outcome {
    fn from(Outcome { effects, state }: Outcome) -> Self {
        Self { effects: effects.into_iter().map(Into::into).collect(), state }
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
