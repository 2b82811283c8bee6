//! WIT <-> domain: the one place that knows how values look on the guest's side.
//!
//! What a guest returns is checked here, so that nothing invalid gets further: not a pointer that is none, a
//! verdict for a role nobody asked about, an edit outside of what the filter said it hides. Each version of the
//! interface gets a module of generated types like `v1`, read into the same checked types.

mod after;

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use wasmtime::{
    StoreContextMut,
    component::{Instance, InstancePre},
};

use super::{
    before::{Answered, INPUT, Refusal},
    error::Fault,
    host::{self, State},
    limits::Limits,
    manifest::{Events, Roles},
    pipeline::Decision,
    pointer::{Edit, Pointer},
};
use crate::domain::{command::Command, event::Audience, role::Role};

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
                include leadwire:plugin/befores@1.0.0;
                include leadwire:plugin/afters@1.0.0;
            }
        ",
        world: "leadwire:server/every-hook",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

pub(super) use after::{check_outcome, check_wants};
pub(super) use v1::leadwire::plugin::types::{Event, Field};

use v1::exports::leadwire::plugin::{after as after_hook, authorize, before, enrich, filter, lifecycle};

const MAX_HIDDEN: usize = 256;
const MAX_CODE: usize = 64;
const MAX_REASON: usize = 500;

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

/// What a filter says about one role.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Verdict {
    pub role: Role,
    pub audience: Audience,
    /// Why nobody gets it, for operators.
    pub reason: Option<String>,
    pub edits: Vec<Edit>,
}

/// What a filter may hide, by role.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hides([Vec<Pointer>; 4]);

impl Hides {
    pub(super) fn of(&self, role: Role) -> &[Pointer] {
        &self.0[role as usize]
    }

    pub(super) fn insert(&mut self, role: Role, pointer: Pointer) {
        let pointers = &mut self.0[role as usize];
        if !pointers.contains(&pointer) {
            pointers.push(pointer);
        }
    }

    fn cover(&self, role: Role, pointer: &Pointer) -> bool {
        self.of(role).iter().any(|hidden| pointer.is_within(hidden.as_str()))
    }
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
    filter: Option<filter::GuestIndices>,
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
            ($hook:ident) => {
                probe!($hook, $hook)
            };
            ($hook:ident, $module:ident) => {
                has(concat!("leadwire:plugin/", stringify!($hook), "@1.0.0"))
                    .then(|| $module::GuestIndices::new(component).map_err(|error| error.to_string()))
                    .transpose()?
            };
        }
        let exports = Self {
            lifecycle,
            authorize: probe!(authorize),
            before: probe!(before),
            enrich: probe!(enrich),
            filter: probe!(filter),
            after: probe!(after, after_hook),
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
            filter: self.filter.is_some(),
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
    filter: Option<filter::Guest>,
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

    pub(super) fn hides(&self, store: StoreContextMut<'_, State>) -> wasmtime::Result<Vec<filter::Hidden>> {
        self.filter.as_ref().map_or(Ok(Vec::new()), |filter| filter.call_hides(store))
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

    pub(super) fn enrich(
        &self,
        store: StoreContextMut<'_, State>,
        event: Event<'_>,
    ) -> Answer<Vec<v1::leadwire::plugin::types::Edit>> {
        self.enrich.as_ref().map_or(Ok(Ok(Vec::new())), |enrich| enrich.call_enrich(store, event))
    }

    pub(super) fn filter(
        &self,
        store: StoreContextMut<'_, State>,
        event: Event<'_>,
        roles: &[&str],
    ) -> Answer<Vec<filter::Verdict>> {
        self.filter.as_ref().map_or(Ok(Ok(Vec::new())), |filter| filter.call_filter(store, event, roles))
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
            Ok(Answered::Refuse(Refusal { code, message, field }))
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

pub(super) fn check_edits(edits: Vec<v1::leadwire::plugin::types::Edit>, limits: &Limits) -> Result<Vec<Edit>, Fault> {
    no_more(edits.len(), "edits", limits.edits)?;
    edits.into_iter().map(|edit| check_edit(edit, limits)).collect()
}

fn check_edit(edit: v1::leadwire::plugin::types::Edit, limits: &Limits) -> Result<Edit, Fault> {
    use v1::leadwire::plugin::types::{Edit as Raw, Masking, Setting};

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

/// Takes one verdict for each role asked, no more and no fewer.
pub(super) fn check_verdicts(
    verdicts: Vec<filter::Verdict>,
    asked: &[Role],
    hides: &Hides,
    limits: &Limits,
) -> Result<Vec<Verdict>, Fault> {
    let mut missing = Roles::NONE;
    asked.iter().for_each(|role| missing.insert(*role));
    let mut checked = Vec::with_capacity(asked.len());
    for filter::Verdict { role, audience, edits } in verdicts {
        let known = role.parse::<Role>().ok().filter(|role| missing.contain(*role));
        let Some(role) = known else {
            let shown: String = role.chars().take(40).collect();
            return Err(Fault::Undecided(format!("a verdict for {shown:?}, which was not asked or has one already")));
        };
        missing.remove(role);
        let edits = check_edits(edits, limits)?;
        if let Some(edit) = edits.iter().find(|edit| !hides.cover(role, edit.pointer())) {
            return Err(Fault::Unlisted(format!(
                "an edit of {} for {role}, which it does not list in hides",
                edit.pointer()
            )));
        }
        let (audience, reason) = check_audience(audience, limits)?;
        checked.push(Verdict { role, audience, reason, edits });
    }
    match missing.iter().next() {
        Some(role) => Err(Fault::Undecided(format!("no verdict for {role}"))),
        None => Ok(checked),
    }
}

fn check_audience(audience: filter::Audience, limits: &Limits) -> Result<(Audience, Option<String>), Fault> {
    let users = match audience {
        filter::Audience::Everyone => return Ok((Audience::Everyone, None)),
        filter::Audience::Nobody(reason) => {
            return Ok((Audience::Nobody, Some(host::cut(&reason, MAX_REASON).to_owned())));
        }
        filter::Audience::Only(users) if users.is_empty() => return Ok((Audience::Nobody, None)),
        filter::Audience::Only(users) => users,
    };
    no_more(users.len(), "users in an audience", limits.audience_users)?;
    let parse = |user: String| user.parse().map_err(|_| Fault::Invalid("an audience names what is no user id".into()));
    Ok((Audience::Only(users.into_iter().map(parse).collect::<Result<BTreeSet<_>, _>>()?), None))
}

pub(super) fn check_hides(hidden: Vec<filter::Hidden>) -> Result<Hides, Fault> {
    let mut hides = Hides::default();
    for filter::Hidden { role, pointers } in hidden {
        let role: Role = role.parse().map_err(|error| Fault::Invalid(format!("hides: {error}")))?;
        for text in pointers {
            hides.insert(role, check_pointer(text)?);
        }
        if hides.of(role).len() > MAX_HIDDEN {
            return Err(Fault::Invalid(format!("it hides more than {MAX_HIDDEN} pointers from {role}")));
        }
    }
    Ok(hides)
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
