//! Lease of a socket: it may stay until its access token expires, which can be replaced, or until its session ends.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    auth::Credentials,
    domain::{id::SessionId, time::Timestamp},
};

/// Time before its token expires at which a client is warned.
const NOTICE: Duration = Duration::from_secs(60);

/// Lease that lets a socket stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    /// `None` if the token was issued elsewhere.
    pub(crate) session: Option<SessionId>,
    pub(crate) expires_at: Timestamp,
    /// Claims of the token, which are judged again whenever the client writes.
    pub(crate) credentials: Credentials,
    pub(crate) notice: Duration,
    /// Distinguishes the lease from another one that expires at the same moment.
    pub(crate) since: Instant,
}

/// Reason why a socket may not stay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    Expired,
    SessionEnded,
}

impl Lease {
    pub(crate) fn new(credentials: Credentials) -> Self {
        let Credentials { session, expires_at, .. } = credentials;
        Self { session, expires_at, credentials, notice: NOTICE, since: Instant::now() }
    }

    /// Creates the lease of a token that replaces another one.
    pub(crate) fn renewed(credentials: Credentials, now: Timestamp) -> Self {
        // If tokens live so briefly that the client were warned again at once, a client that replaces its token at each
        // warning would do nothing else.
        Self { notice: NOTICE.min(credentials.expires_at.since(now) / 2), ..Self::new(credentials) }
    }
}
