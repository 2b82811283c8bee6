//! How long a socket may stay: until its access token expires, which can be replaced, or its session ends.

use std::time::Duration;

use serde_json::json;
use tokio::{
    select,
    time::{Instant, sleep},
};

use super::client::{Client, Output};
use crate::{
    auth::Credentials,
    delivery::shape::Message,
    domain::{id::SessionId, time::Timestamp},
};

/// How long before its token expires a client is told so.
const NOTICE: Duration = Duration::from_secs(60);
/// The clock on the wall may be set, so it is looked at this often at least.
const LOOK: Duration = Duration::from_secs(30);

/// What lets a socket stay.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lease {
    /// None when the token was issued elsewhere.
    pub(super) session: Option<SessionId>,
    pub(super) expires_at: Timestamp,
    /// What the token says, to be judged again whenever the client writes.
    pub(super) credentials: Credentials,
    notice: Duration,
    /// Tells it from another one that expires at the same moment.
    since: Instant,
}

/// Why a socket may not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Expired,
    SessionEnded,
}

impl Lease {
    pub(super) fn new(credentials: Credentials) -> Self {
        let Credentials { session, expires_at, .. } = credentials;
        Self { session, expires_at, credentials, notice: NOTICE, since: Instant::now() }
    }

    /// The lease of a token that replaces another one.
    pub(super) fn renewed(credentials: Credentials, now: Timestamp) -> Self {
        // A client that replaces its token whenever it is told to would do nothing else, if tokens live so briefly
        // that it were told at once again.
        Self { notice: NOTICE.min(credentials.expires_at.since(now) / 2), ..Self::new(credentials) }
    }
}

/// Waits until the socket may not stay any longer; tells the client a while before its token expires.
pub(super) async fn over(client: &Client, now: impl Fn() -> Timestamp) -> Over {
    let mut told = None;
    loop {
        let Some(lease) = client.lease() else { return Over::SessionEnded };
        let left = lease.expires_at.since(now());
        if left.is_zero() {
            return Over::Expired;
        }
        let notice = if told == Some(lease.since) { Duration::ZERO } else { lease.notice };
        let wait = left.saturating_sub(notice);
        if wait.is_zero() {
            told = Some(lease.since);
            let expiring = Message::new("auth:expiring", &json!({"expiresAt": lease.expires_at}));
            select! {
                // There may be no room for it in time.
                () = client.reply(Output::Event(expiring)) => {}
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
