//! Assigns leads without an owner to the users of a list in turn.

use std::collections::BTreeSet;

use leadwire_plugin_sdk::*;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// User ids in the order of assignment.
    users: Vec<String>,
    /// True to reassign a lead that loses its owner.
    #[serde(default)]
    reassign: bool,
}

struct RoundRobin(Config);

/// State: the last user by id and not by index, so that the list can change.
#[derive(Default, Deserialize, Serialize)]
#[serde(default)]
struct Turn {
    last: Option<String>,
}

impl Plugin for RoundRobin {
    type Config = Config;

    fn manifest() -> Manifest {
        Manifest::new().fields([
            "/lead/id",
            "/lead/owner/id",
            "/previousOwnerId",
            "/context/lead/id",
            "/context/lead/owner/id",
        ])
    }

    fn init(config: Config) -> Result<Self, String> {
        let distinct: BTreeSet<&String> = config.users.iter().collect();
        if config.users.is_empty() || distinct.len() != config.users.len() || distinct.iter().any(|id| id.is_empty()) {
            return Err("config.users must name at least one user id, and each only once".into());
        }
        Ok(Self(config))
    }
}

impl After for RoundRobin {
    fn wants(&self) -> Wants {
        let taken_away = self.0.reassign.then_some("lead:assigned");
        Wants::events(["lead:created"].into_iter().chain(taken_away)).to_assign_leads().to_remind()
    }

    /// The event shows the lead as it was then, so the plugin reads it again through a reminder that is due at once:
    /// another user may have taken it since.
    fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
        let event = occasion.event();
        let lead = event.lead().ok_or("an event without a lead")?;
        if owner(lead).is_some() {
            return Ok(Outcome::nothing());
        }
        let id = lead.id().ok_or("a lead without an id")?;
        Ok(Effect::remind(occasion.at(), id).about(id).with(event.get("/previousOwnerId").cloned()).into())
    }

    fn reminded(&self, reminder: &Reminder) -> Result<Outcome, String> {
        let Some(lead) = reminder.lead().filter(|lead| owner(*lead).is_none()) else { return Ok(Outcome::nothing()) };
        let id = lead.id().ok_or("a lead without an id")?;
        let turn: Turn = reminder.state()?;
        let user = self.next(turn.last.as_deref(), reminder.data().as_str());
        Outcome::from(Effect::assign(id, user)).keep(&Turn { last: Some(user.to_owned()) })
    }
}

plugin!(RoundRobin: after);

impl RoundRobin {
    /// Returns the user after `last`, skipping the previous owner if there is another user.
    fn next(&self, last: Option<&str>, taken_from: Option<&str>) -> &str {
        let users = &self.0.users;
        let start = last.and_then(|last| users.iter().position(|user| user == last)).map_or(0, |last| last + 1);
        let in_turn = || users.iter().cycle().skip(start).take(users.len());
        let user = in_turn().find(|user| Some(user.as_str()) != taken_from).or_else(|| in_turn().next());
        user.expect("init refuses an empty list")
    }
}

fn owner(lead: Lead<'_>) -> Option<&str> {
    lead.owner()?.id()
}

#[cfg(test)]
mod tests {
    use leadwire_plugin_sdk::testing::Follower;

    use super::*;

    fn follower(config: Value) -> Follower<RoundRobin> {
        Follower::new(testing::plugin(config).expect("valid settings"))
    }

    fn unowned(id: &str) -> Value {
        let mut lead = testing::lead();
        (lead["id"], lead["owner"]) = (json!(id), json!(null));
        lead
    }

    /// Sends an event about a lead, then a reminder with the lead as it is `now`.
    fn looked_at(follower: &mut Follower<RoundRobin>, name: &str, payload: Value, now: &Value) -> Vec<Effect> {
        testing::at(Timestamp::from_millis(1_000));
        let context = json!({"lead": payload["lead"]});
        follower.tell(name, &payload, &context).expect("answers");
        follower.wait_until(Timestamp::from_millis(1_000), Some(now)).expect("answers")
    }

    fn created(follower: &mut Follower<RoundRobin>, id: &str) -> Vec<Effect> {
        let lead = unowned(id);
        looked_at(follower, "lead:created", json!({"lead": lead}), &lead)
    }

    #[test]
    fn leads_go_to_the_users_in_turn() {
        let mut follower = follower(json!({"users": ["ann", "bob"]}));
        for (lead, user) in [("1", "ann"), ("2", "bob"), ("3", "ann")] {
            assert_eq!(created(&mut follower, lead), [Effect::assign(lead, user)]);
        }
    }

    #[test]
    fn a_lead_with_an_owner_is_skipped_and_uses_no_turn() {
        let mut follower = follower(json!({"users": ["ann", "bob"]}));
        let owned = testing::lead();
        assert_eq!(looked_at(&mut follower, "lead:created", json!({"lead": owned}), &owned), []);
        assert_eq!(looked_at(&mut follower, "lead:created", json!({"lead": unowned("1")}), &owned), [], "taken since");
        assert_eq!(created(&mut follower, "2"), [Effect::assign("2", "ann")]);
    }

    #[test]
    fn a_lead_deleted_in_the_meantime_is_not_assigned() {
        let mut follower = follower(json!({"users": ["ann"]}));
        testing::at(Timestamp::from_millis(0));
        follower.tell("lead:created", &json!({"lead": unowned("1")}), &json!({})).expect("answers");
        assert_eq!(follower.wait_until(Timestamp::from_millis(0), None), Ok(vec![]));
    }

    #[test]
    fn an_unassigned_lead_is_reassigned_only_if_configured_and_not_to_its_previous_owner() {
        let payload = json!({"lead": unowned("1"), "previousOwnerId": "ann"});
        let mut idle = follower(json!({"users": ["ann", "bob"]}));
        assert_eq!(looked_at(&mut idle, "lead:assigned", payload.clone(), &unowned("1")), []);
        let mut follower = follower(json!({"users": ["ann", "bob"], "reassign": true}));
        assert_eq!(looked_at(&mut follower, "lead:assigned", payload, &unowned("1")), [Effect::assign("1", "bob")]);
        assert_eq!(created(&mut follower, "2"), [Effect::assign("2", "ann")]);
    }

    #[test]
    fn a_single_user_gets_the_lead_back() {
        let mut follower = follower(json!({"users": ["ann"], "reassign": true}));
        let payload = json!({"lead": unowned("1"), "previousOwnerId": "ann"});
        assert_eq!(looked_at(&mut follower, "lead:assigned", payload, &unowned("1")), [Effect::assign("1", "ann")]);
    }

    #[test]
    fn a_changed_list_continues_after_the_last_assigned_user() {
        let plugin: RoundRobin = testing::plugin(json!({"users": ["ann", "eve", "bob"]})).expect("valid settings");
        assert_eq!(plugin.next(Some("ann"), None), "eve");
        assert_eq!(plugin.next(Some("somebody who left"), None), "ann");
        assert_eq!(plugin.next(Some("bob"), None), "ann");
    }

    #[test]
    fn an_invalid_user_list_is_refused() {
        for users in [json!([]), json!(["ann", "ann"]), json!([""])] {
            let refused = testing::plugin::<RoundRobin>(json!({"users": users})).err().expect("refused");
            assert!(refused.contains("config.users"), "{refused}");
        }
        assert!(testing::plugin::<RoundRobin>(json!({})).is_err());
    }
}
