//! `[http]` of the configuration: limits and timeouts of requests, the origins that may call, and the trusted proxies.

use std::time::Duration;

use axum::http::HeaderName;
use serde::{Deserialize, Serialize};

use crate::transport::{
    address::{ForwardedHeader, Network, Proxies},
    origin,
};

/// Headers that tracing libraries and common clients send of their own accord.
const CORS_HEADERS: [&str; 6] =
    ["baggage", "cache-control", "sentry-trace", "traceparent", "tracestate", "x-requested-with"];

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Longest request body that is read, in bytes.
    pub body_limit: usize,
    /// Time limit for a client to send the head of a request.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// Time limit for a request body to arrive.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// Time limit of a request in all.
    #[serde(with = "humantime_serde")]
    pub request_timeout: Duration,
    /// Longest time that bytes sent to a client may stay unacknowledged before its connection is cut.
    #[serde(with = "humantime_serde")]
    pub tcp_user_timeout: Duration,
    /// Origins whose pages may call; `"*"` allows any. None by default.
    pub cors_origins: Vec<String>,
    /// Set if `"*"` means only the pages of this machine: so it is in the demo, whose passwords everybody knows.
    #[serde(skip)]
    pub any_origin_is_loopback: bool,
    /// Headers that those pages may send, besides those that calls need.
    pub cors_headers: Vec<String>,
    /// Number of bytes of items that a page of a list may have; it ends with the item that reaches them.
    pub page_bytes: usize,
    /// Trusted proxies in front of the server: what they say about the origin of a request is believed.
    pub trusted_proxies: Vec<Network>,
    /// Header in which they say it.
    pub forwarded_header: ForwardedHeader,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            body_limit: 256 * 1024,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            request_timeout: Duration::from_secs(30),
            tcp_user_timeout: Duration::from_secs(30),
            cors_origins: Vec::new(),
            any_origin_is_loopback: false,
            cors_headers: CORS_HEADERS.map(str::to_owned).to_vec(),
            page_bytes: 1024 * 1024,
            trusted_proxies: Vec::new(),
            forwarded_header: ForwardedHeader::default(),
        }
    }
}

impl HttpConfig {
    /// Checks what the types alone cannot say.
    ///
    /// # Errors
    /// The key and what was expected there.
    pub fn check(&self) -> Result<(), String> {
        for origin in &self.cors_origins {
            origin::check(origin).map_err(|why| format!("cors_origins: {why}"))?;
        }
        for name in &self.cors_headers {
            // `*` is a valid name in HTTP; to browsers it is no wildcard where credentials are sent.
            if name.parse::<HeaderName>().is_err() || name == "*" {
                return Err(format!("cors_headers: expected names of headers such as \"x-tenant\", found {name:?}"));
            }
        }
        Ok(())
    }

    pub fn proxies(&self) -> Proxies {
        Proxies { trusted: self.trusted_proxies.clone(), header: self.forwarded_header }
    }
}
