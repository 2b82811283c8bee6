//! Notifies the owner of a new lead that has had no activity within the deadline.

use std::time::Duration;

use leadwire_plugin_sdk::*;

/// One year: a longer deadline is a mistake.
const MAX_MINUTES: f64 = 525_600.0;

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Minutes that a new lead may wait.
    minutes: f64,
    /// Ids of the users to notify about a lead without an owner.
    unowned: Vec<String>,
    /// True to add a task to the lead as well.
    task: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { minutes: 60.0, unowned: Vec::new(), task: false }
    }
}

struct SlaWatch(Config);

impl Plugin for SlaWatch {
    type Config = Config;

    fn manifest() -> Manifest {
        let now = ["id", "status", "owner/id", "lastActivityAt"].map(|field| format!("/context/lead/{field}"));
        Manifest::new().fields(["/lead/id", "/lead/status"]).fields(now)
    }

    fn init(config: Config) -> Result<Self, String> {
        if !(config.minutes > 0.0 && config.minutes <= MAX_MINUTES) {
            return Err(format!(
                "config.minutes is {}: expected more than 0 and at most {MAX_MINUTES}",
                config.minutes
            ));
        }
        Ok(Self(config))
    }
}

impl After for SlaWatch {
    fn wants(&self) -> Wants {
        let wants = Wants::events(["lead:created"]).to_notify().to_remind();
        if self.0.task { wants.to_add_activities() } else { wants }
    }

    fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
        let lead = occasion.event().lead().ok_or("an event without a lead")?;
        if lead.status() != Some("NEW") {
            return Ok(Outcome::nothing());
        }
        let id = lead.id().ok_or("a lead without an id")?;
        let deadline = occasion.at().plus(Duration::from_secs_f64(self.0.minutes * 60.0));
        Ok(Effect::remind(deadline, id).about(id).into())
    }

    fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
        let waits = |lead: &Lead<'_>| lead.status() == Some("NEW") && lead.last_activity_at().is_none();
        let Some(lead) = reminder.lead().filter(waits) else { return Ok(Outcome::nothing()) };
        let id = lead.id().ok_or("a lead without an id")?;
        let recipients: Vec<&str> = match lead.owner().and_then(leadwire_plugin_sdk::User::id) {
            Some(owner) => vec![owner],
            None => self.0.unowned.iter().map(String::as_str).collect(),
        };
        let notices: Outcome = recipients.into_iter().map(|user| Effect::notify(user, "sla_missed", id)).collect();
        if !self.0.task {
            return Ok(notices);
        }
        let body = format!("Nobody has got in touch within {} minutes.", self.0.minutes);
        Ok(notices.then(Effect::add_activity(id, ActivityType::Task, body).due(reminder.at())))
    }
}

plugin!(SlaWatch: after);

#[cfg(test)]
mod tests {
    use leadwire_plugin_sdk::testing::Follower;

    use super::*;

    /// A new lead without activities.
    fn waiting() -> Value {
        let mut lead = testing::lead();
        lead["lastActivityAt"] = json!(null);
        lead
    }

    fn minutes(number: i64) -> Timestamp {
        Timestamp::from_millis(number * 60_000)
    }

    /// Plugin that got `lead:created` for that lead at time 0.
    fn follower(config: Value, lead: &Value) -> Follower<SlaWatch> {
        testing::at(minutes(0));
        let mut follower = Follower::new(testing::plugin(config).expect("valid settings"));
        let effects = follower.tell("lead:created", &json!({"lead": lead}), &json!({"lead": lead})).expect("answers");
        assert!(effects.iter().all(|effect| effect.name() == "remind"));
        follower
    }

    fn due(config: Value, lead: Value) -> Vec<Effect> {
        follower(config, &waiting()).wait_until(minutes(60), Some(&lead)).expect("answers")
    }

    fn id() -> String {
        waiting()["id"].as_str().expect("an id").to_owned()
    }

    #[test]
    fn the_owner_of_an_overdue_lead_is_notified_at_the_deadline() {
        let mut follower = follower(json!({}), &waiting());
        assert_eq!(follower.wait_until(minutes(59), Some(&waiting())), Ok(vec![]));
        let owner = waiting()["owner"]["id"].as_str().expect("an owner").to_owned();
        let notice = Effect::notify(owner, "sla_missed", id());
        assert_eq!(follower.wait_until(minutes(60), Some(&waiting())), Ok(vec![notice]));
        assert_eq!(follower.next_reminder(), None, "once is enough");
    }

    #[test]
    fn a_lead_with_activity_is_not_overdue() {
        let with = |field: &str, value: &str| {
            let mut lead = waiting();
            lead[field] = json!(value);
            due(json!({}), lead)
        };
        assert_eq!(with("status", "CONTACTED"), []);
        assert_eq!(with("lastActivityAt", "1970-01-01T00:30:00.000Z"), []);
        assert_eq!(follower(json!({}), &waiting()).wait_until(minutes(60), None), Ok(vec![]), "it was deleted");
    }

    #[test]
    fn a_lead_that_was_never_new_is_not_watched() {
        let mut lead = waiting();
        lead["status"] = json!("QUALIFIED");
        assert_eq!(follower(json!({}), &lead).next_reminder(), None);
    }

    #[test]
    fn configured_users_are_notified_of_an_unowned_lead() {
        let mut lead = waiting();
        lead["owner"] = json!(null);
        assert_eq!(due(json!({}), lead.clone()), []);
        let notices = ["ann", "bob"].map(|user| Effect::notify(user, "sla_missed", id()));
        assert_eq!(due(json!({"unowned": ["ann", "bob"]}), lead), notices);
    }

    #[test]
    fn a_task_is_added_if_configured() {
        let effects = due(json!({"task": true}), waiting());
        assert_eq!((effects[1].name(), effects[1].get("/type")), ("activity:create", Some(&json!("TASK"))));
        assert_eq!(effects[1].get("/body"), Some(&json!("Nobody has got in touch within 60 minutes.")));
        assert_eq!(effects[1].get("/dueAt"), Some(&json!("1970-01-01T01:00:00.000Z")));
    }

    #[test]
    fn an_invalid_deadline_is_refused() {
        for minutes in [json!(0), json!(-5), json!(1e9)] {
            let refused = testing::plugin::<SlaWatch>(json!({"minutes": minutes})).err().expect("refused");
            assert!(refused.contains("config.minutes"), "{refused}");
        }
    }
}
