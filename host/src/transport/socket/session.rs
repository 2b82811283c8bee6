//! Life of one socket's session: the handshake, the lease of its access token and its expiry, and resuming after a lost
//! connection.

pub(crate) mod expiry;
pub(crate) mod handshake;
pub(crate) mod lease;
pub(crate) mod resume;
pub(crate) mod tasks;
