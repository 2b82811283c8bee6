//! Log lines as delivery handles them: an event, the slice of it that each role gets, and the encoded message that
//! sockets are sent.

use std::{sync::Arc, time::Instant};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::{
    domain::{
        audience::Audience,
        counter::Generation,
        event::{Event, size_in_memory},
        id::LeadId,
        role::Role,
        user::User,
    },
    plugin::Unavailable,
};

/// Line of the log, with the slices that were shaped of it.
pub struct LogLine {
    pub event: Event,
    pub(crate) shapes: Mutex<Shapes>,
    pub(crate) weight: u64,
}

impl LogLine {
    pub fn new(event: Event) -> Self {
        // The event itself, and about as much again for each of two encoded forms.
        let weight = 1024 + 3 * (size_in_memory(&event.payload) + size_in_memory(&event.context));
        Self { event, shapes: Mutex::default(), weight }
    }

    /// Returns the lead of which the line has more content than its id.
    pub fn lead_in_content(&self) -> Option<LeadId> {
        self.event.content().and(self.event.lead_id)
    }
}

/// Message to send, encoded once for all its recipients.
#[derive(Clone, Debug)]
pub struct Message {
    pub name: Arc<str>,
    pub body: Arc<RawValue>,
}

impl Message {
    pub fn new(name: &str, body: &impl Serialize) -> Self {
        let body = serde_json::value::to_raw_value(body).expect("payloads are plain JSON with string keys");
        Self { name: name.into(), body: body.into() }
    }

    pub fn bytes(&self) -> usize {
        self.name.len() + self.body.get().len()
    }
}

/// Part of a line that one role gets.
#[derive(Debug)]
pub enum Slice {
    Sent {
        message: Message,
        audience: Audience,
        revoked: Option<Revoked>,
    },
    /// Held back because a plugin gave no verdict: nobody of the role gets the line, nor any later one, until the
    /// plugin gives one or there is a hold.
    Held(Unavailable),
    /// Withheld by a hold: nobody of the role gets what is about the lead; each has to fetch again once the hold is
    /// released.
    Withheld,
}

/// Notice for users to whom a change made a lead invisible; they get it in place of the change.
#[derive(Debug)]
pub struct Revoked {
    pub(crate) message: Message,
    pub(crate) saw_it: Audience,
}

impl Slice {
    /// Returns what a user of the role gets; `None` if the line is not for them.
    pub fn message_for(&self, user: &User) -> Option<&Message> {
        let Self::Sent { message, audience, revoked } = self else { return None };
        if audience.includes(user.id) {
            return Some(message);
        }
        revoked.as_ref().filter(|revoked| revoked.saw_it.includes(user.id)).map(|revoked| &revoked.message)
    }

    /// Returns true if a user of the role gets the line itself.
    pub fn includes(&self, user: &User) -> bool {
        matches!(self, Self::Sent { audience, .. } if audience.includes(user.id))
    }
}

/// Part of a replayed line that a user gets.
#[derive(Debug)]
pub enum Recalled {
    Sent(Message),
    Nothing,
    /// A plugin gave no verdict on the line, or on who sees its lead now.
    Held(Unavailable),
}

/// Slices that were shaped of a line, per role, for one generation of plugins.
#[derive(Default)]
pub(crate) struct Shapes {
    pub(crate) generation: Generation,
    pub(crate) slices: Vec<(Role, Arc<Slice>, Instant)>,
}
