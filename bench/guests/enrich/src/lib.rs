//! Enricher with two declared fields and one edit: the expected value of a deal, from its value and status.

use leadwire_plugin_sdk::*;

#[derive(Debug)]
pub struct Worth;

impl Plugin for Worth {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new().events(["lead:updated"]).fields(["/lead/valueCents", "/lead/status"])
    }

    fn init(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Enrich for Worth {
    fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String> {
        let Some(cents) = event.get("/lead/valueCents").and_then(Value::as_i64) else { return Ok(Vec::new()) };
        let chance = match event.text("/lead/status") {
            Some("NEW") => 10,
            Some("QUALIFIED" | "PROPOSAL") => 40,
            Some("NEGOTIATION") => 70,
            _ => 0,
        };
        Ok(vec![Edit::set("/lead/worth", cents * chance / 100)])
    }
}

plugin!(Worth: enrich);
