//! Between the generated bindings and the traits that authors implement. For [`plugin!`](crate::plugin) alone.

use std::{cell::RefCell, marker::PhantomData, sync::Once, thread::LocalKey};

use serde_json::Value;

use crate::{
    Authorize, Before, Command, Enrich, Event, Filter, Plugin, Ruling, Subject,
    bindings::{
        authorizes::exports::leadwire::plugin::authorize, base::exports::leadwire::plugin::lifecycle,
        befores::exports::leadwire::plugin::before, enriches::exports::leadwire::plugin::enrich,
        filters::exports::leadwire::plugin::filter, filters::leadwire::plugin::types,
    },
    hook::from_config,
    host::{self, Level},
};

/// What `plugin!` adds to an author's type: whose package it is, and where its one value lives.
pub trait Exported: Plugin {
    const NAME: &'static str;
    const VERSION: &'static str;

    fn slot() -> &'static LocalKey<RefCell<Option<Self>>>;
}

/// The exports of the plugin `P`.
pub struct Hooks<P>(PhantomData<P>);

fn with<P: Exported, T>(ask: impl FnOnce(&P) -> Result<T, String>) -> Result<T, String> {
    P::slot().with_borrow(|plugin| ask(plugin.as_ref().ok_or("the host has not called init")?))
}

/// A panic ends in a trap, which tells the host nothing; so the message goes to its log before.
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
        let config = serde_json::from_str(&config).map_err(|error| format!("config is no JSON: {error}"))?;
        let plugin = P::init(from_config(config)?)?;
        P::slot().replace(Some(plugin));
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
        let command = Command::from_fields(name, user_id, role, values(&fields)?);
        let ruling = with(|plugin: &P| plugin.before(&command))?;
        if let Ruling::Refuse(refusal) = &ruling {
            refusal.check()?;
        }
        Ok(ruling.into())
    }
}

impl<P: Exported + Enrich> enrich::Guest for Hooks<P> {
    fn enrich(event: types::Event) -> Result<Vec<types::Edit>, String> {
        let event = view(event)?;
        let edits = with(|plugin: &P| plugin.enrich(&event))?;
        Ok(edits.into_iter().map(Into::into).collect())
    }
}

impl<P: Exported + Filter> filter::Guest for Hooks<P> {
    fn hides() -> Vec<filter::Hidden> {
        with(|plugin: &P| Ok(plugin.hides().into())).expect("the host calls init before hides")
    }

    fn filter(event: types::Event, roles: Vec<String>) -> Result<Vec<filter::Verdict>, String> {
        let event = view(event)?;
        with(|plugin: &P| {
            let verdicts = roles.into_iter().map(|role| Ok(plugin.filter(&event, &role)?.for_role(role)));
            verdicts.collect()
        })
    }
}

fn view(event: types::Event) -> Result<Event, String> {
    let payload = event.payload.as_deref().map(|json| parse("the payload", json)).transpose()?;
    Ok(Event::new(event.name, payload, values(&event.fields)?))
}

fn subject(who: authorize::Subject) -> Result<Subject, String> {
    let fields = values(&who.fields)?;
    Ok(Subject::from_fields(who.user_id, who.role, fields))
}

fn values(fields: &[types::Field]) -> Result<Vec<(&str, Value)>, String> {
    fields.iter().map(|field| Ok((field.pointer.as_str(), parse(&field.pointer, &field.json)?))).collect()
}

fn parse(what: &str, json: &str) -> Result<Value, String> {
    serde_json::from_str(json).map_err(|error| format!("the host gave no JSON for {what}: {error}"))
}
