//! The Socket.IO interface: who may connect, what a socket may say, and what it is sent.
//!
//! `handshake` lets a client in, `handler` does what it asks, `fanout` offers it what delivery hands out,
//! and `outbox` sends. socketioxide carries the packets; no type of its leaves this module.

mod client;
mod fanout;
mod flow;
mod handler;
mod handshake;
mod hangup;
mod kept;
mod outbox;
mod refusal;
mod session;
pub mod settings;

use std::sync::Arc;

use axum::middleware;
use socketioxide::{ParserConfig, SocketIo, handler::ConnectHandler, layer::SocketIoLayer};

pub use fanout::Registry;
pub use settings::Settings;

use self::{flow::Flows, handshake::Caller, outbox::Source};
use crate::{
    app::App,
    auth::Auth,
    delivery::{Delivery, replay::Replay, shape::Shaper},
    domain::policy::Visibility,
};

/// The Socket.IO server. Clones share one.
#[derive(Clone)]
pub struct Sockets {
    layer: SocketIoLayer,
    io: SocketIo,
    registry: Arc<Registry>,
    flows: Flows,
}

/// What every socket shares.
struct Door {
    app: App,
    auth: Auth,
    visibility: Visibility,
    settings: Settings,
    source: Arc<Source>,
}

impl Sockets {
    /// Makes the server and the delivery that feeds it, which the caller has to run.
    pub fn new(app: App, auth: Auth, visibility: Visibility, settings: Settings) -> (Self, Delivery<Registry>) {
        let (store, plugins) = (app.store().clone(), app.plugins().clone());
        let registry = Arc::new(Registry::default());
        let replay = Arc::new(Replay::new(store.clone()));
        let shaper = Arc::new(Shaper::new(plugins, visibility, store.epoch()));
        let delivery = Delivery::new(store, replay.clone(), shaper.clone(), registry.clone());
        let (layer, io) = SocketIo::builder()
            .ping_interval(settings.ping_interval)
            .ping_timeout(settings.ping_timeout)
            .connect_timeout(settings.connect_timeout)
            .max_payload(settings.max_frame as u64)
            // `max_payload` does not bind WebSocket frames.
            .ws_max_message_size(settings.max_frame)
            .ws_max_frame_size(settings.max_frame)
            .with_parser(ParserConfig::common().max_incoming_binary_buf_size(settings.max_frame))
            .build_layer();
        let source = Source {
            app: app.clone(),
            registry: registry.clone(),
            kept: kept::Kept::default(),
            replay,
            shaper,
            held_timeout: settings.held_timeout,
            stall_timeout: settings.stall_timeout,
        };
        let door = Arc::new(Door { app, auth, visibility, settings, source: Arc::new(source) });
        let judge = {
            let door = door.clone();
            async move |caller: Caller| handshake::judge(door, caller).await
        };
        io.ns("/", ConnectHandler::with(async move |caller: Caller| handshake::begin(door, caller).await, judge));
        (Self { layer, io, registry, flows: Flows::default() }, delivery)
    }

    /// Answers `/socket.io` in front of the routes of `router`. Layers for both, such as CORS, go on the outside.
    pub fn attach(&self, router: axum::Router) -> axum::Router {
        let router = router.layer(self.layer.clone());
        router.layer(middleware::from_fn_with_state(self.flows.clone(), flow::watch))
    }

    /// Who is connected.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// How many sessions that began with polling there are, connected or not.
    pub fn polling_sessions(&self) -> usize {
        self.flows.len()
    }

    /// Closes every transport. Clients that come back are told `Invalid namespace`: refuse requests first.
    pub async fn close(&self) {
        self.io.close().await;
    }
}
