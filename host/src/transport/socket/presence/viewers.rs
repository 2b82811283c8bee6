//! Makes the list of who looks at a lead, as each role may have it, and sees to it that it is told.

use std::{cmp::Ordering, future::pending, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json, value::RawValue};
use tokio::{select, task::yield_now, time::sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Presence, roster::Present};
use crate::{
    app::{self, App},
    delivery::shape::{Message, Shaper, Sight, Slice},
    domain::{
        event::Actor,
        id::{LeadId, UserId},
        lead::Lead,
        role::Role,
        time::Timestamp,
        user::User,
    },
    store,
};

/// So many of those who look at a lead are named; `total` counts them all.
const MAX_NAMED: usize = 100;

/// Who is here, for those who may know. Clones share one.
#[derive(Clone)]
pub struct Viewers {
    presence: Arc<Presence>,
    app: App,
    shaper: Arc<Shaper>,
}

/// Somebody who is online.
#[derive(Clone, Debug, Serialize)]
pub struct Online {
    id: UserId,
    name: String,
    online: bool,
    since: Timestamp,
}

/// A lead's viewers, as each role may have them.
pub(super) struct Told {
    sight: Sight,
    slices: Vec<(Role, Slice)>,
}

impl Viewers {
    pub(in crate::transport::socket) fn new(presence: Arc<Presence>, app: App, shaper: Arc<Shaper>) -> Self {
        Self { presence, app, shaper }
    }

    /// Everybody who is online, by name.
    pub fn online(&self) -> Vec<Online> {
        let mut present = self.presence.online();
        present.sort_unstable_by(|left, right| by_name(&left.user, &right.user));
        let online = |Present { user, since }| Online { id: user.id, name: user.name.clone(), online: true, since };
        present.into_iter().map(online).collect()
    }

    /// Who looks at a lead, for a user who asks: the payload of `lead:viewers`.
    ///
    /// # Errors
    /// `NotFound` where the lead is out of the user's sight, `Forbidden` where plugins keep its viewers from them.
    pub async fn of(&self, user: &User, lead: LeadId) -> app::Result<Arc<RawValue>> {
        self.app.lead(&Actor::from(user), lead).await?;
        let lead = self.lead(lead).await?.ok_or(app::Error::NotFound("lead"))?;
        let told = self.judge(&lead, &[user.role]);
        if let Some(message) = told.message_for(user) {
            return Ok(message.body.clone());
        }
        match told.slices.into_iter().next() {
            Some((_, Slice::Held(unavailable))) => Err(unavailable.into()),
            _ => {
                let message = "a plugin keeps from you who looks at this lead".into();
                Err(app::Error::Forbidden { code: "forbidden", message })
            }
        }
    }

    /// How many leads are looked at by sockets of this node, whether or not they are there.
    pub fn watched(&self) -> usize {
        self.presence.watched()
    }

    /// Tells those who look at leads of one another, until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        stop.run_until_cancelled(self.tell_all()).await;
    }

    async fn tell_all(&self) {
        let mut plugins = self.app.plugins().changed();
        loop {
            if plugins.has_changed().unwrap_or(false) {
                plugins.borrow_and_update();
                self.presence.note_all();
            }
            let due = match self.presence.next() {
                Ok(lead) => {
                    self.tell(lead).await;
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
                    changed.expect("the plugins are ours");
                    self.presence.note_all();
                }
            }
        }
    }

    /// Tells those who look at a lead who they are, as far as that is another list than they know.
    async fn tell(&self, lead: LeadId) {
        let Some(begun) = self.presence.begin(lead) else { return };
        match self.lead(lead).await {
            Ok(found) => {
                let told = found.map(|found| self.judge(&found, &self.presence.roles(lead)));
                self.presence.finish(lead, begun, told.as_ref()).await;
            }
            Err(error) => {
                debug!(%lead, "cannot read a lead to tell who looks at it, trying again: {error}");
                self.presence.postpone(lead);
            }
        }
    }

    async fn lead(&self, id: LeadId) -> Result<Option<Lead>, store::Error> {
        self.app.store().read().await?.lead(id).await
    }

    /// What those of each role get to know of who looks at a lead.
    fn judge(&self, lead: &Lead, roles: &[Role]) -> Told {
        let mut viewers = self.presence.viewers(lead.id);
        let plugins = self.shaper.pinned();
        let mut concerned: Vec<Role> = roles.iter().copied().chain(viewers.iter().map(|user| user.role)).collect();
        concerned.sort_unstable();
        concerned.dedup();
        let sight = self.shaper.sight(&plugins, lead, &concerned);
        // Whoever may not see the lead listens at an empty room, and looks at nothing.
        viewers.retain(|user| sight.sees(user));
        let slices = self.shaper.passing(&plugins, "lead:viewers", lead, payload(lead.id, viewers), roles);
        Told { sight, slices }
    }
}

impl Told {
    pub(super) fn message_for(&self, user: &User) -> Option<&Message> {
        let (_, slice) = self.slices.iter().find(|(role, _)| *role == user.role)?;
        slice.message_for(user).filter(|_| self.sight.sees(user))
    }

    /// Whether somebody cannot be told, or told of, before a plugin answers.
    pub(super) fn is_held(&self) -> bool {
        self.sight.is_held() || self.slices.iter().any(|(_, slice)| matches!(slice, Slice::Held(_)))
    }
}

/// The first by name, and how many there are: however many look at a lead, the list stays short.
fn payload(lead: LeadId, mut viewers: Vec<Arc<User>>) -> Value {
    let total = viewers.len();
    if total > MAX_NAMED {
        viewers.select_nth_unstable_by(MAX_NAMED, |left, right| by_name(left, right));
        viewers.truncate(MAX_NAMED);
    }
    viewers.sort_unstable_by(|left, right| by_name(left, right));
    let users: Vec<Value> = viewers.iter().map(|user| json!({"id": user.id, "name": user.name})).collect();
    json!({"leadId": lead, "users": users, "total": total})
}

fn by_name(left: &User, right: &User) -> Ordering {
    (&left.name, left.id).cmp(&(&right.name, right.id))
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn of_many_the_first_by_name_are_listed_and_all_are_counted() {
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
