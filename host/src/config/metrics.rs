//! `[metrics]` of the configuration: the address of `/metrics`.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize};

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MetricsConfig {
    /// Address that serves `GET /metrics` and nothing else; no metrics when absent. Port 0 picks a free one.
    #[serde(deserialize_with = "address")]
    pub listen: Option<SocketAddr>,
}

fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SocketAddr>, D::Error> {
    super::address(deserializer).map(Some)
}
