//! Roles of users; `policy` defines what a role means for each command.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", try_from = "String")]
pub enum Role {
    Admin,
    Manager,
    Sales,
    Viewer,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Manager, Self::Sales, Self::Viewer];

    pub const NAMES: [&str; 4] = names!(Self::ALL);

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "ADMIN",
            Self::Manager => "MANAGER",
            Self::Sales => "SALES",
            Self::Viewer => "VIEWER",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Set of roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    pub const ALL: Self = Self(0b1111);
    pub const NONE: Self = Self(0);

    /// Parses role names; an empty list means all roles.
    ///
    /// # Errors
    /// When a name is not a role; the error contains it.
    pub fn parse<S: AsRef<str>>(names: &[S]) -> Result<Self, UnknownRole> {
        if names.is_empty() {
            return Ok(Self::ALL);
        }
        names.iter().map(|name| name.as_ref().parse::<Role>()).collect()
    }

    pub fn contains(self, role: Role) -> bool {
        self.0 & Self::bit(role) != 0
    }

    pub fn insert(&mut self, role: Role) {
        self.0 |= Self::bit(role);
    }

    pub fn remove(&mut self, role: Role) {
        self.0 &= !Self::bit(role);
    }

    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |role| self.contains(*role))
    }

    fn bit(role: Role) -> u8 {
        1 << role as u8
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<T: IntoIterator<Item = Role>>(roles: T) -> Self {
        Self(roles.into_iter().fold(0, |set, role| set | Self::bit(role)))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a role: expected ADMIN, MANAGER, SALES or VIEWER")]
pub struct UnknownRole(pub String);

impl TryFrom<String> for Role {
    type Error = UnknownRole;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or_else(|| UnknownRole(text.into()))
    }
}
