//! Handshake: token and plugins are asked if a client may connect, before the client is told that it is connected.
//!
//! The socket's handlers are set up in here as well, so that nothing it says is missed; but nothing is sent before
//! [`begin`], because what is sent earlier never arrives.

use std::{fmt, sync::Arc, time::Duration};

use metrics::counter;
use parking_lot::Mutex;
use serde_json::{Value as Json, json};
use socketioxide::{
    TransportType,
    adapter::LocalAdapter,
    handler::{DisconnectHandler, FromConnectParts},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;
use tokio::time::Instant;
use tracing::{debug, error};

use crate::{
    auth::{self, Authenticated},
    delivery::line::Message,
    domain::{counter::Seq, event_name::EventName, input::Invalid, room::Room, user::User},
    plugin::Decision,
    store::{self, audit::AuditKind},
    transport::{
        limits::hit,
        socket::{
            client::{Client, ClientTasks},
            commands,
            conn::{
                close_transport::{close_session_transport, close_transport},
                sessions::{DisconnectKind, EngineSession},
            },
            context::{HandshakeContext, SocketContext, caller_address, origin},
            error::{SocketError, TooManyRooms},
            follow::{self, FollowOutcome},
            intake::Intake,
            session::{lease::Lease, resume, tasks::SocketTasks},
            writer::Writer,
        },
    },
};

/// A page that the browser puts into its cache may answer one more ping while the next page connects.
const LAST_ANSWER: Duration = Duration::from_millis(500);

/// Reason why a client may not connect; its text is the client's `connect_error.message`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectRefusal {
    #[error("Authentication token required")]
    NoToken,
    #[error("Invalid authentication token")]
    BadToken,
    /// Expired token. For the client it is like any bad token: it was good before, and a client that was away has no
    /// other.
    #[error("Invalid authentication token")]
    OldToken,
    /// A plugin's reason, word for word.
    #[error("{0}")]
    Denied(String),
    #[error("Too many handshakes of this connection, try again later")]
    TooManyHandshakes,
    #[error("Too many connections of this user, try again later")]
    CrowdedUser,
    #[error("A plugin that decides who may connect is not answering, try again later")]
    PluginUnavailable,
    #[error("The server cannot check the token now, try again later")]
    Unavailable,
}

/// Socket together with what it said in its CONNECT packet.
pub(crate) struct ConnectRequest {
    socket: Arc<Socket>,
    auth: Option<Value>,
}

impl FromConnectParts<LocalAdapter> for ConnectRequest {
    type Error = std::convert::Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, auth: &Option<Value>) -> Result<Self, Self::Error> {
        Ok(Self { socket: socket.clone(), auth: auth.clone() })
    }
}

/// Greetings that the middleware prepared for [`begin`]; they wait in the socket's extensions.
#[derive(Clone)]
struct Prepared(Arc<Mutex<Vec<Message>>>, Arc<Client>);

/// Judges a client that wants to connect and prepares everything for it.
pub(crate) async fn judge(context: Arc<HandshakeContext>, caller: ConnectRequest) -> Result<(), ConnectRefusal> {
    let socket = caller.socket.clone();
    admit(context.clone(), caller).await.inspect_err(|refused| {
        debug!(client = caller_address(&socket), "refused a connection: {refused}");
        refused.count();
        if let Some(reason) = refused.suspicion() {
            context.auth.audit_log().note(origin(&socket).entry(AuditKind::ConnectDenied).with("reason", reason));
        }
    })
}

async fn admit(context: Arc<HandshakeContext>, caller: ConnectRequest) -> Result<(), ConnectRefusal> {
    // Checked first, because checking a token costs more than sending one.
    if caller.engine_session().is_some_and(|engine_session| engine_session.shake_hands() > context.limits.handshakes) {
        // No stock client makes another handshake: it closes the connection of a socket that was refused or left.
        close_transport(&caller.socket);
        return Err(ConnectRefusal::TooManyHandshakes);
    }
    let auth = caller.auth()?;
    let token = caller.token(&auth)?;
    let position = context.shared.registry.position();
    // User and head are read together: whatever changes the user from here on is in the log behind this line.
    let Authenticated { user, credentials, seq: head } = context.auth.authenticate(&token).await?;
    let place = context.users.take(user.id, context.limits.connections_per_user).ok_or(ConnectRefusal::CrowdedUser)?;
    let past = RecoveryRange::read(&context, &user).await?;
    let resumed = Resumed::judge(&auth, &context, head, &past);
    match context.app.plugins().authorize_connect(&user) {
        Ok(Decision::Allow) => {}
        Ok(Decision::Deny(reason)) => return Err(ConnectRefusal::Denied(reason)),
        Err(unavailable) => {
            debug!("plugins cannot authorize a connection: {unavailable}");
            return Err(ConnectRefusal::PluginUnavailable);
        }
    }

    let greeting = json!({
        "message": "Connected to the CRM server",
        "userId": user.id,
        "userRole": user.role,
        "timestamp": context.app.now(),
        "seq": head,
        "epoch": context.shared.replay.epoch(),
        "recovered": matches!(resumed, Resumed::From(_)),
        "tokenExpiresAt": credentials.expires_at,
    });
    let socket = caller.socket;
    let client = Client::new(user, Lease::new(credentials), head, &context.settings);
    client.note_tail(position);
    client.note_rights(past.rights);
    client.occupy(place);
    if let Some(engine_session) = socket.req_parts().extensions.get::<Arc<EngineSession>>() {
        client.attach(engine_session);
    }
    match resumed {
        Resumed::Fresh => {}
        Resumed::From(since) => client.come_back(since),
        // A reset makes up for what it missed.
        Resumed::Impossible | Resumed::Invalid(_) => client.come_back(head),
    }
    let mut greetings = vec![Message::new(EventName::Connected.as_str(), &greeting)];
    match resumed {
        Resumed::Fresh => {}
        Resumed::From(since) => client.resume(since),
        Resumed::Impossible => greetings.push(context.shared.reset_event(head)),
        Resumed::Invalid(invalid) => {
            greetings.push(Message::new(EventName::Error.as_str(), &SocketError::from(invalid).event(None)));
            greetings.push(context.shared.reset_event(head));
        }
    }
    client.set_tasks(SocketTasks::new(&socket, &context));
    socket.on_fallback(Intake::new(client.clone(), &context.settings, &context.limits));
    socket.on_disconnect(Farewell { context: context.clone(), client: client.clone() });
    socket.extensions.insert(Prepared(Arc::new(Mutex::new(greetings)), client));
    Ok(())
}

/// Starts to listen to a client that has been told that it is connected, and to send to it.
pub(crate) async fn begin(context: Arc<HandshakeContext>, caller: ConnectRequest) {
    let socket = caller.socket;
    let Some(Prepared(greetings, client)) = socket.extensions.remove::<Prepared>() else { return };
    let mut greetings = std::mem::take(&mut *greetings.lock());
    let user = client.user().id;
    if let Some(session) = client.lease().and_then(|lease| lease.session) {
        for sibling in context.shared.registry.siblings(user, session) {
            sibling.note_sibling(&client);
            if let Some(engine_session) = sibling
                .engine_session()
                .filter(|engine_session| client.is_back() && context.is_given_up(engine_session))
            {
                context.shared.lose(&sibling);
                close_session_transport(&engine_session);
            }
        }
    }
    // A client that is gone by now is closed, and enters no room.
    context.shared.registry.add(&client, [Room::Everyone, Room::User(user)].map(|room| (room, Seq::START)));
    context.shared.registry.reset_newcomer(&client);
    context.shared.presence.arrive(&client, context.app.now());
    greetings.extend(rejoin(&context, &client).await);
    debug!(%user, socket = %socket.id, client = caller_address(&socket), "a socket connected");
    let transport = match socket.transport_type() {
        TransportType::Websocket => "websocket",
        TransportType::Polling => "polling",
    };
    counter!("leadwire_connects_total", "transport" => transport).increment(1);
    context.shared.leases.judge(client.clone());
    let writer = Writer::new(client.clone(), socket, context.shared.clone());
    tokio::spawn(writer.run(Some(greetings)));
    client.start(ClientTasks::start_commands);
}

/// Restores the subscriptions that lost sockets of the login session left behind; returns what to tell the client.
async fn rejoin(context: &HandshakeContext, client: &Arc<Client>) -> Vec<Message> {
    let Some(session) = client.lease().and_then(|lease| lease.session) else { return Vec::new() };
    let SocketContext { lost_subscriptions: lost, unclear_subscriptions: unclear, .. } = &*context.shared;
    let (mut left, mut is_cut) = lost.rooms(session);
    if client.is_back() {
        let (more, is_more_cut) = unclear.rooms(session);
        for (room, since) in more {
            resume::add(&mut left, room, since);
        }
        is_cut |= is_more_cut;
    }
    let mut left: Vec<(Room, Seq)> = left.into_iter().collect();
    left.sort();
    let (mut rooms, mut messages, mut entered) = (Vec::new(), Vec::new(), Vec::new());
    if is_cut {
        let refusal = SocketError::from(TooManyRooms(context.limits.subscriptions));
        messages.push(Message::new(EventName::Error.as_str(), &refusal.event(Some("lead:subscribe"))));
    }
    for (room, since) in left {
        let Room::Lead(lead_id) = &room else { continue };
        match follow::may_follow(&context.shared, &client.user(), &room).await {
            Ok(followed) => {
                if followed != FollowOutcome::Judged {
                    client.leave_unjudged(&room);
                }
                entered.extend(room.lead().filter(|_| followed != FollowOutcome::Unseen));
                messages.push(Message::new(EventName::LeadSubscribed.as_str(), &json!({"leadId": lead_id})));
                rooms.push((room, since));
            }
            Err(refusal) => {
                let mut error = refusal.event(Some("lead:subscribe"));
                error["leadId"] = json!(lead_id);
                messages.push(Message::new(EventName::Error.as_str(), &error));
            }
        }
    }
    context.shared.registry.add(client, rooms.iter().cloned());
    // Not earlier: at any moment they are in one place or the other, and so in the snapshot for the next process.
    lost.taken(session);
    if client.is_back() {
        unclear.taken(session);
    }
    for lead in entered {
        context.shared.presence.enter(client, lead);
        // The viewer list is sent after the greetings.
        context.shared.presence.welcome(client, lead);
    }
    if client.closed().is_cancelled() {
        // When it closed, its subscriptions were kept without these rooms.
        let rooms = rooms.into_iter().collect();
        match client.parting() {
            DisconnectKind::Lost => lost.keep(session, rooms, 0, context.shared.max_subscriptions),
            DisconnectKind::Unclear => unclear.keep(session, rooms, 0, context.shared.max_subscriptions),
            DisconnectKind::Left => {}
        }
    }
    messages
}

/// Verdict on resuming where a client was in the log: `auth: {since, epoch}`.
enum Resumed {
    /// The client does not ask to resume.
    Fresh,
    From(Seq),
    /// Another log, a seq that is yet to come, lines that are not kept any more, or a reset line among them.
    Impossible,
    /// Its `since` or `epoch` is malformed.
    Invalid(Invalid),
}

/// Range of the log from which a user can be told of what went by.
struct RecoveryRange {
    /// Seq of the oldest line that is kept.
    oldest: Seq,
    /// Newest line that changed what the user may see.
    rights: Seq,
    /// Newest reset line of the user's role.
    reset: Seq,
}

impl RecoveryRange {
    async fn read(context: &HandshakeContext, user: &User) -> Result<Self, store::Error> {
        let mut reader = context.app.store().read().await?;
        let (oldest, rights, reset) = reader.recovery_bounds(user.id, user.role).await?;
        Ok(Self { oldest, rights, reset })
    }

    /// Returns true if what follows `since` makes a list right that was right there.
    fn reaches(&self, since: Seq, head: Seq) -> bool {
        let is_in_log = since == head || self.oldest <= since.next();
        // A line behind the head was committed after the head was read. The client is told of it when it comes there.
        let is_past = |line: Seq| since >= line || line > head;
        is_in_log && is_past(self.rights) && is_past(self.reset)
    }
}

impl Resumed {
    fn judge(auth: &Json, context: &HandshakeContext, head: Seq, past: &RecoveryRange) -> Self {
        let since = match auth.get("since") {
            None | Some(Json::Null) => return Self::Fresh,
            Some(since) => commands::seq("since", since),
        };
        let (since, epoch) = match (since, commands::epoch(auth.get("epoch").cloned())) {
            (Ok(since), Ok(epoch)) => (since, epoch),
            (Err(invalid), _) | (_, Err(invalid)) => return Self::Invalid(invalid),
        };
        let is_this_log = since <= head && epoch == *context.shared.replay.epoch();
        if is_this_log && past.reaches(since, head) { Self::From(since) } else { Self::Impossible }
    }
}

impl ConnectRequest {
    fn engine_session(&self) -> Option<&Arc<EngineSession>> {
        self.socket.req_parts().extensions.get()
    }

    fn auth(&self) -> Result<Json, ConnectRefusal> {
        let auth = self.auth.as_ref().and_then(|auth| auth.as_str()).map(socketioxide_core::Str::as_str);
        match auth {
            Some(text) => serde_json::from_str(text).map_err(|_| ConnectRefusal::BadToken),
            None => Ok(Json::Null),
        }
    }

    /// Returns the token from the CONNECT packet or, if that has none, from the first request's header.
    fn token(&self, auth: &Json) -> Result<String, ConnectRefusal> {
        match auth.get("token") {
            Some(Json::String(token)) if !token.is_empty() => return Ok(token.clone()),
            None | Some(Json::Null | Json::String(_)) => {}
            Some(_) => return Err(ConnectRefusal::BadToken),
        }
        let Some(header) = self.socket.req_parts().headers.get("authorization") else {
            return Err(ConnectRefusal::NoToken);
        };
        let header = header.to_str().map_err(|_| ConnectRefusal::BadToken)?.trim();
        let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
        match token.trim() {
            "" => Err(ConnectRefusal::NoToken),
            token if scheme.eq_ignore_ascii_case("bearer") => Ok(token.into()),
            _ => Err(ConnectRefusal::BadToken),
        }
    }
}

impl ConnectRefusal {
    /// Returns the reason for the audit table, if somebody should look at the refusal. Nobody should for an expired
    /// token: every client that was away comes with one.
    fn suspicion(&self) -> Option<&'static str> {
        match self {
            Self::BadToken => Some("bad_token"),
            Self::Denied(_) => Some("denied"),
            Self::TooManyHandshakes => Some("too_many_handshakes"),
            Self::CrowdedUser => Some("crowded_user"),
            Self::NoToken | Self::OldToken | Self::PluginUnavailable | Self::Unavailable => None,
        }
    }

    fn count(&self) {
        let reason = match self {
            Self::NoToken => "no_token",
            Self::BadToken | Self::OldToken => "bad_token",
            Self::CrowdedUser => "crowded_user",
            Self::TooManyHandshakes => "too_many_handshakes",
            Self::Denied(_) => "denied",
            Self::PluginUnavailable => "plugin_unavailable",
            Self::Unavailable => "unavailable",
        };
        counter!("leadwire_connects_refused_total", "reason" => reason).increment(1);
        match self {
            Self::CrowdedUser => hit("connections_per_user"),
            Self::TooManyHandshakes => hit("handshakes"),
            _ => {}
        }
    }
}

impl From<auth::Error> for ConnectRefusal {
    fn from(error: auth::Error) -> Self {
        match error {
            auth::Error::Store(error) => error.into(),
            auth::Error::TokenExpired => Self::OldToken,
            error @ auth::Error::Internal { .. } => unavailable(&error),
            _ => Self::BadToken,
        }
    }
}

impl From<store::Error> for ConnectRefusal {
    fn from(error: store::Error) -> Self {
        unavailable(&error)
    }
}

fn unavailable(error: &impl fmt::Display) -> ConnectRefusal {
    error!("cannot authorize a connection: {error}");
    ConnectRefusal::Unavailable
}

/// Cleans up after a socket that is gone.
///
/// An async closure would do this too late, when the same socket may have connected again.
struct Farewell {
    context: Arc<HandshakeContext>,
    client: Arc<Client>,
}

impl DisconnectHandler<LocalAdapter, Self> for Farewell {
    fn call_with_defer(&self, socket: Arc<Socket>, reason: DisconnectReason, defer: fn(Arc<Socket>)) {
        debug!(socket = %socket.id, "a socket disconnected: {reason}");
        let label = match reason {
            DisconnectReason::TransportClose => "transport_close",
            DisconnectReason::TransportError => "transport_error",
            DisconnectReason::MultipleHttpPollingError => "parallel_polls",
            DisconnectReason::PacketParsingError => "parse_error",
            DisconnectReason::HeartbeatTimeout => "ping_timeout",
            DisconnectReason::ClientNSDisconnect => "client_disconnect",
            DisconnectReason::ServerNSDisconnect => "server_disconnect",
            DisconnectReason::ClosingServer => "server_closing",
        };
        counter!("leadwire_disconnects_total", "reason" => label).increment(1);
        let engine_session = socket.req_parts().extensions.get::<Arc<EngineSession>>();
        let last_heard = engine_session.and_then(|engine_session| engine_session.last_heard());
        let parting = match reason {
            DisconnectReason::ClientNSDisconnect => DisconnectKind::Left,
            DisconnectReason::TransportClose => {
                engine_session.map_or(DisconnectKind::Lost, |engine_session| engine_session.parting(true))
            }
            DisconnectReason::TransportError => {
                engine_session.map_or(DisconnectKind::Lost, |engine_session| engine_session.parting(false))
            }
            // A page that polled, or that the browser keeps in its cache, sends nothing when it is left for the next
            // one.
            DisconnectReason::HeartbeatTimeout => {
                let before = last_heard.and_then(|last_heard| last_heard.checked_sub(LAST_ANSWER));
                if before.is_some_and(|before| self.client.has_sibling_since(before)) {
                    DisconnectKind::Left
                } else {
                    DisconnectKind::Lost
                }
            }
            _ => DisconnectKind::Lost,
        };
        // A client that was back before its old connection was missed, or before its close packet got here.
        let successor = match reason {
            DisconnectReason::HeartbeatTimeout => last_heard.and_then(|heard| self.client.successor_since(heard)),
            _ if parting == DisconnectKind::Unclear => {
                let recently = Instant::now().checked_sub(self.context.overdue());
                recently.and_then(|recently| self.client.successor_since(recently))
            }
            _ => None,
        };
        self.context.shared.part(&self.client, parting, successor);
        defer(socket);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_line_behind_the_head_of_the_handshake_prevents_no_resume() {
        let reaches = |since, rights, reset| {
            let past = RecoveryRange { oldest: Seq(5), rights: Seq(rights), reset: Seq(reset) };
            past.reaches(Seq(since), Seq(30))
        };
        assert!(reaches(10, 10, 10));
        assert!(!reaches(10, 11, 0) && !reaches(10, 0, 30), "a line up to the head does");
        assert!(reaches(10, 0, 31) && reaches(10, 31, 0), "it was committed after the head was read");
        assert!(reaches(4, 0, 0) && !reaches(3, 0, 0), "the log begins at 5");
    }
}
