//! Access policy: who may do what, and who may see what.
//!
//! Pure tables, checked before anything is changed.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::domain::{
    activity::Activity,
    actor::{Actor, ActorKind},
    audience::Audience,
    id::UserId,
    lead::Lead,
    role::Role,
};

/// A command, reduced to what permissions depend on.
#[derive(Clone, Copy, Debug)]
pub enum Action<'a> {
    CreateLead,
    UpdateLead(&'a Lead),
    DeleteLead,
    RestoreLead,
    /// The lead, and its new owner.
    AssignLead(&'a Lead, Option<UserId>),
    CreateActivity,
    /// Change or deletion of an activity.
    ChangeActivity(&'a Activity),
    Administer,
}

/// Reason of a refusal, for people.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Forbidden(pub &'static str);

/// Permission table. Whether the actor may read the lead is checked beforehand, by [`Visibility`].
pub fn may(actor: &Actor, deed: Action<'_>) -> Result<(), Forbidden> {
    use ActorKind::{Plugin, User};
    use Role::{Admin, Manager, Sales, Viewer};

    let unless = |allowed: bool, why| if allowed { Ok(()) } else { Err(Forbidden(why)) };
    match (deed, actor.kind) {
        (Action::Administer, kind) => unless(kind == User(Admin), "only an administrator may do this"),
        (Action::ChangeActivity(activity), _) if activity.fields.kind.is_servers() => {
            Err(Forbidden("an activity written by the server cannot be changed"))
        }
        (_, User(Viewer)) => Err(Forbidden("a viewer may not change anything")),
        // The operator grants which of these a plugin may request; that was checked before its effect gets here.
        (Action::UpdateLead(_) | Action::AssignLead(..) | Action::CreateActivity, Plugin) => Ok(()),
        (_, Plugin) => Err(Forbidden("a plugin may only change and assign leads and add activities")),
        (_, User(Admin | Manager)) => Ok(()),
        (Action::CreateLead | Action::CreateActivity, User(Sales)) => Ok(()),
        (Action::UpdateLead(lead), User(Sales)) => unless(
            owner_is(lead, actor) || lead.owner.is_none(),
            "a sales user may change only own and unassigned leads",
        ),
        (Action::DeleteLead | Action::RestoreLead, User(Sales)) => {
            Err(Forbidden("a sales user may not delete or restore leads"))
        }
        (Action::AssignLead(lead, owner), User(Sales)) => unless(
            (lead.owner.is_none() || owner_is(lead, actor)) && owner == Some(actor.id),
            "a sales user may only take unassigned leads",
        ),
        (Action::ChangeActivity(activity), User(Sales)) => {
            unless(activity.creator.id == actor.id, "a sales user may change only own activities")
        }
    }
}

fn owner_is(lead: &Lead, actor: &Actor) -> bool {
    lead.owner.as_ref().is_some_and(|owner| owner.id == actor.id)
}

/// Set of leads that a role can read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    #[default]
    #[serde(rename = "all")]
    All,
    #[serde(rename = "own")]
    Own,
    #[serde(rename = "own+unassigned")]
    OwnAndUnassigned,
}

/// `[visibility]` of the configuration: one scope per role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", default, deny_unknown_fields)]
pub struct Visibility {
    pub admin: Scope,
    pub manager: Scope,
    pub sales: Scope,
    pub viewer: Scope,
}

impl Visibility {
    pub fn scope(&self, role: Role) -> Scope {
        match role {
            Role::Admin => self.admin,
            Role::Manager => self.manager,
            Role::Sales => self.sales,
            Role::Viewer => self.viewer,
        }
    }

    /// Set of leads that an actor can read. A plugin's manifest requests what it may read and its operator grants it;
    /// its writes are checked by the policy.
    pub fn scope_of(&self, actor: &Actor) -> Scope {
        actor.kind.role().map_or(Scope::All, |role| self.scope(role))
    }

    /// True if an actor sees a lead with that owner.
    pub fn sees(&self, actor: &Actor, owner: Option<UserId>) -> bool {
        audience(self.scope_of(actor), owner).includes(actor.id)
    }

    /// Users of a role who see a lead with that owner.
    pub fn audience(&self, role: Role, owner: Option<UserId>) -> Audience {
        audience(self.scope(role), owner)
    }
}

fn audience(scope: Scope, owner: Option<UserId>) -> Audience {
    match (scope, owner) {
        (Scope::All, _) | (Scope::OwnAndUnassigned, None) => Audience::Everyone,
        (Scope::Own, None) => Audience::Nobody,
        (Scope::Own | Scope::OwnAndUnassigned, Some(owner)) => Audience::Only(BTreeSet::from([owner])),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use uuid::Uuid;

    use super::*;
    use crate::domain::{
        activity::{ActivityFields, ActivityType},
        id::{ActivityId, LeadId},
        lead::LeadFields,
        time::Timestamp,
        user::UserRef,
    };

    fn id(number: u128) -> UserId {
        UserId(Uuid::from_u128(number))
    }

    fn person(number: u128) -> UserRef {
        UserRef { id: id(number), name: "N".into(), email: "n@example.com".into() }
    }

    fn actor(role: Role) -> Actor {
        Actor { id: id(1), email: "me@example.com".into(), kind: ActorKind::User(role) }
    }

    fn lead(owner: Option<u128>) -> Lead {
        let start = Timestamp::from_millis(0).expect("in range");
        Lead {
            id: LeadId(Uuid::nil()),
            fields: LeadFields::parse(json!({"title": "T"}).as_object().expect("object").clone()).expect("valid"),
            owner: owner.map(person),
            created_by: person(1),
            last_activity_at: None,
            version: 1,
            rev: 1,
            created_at: start,
            updated_at: start,
        }
    }

    fn activity(kind: ActivityType, creator: u128) -> Activity {
        let start = Timestamp::from_millis(0).expect("in range");
        let fields = ActivityFields { kind, body: None, due_at: None, completed_at: None, meta: Map::new() };
        let (id, lead_id) = (ActivityId(Uuid::nil()), LeadId(Uuid::nil()));
        Activity { id, lead_id, fields, creator: person(creator), created_at: start, updated_at: start }
    }

    #[test]
    fn a_plugin_may_do_only_what_effects_do() {
        let (others, note) = (lead(Some(2)), activity(ActivityType::Note, 1));
        let plugin = Actor { kind: ActorKind::Plugin, ..actor(Role::Admin) };
        let allowed = |deed| may(&plugin, deed).is_ok();
        for deed in [Action::UpdateLead(&others), Action::AssignLead(&others, None), Action::CreateActivity] {
            assert!(allowed(deed), "{deed:?}");
        }
        let forbidden = [Action::CreateLead, Action::DeleteLead, Action::RestoreLead, Action::Administer];
        for deed in forbidden.into_iter().chain([Action::ChangeActivity(&note)]) {
            assert!(!allowed(deed), "{deed:?}");
        }
        assert!("PLUGIN".parse::<Role>().is_err(), "nobody can be given the role");
    }

    /// One row per action; the columns are ADMIN, MANAGER, SALES, VIEWER.
    #[test]
    fn rights_match_the_table_in_the_contract() {
        let (own, free, others) = (lead(Some(1)), lead(None), lead(Some(2)));
        let (mine, theirs) = (activity(ActivityType::Note, 1), activity(ActivityType::Note, 2));
        let servers = activity(ActivityType::StatusChange, 1);
        let rows = [
            (Action::CreateLead, [true, true, true, false]),
            (Action::UpdateLead(&own), [true, true, true, false]),
            (Action::UpdateLead(&free), [true, true, true, false]),
            (Action::UpdateLead(&others), [true, true, false, false]),
            (Action::DeleteLead, [true, true, false, false]),
            (Action::RestoreLead, [true, true, false, false]),
            (Action::AssignLead(&free, Some(id(1))), [true, true, true, false]),
            (Action::AssignLead(&free, Some(id(2))), [true, true, false, false]),
            (Action::AssignLead(&own, None), [true, true, false, false]),
            (Action::AssignLead(&others, Some(id(1))), [true, true, false, false]),
            (Action::CreateActivity, [true, true, true, false]),
            (Action::ChangeActivity(&mine), [true, true, true, false]),
            (Action::ChangeActivity(&theirs), [true, true, false, false]),
            (Action::ChangeActivity(&servers), [false; 4]),
            (Action::Administer, [true, false, false, false]),
        ];
        for (deed, expected) in rows {
            let allowed = Role::ALL.map(|role| may(&actor(role), deed).is_ok());
            assert_eq!(allowed, expected, "{deed:?}");
        }
    }

    #[test]
    fn visibility_narrows_by_owner() {
        let visibility = Visibility { sales: Scope::OwnAndUnassigned, viewer: Scope::Own, ..Visibility::default() };
        assert!(visibility.sees(&actor(Role::Sales), None));
        assert!(visibility.sees(&actor(Role::Sales), Some(id(1))));
        assert!(!visibility.sees(&actor(Role::Sales), Some(id(2))));
        assert!(!visibility.sees(&actor(Role::Viewer), None));
        assert!(visibility.sees(&actor(Role::Manager), Some(id(2))));
    }
}
