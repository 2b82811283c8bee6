//! A plugin built against the `wit/` folder beside it: the interface as first published, without `before` and `after`.
//!
//! It does not use the SDK, which follows the current interface. Later additions to the interface must not affect it.

// Only the generated bindings contain unsafe code.
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package test:first;

            world plugin {
                include leadwire:plugin/base@1.0.0;
                include leadwire:plugin/authorizes@1.0.0;
                include leadwire:plugin/enriches@1.0.0;
                include leadwire:plugin/filters@1.0.0;
            }
        ",
        generate_all,
    });
}

use bindings::{
    exports::leadwire::plugin::{
        authorize::{self, Decision, Subject},
        enrich,
        filter::{self, Audience, Hidden, Verdict},
        lifecycle::{self, Manifest},
    },
    leadwire::plugin::{
        host,
        types::{Edit, Event, Masking, Setting},
    },
};

/// Hides phone numbers from viewers, masks e-mail addresses for them, and reports the interface it was built against.
#[derive(Debug)]
pub struct FirstWit;

impl lifecycle::Guest for FirstWit {
    fn describe() -> Manifest {
        Manifest {
            name: "first-wit".into(),
            version: "1.0.0".into(),
            events: vec!["lead:*".into()],
            roles: vec!["VIEWER".into()],
            fields: vec!["/lead/status".into(), "/context/user/email".into()],
            whole_payload: false,
        }
    }

    fn init(config: String) -> Result<(), String> {
        host::log("info", &format!("configured with {config} at {}", host::now_ms()));
        if config == "{}" { Ok(()) } else { Err("it takes no settings".into()) }
    }
}

impl authorize::Guest for FirstWit {
    fn connect(who: Subject) -> Result<Decision, String> {
        let stranger = who.fields.iter().any(|field| field.json.starts_with("\"stranger"));
        Ok(if stranger { Decision::Deny("no strangers".into()) } else { Decision::Allow })
    }

    fn subscribe(_: Subject, room: String) -> Result<Decision, String> {
        Ok(if room.starts_with("lead:") { Decision::Allow } else { Decision::Deny("leads only".into()) })
    }
}

impl enrich::Guest for FirstWit {
    fn enrich(event: Event) -> Result<Vec<Edit>, String> {
        host::count("enriched", 1.0);
        let status = event.fields.iter().find(|field| field.pointer == "/lead/status");
        let setting = |status: &str| Setting { pointer: "/lead/statusThen".into(), json: status.into() };
        Ok(status.map(|field| Edit::Set(setting(&field.json))).into_iter().collect())
    }
}

impl filter::Guest for FirstWit {
    fn hides() -> Vec<Hidden> {
        vec![Hidden { role: "VIEWER".into(), pointers: vec!["/lead/email".into(), "/lead/phone".into()] }]
    }

    fn filter(_: Event, roles: Vec<String>) -> Result<Vec<Verdict>, String> {
        let masking = || Masking { pointer: "/lead/email".into(), text: "hidden".into() };
        let edits = || vec![Edit::Mask(masking()), Edit::Remove("/lead/phone".into())];
        Ok(roles.into_iter().map(|role| Verdict { role, audience: Audience::Everyone, edits: edits() }).collect())
    }
}

// The names of the exports are not valid symbols for a native library.
#[cfg(target_arch = "wasm32")]
#[expect(unsafe_code, reason = "exports need it")]
const _: () = {
    bindings::export!(FirstWit with_types_in bindings);
};
