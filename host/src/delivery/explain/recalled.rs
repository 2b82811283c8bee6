//! Verdict on an event for a socket that catches up now: by the plugins and `[visibility]` in force, and by who sees
//! the lead today.

use serde::Serialize;
use serde_json::Value;

use crate::{
    delivery::{
        current_leads::CurrentLead,
        explain::outcome::{ExplainedOutcome, is_addressed, read},
        line::{Message, Slice},
        shape::Shaper,
    },
    domain::{
        audience::Audience,
        counter::{Generation, Seq},
        event::{Event, EventContent, InForce},
        id::Epoch,
        role::Role,
        user::User,
    },
    plugin::{PinnedSet, Plugins},
    store::{self, handle},
};

/// Verdict of a replay.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Replayed {
    /// Generation of the plugin set in force now.
    pub generation: Generation,
    pub outcome: ExplainedOutcome,
    /// Users of the role who are sent the event itself.
    pub audience: Audience,
    pub payload: Option<Value>,
    /// Reason why it is not sent, or not as it was sent live.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Rules that decide about a replay now.
pub(crate) struct CurrentRules {
    pub(crate) in_force: InForce,
    role: Role,
    user: Option<User>,
    /// Lead that the event has content of.
    lead: Option<CurrentLead>,
    /// Newest reset line of the role; `rights` is the newest line about the user's rights.
    reset: Seq,
    rights: Seq,
}

impl CurrentRules {
    /// Reads the rules; `None` if the log does not record what is in force.
    pub(crate) async fn read(
        reader: &mut handle::Reader,
        event: &Event,
        role: Role,
        user: Option<&User>,
    ) -> store::Result<Option<Self>> {
        let Some(switch) = reader.switch_before(Seq::END).await? else { return Ok(None) };
        let lead = match event.content().and(event.lead_id) {
            Some(id) => Some(CurrentLead::new(reader.lead(id).await?)),
            None => None,
        };
        let reset = reader.newest_reset(role).await?;
        let rights = match user {
            Some(user) => reader.rights_seq(user.id).await?,
            None => Seq::START,
        };
        Ok(Some(Self { in_force: switch.in_force, role, user: user.cloned(), lead, reset, rights }))
    }

    /// Shapes the event as a replay does.
    pub(crate) fn replay(self, event: &Event, plugins: &PinnedSet, epoch: &Epoch) -> Replayed {
        let InForce { generation, visibility } = self.in_force;
        let verdict = |outcome, audience, payload: Option<&Message>, reason: Option<String>| Replayed {
            generation,
            outcome,
            audience,
            payload: payload.map(read),
            reason,
        };
        let not_sent = |outcome, reason| verdict(outcome, Audience::Nobody, None, reason);
        if event.rooms.is_empty() {
            return not_sent(ExplainedOutcome::Internal, None);
        }
        if let Some(reason) = self.cannot_be_reached(event.seq) {
            return not_sent(ExplainedOutcome::Reset, Some(reason));
        }

        let shaper = Shaper::new(Plugins::none(), visibility, epoch);
        let (slice, _) = shaper.explain(plugins, event, self.role);
        let (message, audience, revoked) = match slice {
            None => return not_sent(ExplainedOutcome::Internal, None),
            Some(Slice::Held(unavailable)) => return not_sent(ExplainedOutcome::Held, Some(unavailable.to_string())),
            Some(Slice::Withheld) => return not_sent(ExplainedOutcome::Held, None),
            Some(Slice::Sent { message, audience, revoked }) => (message, audience, revoked),
        };
        let seen_today =
            self.lead.as_ref().map_or(Ok(Audience::Everyone), |lead| lead.audience(self.role, &shaper, plugins));
        let seen_today = match seen_today {
            Ok(seen_today) => seen_today,
            Err(unavailable) => return not_sent(ExplainedOutcome::Held, Some(unavailable.to_string())),
        };
        let seen = audience.clone().intersect(seen_today);
        let instead =
            event.content().filter(|content| *content == EventContent::Lead).map(|_| shaper.revocation(event));

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
            (true, true) => verdict(ExplainedOutcome::Sent, seen, Some(&message), None),
            (true, false) => match &instead {
                Some(instead) => verdict(ExplainedOutcome::Revoked, seen, Some(instead), out_of_sight()),
                None => verdict(ExplainedOutcome::Withheld, seen, None, out_of_sight()),
            },
            (false, _) => match revoked.filter(|_| was_revoked) {
                Some(revoked) => verdict(ExplainedOutcome::Revoked, seen, Some(&revoked.message), None),
                None => verdict(ExplainedOutcome::Withheld, seen, None, None),
            },
        }
    }

    /// Returns the reason why no replay reaches back to `seq`, if none does.
    fn cannot_be_reached(&self, seq: Seq) -> Option<String> {
        if seq <= self.rights {
            return Some(format!("the user has had the rights of today since event {}", self.rights));
        }
        let reason = || format!("plugins, [visibility] or withheld leads changed with event {}", self.reset);
        (seq <= self.reset).then(reason)
    }

    fn out_of_sight(&self) -> &'static str {
        if self.lead.as_ref().is_some_and(CurrentLead::is_gone) {
            "the lead is deleted"
        } else {
            "the lead is hidden now"
        }
    }
}
