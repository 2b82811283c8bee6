//! Native follower for tests: asks a plugin like the host does, and keeps its state and reminders.

use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{at, declared, event};
use crate::{
    After, Effect, Event, Occasion, Outcome, Reminder, Timestamp, after::REMINDER, command::names, event::owned, host,
};

/// Plugin with the hook `after`, and the state and reminders that the host keeps for it.
///
/// ```
/// use leadwire_plugin_sdk::{*, json, testing::{self, Follower}};
/// # struct Mine;
/// # impl Plugin for Mine {
/// #     type Config = NoConfig;
/// #     fn manifest() -> Manifest { Manifest::new().fields(["/lead/id", "/context/lead/owner/id"]) }
/// #     fn init(_: NoConfig) -> Result<Self, String> { Ok(Self) }
/// # }
/// # impl After for Mine {
/// #     fn wants(&self) -> Wants { Wants::events(["lead:created"]).to_remind().to_notify() }
/// #     fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
/// #         let lead = occasion.event().text("/lead/id").unwrap();
/// #         let later = occasion.at().plus(std::time::Duration::from_secs(60));
/// #         Outcome::from(Effect::remind(later, lead).about(lead)).keep(&(occasion.state::<i32>()? + 1))
/// #     }
/// #     fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
/// #         let owner = reminder.lead().unwrap().owner().unwrap().id().unwrap().to_owned();
/// #         Ok(Effect::notify(owner, "a_minute_old", reminder.key()).into())
/// #     }
/// # }
///
/// testing::at(Timestamp::from_millis(0));
/// let mut follower = Follower::new(Mine);
/// let lead = testing::lead();
/// follower.tell("lead:created", &json!({"lead": lead}), &json!({"lead": lead})).unwrap();
/// assert_eq!(follower.state(), Ok(1));
/// assert_eq!(follower.next_reminder(), Some(Timestamp::from_millis(60_000)));
///
/// let effects = follower.wait_until(Timestamp::from_millis(60_000), Some(&lead)).unwrap();
/// assert_eq!(effects[0].get("/kind"), Some(&json!("a_minute_old")));
/// ```
pub struct Follower<P> {
    plugin: P,
    asked: u64,
    state: Option<String>,
    reminders: Vec<Pending>,
}

struct Pending {
    at: Timestamp,
    /// Input of the effect that set it.
    input: Value,
}

impl<P: After> Follower<P> {
    /// Creates a follower without state.
    pub fn new(plugin: P) -> Self {
        Self { plugin, asked: 0, state: None, reminders: Vec::new() }
    }

    /// Passes an event to the plugin, if it wants it, and keeps the state of its answer. Returns the effects for
    /// inspection.
    ///
    /// `context` is the data that the host adds: `{"lead": …, "before": …}`.
    ///
    /// # Errors
    ///
    /// The plugin's own error; or, as the host would report it, that it requests an effect that `wants` does not list.
    pub fn tell(&mut self, name: &str, payload: &Value, context: &Value) -> Result<Vec<Effect>, String> {
        if !self.plugin.wants().events.iter().any(|pattern| names(pattern, name)) {
            return Ok(Vec::new());
        }
        self.asked += 1;
        let (id, seq) = (self.asked.to_string(), Some(self.asked));
        let occasion = Occasion::new(id, seq, host::now(), event::<P>(name, payload, context));
        let outcome = self.plugin.after(&occasion.with_kept(self.state.clone()))?;
        self.keep(outcome)
    }

    /// Time when the next reminder comes due, if one was set.
    pub fn next_reminder(&self) -> Option<Timestamp> {
        self.reminders.iter().map(|pending| pending.at).min()
    }

    /// Stops the clock at `now`, and passes all reminders that have come due to the plugin, with `lead` as it is then.
    /// Returns the effects for inspection.
    ///
    /// # Errors
    ///
    /// Same as for [`tell`](Self::tell).
    pub fn wait_until(&mut self, now: Timestamp, lead: Option<&Value>) -> Result<Vec<Effect>, String> {
        at(now);
        self.reminders.sort_by_key(|pending| pending.at);
        let due = self.reminders.partition_point(|pending| pending.at <= now);
        let due: Vec<Pending> = self.reminders.drain(..due).collect();
        let mut effects = Vec::new();
        for Pending { at, input } in due {
            let text = |name: &str| input[name].clone();
            let payload = json!({"key": text("key"), "at": text("at"), "leadId": text("leadId"), "data": text("data")});
            let context = lead.map_or_else(|| json!({}), |lead| json!({"lead": lead}));
            let declares = P::manifest().fields;
            let fields = owned(declared(&declares, &payload, &context));
            let event = Event::new(REMINDER.to_owned(), Some(payload.clone()), fields);
            self.asked += 1;
            let occasion = Occasion::new(self.asked.to_string(), None, at, event).with_kept(self.state.clone());
            let outcome = self.plugin.reminded(&Reminder::of(occasion))?;
            effects.extend(self.keep(outcome)?);
        }
        Ok(effects)
    }

    /// State that the plugin last kept; the default if it has kept none.
    ///
    /// # Errors
    ///
    /// When the kept state has another type.
    pub fn state<T: DeserializeOwned + Default>(&self) -> Result<T, String> {
        crate::after::read_state(self.state.as_deref())
    }

    fn keep(&mut self, outcome: Outcome) -> Result<Vec<Effect>, String> {
        outcome.check()?;
        let wants = self.plugin.wants();
        let (effects, state) = outcome.into_parts();
        if let Some(effect) = effects.iter().find(|effect| !wants.effects.contains(&effect.name())) {
            return Err(format!("the effect {}, which it does not list in wants", effect.name()));
        }
        for effect in effects.iter().filter(|effect| effect.name() == "remind") {
            let text = |pointer: &str| effect.get(pointer).and_then(Value::as_str).unwrap_or_default();
            let at = Timestamp::parse(text("/at")).ok_or_else(|| format!("a reminder at {:?}", text("/at")))?;
            let input = effect.get("").cloned().unwrap_or_default();
            self.reminders.retain(|pending| pending.input["key"] != text("/key"));
            self.reminders.push(Pending { at, input });
        }
        self.state = state.or(self.state.take());
        Ok(effects)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Manifest, NoConfig, Plugin, Wants, testing::lead};

    /// Sets one reminder per lead, and postpones it each time that it gets an event of the lead.
    struct Snooze;

    impl Plugin for Snooze {
        type Config = NoConfig;

        fn manifest() -> Manifest {
            Manifest::new().fields(["/lead/id"])
        }

        fn init(_: NoConfig) -> Result<Self, String> {
            Ok(Self)
        }
    }

    impl After for Snooze {
        fn wants(&self) -> Wants {
            Wants::events(["lead:updated"]).to_remind()
        }

        fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
            let id = occasion.event().text("/lead/id").ok_or("no lead")?;
            let later = occasion.at().plus(std::time::Duration::from_millis(10));
            Ok(Effect::remind(later, id).about(id).with("again").into())
        }

        fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
            assert_eq!((reminder.data(), reminder.lead_id()), (&json!("again"), lead()["id"].as_str()));
            Ok(Effect::unassign(reminder.key()).into())
        }
    }

    #[test]
    fn a_reminder_replaces_one_with_the_same_key_and_fires_when_due() {
        at(Timestamp::from_millis(0));
        let mut follower = Follower::new(Snooze);
        let payload = json!({"lead": lead()});
        assert_eq!(follower.tell("lead:created", &payload, &json!({})), Ok(vec![]), "it does not want to be told");
        follower.tell("lead:updated", &payload, &json!({})).expect("answers");
        at(Timestamp::from_millis(5));
        follower.tell("lead:updated", &payload, &json!({})).expect("answers");
        assert_eq!(follower.next_reminder(), Some(Timestamp::from_millis(15)));
        assert_eq!(follower.wait_until(Timestamp::from_millis(14), None), Ok(vec![]));
        let refused = follower.wait_until(Timestamp::from_millis(15), None).expect_err("it may not assign");
        assert!(refused.contains("lead:assign, which it does not list in wants"), "{refused}");
        assert_eq!(follower.next_reminder(), None);
    }
}
