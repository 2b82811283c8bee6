//! `[socket]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How often a client is asked whether it is still there.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long it may take to say so.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// How long a connection may stay open without a session: before its handshake, or after a refused one.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// The longest frame or request body that is read, in bytes.
    pub max_frame: usize,
    /// How many packets wait for one socket; what comes after them is read from the log when there is room.
    pub outbox_packets: usize,
    /// How many bytes of packets wait for one socket.
    pub outbox_bytes: usize,
    /// How many packets of one socket wait to be handled; those beyond are refused as `rate_limited`.
    pub inbound_packets: usize,
    /// How many bytes of packets of one socket wait to be handled.
    pub inbound_bytes: usize,
    /// How long sockets wait for a failing plugin before they go past what it holds back.
    #[serde(with = "humantime_serde")]
    pub held_timeout: Duration,
    /// How long a client may take nothing of what waits for it before it is cut.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            connect_timeout: Duration::from_secs(5),
            max_frame: 256 * 1024,
            outbox_packets: 256,
            outbox_bytes: 1024 * 1024,
            inbound_packets: 4096,
            inbound_bytes: 1024 * 1024,
            held_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(20),
        }
    }
}
