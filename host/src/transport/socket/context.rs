//! Shared state: of all handshakes ([`HandshakeContext`]), and of all writers ([`SocketContext`]), which also forgets
//! sockets that are gone and keeps their subscriptions for their successors.

use std::{net::IpAddr, sync::Arc, time::Duration};

use metrics::counter;
use serde_json::json;
use socketioxide::socket::Socket;
use tracing::field::DisplayValue;

use crate::{
    app::App,
    auth::{Auth, RequestOrigin},
    delivery::{holds::Holds, line::Message, replay::Replay, shape::Shaper},
    domain::{counter::Seq, event_name::EventName, id::UserId},
    transport::{
        address::ClientAddress,
        limits::{self, Slots},
        request_id::given_request_id,
        socket::{
            client::Client,
            conn::sessions::{DisconnectKind, EngineSession},
            presence::Presence,
            registry::Registry,
            session::{
                expiry::Leases,
                resume::{LostSubscriptions, Rooms},
            },
            settings::SocketConfig,
        },
    },
};

/// State that all handshakes and commands share.
pub(crate) struct HandshakeContext {
    pub(crate) app: App,
    pub(crate) auth: Auth,
    pub(crate) settings: SocketConfig,
    pub(crate) limits: limits::LimitsConfig,
    /// Sockets per user.
    pub(crate) users: Slots<UserId>,
    pub(crate) shared: Arc<SocketContext>,
}

impl HandshakeContext {
    /// Returns true if a client that is back has most likely given up this session. The heartbeat has yet to miss it.
    pub(crate) fn is_given_up(&self, engine_session: &EngineSession) -> bool {
        let is_overdue = || engine_session.last_heard().is_some_and(|heard| heard.elapsed() > self.overdue());
        engine_session.has_failed() || engine_session.is_ending() || is_overdue()
    }

    /// Returns the time of silence after which a session is overdue: every client answers a ping, or polls, once in an
    /// interval.
    pub(crate) fn overdue(&self) -> Duration {
        self.settings.ping_interval + self.settings.ping_timeout / 2
    }
}

/// Returns the origin of a socket, for the audit table.
pub(crate) fn origin(socket: &Socket) -> RequestOrigin {
    let parts = socket.req_parts();
    let address = parts.extensions.get::<ClientAddress>().map(|client| client.0);
    RequestOrigin { address, request: given_request_id(&parts.headers).map(Into::into) }
}

/// Returns the client address of a socket, for the log.
pub(crate) fn caller_address(socket: &Socket) -> Option<DisplayValue<IpAddr>> {
    ClientAddress::field(&socket.req_parts().extensions)
}

/// State that all writers share.
pub(crate) struct SocketContext {
    pub(crate) app: App,
    pub(crate) registry: Arc<Registry>,
    pub(crate) lost_subscriptions: LostSubscriptions,
    /// Subscriptions of sockets of which it is not clear if they were lost: only for clients that say where they were
    /// in the log.
    pub(crate) unclear_subscriptions: LostSubscriptions,
    pub(crate) presence: Arc<Presence>,
    pub(crate) replay: Arc<Replay>,
    pub(crate) shaper: Arc<Shaper>,
    pub(crate) holds: Arc<Holds>,
    pub(crate) leases: Leases,
    pub(crate) stall_timeout: Duration,
    /// Number of leads that one socket may follow.
    pub(crate) max_subscriptions: usize,
}

impl SocketContext {
    /// Forgets a socket that is gone. Its subscriptions go to its successor, if that is here already.
    pub(crate) fn part(&self, client: &Client, parting: DisconnectKind, successor: Option<Arc<Client>>) {
        if parting == DisconnectKind::Lost && successor.is_none() {
            return self.lose(client);
        }
        let parting = if successor.is_some() { DisconnectKind::Unclear } else { parting };
        client.go(parting);
        let session = client.lease().and_then(|lease| lease.session);
        // The successor may be lost before it follows anything.
        let keep = |rooms: &Rooms| {
            if let Some(session) = session.filter(|_| parting == DisconnectKind::Unclear) {
                self.unclear_subscriptions.keep(session, rooms.clone(), 1, self.max_subscriptions);
            }
        };
        if let Some(rooms) = self.registry.remove(client, keep) {
            self.presence.left(client, &rooms);
            if let Some(successor) = successor {
                successor.inherit(rooms);
            }
        }
    }

    /// Forgets a socket that was lost; its lead rooms are kept for the next one of its session.
    pub(crate) fn lose(&self, client: &Client) {
        let session = client.lease().and_then(|lease| lease.session);
        let keep = |rooms: &Rooms| {
            if let Some(session) = session {
                self.lost_subscriptions.keep(session, rooms.clone(), 1, self.max_subscriptions);
            }
        };
        if let Some(rooms) = self.registry.remove(client, keep) {
            self.presence.lost(client, &rooms);
        }
    }

    /// Creates `sync:reset`, which says: events were left out, fetch again.
    pub(crate) fn reset_event(&self, seq: Seq) -> Message {
        counter!("leadwire_sockets_reset_total").increment(1);
        Message::new(EventName::SyncReset.as_str(), &json!({"seq": seq, "epoch": self.replay.epoch()}))
    }
}
