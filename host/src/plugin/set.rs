//! All plugins in force at one moment, and what there is to tell of the others. Never changed, only replaced.

use std::sync::Arc;

use super::{
    bindings::{Hides, Hooks},
    loaded::Plugin,
    manifest::{Events, Field, Roles},
    pipeline::{Hidden, Unavailable},
    records::Record,
    shadow::Shadow,
    standing::Standing,
    status::{Candidate, State},
};
use crate::domain::role::Role;

#[derive(Default)]
pub(super) struct Set {
    pub(super) generation: u64,
    pub(super) views: Vec<View>,
    /// In the order in which they are asked.
    members: Vec<Member>,
    /// Those who only look on.
    shadows: Vec<Shadow>,
    /// Every field that some plugin reads; plugins name them by number.
    fields: Vec<Field>,
    hidden: [Hidden; Role::ALL.len()],
}

/// What there is to tell of one name.
#[derive(Clone)]
pub(super) struct View {
    pub(super) name: String,
    pub(super) state: State,
    pub(super) reason: Option<String>,
    pub(super) hash: Option<String>,
    pub(super) candidate: Option<Candidate>,
    pub(super) plugin: Option<Arc<Plugin>>,
    /// A plugin without its file that still counts.
    pub(super) absent: Option<Arc<Record>>,
    /// Its generations, where there is a directory to watch.
    pub(super) standing: Option<Arc<Standing>>,
}

impl View {
    /// Of a plugin that is loaded.
    pub(super) fn working(plugin: Arc<Plugin>) -> Self {
        Self {
            name: plugin.name().into(),
            state: if plugin.is_shadow() { State::Shadow } else { State::Active },
            reason: None,
            hash: Some(plugin.hash.clone()),
            candidate: None,
            plugin: Some(plugin),
            absent: None,
            standing: None,
        }
    }

    /// Of a plugin whose file was missing or refused, and which still counted.
    pub(super) fn absent(name: &str, record: Arc<Record>, reason: String) -> Self {
        Self {
            name: name.into(),
            state: State::Missing,
            reason: Some(reason),
            hash: None,
            candidate: None,
            plugin: None,
            absent: Some(record),
            standing: None,
        }
    }
}

pub(super) enum Member {
    Working(Working),
    Absent(Absent),
}

pub(super) struct Working {
    pub(super) plugin: Arc<Plugin>,
    /// Numbers of the set's fields.
    pub(super) fields: Vec<usize>,
}

/// One that holds back what it would have decided.
pub(super) struct Absent {
    name: String,
    hooks: Hooks,
    events: Events,
    commands: Events,
    roles: Roles,
    hides: Hides,
    pub(super) enrich_holds: bool,
    pub(super) record: Arc<Record>,
    reason: String,
}

impl Set {
    pub(super) fn new(generation: u64, views: Vec<View>) -> Self {
        let loaded = views.iter().filter_map(|view| view.plugin.as_ref());
        let (shadows, active): (Vec<_>, Vec<_>) = loaded.cloned().partition(|plugin| plugin.is_shadow());
        let with = |more: Option<Arc<Plugin>>| {
            Self::assemble(active.iter().map(|plugin| Arc::new(plugin.apart())).chain(more).collect(), &views)
        };
        let shadows = shadows.iter().map(|plugin| Shadow::new(plugin, with)).collect();
        let set = Self::assemble(active, &views);
        Self { generation, shadows, views, ..set }
    }

    /// One plugin by itself, whatever its mode.
    pub(super) fn alone(plugin: Arc<Plugin>) -> Self {
        Self::assemble(vec![plugin], &[])
    }

    /// These plugins, and those that `views` misses.
    pub(super) fn assemble(mut plugins: Vec<Arc<Plugin>>, views: &[View]) -> Self {
        let mut set = Self::default();
        plugins.sort_by_key(|plugin| (plugin.settings.order, plugin.name().to_owned()));
        for plugin in plugins {
            let fields = plugin.manifest.fields.iter().map(|field| set.number(field)).collect();
            set.members.push(Member::Working(Working { plugin, fields }));
        }
        for view in views {
            let Some(record) = &view.absent else { continue };
            set.members.push(Member::Absent(Absent {
                name: view.name.clone(),
                hooks: record.hooks,
                events: record.events(),
                commands: record.commands(),
                roles: record.roles(),
                hides: record.hides(),
                enrich_holds: record.enrich_holds,
                record: Arc::clone(record),
                reason: view.reason.clone().unwrap_or_else(|| "its file is missing".into()),
            }));
        }
        set.hidden = Role::ALL
            .map(|role| Hidden::new(set.members.iter().flat_map(|member| member.hides().of(role)).cloned().collect()));
        set
    }

    fn number(&mut self, field: &Field) -> usize {
        self.fields.iter().position(|known| known == field).unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        })
    }

    pub(super) fn members(&self) -> &[Member] {
        &self.members
    }

    pub(super) fn shadows(&self) -> &[Shadow] {
        &self.shadows
    }

    pub(super) fn authorizers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.hooks().authorize)
    }

    /// Those who are asked before a command of that name runs.
    pub(super) fn guards(&self, command: &str) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(move |member| member.guards(command))
    }

    pub(super) fn enrichers(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.hooks().enrich)
    }

    pub(super) fn filters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.hooks().filter)
    }

    /// Those who are told what happened. One without its file misses nothing: it goes on where it stopped.
    pub(super) fn followers(&self) -> impl Iterator<Item = &Working> {
        self.members.iter().filter_map(|member| match member {
            Member::Working(working) if working.plugin.hooks.after => Some(working),
            _ => None,
        })
    }

    pub(super) fn fields(&self) -> &[Field] {
        &self.fields
    }

    pub(super) fn hidden(&self, role: Role) -> &Hidden {
        &self.hidden[role as usize]
    }

    /// Whether events of that name leave as they are.
    pub(super) fn is_indifferent_to(&self, name: &str) -> bool {
        !self.members.iter().any(|member| member.wants(name)) && self.hidden.iter().all(Hidden::is_empty)
    }
}

impl Member {
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Working(working) => working.plugin.name(),
            Self::Absent(absent) => &absent.name,
        }
    }

    fn hooks(&self) -> Hooks {
        match self {
            Self::Working(working) => working.plugin.hooks,
            Self::Absent(absent) => absent.hooks,
        }
    }

    pub(super) fn roles(&self) -> Roles {
        match self {
            Self::Working(working) => working.plugin.manifest.roles,
            Self::Absent(absent) => absent.roles,
        }
    }

    fn hides(&self) -> &Hides {
        match self {
            Self::Working(working) => &working.plugin.hides,
            Self::Absent(absent) => &absent.hides,
        }
    }

    fn guards(&self, command: &str) -> bool {
        let commands = match self {
            Self::Working(working) => &working.plugin.commands,
            Self::Absent(absent) => &absent.commands,
        };
        self.hooks().before && commands.include(command)
    }

    /// Whether `enrich` or `filter` is to be asked about events of that name.
    pub(super) fn wants(&self, name: &str) -> bool {
        let hooks = self.hooks();
        let events = match self {
            Self::Working(working) => &working.plugin.manifest.events,
            Self::Absent(absent) => &absent.events,
        };
        (hooks.enrich || hooks.filter) && events.include(name)
    }
}

impl Absent {
    pub(super) fn unavailable(&self) -> Unavailable {
        Unavailable { plugin: self.name.clone(), reason: self.reason.clone() }
    }
}
