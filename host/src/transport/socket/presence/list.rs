//! Viewer list of a lead: the payload of `lead:viewers`, and who of each role may have it. The list names a limited
//! number of viewers.

use std::{cmp::Ordering, sync::Arc};

use serde_json::{Value, json};

use crate::{
    delivery::{
        line::{Message, Slice},
        shape::LeadAudience,
    },
    domain::{id::LeadId, role::Role, user::User},
};

/// Maximum number of viewers of a lead that are named; `total` counts them all.
pub(crate) const MAX_NAMED: usize = 100;

/// Viewers of a lead, as each role may have them.
pub(crate) struct ViewerList {
    pub(crate) audience: LeadAudience,
    pub(crate) slices: Vec<(Role, Slice)>,
}

impl ViewerList {
    pub(crate) fn message_for(&self, user: &User) -> Option<&Message> {
        let (_, slice) = self.slices.iter().find(|(role, _)| *role == user.role)?;
        slice.message_for(user).filter(|_| self.audience.sees(user))
    }

    /// Returns true if somebody cannot be sent the list, or be in it, before a plugin answers.
    pub(crate) fn is_held(&self) -> bool {
        self.audience.is_held() || self.slices.iter().any(|(_, slice)| matches!(slice, Slice::Held(_)))
    }
}

/// Creates the payload: the first viewers by name, and their number. However many look at a lead, the list stays short.
pub(crate) fn payload(lead: LeadId, mut viewers: Vec<Arc<User>>) -> Value {
    let total = viewers.len();
    if total > MAX_NAMED {
        viewers.select_nth_unstable_by(MAX_NAMED, |left, right| by_name(left, right));
        viewers.truncate(MAX_NAMED);
    }
    viewers.sort_unstable_by(|left, right| by_name(left, right));
    let users: Vec<Value> = viewers.iter().map(|user| json!({"id": user.id, "name": user.name})).collect();
    json!({"leadId": lead, "users": users, "total": total})
}

pub(crate) fn by_name(left: &User, right: &User) -> Ordering {
    (&left.name, left.id).cmp(&(&right.name, right.id))
}
