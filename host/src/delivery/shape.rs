//! What a role gets of a line of the log: plugins and `[visibility]` asked once, the payload encoded once.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};

use super::{RESERVED, holds::Holds, replay::Line, sight::CurrentLead};
use crate::{
    domain::{
        event::{Audience, Content, Event, stamped},
        lead::Lead,
        policy::Visibility,
        role::Role,
        user::User,
    },
    plugin::{Pinned, Plugins, Shaped, Step, Unavailable},
};

/// A failing plugin is asked again about a line after this long, however many sockets wait for it.
pub(super) const HELD_FOR: Duration = Duration::from_millis(200);

/// Something to send: encoded once, whoever gets it.
#[derive(Clone, Debug)]
pub struct Message {
    pub name: Arc<str>,
    pub body: Arc<RawValue>,
}

impl Message {
    pub fn new(name: &str, body: &impl Serialize) -> Self {
        let body = serde_json::value::to_raw_value(body).expect("what we send is plain JSON with text keys");
        Self { name: name.into(), body: body.into() }
    }

    pub fn bytes(&self) -> usize {
        self.name.len() + self.body.get().len()
    }
}

/// What one role gets of one line.
#[derive(Debug)]
pub enum Slice {
    Sent {
        message: Message,
        audience: Audience,
        revoked: Option<Revoked>,
    },
    /// A plugin gave no verdict: nobody of the role gets the line, nor any later one, until it does or there is a hold.
    Held(Unavailable),
    /// There is a hold: nobody of the role gets what is about the lead, and has to fetch again once it is released.
    Withheld,
}

/// A change took a lead out of the sight of some: they are told so in place of the change.
#[derive(Debug)]
pub struct Revoked {
    pub(super) message: Message,
    pub(super) saw_it: Audience,
}

impl Slice {
    /// What a user of the role gets; nothing where the line is not for them.
    pub fn message_for(&self, user: &User) -> Option<&Message> {
        let Self::Sent { message, audience, revoked } = self else { return None };
        if audience.includes(user.id) {
            return Some(message);
        }
        revoked.as_ref().filter(|revoked| revoked.saw_it.includes(user.id)).map(|revoked| &revoked.message)
    }

    /// Whether a user of the role gets the line itself.
    pub fn includes(&self, user: &User) -> bool {
        matches!(self, Self::Sent { audience, .. } if audience.includes(user.id))
    }
}

/// What a user gets of a line that is read again.
#[derive(Debug)]
pub enum Recalled {
    Sent(Message),
    Nothing,
    /// A plugin gave no verdict on the line, or on who sees its lead now.
    Held(Unavailable),
}

/// Who sees a lead, of some roles.
#[derive(Debug)]
pub struct Sight(Vec<(Role, Result<Audience, Unavailable>)>);

impl Sight {
    /// Whether the user is known to see the lead.
    pub fn sees(&self, user: &User) -> bool {
        let audience =
            self.0.iter().find(|(role, _)| *role == user.role).and_then(|(_, audience)| audience.as_ref().ok());
        audience.is_some_and(|audience| audience.includes(user.id))
    }

    /// Whether a plugin did not say who of some role sees the lead.
    pub fn is_held(&self) -> bool {
        self.0.iter().any(|(_, audience)| audience.is_err())
    }
}

/// What has been made of a line: by role, for one generation of plugins.
#[derive(Default)]
pub(super) struct Shapes {
    generation: u64,
    slices: Vec<(Role, Arc<Slice>, Instant)>,
}

pub struct Shaper {
    plugins: Plugins,
    visibility: Visibility,
    epoch: String,
    holds: Option<Arc<Holds>>,
}

impl Shaper {
    pub fn new(plugins: Plugins, visibility: Visibility, epoch: &str) -> Self {
        Self { plugins, visibility, epoch: epoch.into(), holds: None }
    }

    /// The same, which leaves out what is withheld.
    pub fn withholding(self, holds: Arc<Holds>) -> Self {
        Self { holds: Some(holds), ..self }
    }

    /// Told whenever other plugins may be in force.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.plugins.changed()
    }

    /// Takes note of a line that the tail passes.
    pub(super) fn pass(&self, event: &Event) {
        if let Some(holds) = &self.holds {
            holds.pass(event);
        }
    }

    /// The plugins in force now.
    pub fn pinned(&self) -> Pinned {
        self.plugins.pinned()
    }

    /// Which leads a role reads, whatever plugins say.
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// What each of the roles gets of the line; what is known already is not made again.
    pub fn slices(&self, line: &Line, roles: &[Role]) -> Vec<(Role, Arc<Slice>)> {
        self.slices_by(&self.plugins.pinned(), line, roles)
    }

    /// As [`Shaper::slices`], by these plugins.
    pub fn slices_by(&self, plugins: &Pinned, line: &Line, roles: &[Role]) -> Vec<(Role, Arc<Slice>)> {
        let is_withheld = |role: &Role| match (&self.holds, line.event.lead_id) {
            (Some(holds), Some(lead)) => !line.event.is_about_rights() && holds.withholds(*role, lead),
            _ => false,
        };
        let (withheld, roles): (Vec<Role>, Vec<Role>) = roles.iter().copied().partition(is_withheld);
        let withheld = withheld.into_iter().map(|role| (role, Arc::new(Slice::Withheld)));
        self.known_slices(plugins, line, &roles).into_iter().chain(withheld).collect()
    }

    fn known_slices(&self, plugins: &Pinned, line: &Line, roles: &[Role]) -> Vec<(Role, Arc<Slice>)> {
        let generation = plugins.generation();
        let mut shapes = line.shapes.lock();
        if shapes.generation != generation {
            *shapes = Shapes { generation, slices: Vec::new() };
        }
        let now = Instant::now();
        shapes.slices.retain(|(_, slice, at)| !(matches!(**slice, Slice::Held(_)) && now - *at >= HELD_FOR));
        let known = |shapes: &Shapes, role| shapes.slices.iter().any(|(known, ..)| *known == role);
        let missing: Vec<Role> = roles.iter().copied().filter(|role| !known(&shapes, *role)).collect();
        if !missing.is_empty() {
            let made = self.shape(plugins, &line.event, &missing);
            shapes.slices.extend(made.into_iter().map(|(role, slice)| (role, Arc::new(slice), now)));
        }
        let wanted = shapes.slices.iter().filter(|(role, ..)| roles.contains(role));
        wanted.map(|(role, slice, _)| (*role, slice.clone())).collect()
    }

    /// What one role gets of the event by these plugins, if anybody is ever sent such, and how that came about.
    pub(super) fn explain(&self, plugins: &Pinned, event: &Event, role: Role) -> (Option<Slice>, Vec<Step>) {
        if RESERVED.contains(&event.name.as_str()) {
            return (None, Vec::new());
        }
        let (mut shaped, steps) = match event.is_about_rights() {
            true => (vec![(role, whole(event))], Vec::new()),
            false => plugins.explain(&event.name, &event.payload, &event.context, role),
        };
        let slice = shaped.pop().map(|(role, shaped)| self.slice(plugins, event, role, shaped, &mut Vec::new()));
        (slice, steps)
    }

    /// Who of these roles sees the lead: what a read of it would answer.
    pub fn sight(&self, plugins: &Pinned, lead: &Lead, roles: &[Role]) -> Sight {
        let payload = Arc::new(json!({"lead": lead}));
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        let audience = |(role, shaped)| match shaped {
            Shaped::Sent { audience, .. } => (role, Ok(audience.intersect(self.visibility.audience(role, owner)))),
            Shaped::Held { plugin, reason, .. } => (role, Err(Unavailable { plugin, reason })),
        };
        Sight(plugins.shape("lead:read", &payload, &payload, roles).into_iter().map(audience).collect())
    }

    /// Who of a role sees the lead.
    pub(super) fn sight_of_role(&self, plugins: &Pinned, lead: &Lead, role: Role) -> Result<Audience, Unavailable> {
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        // Where `[visibility]` leaves nobody, no plugin can bring somebody back.
        if self.visibility.audience(role, owner) == Audience::Nobody {
            return Ok(Audience::Nobody);
        }
        let Sight(mut audiences) = self.sight(plugins, lead, &[role]);
        audiences.pop().map_or(Ok(Audience::Nobody), |(_, audience)| audience)
    }

    /// What a user gets of a line that is read again: judged as a line of today, and what it tells of a lead also by
    /// who sees the lead as it is now: `current`, where the line has such content.
    pub fn recall(&self, line: &Line, user: &User, current: Option<&CurrentLead>) -> Recalled {
        let (event, plugins) = (&line.event, self.plugins.pinned());
        let slices = self.slices_by(&plugins, line, &[user.role]);
        let Some((_, slice)) = slices.first() else { return Recalled::Nothing };
        if let Slice::Held(unavailable) = &**slice {
            return Recalled::Held(unavailable.clone());
        }
        let Some(message) = slice.message_for(user) else { return Recalled::Nothing };
        let content = event.content().filter(|_| slice.includes(user));
        let (Some(content), Some(current)) = (content, current) else { return Recalled::Sent(message.clone()) };
        match current.is_seen_by(user, self, &plugins) {
            Ok(true) => Recalled::Sent(message.clone()),
            Ok(false) if content == Content::Lead => Recalled::Sent(self.revocation(event)),
            Ok(false) => Recalled::Nothing,
            Err(unavailable) => Recalled::Held(unavailable),
        }
    }

    /// What each of the roles gets of something about a lead that is in no log and bears no number.
    pub fn passing(
        &self,
        plugins: &Pinned,
        name: &str,
        lead: &Lead,
        payload: Value,
        roles: &[Role],
    ) -> Vec<(Role, Slice)> {
        let shaped = plugins.shape(name, &payload.into(), &json!({"lead": lead}), roles);
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        let mut encoded = Vec::new();
        let slice = |(role, shaped)| match shaped {
            Shaped::Sent { payload, audience } => {
                let message = encode_once(&mut encoded, payload, |payload| Message::new(name, payload));
                let audience = audience.intersect(self.visibility.audience(role, owner));
                (role, Slice::Sent { message, audience, revoked: None })
            }
            Shaped::Held { plugin, reason, .. } => (role, Slice::Held(Unavailable { plugin, reason })),
        };
        shaped.into_iter().map(slice).collect()
    }

    /// Lets plugins in shadow mode look at a live event; nothing waits for them.
    pub fn show_shadows(&self, event: &Event) {
        self.plugins.show_event(event);
    }

    fn shape(&self, plugins: &Pinned, event: &Event, roles: &[Role]) -> Vec<(Role, Slice)> {
        if RESERVED.contains(&event.name.as_str()) {
            return Vec::new();
        }
        let shaped = match event.is_about_rights() {
            // Plugins decide about leads; that a right was taken is told whatever they think of it.
            true => roles.iter().map(|role| (*role, whole(event))).collect(),
            false => plugins.shape(&event.name, &event.payload, &event.context, roles),
        };
        let mut encoded: Vec<(Arc<Value>, Message)> = Vec::new();
        let slice = |(role, shaped)| (role, self.slice(plugins, event, role, shaped, &mut encoded));
        shaped.into_iter().map(slice).collect()
    }

    fn slice(
        &self,
        plugins: &Pinned,
        event: &Event,
        role: Role,
        shaped: Shaped,
        encoded: &mut Vec<(Arc<Value>, Message)>,
    ) -> Slice {
        let (payload, audience) = match shaped {
            Shaped::Sent { payload, audience } => (payload, audience),
            Shaped::Held { plugin, reason, .. } => return Slice::Held(Unavailable { plugin, reason }),
        };
        let seen = audience.clone().intersect(event.audience(&self.visibility, role));
        let revoked = match self.revoked(plugins, event, role, &audience, &seen) {
            Ok(revoked) => revoked,
            Err(unavailable) => return Slice::Held(unavailable),
        };
        let stamp = |payload: &Value| Message::new(&event.name, &stamped(payload, event.seq, &self.epoch));
        Slice::Sent { message: encode_once(encoded, payload, stamp), audience: seen, revoked }
    }

    /// Whom a change leaves out although they saw the lead as it was before: by plugins and `[visibility]` together.
    ///
    /// `passed` is who passes the plugins of the lead as it is now, `seen` who of them `[visibility]` leaves.
    fn revoked(
        &self,
        plugins: &Pinned,
        event: &Event,
        role: Role,
        passed: &Audience,
        seen: &Audience,
    ) -> Result<Option<Revoked>, Unavailable> {
        let Some(before) = event.context.get("before").filter(|_| *seen != Audience::Everyone) else {
            return Ok(None);
        };
        let owner = before.pointer("/owner/id").and_then(Value::as_str).and_then(|id| id.parse().ok());
        let was_visible = self.visibility.audience(role, owner);
        if *passed == Audience::Everyone && was_visible == *seen {
            // Neither took anything away.
            return Ok(None);
        }
        let mut payload = Value::clone(&event.payload);
        if let Some(lead) = payload.get_mut("lead") {
            *lead = before.clone();
        }
        let mut shaped = plugins.shape(&event.name, &payload.into(), &json!({"lead": before}), &[role]);
        let saw_it = match shaped.pop() {
            Some((_, Shaped::Sent { audience, .. })) => audience.intersect(was_visible),
            Some((_, Shaped::Held { plugin, reason, .. })) => return Err(Unavailable { plugin, reason }),
            None => return Ok(None),
        };
        if saw_it == *seen || saw_it == Audience::Nobody {
            return Ok(None);
        }
        Ok(Some(Revoked { message: self.revocation(event), saw_it }))
    }

    /// What is told in the place of an event of a lead that is out of sight.
    pub fn revocation(&self, event: &Event) -> Message {
        let payload = json!({"leadId": event.lead_id, "timestamp": event.at});
        Message::new("lead:revoked", &stamped(&payload, event.seq, &self.epoch))
    }
}

/// Roles whose edits are equal share one payload, and so one encoding.
fn encode_once(
    encoded: &mut Vec<(Arc<Value>, Message)>,
    payload: Arc<Value>,
    encode: impl FnOnce(&Value) -> Message,
) -> Message {
    if let Some((_, message)) = encoded.iter().find(|(known, _)| Arc::ptr_eq(known, &payload)) {
        return message.clone();
    }
    let message = encode(&payload);
    encoded.push((payload, message.clone()));
    message
}

fn whole(event: &Event) -> Shaped {
    Shaped::Sent { payload: event.payload.clone(), audience: Audience::Everyone }
}
