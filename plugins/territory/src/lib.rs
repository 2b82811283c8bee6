//! Shows SALES users only the leads of their own territories.
//!
//! `custom.territory` is the territory of a lead; the settings list the territories of each user.

use std::collections::BTreeMap;

use leadwire_plugin_sdk::*;

/// The only role that territories restrict.
const SALES: &str = "SALES";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Territories of each user, by user id.
    territories: BTreeMap<String, Vec<String>>,
}

struct Territory {
    users: BTreeMap<String, Vec<String>>,
}

impl Plugin for Territory {
    type Config = Config;

    fn manifest() -> Manifest {
        // The context, not the payload: activities and deletions belong to a territory as well. The id distinguishes
        // a lead without a territory from an event without a lead.
        Manifest::new().events(["*"]).roles([SALES]).fields(["/context/lead/id", "/context/lead/custom/territory"])
    }

    fn init(config: Config) -> Result<Self, String> {
        // An audience consists of ids, so an address here would match no user and hide everything.
        if let Some(user) = config.territories.keys().find(|user| !is_uuid(user)) {
            return Err(format!(
                "config.territories: `{user}` is not a user id; expected a UUID, as `leadwire user list` shows them"
            ));
        }
        let users = config.territories.into_iter().map(|(user, territories)| (user.to_lowercase(), territories));
        Ok(Self { users: users.collect() })
    }
}

impl Filter for Territory {
    fn filter(&self, event: &Event, _role: &str) -> Result<Verdict, String> {
        let Some(lead) = event.context_lead() else { return Ok(Verdict::everyone()) };
        let Some(territory) = territory(lead) else {
            return Ok(Verdict::nobody("the lead is in no territory"));
        };
        Ok(Verdict::only(self.users.keys().filter(|user| self.has(user, territory))))
    }
}

impl Authorize for Territory {
    fn subscribe(&self, who: &Subject, _room: &str) -> Result<Decision, String> {
        // A room may be joined before its lead exists; the filter decides what is sent there.
        let Some(lead) = who.lead() else { return Ok(Decision::Allow) };
        let own = territory(lead).is_some_and(|territory| self.has(&who.user_id().to_lowercase(), territory));
        Ok(if own || who.role() != SALES {
            Decision::Allow
        } else {
            Decision::deny("this lead is not in your territory")
        })
    }
}

plugin!(Territory: authorize, filter);

impl Territory {
    fn has(&self, user: &str, territory: &str) -> bool {
        self.users.get(user).is_some_and(|own| own.iter().any(|name| name == territory))
    }
}

fn territory(lead: Lead<'_>) -> Option<&str> {
    lead.custom("territory")?.as_str()
}

fn is_uuid(text: &str) -> bool {
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_hexdigit());
    text.split('-').map(str::len).eq([8, 4, 4, 4, 12]) && text.split('-').all(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANN: &str = "01980000-0000-7000-8000-0000000000aa";
    const BEN: &str = "01980000-0000-7000-8000-0000000000bb";

    fn plugin() -> Territory {
        testing::plugin(json!({"territories": {ANN: ["north", "east"], BEN: ["south", "east"]}}))
            .expect("valid settings")
    }

    fn lead(territory: Value) -> Value {
        let mut lead = testing::lead();
        lead["custom"]["territory"] = territory;
        lead
    }

    fn audience(name: &str, payload: Value, territory: Value) -> Audience {
        let context = json!({"lead": lead(territory)});
        testing::filtered(&plugin(), name, &payload, &context, SALES).expect("a verdict").0
    }

    fn only(users: &[&str]) -> Audience {
        Audience::Only(users.iter().map(|&user| user.to_owned()).collect())
    }

    fn decision(user: &str, role: &str, lead: Option<Value>) -> Decision {
        let who = testing::subject::<Territory>(&json!({"id": user, "role": role}), lead.as_ref());
        plugin().subscribe(&who, "lead:01980000-0000-7000-8000-000000000001").expect("a decision")
    }

    #[test]
    fn sales_get_the_leads_of_their_own_territories() {
        assert_eq!(audience("lead:updated", json!({"lead": lead(json!("north"))}), json!("north")), only(&[ANN]));
        assert_eq!(audience("lead:read", json!({"lead": lead(json!("east"))}), json!("east")), only(&[ANN, BEN]));
        assert_eq!(audience("lead:read", json!({"lead": lead(json!("west"))}), json!("west")), only(&[]));
    }

    #[test]
    fn activities_and_deletions_follow_the_territory_of_their_lead() {
        let activity = json!({"activity": testing::activity(), "leadId": testing::lead()["id"]});
        assert_eq!(audience("activity:created", activity, json!("south")), only(&[BEN]));
        assert_eq!(audience("lead:deleted", json!({"leadId": "1"}), json!("south")), only(&[BEN]));
    }

    #[test]
    fn a_lead_without_a_territory_has_no_audience() {
        let nobody = Audience::Nobody("the lead is in no territory".into());
        assert_eq!(audience("lead:created", json!({"lead": testing::lead()}), json!(null)), nobody);
        assert_eq!(audience("lead:created", json!({"lead": testing::lead()}), json!(7)), nobody);
    }

    #[test]
    fn events_without_a_lead_go_to_everyone() {
        let sent = testing::filtered(&plugin(), "session:updated", &json!({"userRole": SALES}), &json!({}), SALES);
        assert_eq!(sent.expect("a verdict").0, Audience::Everyone);
    }

    #[test]
    fn sales_may_not_subscribe_to_the_leads_of_others() {
        let refused = Decision::deny("this lead is not in your territory");
        assert_eq!(decision(ANN, SALES, Some(lead(json!("north")))), Decision::Allow);
        assert_eq!(decision(ANN, SALES, Some(lead(json!("south")))), refused);
        assert_eq!(decision(ANN, SALES, Some(testing::lead())), refused);
        assert_eq!(decision(BEN, "MANAGER", Some(lead(json!("north")))), Decision::Allow);
        assert_eq!(decision(BEN, SALES, None), Decision::Allow);
    }

    #[test]
    fn an_email_address_instead_of_an_id_is_refused() {
        let refusal = testing::plugin::<Territory>(json!({"territories": {"ann@example.com": ["north"]}})).err();
        assert!(refusal.expect("refused").starts_with("config.territories: `ann@example.com` is not a user id"));
        assert_eq!(
            testing::plugin::<Territory>(json!({})).err().as_deref(),
            Some("config: missing field `territories`")
        );
    }
}
