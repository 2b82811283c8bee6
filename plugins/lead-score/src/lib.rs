//! Gives each lead a score from 0 to 100 by status, value and recent activity.

use leadwire_plugin_sdk::*;

const DAY_MS: f64 = 24.0 * 60.0 * 60.0 * 1000.0;

#[derive(Clone, Copy, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Value in hundredths of the currency that gives all points for value.
    full_value_cents: f64,
    /// Days without an activity after which half of the points for freshness are gone.
    half_life_days: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { full_value_cents: 10_000_000.0, half_life_days: 14.0 }
    }
}

struct LeadScore(Config);

impl Plugin for LeadScore {
    type Config = Config;

    fn manifest() -> Manifest {
        let fields = ["/lead/status", "/lead/valueCents", "/lead/lastActivityAt", "/lead/createdAt"];
        Manifest::new().events(["lead:*"]).fields(fields)
    }

    fn init(config: Config) -> Result<Self, String> {
        for (key, value) in [("full_value_cents", config.full_value_cents), ("half_life_days", config.half_life_days)] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("config.{key}: expected a number above 0"));
            }
        }
        Ok(Self(config))
    }
}

impl Enrich for LeadScore {
    fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String> {
        // An event such as lead:deleted has no lead to score.
        let Some(lead) = event.lead() else { return Ok(vec![]) };
        Ok(vec![Edit::set("/lead/score", self.score(lead, host::now()))])
    }
}

plugin!(LeadScore: enrich);

impl LeadScore {
    fn score(&self, lead: Lead<'_>, now: Timestamp) -> u32 {
        let progress = match lead.status() {
            Some("WON") => return 100,
            Some("LOST" | "UNQUALIFIED") => return 0,
            Some("CONTACTED") => 15.0,
            Some("QUALIFIED") => 25.0,
            Some("PROPOSAL") => 35.0,
            Some("NEGOTIATION") => 45.0,
            _ => 5.0,
        };
        (progress + self.worth(lead) + self.freshness(lead, now)).round() as u32
    }

    /// Up to 30 points. A square root, so that small deals differ from each other as much as large ones.
    fn worth(&self, lead: Lead<'_>) -> f64 {
        let value = lead.value_cents().unwrap_or(0).max(0) as f64;
        30.0 * (value / self.0.full_value_cents).min(1.0).sqrt()
    }

    /// Up to 25 points, halved with every half-life since the last activity.
    fn freshness(&self, lead: Lead<'_>, now: Timestamp) -> f64 {
        let Some(last) = lead.last_activity_at().or(lead.created_at()) else { return 0.0 };
        let days = last.until(now).as_millis() as f64 / DAY_MS;
        25.0 * 0.5_f64.powf(days / self.0.half_life_days)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(change: impl FnOnce(&mut Value)) -> Option<u64> {
        testing::at(Timestamp::parse("2026-02-01T00:00:00Z").expect("a time"));
        let mut lead = testing::lead();
        lead["lastActivityAt"] = json!("2026-02-01T00:00:00.000Z");
        lead["valueCents"] = json!(2_500_000);
        change(&mut lead);
        let (payload, context) = (json!({"lead": lead}), json!({"lead": lead}));
        let plugin: LeadScore = testing::plugin(json!({})).expect("valid settings");
        let event = testing::event::<LeadScore>("lead:updated", &payload, &context);
        let edits = plugin.enrich(&event).expect("edits");
        testing::edited(payload, &edits)["lead"]["score"].as_u64()
    }

    #[test]
    fn a_lead_gets_points_for_status_value_and_freshness() {
        // 5 for NEW, half of 30 for a quarter of the full value, all 25 for an activity right now.
        assert_eq!(score(|_| {}), Some(45));
        assert_eq!(score(|lead| lead["status"] = json!("NEGOTIATION")), Some(85));
        assert_eq!(score(|lead| lead["valueCents"] = json!(null)), Some(30));
        assert_eq!(score(|lead| lead["lastActivityAt"] = json!("2026-01-18T00:00:00.000Z")), Some(33));
    }

    #[test]
    fn a_lead_without_an_activity_is_scored_by_its_creation_time() {
        let untouched = |lead: &mut Value| {
            lead["lastActivityAt"] = json!(null);
            lead["createdAt"] = json!("2026-01-18T00:00:00.000Z");
        };
        assert_eq!(score(untouched), Some(33));
    }

    #[test]
    fn the_score_stays_between_0_and_100() {
        assert_eq!(score(|lead| lead["status"] = json!("WON")), Some(100));
        assert_eq!(score(|lead| lead["status"] = json!("LOST")), Some(0));
        let best = |lead: &mut Value| {
            lead["status"] = json!("NEGOTIATION");
            lead["valueCents"] = json!(9_007_199_254_740_991_i64);
            lead["lastActivityAt"] = json!("2030-01-01T00:00:00.000Z");
        };
        assert_eq!(score(best), Some(100));
    }

    #[test]
    fn an_event_without_a_lead_is_not_changed() {
        let plugin: LeadScore = testing::plugin(json!({})).expect("valid settings");
        let event =
            testing::event::<LeadScore>("lead:deleted", &json!({"leadId": "1"}), &json!({"lead": testing::lead()}));
        assert_eq!(plugin.enrich(&event), Ok(vec![]));
    }

    #[test]
    fn a_half_life_of_zero_is_refused() {
        let refusal = testing::plugin::<LeadScore>(json!({"half_life_days": 0})).err();
        assert_eq!(refusal.as_deref(), Some("config.half_life_days: expected a number above 0"));
    }
}
