//! Actor of an event and, when a plugin's effect made the event, its cause.

use serde::{Deserialize, Serialize};

use crate::domain::{id::UserId, role::Role, user::User};

/// User or plugin that caused an event, as clients see it: `{id, email, role}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    pub id: UserId,
    pub email: String,
    pub role: Role,
}

impl From<&User> for Actor {
    fn from(user: &User) -> Self {
        Self { id: user.id, email: user.email.clone(), role: user.role }
    }
}

/// Chain of plugins and occasions that led to an event made by a plugin's effect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Plugins that answered one another, in order; the effect is the last one's.
    pub plugins: Vec<String>,
    /// Occasion that the last plugin answered.
    pub occasion: String,
}

impl Cause {
    /// Returns the cause of an effect of `plugin` on `occasion`.
    ///
    /// A plugin that continues after its own reminder is not added again: it answers nobody new.
    pub fn followed_by(&self, plugin: &str, occasion: &str) -> Self {
        let mut plugins = self.plugins.clone();
        if plugins.last().is_none_or(|last| last != plugin) {
            plugins.push(plugin.into());
        }
        Self { plugins, occasion: occasion.into() }
    }
}
