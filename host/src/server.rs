//! Composition root: the only place that knows every module. Builds the parts, binds, serves and stops them.

mod archive;
pub(crate) mod claim;
mod epoch_note;
mod handover;
mod limits;
mod listener;
mod metrics;
mod secret;

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::{runtime::Handle, select, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    app::{App, Cursors, SystemClock},
    auth::{AuditLog, Auth},
    config::Config,
    delivery::{
        Delivery,
        explain::Explainer,
        holds::Holds,
        retention::Retention,
        switch::{self, Switches},
    },
    domain::{event::Event, time::Timestamp},
    effects::Effects,
    plugin::{self, HistoricalSets, Plugins, TriedOn},
    server::{
        claim::Claim,
        epoch_note::EpochNote,
        handover::{Handover, HandoverSnapshot},
        listener::Listener,
    },
    store::Store,
    transport::{
        front,
        http::{self, api, in_flight},
        socket::{Feed, Sockets, presence::viewers::Viewers, registry::Registry},
    },
};

/// Running server. Dropping it stops it; [`Server::shutdown`] also waits until it has stopped.
pub struct Server {
    address: SocketAddr,
    metrics_address: Option<SocketAddr>,
    app: App,
    sockets: Sockets,
    draining: CancellationToken,
    drain_timeout: Duration,
    stop: CancellationToken,
    serving: JoinHandle<Result<()>>,
    handing_over: JoinHandle<()>,
}

impl Server {
    /// Starts everything, in an order that leaves nothing behind when the port is taken.
    ///
    /// # Errors
    /// When the port, the data directory, the database or a key cannot be used.
    pub async fn start(mut config: Config) -> Result<Self> {
        let listener = Listener::bind(config.listen, &config.http, config.limits.tcp_connections()).await?;
        let address = listener.address()?;
        let metrics = match config.metrics.listen {
            Some(address) => Some(metrics::Port::bind(address, &config.http).await?),
            None => None,
        };
        let metrics_address = metrics.as_ref().map(metrics::Port::address).transpose()?;
        limits::raise();
        let data_dir = config.data_dir()?;
        secret::make_data_dir(&data_dir)?;
        let claim = Claim::take(&config, &data_dir).await?;
        if config.auth.jwt_secret.is_none() {
            let (secret, made) = secret::keep(&data_dir)?;
            if let Some(path) = made {
                warn!("auth.jwt_secret is not set: generated one and stored it in {}", path.display());
            }
            config.auth.jwt_secret = Some(secret);
        }

        let mut store = Store::open(&config.database_url()?).await?;
        let note = claim.settle(&mut store).await?;
        let handover = Handover::open(&data_dir, store.epoch()).await;
        let store = Arc::new(store);
        let past = HistoricalSets::new(plugin::cache_dir(&data_dir), config.plugins.limits.clone());
        let switches = Arc::new(Switches::default());
        let archive = archive::StoreArchive {
            runtime: Handle::current(),
            store: Arc::clone(&store),
            switches: Arc::clone(&switches),
            visibility: config.visibility,
        };
        let plugins = open_plugins(config.plugins, Arc::new(archive)).await?;
        let begun = switch::begin(&store, &plugins, config.visibility).await?;
        let auth = Auth::new(&config.auth, Arc::clone(&store), Arc::new(SystemClock))?;
        let (passwords, audit_log) = (auth.passwords().clone(), auth.audit_log().clone());
        let secret = config.auth.jwt_secret.as_ref().context("auth.jwt_secret is missing")?;
        let cursors = Cursors::new(secret.reveal().as_bytes());
        let (visibility, clock) = (config.visibility, Arc::new(SystemClock));
        let app = App::new(Arc::clone(&store), plugins.clone(), visibility, passwords, cursors, clock);
        let effects =
            Effects::start(app.clone(), config.effects).await.context("cannot read the log positions of plugins")?;
        let holds = Holds::open(Arc::clone(&store), config.socket.held_timeout).await?;
        let under_way = in_flight::UnderWay::new(&config.limits);
        let (sockets, delivery) = Sockets::new(
            app.clone(),
            auth.clone(),
            config.visibility,
            config.socket,
            config.limits,
            &config.presence,
            Feed { switches, begun, holds },
        );
        let (tail, settings) = (Arc::new(delivery.health()), Arc::new(config.http));
        let explainer = Arc::new(Explainer::new(Arc::clone(&store), past));
        sockets.expect_back(handover.sockets(), handover::RETURN);
        sockets.restore(handover.followed(), *store.appended().borrow());
        let registry = Arc::clone(sockets.registry());
        let retention = Retention {
            store: Arc::clone(&store),
            settings: config.log.retention(),
            now: Box::new(Timestamp::now),
            position: Box::new(move || registry.position()),
        };
        let looks = metrics::Looks { sockets: sockets.clone(), store: Arc::clone(&store), plugins: plugins.clone() };
        let stop = CancellationToken::new();
        let draining = stop.child_token();
        let router = sockets.attach(http::router(api::ApiState {
            app: app.clone(),
            auth,
            plugins,
            explainer,
            viewers: sockets.viewers().clone(),
            tail,
            settings: Arc::clone(&settings),
            mode: config.mode.as_str(),
            under_way,
            draining: draining.clone(),
        }));
        let router = front::before(router, &settings);

        let handing_over = tokio::spawn(keep_handover(handover, sockets.clone(), draining.clone(), stop.clone()));
        tokio::spawn(sockets.look_after_holds(stop.clone()));
        tokio::spawn(sockets.look_after_leases(stop.clone()));
        if let Some(port) = metrics {
            tokio::spawn(port.serve(looks, stop.clone()));
        }
        tokio::spawn(claim::look_after(Arc::clone(&store), Arc::clone(&note), data_dir, stop.clone()));
        let aside = BackgroundTasks { retention, viewers: sockets.viewers().clone(), audit_log, note };
        let serving = tokio::spawn(serve(listener, router, delivery, effects, aside, store, stop.clone()));
        let drain_timeout = config.drain_timeout;
        Ok(Self { address, metrics_address, app, sockets, draining, drain_timeout, stop, serving, handing_over })
    }

    /// Address that the server listens on, with the actual port if 0 was requested.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Address that serves metrics, if any.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics_address
    }

    pub fn app(&self) -> &App {
        &self.app
    }

    pub fn sockets(&self) -> &Sockets {
        &self.sockets
    }

    /// Waits until the server ends, which happens only on failure or shutdown.
    ///
    /// # Errors
    /// When a part of the server failed.
    pub async fn wait(&mut self) -> Result<()> {
        (&mut self.serving).await.context("server task failed")?
    }

    /// Graceful shutdown: sends sockets away to the next process, accepts no more connections, lets requests in
    /// progress finish, then ends the rest.
    ///
    /// # Errors
    /// When a part of the server failed.
    pub async fn shutdown(mut self) -> Result<()> {
        self.draining.cancel();
        self.sockets.drain(self.app.store(), self.drain_timeout.saturating_sub(listener::GRACE)).await;
        self.stop.cancel();
        let ended = self.wait().await;
        let _ = (&mut self.handing_over).await;
        self.sockets.close().await;
        ended
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
        self.sockets.release();
    }
}

/// Background tasks that nobody waits for.
struct BackgroundTasks {
    retention: Retention,
    viewers: Viewers,
    audit_log: AuditLog,
    note: Arc<EpochNote>,
}

/// Serves clients and delivers events until `stop`; events of requests in progress are still delivered.
async fn serve(
    listener: Listener,
    router: axum::Router,
    delivery: Delivery<Registry>,
    effects: Effects,
    aside: BackgroundTasks,
    store: Arc<Store>,
    stop: CancellationToken,
) -> Result<()> {
    let (stop_delivery, stop_effects) = (CancellationToken::new(), CancellationToken::new());
    let mut delivering = tokio::spawn(delivery.run(stop_delivery.clone()));
    let mut effecting = tokio::spawn(effects.run(stop_effects.clone()));
    let retaining = tokio::spawn(aside.retention.run(stop.clone()));
    let viewing = tokio::spawn(aside.viewers.run(stop.clone()));
    let auditing = tokio::spawn(aside.audit_log.run(stop.clone()));
    let mut listening = pin!(listener.serve(router, stop.clone()));
    let (mut delivered, mut effected) = (None, None);
    select! {
        () = &mut listening => {}
        // Continuing to answer without delivering events, or without executing effects, would be the worst outcome.
        ended = &mut delivering => delivered = Some(ended),
        ended = &mut effecting => effected = Some(ended),
    }
    if delivered.is_some() || effected.is_some() {
        stop.cancel();
        listening.await;
    }
    // Effects before delivery, so that the events of effects are still delivered.
    stop_effects.cancel();
    let effected = match effected {
        Some(ended) => ended,
        None => effecting.await,
    };
    stop_delivery.cancel();
    let delivered = match delivered {
        Some(ended) => ended,
        None => delivering.await,
    };
    let (retained, viewed, audited) = (retaining.await, viewing.await, auditing.await);
    aside.note.renew();
    store.close().await;
    retained.context("log pruning task failed")?;
    audited.context("audit task failed")?;
    viewed.context("presence task failed")?;
    delivered.context("event delivery task failed")?;
    effected.context("plugin effects task failed")
}

/// Stores the handover for the next process until `stop`. Sockets that leave because of `draining` still count, because
/// they will return.
async fn keep_handover(handover: Handover, sockets: Sockets, draining: CancellationToken, stop: CancellationToken) {
    let look = || {
        let is_whole = !draining.is_cancelled();
        let followed = sockets.followed();
        HandoverSnapshot { sockets: is_whole.then(|| sockets.registry().clients()), followed }
    };
    handover.keep(look, stop.cancelled()).await;
}

/// Compiles plugins on a blocking thread.
async fn open_plugins(settings: plugin::PluginsConfig, archive: Arc<archive::StoreArchive>) -> Result<Plugins> {
    let (runtime, store) = (archive.runtime.clone(), Arc::clone(&archive.store));
    let recent = Box::new(move |tried_on: TriedOn| {
        let number = |limit: usize| u32::try_from(limit).unwrap_or(u32::MAX);
        let events = runtime.block_on(async {
            let mut reader = store.read().await?;
            match tried_on {
                TriedOn::Recent(limit) => reader.recent_events(number(limit)).await,
                TriedOn::Leads(limit) => {
                    Ok(reader.sample_leads(number(limit)).await?.into_iter().map(Event::lead_read).collect())
                }
            }
        });
        events.unwrap_or_else(|error| {
            warn!("cannot read events for plugin trial runs: {error}");
            Vec::new()
        })
    });
    let opened = tokio::task::spawn_blocking(|| Plugins::open_recorded(settings, recent, archive)).await;
    Ok(opened.context("plugin loading task failed")??)
}
