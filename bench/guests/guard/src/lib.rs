//! `authorize` with one declared field, and `before` with two others.

use leadwire_plugin_sdk::*;

#[derive(Debug)]
pub struct Guard;

impl Plugin for Guard {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new().fields(["/context/user/email", "/input/source", "/input/valueCents"])
    }

    fn init(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Authorize for Guard {
    fn connect(&self, who: &Subject) -> Result<Decision, String> {
        let email = who.get("/context/user/email").and_then(Value::as_str).unwrap_or_default();
        Ok(if email.ends_with("@example.com") { Decision::Allow } else { Decision::deny("staff only") })
    }
}

impl Before for Guard {
    fn before(&self, command: &Command) -> Result<Ruling, String> {
        if command.get("/input/valueCents").and_then(Value::as_i64).is_some_and(|cents| cents > 5_000_000) {
            return Ok(Refusal::new("too_large", "ask your manager").on("valueCents").into());
        }
        Ok(match command.text("/input/source") {
            Some("www") => Amendment::new().set("source", "web").into(),
            _ => Ruling::Accept,
        })
    }
}

plugin!(Guard: authorize, before);
