//! `[socket]` of the configuration: the heartbeat, the limits of the queues of a socket, and its timeouts.

use std::time::Duration;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SocketConfig {
    /// Interval of the heartbeat, which asks a client if it is still there.
    #[serde(with = "humantime_serde")]
    pub ping_interval: Duration,
    /// Time limit for the client to answer.
    #[serde(with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// Longest time that a connection may stay open without a session: before its handshake, or after a refused one.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Longest frame or request body that is read, in bytes.
    pub max_frame: usize,
    /// Number of packets that may wait for one socket; what comes after them is read from the log when there is room. On
    /// a WebSocket, events never wait here.
    pub outbox_packets: usize,
    /// Number of bytes of packets that may wait for one socket.
    pub outbox_bytes: usize,
    /// Number of packets of one socket that may wait to be handled; those beyond are refused as `rate_limited`.
    pub inbound_packets: usize,
    /// Number of bytes of packets of one socket that may wait to be handled.
    pub inbound_bytes: usize,
    /// Longest time that sockets wait for a failing plugin before they go past what it holds back.
    #[serde(with = "humantime_serde")]
    pub held_timeout: Duration,
    /// Longest time that a client may take nothing of what waits for it before it is cut.
    #[serde(with = "humantime_serde")]
    pub stall_timeout: Duration,
}

impl Default for SocketConfig {
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
