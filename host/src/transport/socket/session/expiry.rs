//! Expiry of a socket's lease: waits until its token has expired or its session has ended, and warns the client before
//! the token expires.

use std::time::Duration;

use serde_json::json;
use tokio::{select, time::sleep};

use crate::{
    delivery::line::Message,
    domain::{event_name::EventName, time::Timestamp},
    transport::socket::{client::Client, packet::OutgoingPacket, session::lease::Over},
};

/// Longest time between two looks at the wall clock, which may be set.
const LOOK: Duration = Duration::from_secs(30);

/// Waits until the socket may not stay any longer; warns the client a while before its token expires.
pub(crate) async fn over(client: &Client, now: impl Fn() -> Timestamp) -> Over {
    let mut warned = None;
    loop {
        let Some(lease) = client.lease() else { return Over::SessionEnded };
        let left = lease.expires_at.since(now());
        if left.is_zero() {
            return Over::Expired;
        }
        let notice = if warned == Some(lease.since) { Duration::ZERO } else { lease.notice };
        let wait = left.saturating_sub(notice);
        if wait.is_zero() {
            warned = Some(lease.since);
            let expiring = Message::new(EventName::AuthExpiring.as_str(), &json!({"expiresAt": lease.expires_at}));
            select! {
                // The send queue may have no room for it in time.
                () = client.reply(OutgoingPacket::Event(expiring)) => {}
                () = sleep(left) => {}
                () = client.lease_changed() => {}
            }
            continue;
        }
        select! {
            () = sleep(wait.min(LOOK)) => {}
            () = client.lease_changed() => {}
        }
    }
}
