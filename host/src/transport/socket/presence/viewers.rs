//! Viewer lists: makes the list of who looks at a lead, as each role may have it, and has it sent. One task does this
//! for all leads.

use std::{future::pending, sync::Arc};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::{select, task::yield_now, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::{
    app::{self, App},
    delivery::{line::Slice, shape::Shaper},
    domain::{
        actor::Actor,
        event_name::EventName,
        id::{LeadId, UserId},
        lead::Lead,
        role::Role,
        time::Timestamp,
        user::User,
    },
    store,
    transport::socket::presence::{
        Presence,
        list::{ViewerList, by_name, payload},
        roster::OnlineUser,
    },
};

/// Presence, for those who may know it. Clones share one.
#[derive(Clone)]
pub struct Viewers {
    presence: Arc<Presence>,
    app: App,
    shaper: Arc<Shaper>,
}

/// User who is online.
#[derive(Clone, Debug, Serialize)]
pub struct Online {
    id: UserId,
    name: String,
    online: bool,
    since: Timestamp,
}

impl Viewers {
    pub(crate) fn new(presence: Arc<Presence>, app: App, shaper: Arc<Shaper>) -> Self {
        Self { presence, app, shaper }
    }

    /// Returns everybody who is online, by name.
    pub fn online(&self) -> Vec<Online> {
        let mut present = self.presence.online();
        present.sort_unstable_by(|left, right| by_name(&left.user, &right.user));
        let online = |OnlineUser { user, since }| Online { id: user.id, name: user.name.clone(), online: true, since };
        present.into_iter().map(online).collect()
    }

    /// Returns who looks at a lead, for a user who asks: the payload of `lead:viewers`.
    ///
    /// # Errors
    /// `NotFound` if the lead is not visible to the user, `Forbidden` if plugins keep its viewers from them.
    pub async fn of(&self, user: &User, lead: LeadId) -> app::Result<Arc<RawValue>> {
        self.app.lead(&Actor::from(user), lead).await?;
        let lead = self.lead(lead).await?.ok_or(app::Error::NotFound("lead"))?;
        let list = self.judge(&lead, &[user.role]);
        if let Some(message) = list.message_for(user) {
            return Ok(message.raw_body().clone());
        }
        match list.slices.into_iter().next() {
            Some((_, Slice::Held(unavailable))) => Err(unavailable.into()),
            _ => {
                let message = "a plugin hides the viewers of this lead from you".into();
                Err(app::Error::Forbidden { code: "forbidden", message })
            }
        }
    }

    /// Returns the number of leads that sockets of this node look at, even if the leads do not exist.
    pub fn watched(&self) -> usize {
        self.presence.watched()
    }

    /// Sends viewer lists to those who look at leads, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.send_lists()).await;
    }

    async fn send_lists(&self) {
        let mut plugins = self.app.plugins().changed();
        loop {
            if plugins.has_changed().unwrap_or(false) {
                plugins.borrow_and_update();
                self.presence.note_all();
            }
            let due = match self.presence.next() {
                Ok(lead) => {
                    self.send_list(lead).await;
                    yield_now().await;
                    continue;
                }
                Err(due) => due,
            };
            let due = async {
                match due {
                    Some(due) => sleep_until(due).await,
                    None => pending().await,
                }
            };
            select! {
                () = due => {}
                () = self.presence.changed() => {}
                changed = plugins.changed() => {
                    changed.expect("self holds the plugins");
                    self.presence.note_all();
                }
            }
        }
    }

    /// Sends the viewers of a lead their list, as far as it is not the one that they know.
    async fn send_list(&self, lead: LeadId) {
        let Some(begun) = self.presence.begin(lead) else { return };
        match self.lead(lead).await {
            Ok(found) => {
                let list = found.map(|found| self.judge(&found, &self.presence.roles(lead)));
                self.presence.finish(lead, begun, list.as_ref()).await;
            }
            Err(error) => {
                debug!(%lead, "cannot read a lead for presence, retrying: {error}");
                self.presence.postpone(lead);
            }
        }
    }

    async fn lead(&self, id: LeadId) -> Result<Option<Lead>, store::Error> {
        self.app.store().read().await?.lead(id).await
    }

    /// Makes the list of who looks at a lead, as each role may have it.
    fn judge(&self, lead: &Lead, roles: &[Role]) -> ViewerList {
        let mut viewers = self.presence.viewers(lead.id);
        let plugins = self.shaper.pinned();
        let mut concerned: Vec<Role> = roles.iter().copied().chain(viewers.iter().map(|user| user.role)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        let audience = self.shaper.lead_audience(&plugins, lead, &concerned);
        // A user who may not see the lead listens to an empty room, and is not a viewer.
        viewers.retain(|user| audience.sees(user));
        let slices = self.shaper.shape_ephemeral(
            &plugins,
            EventName::LeadViewers.as_str(),
            lead,
            payload(lead.id, viewers),
            roles,
        );
        ViewerList { audience, slices }
    }
}

#[cfg(test)]
mod tests {
    use crate::transport::socket::presence::list::MAX_NAMED;
    use uuid::Uuid;

    use super::*;
    use serde_json::json;

    #[test]
    fn a_long_viewer_list_is_truncated_by_name_with_the_full_count() {
        let at = Timestamp::from_millis(0).expect("in range");
        let user = |number: u128| {
            let (id, name) = (UserId(Uuid::from_u128(1000 - number)), format!("{:03}", number / 2));
            let email = String::new();
            Arc::new(User { id, email, name, role: Role::Sales, active: true, created_at: at, updated_at: at })
        };
        let list = payload(LeadId(Uuid::nil()), (0..300).rev().map(user).collect());
        let names: Vec<&str> =
            list["users"].as_array().expect("users").iter().filter_map(|user| user["name"].as_str()).collect();
        let expected: Vec<String> = (0..MAX_NAMED).map(|number| format!("{:03}", number / 2)).collect();
        assert_eq!((names, &list["total"]), (expected.iter().map(String::as_str).collect(), &json!(300)));
        assert_eq!(list["users"][0]["id"], json!(Uuid::from_u128(999)), "by id where names are the same");
    }
}
