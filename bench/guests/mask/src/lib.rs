//! Filter with one role and one declared field: one role does not see where leads come from.

use leadwire_plugin_sdk::*;

#[derive(Debug)]
pub struct Sources;

impl Plugin for Sources {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        Manifest::new().events(["lead:updated"]).roles(["SALES"]).fields(["/lead/source"])
    }

    fn init(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Filter for Sources {
    fn hides(&self) -> Hides {
        Hides::nothing().from("SALES", ["/lead/source"])
    }

    fn filter(&self, event: &Event, _role: &str) -> Result<Verdict, String> {
        Ok(match event.text("/lead/source") {
            Some(_) => Verdict::everyone().mask("/lead/source", "***"),
            None => Verdict::everyone(),
        })
    }
}

plugin!(Sources: filter);
