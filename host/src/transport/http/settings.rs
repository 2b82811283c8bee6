//! `[http]` of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::transport::address::{ForwardedHeader, Network, Proxies};

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The longest request body that is read, in bytes.
    pub body_limit: usize,
    /// How long a client may take to send a request's head.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long a request body may take to arrive.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a request may take in all.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// How long bytes sent to a client may stay unacknowledged before its connection is cut.
    #[serde(with = "humantime_serde")]
    pub tcp_user_timeout: Duration,
    /// The origins whose pages may call; `"*"` lets any in. None by default.
    pub cors_origins: Vec<String>,
    /// Whether `"*"` means the pages of this machine alone: so it is in the demo, whose passwords everybody knows.
    #[serde(skip)]
    pub any_origin_is_loopback: bool,
    /// The proxies that stand in front: what they say of where a request comes from is believed.
    pub trusted_proxies: Vec<Network>,
    /// The header in which they say it.
    pub forwarded_header: ForwardedHeader,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            body_limit: 256 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
            any_origin_is_loopback: false,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
        }
    }
}

impl Settings {
    pub fn proxies(&self) -> Proxies {
        Proxies { trusted: self.trusted_proxies.clone(), header: self.forwarded_header }
    }
}
