//! Filter with three roles and two declared fields: one role gets everything, one does not see the owners of large deals,
//! one sees no contact data.

use leadwire_plugin_sdk::*;

#[derive(Debug)]
pub struct Contacts;

impl Plugin for Contacts {
    type Config = NoConfig;

    fn manifest() -> Manifest {
        let fields = ["/lead/email", "/lead/valueCents"];
        Manifest::new().events(["lead:updated"]).roles(["MANAGER", "SALES", "VIEWER"]).fields(fields)
    }

    fn init(_: NoConfig) -> Result<Self, String> {
        Ok(Self)
    }
}

impl Filter for Contacts {
    fn hides(&self) -> Hides {
        Hides::nothing().from("SALES", ["/lead/email"]).from("VIEWER", ["/lead/email", "/lead/phone"])
    }

    fn filter(&self, event: &Event, role: &str) -> Result<Verdict, String> {
        let large = event.get("/lead/valueCents").and_then(Value::as_i64).is_some_and(|cents| cents > 5_000_000);
        let internal = event.text("/lead/email").is_some_and(|email| email.ends_with("@example.com"));
        Ok(match role {
            "SALES" if large && !internal => Verdict::everyone().mask("/lead/email", "***"),
            "VIEWER" if !internal => Verdict::everyone().remove("/lead/email").remove("/lead/phone"),
            _ => Verdict::everyone(),
        })
    }
}

plugin!(Contacts: filter);
