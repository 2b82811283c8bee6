//! Set of all plugins that are active at one moment, and the status of the others.
//!
//! A set is never changed, only replaced.

use std::sync::Arc;

use crate::{
    domain::{
        counter::Generation,
        plugin_name::PluginName,
        role::{Role, Roles},
    },
    plugin::{
        active::{
            plugin::Plugin,
            rollout::{Candidate, PluginState, Rollout},
            tombstone::Tombstone,
        },
        contract::{
            answer::{Hidden, Hides, Unavailable},
            manifest::{Events, Hooks, PluginField},
        },
    },
};

/// Plugin in shadow mode, and the sets that show what would be different with it.
pub(crate) struct Shadow {
    pub(crate) plugin: Arc<Plugin>,
    /// Copies of the active plugins; calls made here do not touch their circuit breakers.
    pub(crate) without: Set,
    /// The same plugins, and this one.
    pub(crate) with: Set,
    pub(crate) alone: Set,
}

#[derive(Default)]
pub(crate) struct Set {
    pub(crate) generation: Generation,
    pub(crate) views: Vec<PluginView>,
    /// In the order in which they are asked.
    members: Vec<SetMember>,
    /// Plugins in shadow mode.
    shadows: Vec<Shadow>,
    /// Fields that some plugin reads; plugins refer to them by index.
    fields: Vec<PluginField>,
    hidden: [Hidden; Role::ALL.len()],
}

/// Status snapshot of one plugin, loaded or not.
#[derive(Clone)]
pub(crate) struct PluginView {
    pub(crate) name: String,
    pub(crate) state: PluginState,
    pub(crate) reason: Option<String>,
    pub(crate) hash: Option<String>,
    pub(crate) candidate: Option<Candidate>,
    pub(crate) plugin: Option<Arc<Plugin>>,
    /// Tombstone of a plugin without its file that still counts.
    pub(crate) absent: Option<Arc<Tombstone>>,
    /// Rollout state, where there is a directory to watch.
    pub(crate) rollout: Option<Arc<Rollout>>,
}

impl PluginView {
    /// Creates the view of a loaded plugin.
    pub(crate) fn working(plugin: Arc<Plugin>) -> Self {
        Self {
            name: plugin.name().to_string(),
            state: if plugin.is_shadow() { PluginState::Shadow } else { PluginState::Active },
            reason: None,
            hash: Some(plugin.hash.clone()),
            candidate: None,
            plugin: Some(plugin),
            absent: None,
            rollout: None,
        }
    }

    /// Creates the view of a plugin whose file was missing or refused, and which still counted.
    pub(crate) fn absent(name: &str, record: Arc<Tombstone>, reason: String) -> Self {
        Self {
            name: name.into(),
            state: PluginState::Missing,
            reason: Some(reason),
            hash: None,
            candidate: None,
            plugin: None,
            absent: Some(record),
            rollout: None,
        }
    }
}

pub(crate) enum SetMember {
    Working(WorkingPlugin),
    Absent(AbsentPlugin),
}

pub(crate) struct WorkingPlugin {
    pub(crate) plugin: Arc<Plugin>,
    /// Indices into the set's fields.
    pub(crate) fields: Vec<usize>,
}

/// Plugin without its file that holds back what it would have decided.
pub(crate) struct AbsentPlugin {
    name: PluginName,
    hooks: Hooks,
    events: Events,
    commands: Events,
    roles: Roles,
    hides: Hides,
    pub(crate) enrich_holds: bool,
    pub(crate) record: Arc<Tombstone>,
    reason: String,
}

impl Set {
    pub(crate) fn new(generation: Generation, views: Vec<PluginView>) -> Self {
        let loaded = views.iter().filter_map(|view| view.plugin.as_ref());
        let (shadows, active): (Vec<_>, Vec<_>) = loaded.cloned().partition(|plugin| plugin.is_shadow());
        let with = |more: Option<Arc<Plugin>>| {
            Self::assemble(active.iter().map(|plugin| Arc::new(plugin.apart())).chain(more).collect(), &views)
        };
        let shadows = shadows.iter().map(|plugin| Shadow::new(plugin, with)).collect();
        let set = Self::assemble(active, &views);
        Self { generation, shadows, views, ..set }
    }

    /// Creates a set of one plugin by itself, whatever its mode.
    pub(crate) fn alone(plugin: Arc<Plugin>) -> Self {
        Self::assemble(vec![plugin], &[])
    }

    /// Creates a set of these plugins, and of the tombstones in `views`.
    pub(crate) fn assemble(mut plugins: Vec<Arc<Plugin>>, views: &[PluginView]) -> Self {
        let mut set = Self::default();
        plugins.sort_by_key(|plugin| (plugin.settings.order, plugin.name().to_owned()));
        for plugin in plugins {
            let fields = plugin.manifest.fields.iter().map(|field| set.number(field)).collect();
            set.members.push(SetMember::Working(WorkingPlugin { plugin, fields }));
        }
        for view in views {
            let Some(record) = &view.absent else { continue };
            set.members.push(SetMember::Absent(AbsentPlugin {
                name: PluginName::stored(view.name.as_str()),
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

    fn number(&mut self, field: &PluginField) -> usize {
        self.fields.iter().position(|known| known == field).unwrap_or_else(|| {
            self.fields.push(field.clone());
            self.fields.len() - 1
        })
    }

    pub(crate) fn members(&self) -> &[SetMember] {
        &self.members
    }

    pub(crate) fn shadows(&self) -> &[Shadow] {
        &self.shadows
    }

    pub(crate) fn authorizers(&self) -> impl Iterator<Item = &SetMember> {
        self.members.iter().filter(|member| member.hooks().authorize)
    }

    /// Lists the members that are asked before a command of that name runs.
    pub(crate) fn guards(&self, command: &str) -> impl Iterator<Item = &SetMember> {
        self.members.iter().filter(move |member| member.guards(command))
    }

    pub(crate) fn enrichers(&self) -> impl Iterator<Item = &SetMember> {
        self.members.iter().filter(|member| member.hooks().enrich)
    }

    pub(crate) fn filters(&self) -> impl Iterator<Item = &SetMember> {
        self.members.iter().filter(|member| member.hooks().filter)
    }

    /// Lists the plugins that follow the event log. One without its file misses nothing: it resumes where it stopped.
    pub(crate) fn followers(&self) -> impl Iterator<Item = &WorkingPlugin> {
        self.members.iter().filter_map(|member| match member {
            SetMember::Working(working) if working.plugin.hooks.after => Some(working),
            _ => None,
        })
    }

    pub(crate) fn fields(&self) -> &[PluginField] {
        &self.fields
    }

    pub(crate) fn hidden(&self, role: Role) -> &Hidden {
        &self.hidden[role as usize]
    }

    /// Returns true if events of that name are sent unchanged.
    pub(crate) fn is_indifferent_to(&self, name: &str) -> bool {
        !self.members.iter().any(|member| member.wants(name)) && self.hidden.iter().all(Hidden::is_empty)
    }
}

impl SetMember {
    pub(crate) fn name(&self) -> &PluginName {
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

    pub(crate) fn roles(&self) -> Roles {
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

    /// Returns true if `enrich` or `filter` has to be asked about events of that name.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let hooks = self.hooks();
        let events = match self {
            Self::Working(working) => &working.plugin.manifest.events,
            Self::Absent(absent) => &absent.events,
        };
        (hooks.enrich || hooks.filter) && events.include(name)
    }
}

impl AbsentPlugin {
    pub(crate) fn unavailable(&self) -> Unavailable {
        Unavailable { plugin: self.name.clone(), reason: self.reason.clone() }
    }
}
