//! Subscription check: asks plugins if a user may follow a lead. The answer about a lead that the user does not see is
//! the same as about one that does not exist.

use serde_json::json;

use crate::{
    domain::{room::Room, user::User},
    plugin::Decision,
    transport::socket::{context::SocketContext, error::SocketError},
};

/// Outcome of a request to follow a lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FollowOutcome {
    /// Plugins have nothing against it.
    Judged,
    /// There is no such lead for the user: plugins were not asked, and are asked before anything is sent.
    Unseen,
    /// Same as `Unseen` for the client, but because a plugin gave no verdict: once it does, the lead may be visible.
    Withheld,
}

/// Asks plugins if a user may follow a lead.
///
/// They are asked only about a lead that the user sees. A lead that is not visible, or on which a plugin gives no
/// verdict, is answered like one that does not exist.
pub(crate) async fn may_follow(shared: &SocketContext, user: &User, room: &Room) -> Result<FollowOutcome, SocketError> {
    let Some(id) = room.lead() else { return Ok(FollowOutcome::Unseen) };
    let Some(lead) = shared.app.store().read().await?.lead(id).await? else { return Ok(FollowOutcome::Unseen) };
    let audience = shared.shaper.lead_audience(&shared.shaper.pinned(), &lead, &[user.role]);
    if !audience.sees(user) {
        return Ok(if audience.is_held() { FollowOutcome::Withheld } else { FollowOutcome::Unseen });
    }
    match shared.app.plugins().authorize_subscribe(user, room, Some(&json!(lead)))? {
        Decision::Allow => Ok(FollowOutcome::Judged),
        Decision::Deny(reason) => Err(SocketError::new("forbidden", reason)),
    }
}
