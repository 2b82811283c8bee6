//! Shaping: computes the slice of a line of the log that each role gets. Plugins and `[visibility]` are asked once, and
//! the payload is encoded once.

use std::{sync::Arc, time::Instant};

use serde_json::{Value, json};

use crate::{
    delivery::{
        current_leads::{AudienceVerdict, CurrentLead, HELD_FOR},
        holds::Holds,
        line::{LogLine, Message, Recalled, Revoked, Shapes, Slice},
    },
    domain::{
        audience::Audience,
        event::{Event, EventContent, stamped},
        event_name::{EventName, SOCKET_IO_RESERVED},
        id::Epoch,
        lead::Lead,
        policy::Visibility,
        role::Role,
        user::User,
    },
    plugin::{PinnedSet, Plugins, Shaped, TraceStep, Unavailable},
};

/// Users of some roles who see a lead.
#[derive(Debug)]
pub struct LeadAudience(Vec<(Role, Result<Audience, Unavailable>)>);

impl LeadAudience {
    /// Returns true if the user is known to see the lead.
    pub fn sees(&self, user: &User) -> bool {
        let audience =
            self.0.iter().find(|(role, _)| *role == user.role).and_then(|(_, audience)| audience.as_ref().ok());
        audience.is_some_and(|audience| audience.includes(user.id))
    }

    /// Returns true if a plugin gave no verdict on who of some role sees the lead.
    pub fn is_held(&self) -> bool {
        self.0.iter().any(|(_, audience)| audience.is_err())
    }
}

pub struct Shaper {
    plugins: Plugins,
    visibility: Visibility,
    epoch: Epoch,
    holds: Option<Arc<Holds>>,
}

impl Shaper {
    pub fn new(plugins: Plugins, visibility: Visibility, epoch: &Epoch) -> Self {
        Self { plugins, visibility, epoch: epoch.clone(), holds: None }
    }

    /// Makes the shaper leave out what `holds` withholds.
    pub fn withholding(self, holds: Arc<Holds>) -> Self {
        Self { holds: Some(holds), ..self }
    }

    /// Signals whenever other plugins may be in force.
    pub fn changed(&self) -> tokio::sync::watch::Receiver<u64> {
        self.plugins.changed()
    }

    /// Applies a line that the tail passes to the holds.
    pub(crate) fn pass(&self, event: &Event) {
        if let Some(holds) = &self.holds {
            holds.pass(event);
        }
    }

    /// Returns the plugins in force now.
    pub fn pinned(&self) -> PinnedSet {
        self.plugins.pinned()
    }

    /// Returns the configured visibility: which leads a role reads, regardless of plugins.
    pub fn visibility(&self) -> Visibility {
        self.visibility
    }

    /// Returns the slice of the line for each of the roles; a slice that is known already is not made again.
    pub fn slices(&self, line: &LogLine, roles: &[Role]) -> Vec<(Role, Arc<Slice>)> {
        self.slices_by(&self.plugins.pinned(), line, roles)
    }

    /// Same as [`Shaper::slices`], by these plugins.
    pub fn slices_by(&self, plugins: &PinnedSet, line: &LogLine, roles: &[Role]) -> Vec<(Role, Arc<Slice>)> {
        walk_step!("slices_by");
        let is_withheld = |role: &Role| match (&self.holds, line.event.lead_id) {
            (Some(holds), Some(lead)) => !line.event.is_about_rights() && holds.withholds(*role, lead),
            _ => false,
        };
        let (withheld, roles): (Vec<Role>, Vec<Role>) = roles.iter().copied().partition(is_withheld);
        let withheld = withheld.into_iter().map(|role| (role, Arc::new(Slice::Withheld)));
        self.known_slices(plugins, line, &roles).into_iter().chain(withheld).collect()
    }

    fn known_slices(&self, plugins: &PinnedSet, line: &LogLine, roles: &[Role]) -> Vec<(Role, Arc<Slice>)> {
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

    /// Returns the slice of the event for one role by these plugins, if such events are sent to anybody, and the steps
    /// that led to it.
    pub(crate) fn explain(&self, plugins: &PinnedSet, event: &Event, role: Role) -> (Option<Slice>, Vec<TraceStep>) {
        if SOCKET_IO_RESERVED.contains(&event.name.as_str()) {
            return (None, Vec::new());
        }
        let (mut shaped, steps) = if event.is_about_rights() {
            (vec![(role, whole(event))], Vec::new())
        } else {
            plugins.explain(&event.name, &event.payload, &event.context, role)
        };
        let slice = shaped.pop().map(|(role, shaped)| self.slice(plugins, event, role, shaped, &mut Vec::new()));
        (slice, steps)
    }

    /// Returns who of these roles sees the lead: the answer that a read of it would give.
    pub fn lead_audience(&self, plugins: &PinnedSet, lead: &Lead, roles: &[Role]) -> LeadAudience {
        let payload = Arc::new(json!({"lead": lead}));
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        let audience = |(role, shaped)| match shaped {
            Shaped::Sent { audience, .. } => (role, Ok(audience.intersect(self.visibility.audience(role, owner)))),
            Shaped::Held { plugin, reason, .. } => (role, Err(Unavailable { plugin, reason })),
        };
        LeadAudience(
            plugins.shape(EventName::LeadRead.as_str(), &payload, &payload, roles).into_iter().map(audience).collect(),
        )
    }

    /// Returns who of a role sees the lead.
    pub(crate) fn audience_of_role(
        &self,
        plugins: &PinnedSet,
        lead: &Lead,
        role: Role,
    ) -> Result<Audience, Unavailable> {
        let owner = lead.owner.as_ref().map(|owner| owner.id);
        // Where `[visibility]` leaves nobody, no plugin can add anybody.
        if self.visibility.audience(role, owner) == Audience::Nobody {
            return Ok(Audience::Nobody);
        }
        let LeadAudience(mut audiences) = self.lead_audience(plugins, lead, &[role]);
        audiences.pop().map_or(Ok(Audience::Nobody), |(_, audience)| audience)
    }

    /// Returns what a user gets of a replayed line. It is judged like a line of today; its content of a lead, if it has
    /// any, is also judged by who sees the lead as it is now (`current`).
    pub fn recall(&self, line: &LogLine, user: &User, current: Option<&CurrentLead>) -> Recalled {
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
            Ok(false) if content == EventContent::Lead => Recalled::Sent(self.revocation(event)),
            Ok(false) => Recalled::Nothing,
            Err(unavailable) => Recalled::Held(unavailable),
        }
    }

    /// Shapes an ephemeral message about a lead, which is in no log and has no seq, for each of the roles.
    pub fn shape_ephemeral(
        &self,
        plugins: &PinnedSet,
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

    /// Shows a live event to plugins in shadow mode; nothing waits for them.
    pub fn show_shadows(&self, event: &Event) {
        self.plugins.show_event(event);
    }

    fn shape(&self, plugins: &PinnedSet, event: &Event, roles: &[Role]) -> Vec<(Role, Slice)> {
        if SOCKET_IO_RESERVED.contains(&event.name.as_str()) {
            return Vec::new();
        }
        let shaped = if event.is_about_rights() {
            // Plugins decide about leads. A notice that a right was taken away is sent regardless of them.
            roles.iter().map(|role| (*role, whole(event))).collect()
        } else {
            plugins.shape(&event.name, &event.payload, &event.context, roles)
        };
        let mut encoded: Vec<(Arc<Value>, Message)> = Vec::new();
        let slice = |(role, shaped)| (role, self.slice(plugins, event, role, shaped, &mut encoded));
        shaped.into_iter().map(slice).collect()
    }

    fn slice(
        &self,
        plugins: &PinnedSet,
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

    /// Computes which users saw the lead as it was before a change and do not see the change, by plugins and
    /// `[visibility]` together.
    ///
    /// `passed` is the audience that the plugins leave for the lead as it is now, `seen` what `[visibility]` leaves of
    /// it.
    fn revoked(
        &self,
        plugins: &PinnedSet,
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

    /// Creates the message that replaces an event of a lead that is no longer visible.
    pub fn revocation(&self, event: &Event) -> Message {
        let payload = json!({"leadId": event.lead_id, "timestamp": event.at});
        Message::new(EventName::LeadRevoked.as_str(), &stamped(&payload, event.seq, &self.epoch))
    }
}

/// Encodes each payload once: roles whose edits are equal share one payload, and so one encoding.
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

impl CurrentLead {
    /// Returns true if the user sees the lead.
    ///
    /// # Errors
    /// When a plugin that has to decide this gives no verdict.
    pub fn is_seen_by(&self, user: &User, shaper: &Shaper, plugins: &PinnedSet) -> Result<bool, Unavailable> {
        self.audience(user.role, shaper, plugins).map(|audience| audience.includes(user.id))
    }

    /// Returns who of a role sees the lead; a verdict is cached for its generation of plugins.
    pub(crate) fn audience(&self, role: Role, shaper: &Shaper, plugins: &PinnedSet) -> Result<Audience, Unavailable> {
        let Some(lead) = &self.lead else { return Ok(Audience::Nobody) };
        let (generation, now) = (plugins.generation(), Instant::now());
        let mut verdicts = self.verdicts.lock();
        verdicts.retain(|verdict| {
            verdict.generation == generation && (verdict.audience.is_ok() || now - verdict.at < HELD_FOR)
        });
        if let Some(known) = verdicts.iter().find(|verdict| verdict.role == role) {
            return known.audience.clone();
        }
        let audience = shaper.audience_of_role(plugins, lead, role);
        verdicts.push(AudienceVerdict { role, generation, audience: audience.clone(), at: now });
        audience
    }
}
