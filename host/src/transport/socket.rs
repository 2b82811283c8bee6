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
pub mod limits;
mod outbox;
pub mod presence;
mod query;
mod refusal;
mod returns;
mod session;
pub mod settings;

use std::{sync::Arc, time::Duration};

use axum::middleware;
use serde_json::json;
use socketioxide::{ParserConfig, SocketIo, TransportType, handler::ConnectHandler, layer::SocketIoLayer};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use fanout::Registry;
pub use kept::Followed;
pub use settings::Settings;

use self::{
    client::Output,
    flow::{Flow, Flows},
    handshake::Caller,
    limits::Places,
    outbox::Source,
    presence::{Presence, Viewers},
};
use crate::{
    app::App,
    auth::Auth,
    delivery::{
        Delivery,
        holds::Holds,
        replay::Replay,
        shape::{Message, Shaper},
        switch::{Begun, Switches},
    },
    domain::{id::UserId, policy::Visibility, role::Role},
    store::Store,
};

/// Between two clients that are sent away, unless there are too many for that.
const GAP: Duration = Duration::from_millis(10);

/// Returns whether a request is for the engine, by its path as the engine looks at it.
pub(super) fn is_for_engine(path: &str) -> bool {
    path.strip_prefix("/socket.io").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The Socket.IO server. Clones share one.
#[derive(Clone)]
pub struct Sockets {
    layer: SocketIoLayer,
    io: SocketIo,
    registry: Arc<Registry>,
    viewers: Viewers,
    flows: Flows,
    source: Arc<Source>,
    users: Places<UserId>,
}

/// How things stand with all sockets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Look {
    pub by_transport: [(&'static str, usize); 2],
    pub behind: usize,
    /// With a handshake or without.
    pub connections: usize,
    pub queued_packets: usize,
    pub queued_bytes: usize,
    pub rooms: usize,
    /// How many holds there are of each role.
    pub holds: [(&'static str, usize); Role::ALL.len()],
    /// The newest event that was handed out.
    pub position: u64,
}

/// What every socket shares.
struct Door {
    app: App,
    auth: Auth,
    settings: Settings,
    limits: limits::Settings,
    /// The sockets of each user.
    users: Places<UserId>,
    source: Arc<Source>,
}

/// State of the log that delivery starts from.
pub struct Feed {
    pub switches: Arc<Switches>,
    pub begun: Begun,
    pub holds: Arc<Holds>,
}

impl Door {
    /// Whether a session is one that a client that is back has most likely given up. The heartbeat has yet to miss it.
    fn is_given_up(&self, flow: &Flow) -> bool {
        let is_overdue = || flow.last_heard().is_some_and(|heard| heard.elapsed() > self.overdue());
        flow.has_failed() || flow.is_ending() || is_overdue()
    }

    /// Every client answers a ping, or polls, once in an interval.
    fn overdue(&self) -> Duration {
        self.settings.ping_interval + self.settings.ping_timeout / 2
    }
}

impl Sockets {
    /// Makes the server and the delivery that feeds it, which the caller has to run, as well as [`Sockets::viewers`].
    pub fn new(
        app: App,
        auth: Auth,
        visibility: Visibility,
        settings: Settings,
        limits: limits::Settings,
        presence: &presence::Settings,
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
            // `max_payload` does not bind WebSocket frames.
            .ws_max_message_size(settings.max_frame)
            .ws_max_frame_size(settings.max_frame)
            .with_parser(ParserConfig::common().max_incoming_binary_buf_size(settings.max_frame))
            .build_layer();
        let source = Source {
            app: app.clone(),
            registry: registry.clone(),
            kept: kept::Kept::default(),
            kept_for_resumed: kept::Kept::default(),
            presence,
            replay,
            shaper,
            holds: holds.clone(),
            stall_timeout: settings.stall_timeout,
            max_subscriptions: limits.subscriptions,
        };
        let flows = Flows::new(limits.clone(), settings.max_frame);
        let (source, users) = (Arc::new(source), Places::default());
        let door = Arc::new(Door { app, auth, settings, limits, users: users.clone(), source: source.clone() });
        let judge = {
            let door = door.clone();
            async move |caller: Caller| handshake::judge(door, caller).await
        };
        io.ns("/", ConnectHandler::with(async move |caller: Caller| handshake::begin(door, caller).await, judge));
        (Self { layer, io, registry, viewers, flows, users, source }, delivery)
    }

    /// Answers `/socket.io` in front of the routes of `router`. Layers for both, such as CORS, go on the outside.
    pub fn attach(&self, router: axum::Router) -> axum::Router {
        let router = router.layer(self.layer.clone());
        router.layer(middleware::from_fn_with_state(self.flows.clone(), flow::watch))
    }

    /// Who is connected.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// Who is here, and who looks at which lead.
    pub fn viewers(&self) -> &Viewers {
        &self.viewers
    }

    /// Asks again about what is withheld, until `stop`.
    pub fn look_after_holds(&self, stop: CancellationToken) -> impl Future<Output = ()> + Send + use<> {
        self.source.holds.clone().run(self.source.shaper.clone(), stop)
    }

    /// How many sessions that began with polling there are, connected or not.
    pub fn polling_sessions(&self) -> usize {
        self.flows.len()
    }

    /// How many of them had a request that broke off or was refused.
    pub fn failed_sessions(&self) -> usize {
        self.flows.failed()
    }

    /// Lets so many clients of the process before come back at a pace, for as long as `span`.
    pub fn expect_back(&self, clients: usize, span: Duration) {
        self.flows.expect_back(clients, span);
    }

    /// Which leads the sockets follow, and those that were lost and are not back, for the next process.
    pub fn followed(&self) -> Followed {
        // Who comes back is in the registry before it is taken from what is kept: that is looked at first.
        // The next process takes whoever may have been lost for lost.
        let begin = || self.source.kept.followed().and(self.source.kept_for_resumed.followed());
        self.registry.survey(begin, |followed, client| {
            if let Some(session) = client.lease().and_then(|lease| lease.session) {
                client.look_at_rooms(|rooms| followed.add(session, rooms));
            }
        })
    }

    /// Lets the sockets that come back follow what they followed in the process before.
    ///
    /// `head` is the newest seq.
    pub fn restore(&self, followed: Followed, head: u64) {
        self.source.kept.restore(followed, self.source.max_subscriptions, head);
    }

    /// What can be told of them all at this moment.
    pub fn look(&self) -> Look {
        let mut look = Look {
            by_transport: [("websocket", 0), ("polling", 0)],
            connections: self.flows.counted(),
            rooms: self.registry.rooms(),
            holds: self.source.holds.count().map(|(role, count)| (role.as_str(), count)),
            position: self.registry.position(),
            ..Look::default()
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
        }
        look
    }

    /// How many connections count towards the limits of their addresses, and how many sockets towards those of their
    /// users.
    pub fn counted(&self) -> (usize, usize) {
        (self.flows.counted(), self.users.taken())
    }

    /// Sends every client away to the next process, in `limit` at most: stock clients come back by themselves.
    ///
    /// One after the other, so that the next process is not met by all of them at once. Whoever comes back here
    /// is answered 503 and tries again.
    pub async fn drain(&self, store: &Store, limit: Duration) {
        self.flows.shut();
        let until = Instant::now() + limit;
        let clients = self.registry.everyone();
        let count = u32::try_from(clients.len()).unwrap_or(u32::MAX);
        let span = (GAP * count).min(limit.mul_f64(0.7));
        let draining = json!({"retryAfterMs": span.as_millis() as u64});
        let draining = Output::Event(Message::new("server:draining", &draining));
        for client in &clients {
            client.try_reply(&draining);
        }
        // Everything that was answered is in the log: it goes out before the sockets do.
        let head = *store.appended().borrow();
        let _ = timeout_at(until, async {
            while self.registry.position() < head {
                sleep(GAP).await;
            }
        })
        .await;
        let gap = span.checked_div(count).unwrap_or_default();
        for client in clients {
            sleep(gap.mul_f64(rand::random_range(0.5..1.5))).await;
            client.dismiss();
        }
        // Those who connected meanwhile are sent away as well.
        let _ = timeout_at(until, async {
            while self.registry.clients() > 0 {
                self.registry.everyone().iter().for_each(|client| client.dismiss());
                sleep(GAP).await;
            }
        })
        .await;
    }

    /// Releases what would keep all this in memory after the server was dropped.
    pub fn release(&self) {
        self.flows.release_engine();
        // Sockets that nobody disconnected hold the engine, and it holds them. Closing them takes a runtime.
        if tokio::runtime::Handle::try_current().is_ok() {
            self.io.delete_ns("/");
        }
    }

    /// Ends what is left. Clients that come back are told `Invalid namespace` and strand: drain first.
    pub async fn close(&self) {
        // It waits for each transport, also for one that does not end.
        let _ = timeout(Duration::from_secs(1), self.io.close()).await;
    }
}
