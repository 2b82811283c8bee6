//! Socket.IO interface: who may connect, what a socket may ask for, and what it is sent.
//!
//! `session::handshake` admits a client, `commands` does what it asks for, `registry` offers it what delivery hands
//! out (fan-out), and `writer` sends. socketioxide carries the packets; none of its types leaves this module.

mod catch_up;
mod client;
mod commands;
pub(crate) mod conn;
mod context;
mod error;
mod fan_out;
mod follow;
mod inbox;
mod intake;
mod members;
mod packet;
pub mod presence;
mod queue;
pub(crate) mod registry;
mod schema;
pub(crate) mod session;
pub mod settings;
mod writer;

use std::{sync::Arc, time::Duration};

use axum::middleware;
use serde_json::json;
use socketioxide::{ParserConfig, SocketIo, TransportType, handler::ConnectHandler, layer::SocketIoLayer};
use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;

use crate::{
    app::App,
    auth::Auth,
    delivery::{
        Delivery,
        holds::Holds,
        line::Message,
        replay::Replay,
        shape::Shaper,
        switch::{SwitchLog, Switches},
    },
    domain::{counter::Seq, event_name::EventName, id::UserId, policy::Visibility, role::Role},
    store::Store,
    transport::{
        limits::{self, Slots},
        socket::{
            conn::{backpressure, sessions::EngineSessions},
            context::{HandshakeContext, SocketContext},
            members::CHUNK,
            packet::OutgoingPacket,
            presence::{Presence, viewers::Viewers},
            registry::Registry,
            session::{
                expiry::Leases,
                handshake::{self, ConnectRequest},
                resume::{self, ResumeSnapshot},
            },
            settings::SocketConfig,
        },
    },
};

/// Pause between two clients that are sent away at shutdown, unless there are too many for that.
const GAP: Duration = Duration::from_millis(10);

/// Size of the buffer that each WebSocket is read into, in bytes. Clients send little; longer frames have more reads.
const READ_BUFFER: usize = 1024;

/// Returns the AsyncAPI document of every event.
pub fn asyncapi() -> String {
    schema::document::text()
}

/// Socket.IO server. Clones share one.
#[derive(Clone)]
pub struct Sockets {
    layer: SocketIoLayer,
    io: SocketIo,
    registry: Arc<Registry>,
    viewers: Viewers,
    engine_sessions: EngineSessions,
    shared: Arc<SocketContext>,
    users: Slots<UserId>,
}

/// Snapshot of all sockets, for the metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct SocketStats {
    pub by_transport: [(&'static str, usize); 2],
    pub behind: usize,
    /// Number of sockets that are written to directly.
    pub direct: usize,
    /// Number of connections, with a handshake or without.
    pub connections: usize,
    pub queued_packets: usize,
    pub queued_bytes: usize,
    pub rooms: usize,
    /// Number of holds per role.
    pub holds: [(&'static str, usize); Role::ALL.len()],
    /// Newest event that was handed out.
    pub position: Seq,
}

/// State of the log that delivery starts from.
pub struct Feed {
    pub switches: Arc<Switches>,
    pub begun: SwitchLog,
    pub holds: Arc<Holds>,
}

impl Sockets {
    /// Creates the server and the delivery that feeds it. The caller has to run the delivery, and [`Sockets::viewers`].
    pub fn new(
        app: App,
        auth: Auth,
        visibility: Visibility,
        settings: SocketConfig,
        limits: limits::LimitsConfig,
        presence: &presence::settings::PresenceConfig,
        feed: Feed,
    ) -> (Self, Delivery<Registry>) {
        let Feed { switches, begun, holds } = feed;
        let (store, plugins) = (app.store().clone(), app.plugins().clone());
        let presence = Presence::new(presence);
        let registry = Arc::new(Registry::new(presence.clone()));
        let replay = Arc::new(Replay::new(store.clone()));
        let shaper = Arc::new(Shaper::new(plugins, visibility, store.epoch()).withholding(holds.clone()));
        let delivery = Delivery::new(store, replay.clone(), shaper.clone(), registry.clone(), switches, &begun);
        let viewers = Viewers::new(presence.clone(), app.clone(), shaper.clone());
        let (layer, io) = SocketIo::builder()
            .ping_interval(settings.ping_interval)
            .ping_timeout(settings.ping_timeout)
            .connect_timeout(settings.connect_timeout)
            .max_payload(settings.max_frame as u64)
            // `max_payload` does not limit WebSocket frames.
            .ws_max_message_size(settings.max_frame)
            .ws_max_frame_size(settings.max_frame)
            .ws_read_buffer_size(READ_BUFFER)
            .with_parser(ParserConfig::common().max_incoming_binary_buf_size(settings.max_frame))
            .build_layer();
        let shared = SocketContext {
            app: app.clone(),
            registry: registry.clone(),
            lost_subscriptions: resume::LostSubscriptions::default(),
            unclear_subscriptions: resume::LostSubscriptions::default(),
            presence,
            replay,
            shaper,
            holds: holds.clone(),
            leases: Leases::default(),
            stall_timeout: settings.stall_timeout,
            max_subscriptions: limits.subscriptions,
        };
        let engine_sessions = EngineSessions::new(limits.clone(), settings.max_frame);
        let (shared, users) = (Arc::new(shared), Slots::default());
        let context =
            Arc::new(HandshakeContext { app, auth, settings, limits, users: users.clone(), shared: shared.clone() });
        let judge = {
            let context = context.clone();
            async move |caller: ConnectRequest| handshake::judge(context, caller).await
        };
        io.ns(
            "/",
            ConnectHandler::with(async move |caller: ConnectRequest| handshake::begin(context, caller).await, judge),
        );
        (Self { layer, io, registry, viewers, engine_sessions, users, shared }, delivery)
    }

    /// Serves `/socket.io` in front of the routes of `router`. Layers for both, such as CORS, go on the outside.
    pub fn attach(&self, router: axum::Router) -> axum::Router {
        let router = router.layer(self.layer.clone());
        router.layer(middleware::from_fn_with_state(self.engine_sessions.clone(), backpressure::watch))
    }

    /// Returns the registry of connected sockets.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Returns presence: who is online, and who looks at which lead.
    pub fn viewers(&self) -> &Viewers {
        &self.viewers
    }

    /// Asks the plugins again about withheld leads, until `stop`.
    pub fn look_after_holds(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        self.shared.holds.clone().run(self.shared.shaper.clone(), stop)
    }

    /// Looks after the leases of all sockets, until `stop`.
    pub fn look_after_leases(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        let shared = self.shared.clone();
        async move {
            stop.run_until_cancelled(shared.leases.run(|| shared.app.now())).await;
        }
    }

    /// Returns the number of sessions that began with polling, connected or not.
    pub fn polling_sessions(&self) -> usize {
        self.engine_sessions.len()
    }

    /// Returns the number of those sessions that had a request which broke off or was refused.
    pub fn failed_sessions(&self) -> usize {
        self.engine_sessions.failed()
    }

    /// Starts admission control for `clients` clients of the previous process, for as long as `span`.
    pub fn expect_back(&self, clients: usize, span: Duration) {
        self.engine_sessions.expect_back(clients, span);
    }

    /// Returns the leads that sockets follow, including sockets that were lost and are not back, for the next process.
    pub fn followed(&self) -> ResumeSnapshot {
        // A client that comes back enters the registry before it is removed from the lost ones, so those are read
        // first. The next process takes a socket that may have been lost for lost.
        let begin = || self.shared.lost_subscriptions.followed().and(self.shared.unclear_subscriptions.followed());
        self.registry.survey(begin, |followed, client| {
            if let Some(session) = client.lease().and_then(|lease| lease.session) {
                client.look_at_rooms(|rooms| followed.add(session, rooms));
            }
        })
    }

    /// Restores the subscriptions of the previous process: sockets that come back follow what they followed there.
    ///
    /// `head` is the newest seq.
    pub fn restore(&self, followed: ResumeSnapshot, head: Seq) {
        self.shared.lost_subscriptions.restore(followed, self.shared.max_subscriptions, head);
    }

    /// Returns a snapshot of all sockets at this moment.
    pub fn stats(&self) -> SocketStats {
        let mut look = SocketStats {
            by_transport: [("websocket", 0), ("polling", 0)],
            connections: self.engine_sessions.counted(),
            rooms: self.registry.rooms(),
            holds: self.shared.holds.count().map(|(role, count)| (role.as_str(), count)),
            position: self.registry.position(),
            ..SocketStats::default()
        };
        for socket in self.io.sockets() {
            let place = usize::from(socket.transport_type() == TransportType::Polling);
            look.by_transport[place].1 += 1;
        }
        for client in self.registry.everyone() {
            let (packets, bytes) = client.queued();
            look.queued_packets += packets;
            look.queued_bytes += bytes;
            look.behind += usize::from(client.is_behind());
            look.direct += usize::from(client.is_direct());
        }
        look
    }

    /// Returns the number of connections that count towards the limits of their addresses, and the number of sockets
    /// that count towards those of their users.
    pub fn counted(&self) -> (usize, usize) {
        (self.engine_sessions.counted(), self.users.taken())
    }

    /// Graceful shutdown: sends every client away to the next process, in `limit` at most. Stock clients reconnect by
    /// themselves.
    ///
    /// Clients are sent away one after the other, so that the next process is not met by all of them at once. A client
    /// that comes back here is answered 503 and tries again.
    pub async fn drain(&self, store: &Store, limit: Duration) {
        self.engine_sessions.shut();
        let until = Instant::now() + limit;
        let clients = self.registry.everyone();
        let count = u32::try_from(clients.len()).unwrap_or(u32::MAX);
        let span = (GAP * count).min(limit.mul_f64(0.7));
        let draining = json!({"retryAfterMs": span.as_millis() as u64});
        let draining = OutgoingPacket::Event(Message::new(EventName::ServerDraining.as_str(), &draining));
        for some in clients.chunks(CHUNK) {
            for client in some {
                client.try_reply(&draining);
            }
            yield_now().await;
        }
        // Everything that was acknowledged is in the log; it is sent before the sockets are closed.
        let head = *store.appended().borrow();
        let _ = timeout_at(until, async {
            while self.registry.handed_out() < head {
                sleep(GAP).await;
            }
        })
        .await;
        let gap = span.checked_div(count).unwrap_or_default();
        for client in clients {
            sleep(gap.mul_f64(rand::random_range(0.5..1.5))).await;
            client.dismiss();
        }
        // Clients that connected meanwhile are sent away as well.
        let _ = timeout_at(until, async {
            while self.registry.clients() > 0 {
                self.registry.everyone().iter().for_each(|client| client.dismiss());
                sleep(GAP).await;
            }
        })
        .await;
    }

    /// Breaks the references that would keep all this in memory after the server was dropped.
    pub fn release(&self) {
        self.engine_sessions.release_engine();
        // Sockets that nobody disconnected hold the engine, and it holds them. Closing them needs a runtime.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.io.delete_ns("/");
        }
    }

    /// Closes the sockets that are left. Clients that reconnect get `Invalid namespace` and never try again: drain
    /// first.
    pub async fn close(&self) {
        // `close` waits for each transport, also for one that does not end.
        let _ = timeout(Duration::from_secs(1), self.io.close()).await;
    }
}
