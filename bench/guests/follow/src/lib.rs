//! Follower with two declared fields, one effect and a stored count: sets a reminder for each changed deal.

use std::time::Duration;

use leadwire_plugin_sdk::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

#[derive(Debug)]
pub struct Follow;

impl Plugin for Follow {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new().fields(["/lead/valueCents", "/lead/status"])
    }

    fn init(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl After for Follow {
    fn wants(&self) -> Wants {
        Wants::events(["lead:updated"]).to_remind()
    }

    fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
        let event = occasion.event();
        let Some(cents) = event.get("/lead/valueCents").and_then(Value::as_i64) else { return Ok(Outcome::nothing()) };
        let status = event.text("/lead/status").unwrap_or_default();
        let touched = occasion.state::<u64>()? + 1;
        Outcome::from(Effect::remind(occasion.at().plus(DAY), status).with(cents)).keep(&touched)
    }
}

plugin!(Follow: after);
