//! Bindings between domain and WIT: the calls into a guest, with its questions and its unchecked answers.
//!
//! `check` checks the answers, so that nothing invalid gets further. Each version of the interface gets a module of
//! generated types like `v1`, read into the same checked types.

mod after;
pub(crate) mod filter;

use wasmtime::{
    StoreContextMut,
    component::{Instance, InstancePre},
};

use crate::{
    domain::role::Role,
    plugin::{
        contract::manifest::{Hooks, RawManifest},
        wasm::{
            bindings::v1::{
                exports::leadwire::plugin::{
                    after as after_hook, authorize, before, enrich, filter as filter_hook, filter_lines, lifecycle,
                },
                leadwire::plugin::types::{self, Event},
            },
            imports::{self, GuestState},
        },
    },
};

pub(crate) use v1::leadwire::plugin::types::Field;

pub(crate) mod v1 {
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

/// Event as hooks are asked about it.
#[derive(Clone, Copy)]
pub(crate) struct EventQuestion<'a> {
    pub name: &'a str,
    /// Fields that the plugin declared, in its order.
    pub fields: &'a [DeclaredField<'a>],
    /// Whole payload as JSON text, where it was requested and granted.
    pub payload: Option<&'a str>,
    /// Lead that it is about. The guest does not get it.
    pub lead: Option<&'a serde_json::Value>,
}

/// Value of a declared field.
pub(crate) struct DeclaredField<'a> {
    pub pointer: &'a str,
    /// JSON text; `None` where the pointer leads nowhere.
    pub json: Option<&'a str>,
}

impl<'a> EventQuestion<'a> {
    /// Returns the fields that lead somewhere.
    fn listed(&self) -> Vec<Field<'a>> {
        listed(self.fields).collect()
    }

    fn lower<'b>(&'b self, fields: &'b [Field<'b>]) -> Event<'b> {
        Event { name: self.name, fields, payload: self.payload }
    }
}

pub(crate) fn listed<'a>(fields: &[DeclaredField<'a>]) -> impl Iterator<Item = Field<'a>> {
    fields.iter().filter_map(|&DeclaredField { pointer, json }| Some(Field { pointer, json: json? }))
}

/// User who connects or subscribes.
pub(crate) struct UserQuestion<'a> {
    pub user_id: &'a str,
    pub role: Role,
    pub fields: &'a [Field<'a>],
}

/// Command that somebody wants carried out.
pub(crate) struct CommandQuestion<'a> {
    pub name: &'a str,
    pub user_id: &'a str,
    /// Role of a user, or `PLUGIN`.
    pub role: &'a str,
    pub fields: &'a [Field<'a>],
}

/// Indices of a component's exports: looked up once per component, not once per instance.
pub(crate) struct Exports {
    lifecycle: lifecycle::GuestIndices,
    authorize: Option<authorize::GuestIndices>,
    before: Option<before::GuestIndices>,
    enrich: Option<enrich::GuestIndices>,
    filter: Option<filter_hook::GuestIndices>,
    filter_lines: Option<filter_lines::GuestIndices>,
    after: Option<after_hook::GuestIndices>,
}

impl Exports {
    pub(crate) fn find(component: &InstancePre<GuestState>) -> Result<Self, String> {
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

    pub(crate) fn hooks(&self) -> Hooks {
        Hooks {
            authorize: self.authorize.is_some(),
            before: self.before.is_some(),
            enrich: self.enrich.is_some(),
            filter: self.filter.is_some() || self.filter_lines.is_some(),
            after: self.after.is_some(),
        }
    }

    pub(crate) fn load(
        &self,
        mut store: StoreContextMut<'_, GuestState>,
        instance: &Instance,
    ) -> wasmtime::Result<Guest> {
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

/// Exported functions of one instance. The outer `Err` of an answer is a trap.
pub(crate) struct Guest {
    lifecycle: lifecycle::Guest,
    authorize: Option<authorize::Guest>,
    before: Option<before::Guest>,
    enrich: Option<enrich::Guest>,
    filter: Option<filter_hook::Guest>,
    filter_lines: Option<filter_lines::Guest>,
    after: Option<after_hook::Guest>,
}

/// Answer of a guest: its own error, or a value that is still unchecked.
pub(crate) type GuestAnswer<T> = wasmtime::Result<Result<T, String>>;

impl Guest {
    pub(crate) fn describe(&self, store: StoreContextMut<'_, GuestState>) -> wasmtime::Result<RawManifest> {
        let lifecycle::Manifest { name, version, events, roles, fields, whole_payload } =
            self.lifecycle.call_describe(store)?;
        Ok(RawManifest { name, version, events, roles, fields, whole_payload })
    }

    pub(crate) fn init(&self, store: StoreContextMut<'_, GuestState>, config: &str) -> GuestAnswer<()> {
        self.lifecycle.call_init(store, config)
    }

    pub(crate) fn commands(&self, store: StoreContextMut<'_, GuestState>) -> wasmtime::Result<Vec<String>> {
        self.before.as_ref().map_or(Ok(Vec::new()), |before| before.call_commands(store))
    }

    pub(crate) fn before(
        &self,
        store: StoreContextMut<'_, GuestState>,
        asked: &CommandQuestion<'_>,
    ) -> GuestAnswer<before::Ruling> {
        let Some(before) = &self.before else { return Ok(Ok(before::Ruling::Accept)) };
        let CommandQuestion { name, user_id, role, fields } = *asked;
        before.call_before(store, before::Command { name, user_id, role, fields })
    }

    pub(crate) fn connect(
        &self,
        store: StoreContextMut<'_, GuestState>,
        who: &UserQuestion<'_>,
    ) -> GuestAnswer<authorize::Decision> {
        let Some(authorize) = &self.authorize else { return Ok(Ok(authorize::Decision::Allow)) };
        authorize.call_connect(store, who.lower())
    }

    pub(crate) fn subscribe(
        &self,
        store: StoreContextMut<'_, GuestState>,
        who: &UserQuestion<'_>,
        room: &str,
    ) -> GuestAnswer<authorize::Decision> {
        let Some(authorize) = &self.authorize else { return Ok(Ok(authorize::Decision::Allow)) };
        authorize.call_subscribe(store, who.lower(), room)
    }

    pub(crate) fn enrich(
        &self,
        store: StoreContextMut<'_, GuestState>,
        event: &EventQuestion<'_>,
    ) -> GuestAnswer<Vec<types::Edit>> {
        let Some(enrich) = &self.enrich else { return Ok(Ok(Vec::new())) };
        enrich.call_enrich(store, event.lower(&event.listed()))
    }
}

impl UserQuestion<'_> {
    fn lower(&self) -> authorize::Subject<'_> {
        authorize::Subject { user_id: self.user_id, role: self.role.as_str(), fields: self.fields }
    }
}

impl v1::leadwire::plugin::types::Host for GuestState {}

impl v1::leadwire::plugin::host::Host for GuestState {
    fn log(&mut self, level: String, message: String) {
        imports::log(self, &level, &message);
    }

    fn now_ms(&mut self) -> f64 {
        self.looked = true;
        imports::now_ms(self)
    }

    fn count(&mut self, name: String, by: f64) {
        imports::count(self, name, by);
    }
}
