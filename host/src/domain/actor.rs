//! Actor of an event and, when a plugin's effect made the event, its cause.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::domain::{
    id::UserId,
    plugin_name::PluginName,
    role::Role,
    time::Timestamp,
    user::{User, UserRef},
};

/// User or plugin that caused an event, as clients see it: `{id, email, role}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub id: UserId,
    pub email: String,
    #[serde(rename = "role")]
    pub kind: ActorKind,
}

/// Kind of an actor. Clients see it as a role: a user's own, or `PLUGIN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ActorKind {
    User(Role),
    /// Plugin whose effect is carried out.
    Plugin,
}

/// Account of an actor: a user's, or that of a plugin, which nobody can log in to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ActorAccount {
    pub id: UserId,
    pub email: String,
    pub name: String,
    #[serde(rename = "role")]
    pub kind: ActorKind,
    pub active: bool,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

impl Actor {
    /// True if the actor is a user with that role.
    pub fn is(&self, role: Role) -> bool {
        self.kind == ActorKind::User(role)
    }
}

impl ActorKind {
    const PLUGIN: &'static str = "PLUGIN";

    /// Role of a user; `None` for a plugin.
    pub fn role(self) -> Option<Role> {
        match self {
            Self::User(role) => Some(role),
            Self::Plugin => None,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::User(role) => role.as_str(),
            Self::Plugin => Self::PLUGIN,
        }
    }
}

impl Serialize for ActorKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ActorKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.as_str() {
            Self::PLUGIN => Ok(Self::Plugin),
            role => role.parse().map(Self::User).map_err(D::Error::custom),
        }
    }
}

impl From<User> for ActorAccount {
    fn from(user: User) -> Self {
        let User { id, email, name, role, active, created_at, updated_at } = user;
        Self { id, email, name, kind: ActorKind::User(role), active, created_at, updated_at }
    }
}

impl From<&ActorAccount> for UserRef {
    fn from(account: &ActorAccount) -> Self {
        Self { id: account.id, name: account.name.clone(), email: account.email.clone() }
    }
}

impl From<&ActorAccount> for Actor {
    fn from(account: &ActorAccount) -> Self {
        Self { id: account.id, email: account.email.clone(), kind: account.kind }
    }
}

impl From<&User> for Actor {
    fn from(user: &User) -> Self {
        Self { id: user.id, email: user.email.clone(), kind: ActorKind::User(user.role) }
    }
}

/// Chain of plugins and occasions that led to an event made by a plugin's effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Plugins that answered one another, in order; the effect is the last one's.
    pub plugins: Vec<PluginName>,
    /// Occasion that the last plugin answered.
    pub occasion: String,
}

impl Cause {
    /// Returns the cause of an effect of `plugin` on `occasion`.
    ///
    /// A plugin that continues after its own reminder is not added again: it answers nobody new.
    pub fn followed_by(&self, plugin: &PluginName, occasion: &str) -> Self {
        let mut plugins = self.plugins.clone();
        if plugins.last().is_none_or(|last| last != plugin) {
            plugins.push(plugin.clone());
        }
        Self { plugins, occasion: occasion.into() }
    }
}
