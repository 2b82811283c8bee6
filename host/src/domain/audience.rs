//! Audience of an event within a room: everyone, named users, or nobody.

use std::collections::BTreeSet;

use serde::Serialize;

use crate::domain::id::UserId;

/// Sockets of a room that get an event.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    #[default]
    Everyone,
    Only(BTreeSet<UserId>),
    Nobody,
}

impl Audience {
    pub fn includes(&self, user: UserId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Only(users) => users.contains(&user),
            Self::Nobody => false,
        }
    }

    /// Returns the users who are in both audiences.
    pub fn intersect(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nobody, _) | (_, Self::Nobody) => Self::Nobody,
            (Self::Everyone, audience) | (audience, Self::Everyone) => audience,
            (Self::Only(mut left), Self::Only(right)) => {
                left.retain(|user| right.contains(user));
                if left.is_empty() { Self::Nobody } else { Self::Only(left) }
            }
        }
    }
}
