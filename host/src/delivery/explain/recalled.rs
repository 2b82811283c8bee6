//! What a socket that catches up is sent of an event now: by the plugins and `[visibility]` in force, and by who sees
//! the lead today.

use serde::Serialize;
use serde_json::Value;

use super::{Outcome, is_addressed, read};
use crate::{
    delivery::{
        shape::{Message, Shaper, Slice},
        sight::CurrentLead,
    },
    domain::{
        event::{Audience, Content, Event, InForce},
        role::Role,
        user::User,
    },
    plugin::{Pinned, Plugins},
    store,
};

/// The verdict of a replay.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// The set of plugins in force now.
    pub generation: u64,
    pub outcome: Outcome,
    /// Who of the role is sent the event itself.
    pub audience: Audience,
    pub payload: Option<Value>,
    /// Why it is not what it was when it was live, or not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What decides about a replay now.
pub(super) struct Today {
    pub(super) in_force: InForce,
    role: Role,
    user: Option<User>,
    /// The lead that the event tells of.
    lead: Option<CurrentLead>,
    /// The newest reset line of the role, and the newest line about the user's rights.
    reset: u64,
    rights: u64,
}

impl Today {
    /// Nothing where it is not written down what is in force.
    pub(super) async fn read(
        reader: &mut store::Reader,
        event: &Event,
        role: Role,
        user: Option<&User>,
    ) -> store::Result<Option<Self>> {
        let Some(switch) = reader.switch_before(u64::MAX).await? else { return Ok(None) };
        let lead = match event.content().and(event.lead_id) {
            Some(id) => Some(CurrentLead::new(reader.lead(id).await?)),
            None => None,
        };
        let resets = reader.resets().await?;
        let reset = resets.iter().find(|(of, _)| *of == role).map_or(0, |(_, seq)| *seq);
        let rights = match user {
            Some(user) => reader.rights_seq(user.id).await?,
            None => 0,
        };
        Ok(Some(Self { in_force: switch.in_force, role, user: user.cloned(), lead, reset, rights }))
    }

    /// Shapes the event as a replay does.
    pub(super) fn tell(self, event: &Event, plugins: &Pinned, epoch: &str) -> Replayed {
        let InForce { generation, visibility } = self.in_force;
        let verdict = |outcome, audience, payload: Option<&Message>, reason: Option<String>| Replayed {
            generation,
            outcome,
            audience,
            payload: payload.map(|message| read(&message.body)),
            reason,
        };
        let not_sent = |outcome, reason| verdict(outcome, Audience::Nobody, None, reason);
        if event.rooms.is_empty() {
            return not_sent(Outcome::Internal, None);
        }
        if let Some(reason) = self.cannot_be_reached(event.seq) {
            return not_sent(Outcome::Reset, Some(reason));
        }

        let shaper = Shaper::new(Plugins::none(), visibility, epoch);
        let (slice, _) = shaper.explain(plugins, event, self.role);
        let (message, audience, revoked) = match slice {
            None => return not_sent(Outcome::Internal, None),
            Some(Slice::Held(unavailable)) => return not_sent(Outcome::Held, Some(unavailable.to_string())),
            Some(Slice::Withheld) => return not_sent(Outcome::Held, None),
            Some(Slice::Sent { message, audience, revoked }) => (message, audience, revoked),
        };
        let sight =
            self.lead.as_ref().map_or(Ok(Audience::Everyone), |lead| lead.audience(self.role, &shaper, plugins));
        let sight = match sight {
            Ok(sight) => sight,
            Err(unavailable) => return not_sent(Outcome::Held, Some(unavailable.to_string())),
        };
        let seen = audience.clone().intersect(sight);
        let instead = event.content().filter(|content| *content == Content::Lead).map(|_| shaper.revocation(event));

        let (was_meant, is_seen, was_revoked) = match &self.user {
            None => (audience != Audience::Nobody, seen != Audience::Nobody, false),
            Some(user) if !is_addressed(event, user) => (false, false, false),
            Some(user) => {
                let revoked = revoked.as_ref().is_some_and(|revoked| revoked.saw_it.includes(user.id));
                (audience.includes(user.id), seen.includes(user.id), revoked)
            }
        };
        let out_of_sight = || Some(self.out_of_sight().to_owned());
        match (was_meant, is_seen) {
            (true, true) => verdict(Outcome::Sent, seen, Some(&message), None),
            (true, false) => match &instead {
                Some(instead) => verdict(Outcome::Revoked, seen, Some(instead), out_of_sight()),
                None => verdict(Outcome::Withheld, seen, None, out_of_sight()),
            },
            (false, _) => match revoked.filter(|_| was_revoked) {
                Some(revoked) => verdict(Outcome::Revoked, seen, Some(&revoked.message), None),
                None => verdict(Outcome::Withheld, seen, None, None),
            },
        }
    }

    /// Why no replay reaches that far back, if none does.
    fn cannot_be_reached(&self, seq: u64) -> Option<String> {
        if seq <= self.rights {
            return Some(format!("the user has had the rights of today since event {}", self.rights));
        }
        let reason = || format!("what is in force, or was withheld, changed with event {}", self.reset);
        (seq <= self.reset).then(reason)
    }

    fn out_of_sight(&self) -> &'static str {
        match self.lead.as_ref().is_some_and(CurrentLead::is_gone) {
            true => "the lead is deleted",
            false => "the lead is out of sight now",
        }
    }
}
