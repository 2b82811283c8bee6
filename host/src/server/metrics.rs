//! Listener for `/metrics`: a separate port, so that access is controlled by the network.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use axum::{Router, extract::State, http::header, response::IntoResponse, routing::get};
use metrics::gauge;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    plugin::{Breaker, PluginState, PluginStatus, Plugins},
    server::listener::Listener,
    store::{effect::EffectState, follower::FollowerStats, handle::Store},
    telemetry,
    transport::{front, http::settings, socket::Sockets},
};

/// 0.0.4 is the version of the format.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Few clients scrape metrics.
const MAX_CONNECTIONS: usize = 256;
const TIDY_EVERY: Duration = Duration::from_secs(5);

/// Bound port; requests are answered only after [`Port::serve`] was called.
pub(crate) struct Port(Listener);

/// Sources of the gauges, looked up on each request.
pub(crate) struct Looks {
    pub(crate) sockets: Sockets,
    pub(crate) store: Arc<Store>,
    pub(crate) plugins: Plugins,
}

impl Port {
    /// Binds the port and starts counting. Create everything that is to be counted after this.
    pub(crate) async fn bind(address: SocketAddr, settings: &settings::HttpConfig) -> Result<Self> {
        let listener = Listener::bind(address, settings, MAX_CONNECTIONS).await.context("metrics.listen")?;
        telemetry::metrics::start();
        Ok(Self(listener))
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.0.address()
    }

    /// Answers requests until `stop`.
    pub(crate) async fn serve(self, looks: Looks, stop: CancellationToken) {
        let router = Router::new().route("/metrics", get(answer)).with_state(Arc::new(looks));
        let router = front::without_sniffing(router);
        let tidying = async {
            let mut ticks = interval(TIDY_EVERY);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                telemetry::metrics::tidy();
            }
        };
        tokio::select! {
            () = self.0.serve(router, stop) => {}
            () = tidying => {}
        }
    }
}

async fn answer(State(looks): State<Arc<Looks>>) -> impl IntoResponse {
    let followers = looks.follower_stats().await;
    let text = telemetry::metrics::render(|| looks.set(&followers));
    ([(header::CONTENT_TYPE, TEXT), (header::CACHE_CONTROL, "no-store")], text)
}

impl Looks {
    /// Progress of the plugins that follow the log. Without the database, the other metrics are still rendered.
    async fn follower_stats(&self) -> Vec<FollowerStats> {
        let stats = async { self.store.read().await?.follower_stats().await };
        stats.await.unwrap_or_else(|error| {
            warn!("/metrics omits plugin effects: {error}");
            Vec::new()
        })
    }

    fn set(&self, followers: &[FollowerStats]) {
        gauge!("leadwire_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1);
        let now = self.sockets.stats();
        for (transport, count) in now.by_transport {
            set("leadwire_sockets", "transport", transport, count);
        }
        for (role, count) in now.holds {
            set("leadwire_holds", "role", role, count);
        }
        gauge!("leadwire_sockets_behind").set(number(now.behind));
        gauge!("leadwire_sockets_direct").set(number(now.direct));
        gauge!("leadwire_connections").set(number(now.connections));
        gauge!("leadwire_packets_queued").set(number(now.queued_packets));
        gauge!("leadwire_queued_bytes").set(number(now.queued_bytes));
        gauge!("leadwire_rooms").set(number(now.rooms));
        let head = *self.store.appended().borrow();
        gauge!("leadwire_log_head_seq").set(head.0 as f64);
        gauge!("leadwire_log_tail_lag").set(head.since(now.position) as f64);
        gauge!("leadwire_database_wal_bytes").set(self.store.wal_bytes() as f64);
        gauge!("leadwire_plugin_generation").set(self.plugins.generation().0 as f64);
        for plugin in self.plugins.status() {
            record_plugin(&plugin);
        }
        for FollowerStats { plugin, pending, parked, reminders, .. } in followers {
            for (state, count) in [(EffectState::Pending, *pending), (EffectState::Parked, *parked)] {
                let labels = [("plugin", plugin.to_string()), ("state", state.as_str().into())];
                gauge!("leadwire_plugin_effects", &labels).set(count as f64);
            }
            gauge!("leadwire_plugin_reminders", "plugin" => plugin.to_string()).set(*reminders as f64);
        }
    }
}

fn record_plugin(status: &PluginStatus) {
    let set = |name: &'static str, value: f64| gauge!(name, "plugin" => status.name.clone()).set(value);
    let flag = |is_so: bool| if is_so { 1.0 } else { 0.0 };
    set("leadwire_plugin_up", flag(matches!(status.state, PluginState::Active | PluginState::Shadow)));
    let rests = status.breaker.is_some_and(|breaker| breaker.state != Breaker::Closed);
    set("leadwire_plugin_quarantined", flag(rests));
    set("leadwire_plugin_holding", flag(status.holds));
    if let Some(instances) = status.instances {
        set("leadwire_plugin_instances", instances.warm as f64);
    }
    if let Some(dropped) = status.dropped {
        set("leadwire_plugin_dropped_log_lines", dropped.log_lines as f64);
        set("leadwire_plugin_dropped_metrics", dropped.metrics as f64);
    }
    // The host limits the number of names: `plugins.limits.metrics`.
    for (name, value) in &status.metrics {
        gauge!("leadwire_plugin_metric", "plugin" => status.name.clone(), "name" => name.clone()).set(*value);
    }
}

fn set(name: &'static str, label: &'static str, value: &'static str, count: usize) {
    gauge!(name, label => value).set(number(count));
}

fn number(count: usize) -> f64 {
    count as f64
}
