//! Rooms: the addresses of events. A room is everyone, one user, or the followers of one lead.

use std::{fmt, str::FromStr};

use super::id::{LeadId, UserId};

/// Maximum length of a lead room's name. Any text is accepted, so that a room reveals nothing about the database.
pub const MAX_LEAD_ROOM_CHARS: usize = 128;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Room {
    Everyone,
    User(UserId),
    Lead(String),
}

impl Room {
    /// Lead of the room, if the room is a lead's and its text is an id.
    pub fn lead(&self) -> Option<LeadId> {
        match self {
            Self::Lead(lead) => lead.parse().ok(),
            Self::Everyone | Self::User(_) => None,
        }
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Everyone => f.write_str("org:global"),
            Self::User(id) => write!(f, "user:{id}"),
            Self::Lead(id) => write!(f, "lead:{id}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a room: expected org:global, user:<id> or lead:<id>")]
pub struct UnknownRoom(pub String);

impl FromStr for Room {
    type Err = UnknownRoom;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || UnknownRoom(text.into());
        match text.split_once(':').ok_or_else(unknown)? {
            ("org", "global") => Ok(Self::Everyone),
            ("user", id) => id.parse().map(Self::User).map_err(|_| unknown()),
            ("lead", id) if !id.is_empty() => Ok(Self::Lead(id.into())),
            _ => Err(unknown()),
        }
    }
}
