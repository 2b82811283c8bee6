//! WIT <-> domain: the one place that knows how values look on the guest's side.
//!
//! What a guest returns is checked here, so that nothing invalid gets further: not a pointer that is none, a
//! verdict for a role nobody asked about, an edit outside of what the filter said it hides. Each version of the
//! interface gets a module of generated types like `v1`, read into the same checked types.

mod after;
mod filter;

use serde::{Deserialize, Serialize};
use wasmtime::{
    StoreContextMut,
    component::{Instance, InstancePre},
};

use super::{
    before::{Answered, INPUT, Refusal, distinct},
    error::Fault,
    host::{self, State},
    limits::Limits,
    manifest::Events,
    pipeline::Decision,
    pointer::{Edit, Pointer},
};
use crate::domain::{command::Command, role::Role};

#[allow(unsafe_code, unreachable_pub, unused_variables, missing_debug_implementations)]
pub(super) mod v1 {
    wasmtime::component::bindgen!({
        path: "../wit/v1",
        inline: "
            package leadwire:server;
            world every-hook {
                include leadwire:plugin/base@1.0.0;
                include leadwire:plugin/authorizes@1.0.0;
                include leadwire:plugin/enriches@1.0.0;
                include leadwire:plugin/filters@1.0.0;
                include leadwire:plugin/filters-by-line@1.0.0;
                include leadwire:plugin/befores@1.0.0;
                include leadwire:plugin/afters@1.0.0;
            }
        ",
        world: "leadwire:server/every-hook",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) use after::{check_outcome, check_wants};
pub(super) use filter::{Hides, Verdict, check_hides, check_verdicts};
pub(super) use v1::leadwire::plugin::types::Field;

use v1::{
    exports::leadwire::plugin::{
        after as after_hook, authorize, before, enrich, filter as filter_hook, filter_lines, lifecycle,
    },
    leadwire::plugin::types::{self, Event},
};

const MAX_CODE: usize = 64;

/// A manifest as the guest gave it.
#[derive(Clone, Debug)]
pub(super) struct Described {
    pub name: String,
    pub version: String,
    pub events: Vec<String>,
    pub roles: Vec<String>,
    pub fields: Vec<String>,
    pub whole_payload: bool,
}

/// An event as hooks are asked about it.
#[derive(Clone, Copy)]
pub(super) struct Shown<'a> {
    pub name: &'a str,
    /// What the plugin declared, in its order.
    pub fields: &'a [Declared<'a>],
    /// The whole payload as JSON text, where it was asked for and granted.
    pub payload: Option<&'a str>,
    /// The lead that it is about. Nothing that the guest gets.
    pub lead: Option<&'a serde_json::Value>,
}

/// The value of a declared field.
pub(super) struct Declared<'a> {
    pub pointer: &'a str,
    /// None where the pointer leads nowhere.
    pub json: Option<&'a str>,
}

impl<'a> Shown<'a> {
    /// The fields that lead somewhere.
    fn listed(&self) -> Vec<Field<'a>> {
        listed(self.fields).collect()
    }

    fn lower<'b>(&'b self, fields: &'b [Field<'b>]) -> Event<'b> {
        Event { name: self.name, fields, payload: self.payload }
    }
}

pub(super) fn listed<'a>(fields: &[Declared<'a>]) -> impl Iterator<Item = Field<'a>> {
    fields.iter().filter_map(|&Declared { pointer, json }| Some(Field { pointer, json: json? }))
}

/// Who connects or subscribes.
pub(super) struct Subject<'a> {
    pub user_id: &'a str,
    pub role: Role,
    pub fields: &'a [Field<'a>],
}

/// A command that somebody wants carried out.
pub(super) struct Asked<'a> {
    pub name: &'a str,
    pub user_id: &'a str,
    pub role: Role,
    pub fields: &'a [Field<'a>],
}

/// Which hooks a plugin has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Hooks {
    pub authorize: bool,
    pub before: bool,
    pub enrich: bool,
    pub filter: bool,
    pub after: bool,
}

impl Hooks {
    pub(super) fn names(self) -> Vec<&'static str> {
        let all = [
            ("authorize", self.authorize),
            ("before", self.before),
            ("enrich", self.enrich),
            ("filter", self.filter),
            ("after", self.after),
        ];
        all.into_iter().filter_map(|(name, has)| has.then_some(name)).collect()
    }
}

/// Where a component's exports are: looked up once a component, not once an instance.
pub(super) struct Exports {
    lifecycle: lifecycle::GuestIndices,
    authorize: Option<authorize::GuestIndices>,
    before: Option<before::GuestIndices>,
    enrich: Option<enrich::GuestIndices>,
    filter: Option<filter_hook::GuestIndices>,
    filter_lines: Option<filter_lines::GuestIndices>,
    after: Option<after_hook::GuestIndices>,
}

impl Exports {
    pub(super) fn find(component: &InstancePre<State>) -> Result<Self, String> {
        let has = |name: &str| component.component().get_export_index(None, name).is_some();
        if !has("leadwire:plugin/lifecycle@1.0.0") {
            return Err("it does not export leadwire:plugin/lifecycle@1.0.0".into());
        }
        let lifecycle = lifecycle::GuestIndices::new(component).map_err(|error| error.to_string())?;
        // A hook that is exported but lacks a function is a fault of the build, not an absent hook.
        macro_rules! probe {
            ($hook:literal, $module:ident) => {
                has(concat!("leadwire:plugin/", $hook, "@1.0.0"))
                    .then(|| $module::GuestIndices::new(component).map_err(|error| error.to_string()))
                    .transpose()?
            };
        }
        let exports = Self {
            lifecycle,
            authorize: probe!("authorize", authorize),
            before: probe!("before", before),
            enrich: probe!("enrich", enrich),
            filter: probe!("filter", filter_hook),
            filter_lines: probe!("filter-lines", filter_lines),
            after: probe!("after", after_hook),
        };
        if exports.hooks() == Hooks::default() {
            return Err("it exports no hook: expected authorize, before, enrich, filter or after of \
                        leadwire:plugin@1.0.0"
                .into());
        }
        Ok(exports)
    }

    pub(super) fn hooks(&self) -> Hooks {
        Hooks {
            authorize: self.authorize.is_some(),
            before: self.before.is_some(),
            enrich: self.enrich.is_some(),
            filter: self.filter.is_some() || self.filter_lines.is_some(),
            after: self.after.is_some(),
        }
    }

    pub(super) fn load(&self, mut store: StoreContextMut<'_, State>, instance: &Instance) -> wasmtime::Result<Guest> {
        macro_rules! load {
            ($hook:ident) => {
                self.$hook.as_ref().map(|exports| exports.load(&mut store, instance)).transpose()?
            };
        }
        Ok(Guest {
            lifecycle: self.lifecycle.load(&mut store, instance)?,
            authorize: load!(authorize),
            before: load!(before),
            enrich: load!(enrich),
            filter: load!(filter),
            filter_lines: load!(filter_lines),
            after: load!(after),
        })
    }
}

/// The exported functions of one instance. `Err` of the outer kind is a trap.
pub(super) struct Guest {
    lifecycle: lifecycle::Guest,
    authorize: Option<authorize::Guest>,
    before: Option<before::Guest>,
    enrich: Option<enrich::Guest>,
    filter: Option<filter_hook::Guest>,
    filter_lines: Option<filter_lines::Guest>,
    after: Option<after_hook::Guest>,
}

/// What a guest answered: its own error, or a value that is yet to be checked.
type Answer<T> = wasmtime::Result<Result<T, String>>;

impl Guest {
    pub(super) fn describe(&self, store: StoreContextMut<'_, State>) -> wasmtime::Result<Described> {
        let lifecycle::Manifest { name, version, events, roles, fields, whole_payload } =
            self.lifecycle.call_describe(store)?;
        Ok(Described { name, version, events, roles, fields, whole_payload })
    }

    pub(super) fn init(&self, store: StoreContextMut<'_, State>, config: &str) -> Answer<()> {
        self.lifecycle.call_init(store, config)
    }

    pub(super) fn commands(&self, store: StoreContextMut<'_, State>) -> wasmtime::Result<Vec<String>> {
        self.before.as_ref().map_or(Ok(Vec::new()), |before| before.call_commands(store))
    }

    pub(super) fn before(&self, store: StoreContextMut<'_, State>, asked: &Asked<'_>) -> Answer<before::Ruling> {
        let Some(before) = &self.before else { return Ok(Ok(before::Ruling::Accept)) };
        let Asked { name, user_id, role, fields } = *asked;
        before.call_before(store, before::Command { name, user_id, role: role.as_str(), fields })
    }

    pub(super) fn connect(&self, store: StoreContextMut<'_, State>, who: &Subject<'_>) -> Answer<authorize::Decision> {
        let Some(authorize) = &self.authorize else { return Ok(Ok(authorize::Decision::Allow)) };
        authorize.call_connect(store, who.lower())
    }

    pub(super) fn subscribe(
        &self,
        store: StoreContextMut<'_, State>,
        who: &Subject<'_>,
        room: &str,
    ) -> Answer<authorize::Decision> {
        let Some(authorize) = &self.authorize else { return Ok(Ok(authorize::Decision::Allow)) };
        authorize.call_subscribe(store, who.lower(), room)
    }

    pub(super) fn enrich(&self, store: StoreContextMut<'_, State>, event: &Shown<'_>) -> Answer<Vec<types::Edit>> {
        let Some(enrich) = &self.enrich else { return Ok(Ok(Vec::new())) };
        enrich.call_enrich(store, event.lower(&event.listed()))
    }
}

impl Subject<'_> {
    fn lower(&self) -> authorize::Subject<'_> {
        authorize::Subject { user_id: self.user_id, role: self.role.as_str(), fields: self.fields }
    }
}

pub(super) fn check_decision(decision: authorize::Decision, limits: &Limits) -> Result<Decision, Fault> {
    match decision {
        authorize::Decision::Allow => Ok(Decision::Allow),
        authorize::Decision::Deny(reason) => Ok(Decision::Deny(bounded(reason, "the reason of a denial", limits)?)),
    }
}

pub(super) fn check_commands(patterns: Vec<String>) -> Result<Events, Fault> {
    let commands = Events::parse(patterns).map_err(Fault::Invalid)?;
    // A name that no command has would be a guard that never stands up.
    for pattern in commands.patterns() {
        let single = Events::parse(vec![pattern.clone()]).map_err(Fault::Invalid)?;
        if !Command::NAMES.iter().any(|name| single.include(name)) {
            let names = Command::NAMES.join(", ");
            return Err(Fault::Invalid(format!("{pattern:?} is no command: expected one of {names}")));
        }
    }
    Ok(commands)
}

pub(super) fn check_ruling(ruling: before::Ruling, limits: &Limits) -> Result<Answered, Fault> {
    match ruling {
        before::Ruling::Accept => Ok(Answered::Accept),
        before::Ruling::Amend(edits) => {
            let edits = check_edits(edits, limits)?;
            let outside = |edit: &&Edit| edit.pointer().as_str() == INPUT || !edit.pointer().is_within(INPUT);
            match edits.iter().find(outside) {
                Some(edit) => Err(Fault::Invalid(format!("an edit of {}, which is not below {INPUT}", edit.pointer()))),
                None => Ok(Answered::Amend(edits)),
            }
        }
        before::Ruling::Refuse(before::Refusal { code, message, field }) => {
            check_code(&code)?;
            let message = bounded(message, "the message of a refusal", limits)?;
            let field = field.map(|field| bounded(field, "the field of a refusal", limits)).transpose()?;
            if message.trim().is_empty() || field.as_ref().is_some_and(String::is_empty) {
                return Err(Fault::Invalid("a refusal without a message, or with a field without a name".into()));
            }
            Ok(Answered::Refuse(Refusal { code: distinct(code), message, field }))
        }
    }
}

fn check_code(code: &str) -> Result<(), Fault> {
    let snake_case = code.len() <= MAX_CODE
        && code.starts_with(|first: char| first.is_ascii_lowercase())
        && code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if snake_case {
        return Ok(());
    }
    let shown: String = code.chars().take(MAX_CODE).collect();
    Err(Fault::Invalid(format!("a refusal with the code {shown:?}: expected snake_case of at most {MAX_CODE} letters")))
}

pub(super) fn check_edits(edits: Vec<types::Edit>, limits: &Limits) -> Result<Vec<Edit>, Fault> {
    check_edits_at(edits, limits, check_pointer)
}

fn check_edits_at(
    edits: Vec<types::Edit>,
    limits: &Limits,
    check: impl Fn(String) -> Result<Pointer, Fault>,
) -> Result<Vec<Edit>, Fault> {
    no_more(edits.len(), "edits", limits.edits)?;
    edits.into_iter().map(|edit| check_edit(edit, limits, &check)).collect()
}

fn check_edit(
    edit: types::Edit,
    limits: &Limits,
    check_pointer: impl Fn(String) -> Result<Pointer, Fault>,
) -> Result<Edit, Fault> {
    use types::{Edit as Raw, Masking, Setting};

    let edit = match edit {
        Raw::Remove(pointer) => Edit::Remove(check_pointer(pointer)?),
        Raw::Mask(Masking { pointer, text }) => {
            Edit::Mask(check_pointer(pointer)?, bounded(text, "the text of a mask", limits)?)
        }
        Raw::Set(Setting { pointer, json }) => {
            let pointer = check_pointer(pointer)?;
            let value = serde_json::from_str(&json)
                .map_err(|error| Fault::Invalid(format!("the value set at {pointer} is no JSON: {error}")))?;
            Edit::Set(pointer, value)
        }
    };
    Ok(edit)
}

fn check_pointer(text: String) -> Result<Pointer, Fault> {
    let pointer = Pointer::parse(text).map_err(Fault::Invalid)?;
    if pointer.is_reserved() {
        return Err(Fault::Invalid(format!("{pointer} is written by the server alone")));
    }
    Ok(pointer)
}

fn bounded(text: String, what: &str, limits: &Limits) -> Result<String, Fault> {
    if text.len() as u64 > limits.text_bytes {
        let (found, allowed) = (text.len(), limits.text_bytes);
        return Err(Fault::Invalid(format!("{what} has {found} bytes; {allowed} are allowed")));
    }
    Ok(text)
}

fn no_more(found: usize, what: &str, allowed: u64) -> Result<(), Fault> {
    if found as u64 > allowed {
        return Err(Fault::Invalid(format!("{found} {what}; {allowed} are allowed")));
    }
    Ok(())
}

impl v1::leadwire::plugin::types::Host for State {}

impl v1::leadwire::plugin::host::Host for State {
    fn log(&mut self, level: String, message: String) {
        host::log(self, &level, &message);
    }

    fn now_ms(&mut self) -> f64 {
        self.looked = true;
        host::now_ms(self)
    }

    fn count(&mut self, name: String, by: f64) {
        host::count(self, name, by);
    }
}
