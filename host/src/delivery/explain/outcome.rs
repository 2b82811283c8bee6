//! Parts of an explanation: the outcome of an event for a role or a user, the audience that `[visibility]` leaves,
//! and notes about whom the event is addressed to.

use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    delivery::line::Message,
    domain::{audience::Audience, event::Event, policy::Scope, room::Room, user::User},
};

/// Audience that `[visibility]` of the configuration left.
#[derive(Clone, Debug, Serialize)]
pub struct Narrowed {
    /// Always `visibility`.
    pub by: &'static str,
    pub scope: Scope,
    pub audience: Audience,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ExplainedOutcome {
    /// Sent to all or some of the role, or to the user.
    Sent,
    /// Replaced: the user was told instead that the lead is no longer visible.
    Revoked,
    /// Held back because a plugin gave no verdict; sent later, once there was one.
    Held,
    /// Sent to nobody of the role, or not to the user.
    Withheld,
    /// Events of this kind are sent to nobody.
    Internal,
    /// Only for a replay: a socket that has not got this event is sent `sync:reset` in place of it and all others.
    Reset,
}

#[derive(Clone, Debug, Serialize)]
pub struct RevokedInstead {
    pub audience: Audience,
    pub payload: Value,
}

/// Returns true if the event is for the user's sockets, provided that they are subscribed.
pub(crate) fn is_addressed(event: &Event, user: &User) -> bool {
    event.rooms.iter().any(|room| !matches!(room, Room::User(id) if *id != user.id))
}

/// Returns a note if the event was only for the sockets of one user, or only for the subscribers of one lead.
pub(crate) fn addressed(rooms: &[Room]) -> Option<String> {
    match rooms {
        [Room::User(id)] => Some(format!("it is addressed to the user {id} alone")),
        [Room::Lead(id)] => Some(format!("it is for sockets that had subscribed to lead {id}")),
        _ => None,
    }
}

pub(crate) fn read(message: &Message) -> Value {
    serde_json::from_str(message.body()).unwrap_or_else(|error| json!({"unreadable": error.to_string()}))
}
