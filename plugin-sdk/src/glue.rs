//! Glue between the generated bindings and the traits that authors implement. Used only by [`plugin!`](crate::plugin).

use std::{borrow::Cow, cell::RefCell, marker::PhantomData, sync::Once, thread::LocalKey};

use serde_json::Value;

use crate::{
    After, Authorize, Before, Command, Edit, Enrich, Event, Filter, Occasion, Plugin, Reminder, Subject, Timestamp,
    after::REMINDER,
    bindings::{
        afters::exports::leadwire::plugin::after, authorizes::exports::leadwire::plugin::authorize,
        base::exports::leadwire::plugin::lifecycle, befores::exports::leadwire::plugin::before,
        enriches::exports::leadwire::plugin::enrich, filters::exports::leadwire::plugin::filter_lines as filter,
        filters::leadwire::plugin::types,
    },
    event::Fields,
    hook::from_config,
    host::{self, Level},
    pointer::{Wrong, wrong},
};

/// Additions of `plugin!` to an author's type: its package, and the slot of its only instance.
pub trait Exported: Plugin {
    const NAME: &'static str;
    const VERSION: &'static str;

    fn slot() -> &'static LocalKey<RefCell<Option<Ready<Self>>>>;
}

/// Plugin that has its configuration.
pub struct Ready<P> {
    plugin: P,
    /// Pointers that it declares, in the manifest's order. They are used as long as the instance lives.
    fields: Vec<&'static str>,
}

/// Exports of the plugin `P`.
pub struct Hooks<P>(PhantomData<P>);

fn with<P: Exported, T>(ask: impl FnOnce(&P) -> Result<T, String>) -> Result<T, String> {
    with_fields(|plugin, _| ask(plugin))
}

fn with_fields<P: Exported, T>(ask: impl FnOnce(&P, &[&'static str]) -> Result<T, String>) -> Result<T, String> {
    P::slot().with_borrow(|ready| {
        let Ready { plugin, fields } = ready.as_ref().ok_or("the host has not called init")?;
        ask(plugin, fields)
    })
}

/// For [`pointer!`](crate::pointer): returns the text, or fails with an error that the compiler shows.
pub const fn pointer(text: &str) -> &str {
    match wrong(text) {
        None => text,
        Some(Wrong::Empty) => {
            panic!("the pointer leads to the whole payload: write where in it, as in \"/lead/phone\"")
        }
        Some(Wrong::Start) => panic!("a JSON Pointer must start with \"/\": write \"/lead/phone\", not \"lead/phone\""),
        Some(Wrong::Long) => panic!("the JSON Pointer is longer than 512 bytes"),
        Some(Wrong::Deep) => panic!("the JSON Pointer is deeper than 32 levels"),
        Some(Wrong::Escape) => panic!("write \"~0\" for a \"~\" in a name, and \"~1\" for a \"/\""),
        Some(Wrong::Reserved) => panic!("/seq, /epoch, /lead/id and /lead/rev are written by the server alone"),
    }
}

/// A panic ends in a trap, which tells the host nothing; so the message is logged before.
fn report_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(|panic| host::log(Level::Error, panic.to_string()))));
}

impl<P: Exported> lifecycle::Guest for Hooks<P> {
    fn describe() -> lifecycle::Manifest {
        report_panics();
        let manifest = P::manifest();
        lifecycle::Manifest {
            name: P::NAME.to_owned(),
            version: P::VERSION.to_owned(),
            events: manifest.events,
            roles: manifest.roles,
            fields: manifest.fields,
            whole_payload: manifest.whole_payload,
        }
    }

    fn init(config: String) -> Result<(), String> {
        report_panics();
        let config = serde_json::from_str(&config).map_err(|error| format!("config is not JSON: {error}"))?;
        let plugin = P::init(from_config(config)?)?;
        let fields = P::manifest().fields.into_iter().map(|pointer| &*pointer.leak()).collect();
        P::slot().replace(Some(Ready { plugin, fields }));
        Ok(())
    }
}

impl<P: Exported + Authorize> authorize::Guest for Hooks<P> {
    fn connect(who: authorize::Subject) -> Result<authorize::Decision, String> {
        let who = subject(who)?;
        with(|plugin: &P| plugin.connect(&who)).map(Into::into)
    }

    fn subscribe(who: authorize::Subject, room: String) -> Result<authorize::Decision, String> {
        let who = subject(who)?;
        with(|plugin: &P| plugin.subscribe(&who, &room)).map(Into::into)
    }
}

impl<P: Exported + Before> before::Guest for Hooks<P> {
    fn commands() -> Vec<String> {
        with(|plugin: &P| Ok(plugin.commands())).expect("the host calls init before commands")
    }

    fn before(command: before::Command) -> Result<before::Ruling, String> {
        let before::Command { name, user_id, role, fields } = command;
        let command = Command::new(name, user_id, role, values(fields)?);
        let ruling = with(|plugin: &P| plugin.before(&command))?;
        ruling.check()?;
        Ok(ruling.into())
    }
}

impl<P: Exported + Enrich> enrich::Guest for Hooks<P> {
    fn enrich(event: types::Event) -> Result<Vec<types::Edit>, String> {
        let event = view(event)?;
        let edits = with(|plugin: &P| plugin.enrich(&event))?;
        edits.iter().try_for_each(Edit::check)?;
        Ok(edits.into_iter().map(Into::into).collect())
    }
}

impl<P: Exported + Filter> filter::Guest for Hooks<P> {
    fn hides() -> Vec<filter::Hidden> {
        with(|plugin: &P| Ok(plugin.hides().into())).expect("the host calls init before hides")
    }

    fn filter(question: String, payload: Option<String>) -> Result<Vec<filter::Verdict>, String> {
        with_fields(|plugin: &P, fields| {
            let (event, roles) = asked(&question, payload.as_deref(), fields)?;
            let (mut roles, mut verdicts) = (roles, Vec::with_capacity(4));
            while let Some(role) = next(&mut roles, b' ') {
                let verdict = plugin.filter(&event, role)?;
                verdict.check().map_err(|why| format!("the verdict for {role}: {why}"))?;
                verdicts.push(verdict.into());
            }
            Ok(verdicts)
        })
    }
}

impl<P: Exported + After> after::Guest for Hooks<P> {
    fn wants() -> after::Wanted {
        with(|plugin: &P| Ok(plugin.wants().into())).expect("the host calls init before wants")
    }

    fn after(occasion: after::Occasion) -> Result<after::Outcome, String> {
        let after::Occasion { id, seq, at, event, state } = occasion;
        let at = Timestamp::parse(&at).ok_or_else(|| format!("the host passed an invalid time: {at:?}"))?;
        // Seqs are whole, and far below the numbers that an `f64` cannot represent exactly.
        let occasion = Occasion::new(id, seq.map(|seq| seq as u64), at, view(event)?).with_kept(state);
        let outcome = with(|plugin: &P| match occasion.event().name() {
            REMINDER => plugin.reminded(&Reminder::of(occasion)),
            _ => plugin.after(&occasion),
        })?;
        outcome.check()?;
        Ok(outcome.into())
    }
}

/// Parses the lines of `filter-lines`: the event, and the roles separated by spaces.
fn asked<'q>(question: &'q str, payload: Option<&str>, fields: &[&'static str]) -> Result<(Event, &'q str), String> {
    let mut lines = question;
    let (Some(name), Some(roles)) = (next(&mut lines, b'\n'), next(&mut lines, b'\n')) else {
        return Err("the host passed no event or no role".into());
    };
    let mut values = Vec::with_capacity(fields.len());
    for pointer in fields {
        match next(&mut lines, b'\n') {
            Some("") => {}
            Some(json) => values.push((Cow::Borrowed(*pointer), parse(pointer, json)?)),
            None => return Err(format!("the host passed no line for {pointer}")),
        }
    }
    let payload = payload.map(|json| parse("the payload", json)).transpose()?;
    Ok((Event::new(name.to_owned(), payload, values), roles))
}

/// Takes the text before `end`, or all that is left. Texts are short here, and the standard library's searches take
/// longer to start than this takes to finish.
fn next<'t>(rest: &mut &'t str, end: u8) -> Option<&'t str> {
    if rest.is_empty() {
        return None;
    }
    let taken;
    match memchr::memchr(end, rest.as_bytes()) {
        Some(at) => (taken, *rest) = (&rest[..at], &rest[at + 1..]),
        None => (taken, *rest) = (*rest, ""),
    }
    Some(taken)
}

fn view(event: types::Event) -> Result<Event, String> {
    let payload = event.payload.as_deref().map(|json| parse("the payload", json)).transpose()?;
    Ok(Event::new(event.name, payload, values(event.fields)?))
}

fn subject(who: authorize::Subject) -> Result<Subject, String> {
    let fields = values(who.fields)?;
    Ok(Subject::new(who.user_id, who.role, fields))
}

fn values(fields: Vec<types::Field>) -> Result<Fields, String> {
    let parsed = |types::Field { pointer, json }| parse(&pointer, &json).map(|value| (pointer.into(), value));
    fields.into_iter().map(parsed).collect()
}

fn parse(what: &str, json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| format!("the host passed invalid JSON for {what}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Amendment, Effect, Hides, Manifest, NoConfig, Outcome, Ruling, Verdict, Wants};

    /// Makes an edit wherever the event or the command says.
    struct Careless;

    impl Plugin for Careless {
        type Config = NoConfig;

        fn manifest() -> Manifest {
            Manifest::new().fields(["/lead/pointer", "/input/pointer"])
        }

        fn init(_: NoConfig) -> Result<Self, String> {
            Ok(Self)
        }
    }

    impl Before for Careless {
        fn before(&self, command: &Command) -> Result<Ruling, String> {
            Ok(Amendment::new().set(command.text("/input/pointer").unwrap_or_default(), 1).into())
        }
    }

    impl Enrich for Careless {
        fn enrich(&self, event: &Event) -> Result<Vec<Edit>, String> {
            Ok(vec![Edit::set(event.text("/lead/pointer").unwrap_or_default(), 1)])
        }
    }

    impl Filter for Careless {
        fn hides(&self) -> Hides {
            Hides::nothing().from("VIEWER", ["/lead"])
        }

        fn filter(&self, event: &Event, _: &str) -> Result<Verdict, String> {
            Ok(Verdict::everyone().remove(event.text("/lead/pointer").unwrap_or_default()))
        }
    }

    impl After for Careless {
        fn wants(&self) -> Wants {
            Wants::events(["*"]).to_notify()
        }

        fn after(&self, occasion: &Occasion) -> Result<Outcome, String> {
            Ok(Effect::notify("user-1", occasion.event().text("/lead/pointer").unwrap_or_default(), "lead-1").into())
        }
    }

    crate::plugin!(Careless: before, enrich, filter, after);

    type Asked = Hooks<Careless>;

    fn fields(noun: &str, pointer: &str) -> Vec<types::Field> {
        vec![types::Field { pointer: format!("/{noun}/pointer"), json: format!("{pointer:?}") }]
    }

    fn lines(roles: &str, pointer: &str) -> String {
        format!("lead:updated\n{roles}\n{pointer:?}\n\n")
    }

    fn event(pointer: &str) -> types::Event {
        types::Event { name: "lead:updated".into(), fields: fields("lead", pointer), payload: None }
    }

    #[test]
    fn an_answer_that_the_host_would_refuse_is_an_error_with_a_hint() {
        <Asked as lifecycle::Guest>::init("{}".into()).expect("takes no settings");
        let message = "the JSON Pointer \"lead/phone\" must start with \"/\": write \"/lead/phone\"";

        let enriched = <Asked as enrich::Guest>::enrich(event("lead/phone")).expect_err("refused");
        assert_eq!(enriched, message);
        let filtered = <Asked as filter::Guest>::filter(lines("VIEWER", "lead/phone"), None);
        assert_eq!(filtered.expect_err("refused"), format!("the verdict for VIEWER: {message}"));
        let command = |pointer| before::Command {
            name: "lead:create".into(),
            user_id: "user-1".into(),
            role: "SALES".into(),
            fields: fields("input", pointer),
        };
        let amended = <Asked as before::Guest>::before(command("")).expect_err("refused");
        assert!(amended.contains("write the member of the input"), "{amended}");
        let occasion = |kind| after::Occasion {
            id: "1".into(),
            seq: Some(1.0),
            at: "2026-06-01T09:00:00.000Z".into(),
            event: event(kind),
            state: None,
        };
        let followed = <Asked as after::Guest>::after(occasion("Lead waits")).expect_err("refused");
        assert!(followed.contains("write it in snake_case"), "{followed}");

        assert_eq!(<Asked as enrich::Guest>::enrich(event("/lead/score")).map(|edits| edits.len()), Ok(1));
        let filtered = <Asked as filter::Guest>::filter(lines("VIEWER SALES", "/lead/phone"), None);
        assert_eq!(filtered.map(|verdicts| verdicts.len()), Ok(2));
        assert!(<Asked as before::Guest>::before(command("email")).is_ok());
        assert!(<Asked as after::Guest>::after(occasion("lead_waits")).is_ok());
    }
}
