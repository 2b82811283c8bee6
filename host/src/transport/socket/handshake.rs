//! Who may connect: token and plugins are asked before the client is told that it is connected.
//!
//! The socket's handlers are set up in here as well, so that nothing it says is missed; but
//! nothing is sent before [`begin`], because what is sent earlier never arrives.

use std::{fmt, net::IpAddr, sync::Arc};

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
use tracing::{debug, error, field::DisplayValue};

use super::{
    Door,
    client::Client,
    fanout::TooManyRooms,
    flow::{Flow, Parting},
    handler::{self, Followed, Inbox},
    hangup::{hang_up, hang_up_on},
    kept,
    limits::hit,
    outbox::{Source, Writer},
    refusal::Refusal,
    session::Lease,
};
use crate::{
    auth::{self, Authenticated, Origin},
    delivery::shape::Message,
    domain::{input::Invalid, room::Room, user::User},
    plugin::Decision,
    store::{self, audit::Kind},
    transport::{address::ClientAddress, http::given_request_id},
};

/// Why a client may not connect; its text is the client's `connect_error.message`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("Authentication token required")]
    NoToken,
    #[error("Invalid authentication token")]
    BadToken,
    /// As any bad token, for the client: it was good before, and a client that was away has no other.
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

/// A socket together with what it said in its CONNECT packet.
pub(super) struct Caller {
    socket: Arc<Socket>,
    auth: Option<Value>,
}

impl FromConnectParts<LocalAdapter> for Caller {
    type Error = std::convert::Infallible;

    fn from_connect_parts(socket: &Arc<Socket>, auth: &Option<Value>) -> Result<Self, Self::Error> {
        Ok(Self { socket: socket.clone(), auth: auth.clone() })
    }
}

/// What the middleware made ready for [`begin`]; it waits in the socket's extensions.
#[derive(Clone)]
struct Prepared(Arc<Mutex<Option<Ready>>>, Arc<Client>);

struct Ready {
    inbox: Inbox,
    greetings: Vec<Message>,
}

/// Judges a client that wants to connect and makes everything ready for it.
pub(super) async fn judge(door: Arc<Door>, caller: Caller) -> Result<(), Refused> {
    let socket = caller.socket.clone();
    admit(door.clone(), caller).await.inspect_err(|refused| {
        debug!(client = caller_address(&socket), "refused a connection: {refused}");
        refused.count();
        if let Some(reason) = refused.suspicion() {
            door.auth.journal().note(origin(&socket).entry(Kind::ConnectDenied).with("reason", reason));
        }
    })
}

/// Where a socket comes from, for the audit table.
fn origin(socket: &Socket) -> Origin {
    let parts = socket.req_parts();
    let address = parts.extensions.get::<ClientAddress>().map(|client| client.0);
    Origin { address, request: given_request_id(&parts.headers).map(Into::into) }
}

/// Where a socket comes from, for the log.
pub(super) fn caller_address(socket: &Socket) -> Option<DisplayValue<IpAddr>> {
    ClientAddress::field(&socket.req_parts().extensions)
}

async fn admit(door: Arc<Door>, caller: Caller) -> Result<(), Refused> {
    // First of all, because to look at a token costs more than to send one.
    if caller.flow().is_some_and(|flow| flow.shake_hands() > door.limits.handshakes) {
        // No stock client makes another one: it closes the connection of a socket that was refused or left.
        hang_up(&caller.socket);
        return Err(Refused::TooManyHandshakes);
    }
    let auth = caller.auth()?;
    let token = caller.token(&auth)?;
    // Read together: whatever changes the user from here on is in the log behind this line.
    let Authenticated { user, credentials, seq: head } = door.auth.authenticate(&token).await?;
    let place = door.users.take(user.id, door.limits.connections_per_user).ok_or(Refused::CrowdedUser)?;
    let past = Past::read(&door, &user).await?;
    let resumed = Resumed::judge(&auth, &door, head, &past);
    match door.app.plugins().authorize_connect(&user) {
        Ok(Decision::Allow) => {}
        Ok(Decision::Deny(reason)) => return Err(Refused::Denied(reason)),
        Err(unavailable) => {
            debug!("cannot ask who may connect: {unavailable}");
            return Err(Refused::PluginUnavailable);
        }
    }

    let greeting = json!({
        "message": "Connected to the CRM server",
        "userId": user.id,
        "userRole": user.role,
        "timestamp": door.app.now(),
        "seq": head,
        "epoch": door.source.replay.epoch(),
        "recovered": matches!(resumed, Resumed::From(_)),
        "tokenExpiresAt": credentials.expires_at,
    });
    let socket = caller.socket;
    let client = Client::new(user, Lease::new(credentials), head, &door.settings);
    client.note_rights(past.rights);
    client.occupy(place);
    if let Some(flow) = socket.req_parts().extensions.get::<Arc<Flow>>() {
        client.attach(flow);
    }
    match resumed {
        Resumed::Fresh => {}
        Resumed::From(since) => client.come_back(since),
        // What it missed is made up for by a reset.
        Resumed::Impossible | Resumed::Invalid(_) => client.come_back(head),
    }
    let mut greetings = vec![Message::new("connected", &greeting)];
    match resumed {
        Resumed::Fresh => {}
        Resumed::From(since) => client.resume(since),
        Resumed::Impossible => greetings.push(door.source.reset_event(head)),
        Resumed::Invalid(invalid) => {
            greetings.push(Message::new("error", &Refusal::from(invalid).event(None)));
            greetings.push(door.source.reset_event(head));
        }
    }
    let (intake, inbox) = handler::queue(client.clone(), &door.settings, &door.limits);
    socket.on_fallback(intake);
    socket.on_disconnect(Farewell { door: door.clone(), client: client.clone() });
    let inbox = Arc::new(Mutex::new(Some(Ready { inbox, greetings })));
    socket.extensions.insert(Prepared(inbox, client));
    Ok(())
}

/// Starts to listen to a client that has been told that it is connected, and to send to it.
pub(super) async fn begin(door: Arc<Door>, caller: Caller) {
    let socket = caller.socket;
    let Some(Prepared(inbox, client)) = socket.extensions.remove::<Prepared>() else { return };
    let Some(Ready { inbox, mut greetings }) = inbox.lock().take() else { return };
    let user = client.user().id;
    if let Some(session) = client.lease().and_then(|lease| lease.session) {
        for sibling in door.source.registry.siblings(user, session) {
            sibling.note_sibling(&client);
            if let Some(flow) = sibling.flow().filter(|flow| client.is_back() && door.is_given_up(flow)) {
                door.source.lose(&sibling);
                hang_up_on(&flow);
            }
        }
    }
    // A client that is gone by now is closed, and enters no room.
    door.source.registry.add(&client, [(Room::Everyone, 0), (Room::User(user), 0)]);
    door.source.presence.arrive(&client, door.app.now());
    greetings.extend(rejoin(&door, &client).await);
    debug!(%user, socket = %socket.id, client = caller_address(&socket), "a socket connected");
    let transport = match socket.transport_type() {
        TransportType::Websocket => "websocket",
        TransportType::Polling => "polling",
    };
    counter!("leadwire_connects_total", "transport" => transport).increment(1);
    let origin = origin(&socket);
    let writer = Writer::new(client.clone(), socket, door.source.clone());
    tokio::spawn(writer.run(greetings));
    tokio::spawn(handler::run(door, client, origin, inbox));
}

/// Lets a socket listen again to the leads that lost sockets of its login session followed; what to tell it.
async fn rejoin(door: &Door, client: &Arc<Client>) -> Vec<Message> {
    let Some(session) = client.lease().and_then(|lease| lease.session) else { return Vec::new() };
    let Source { kept, kept_for_resumed, .. } = &*door.source;
    let (mut left, mut is_cut) = kept.rooms(session);
    if client.is_back() {
        let (unclear, is_more_cut) = kept_for_resumed.rooms(session);
        for (room, since) in unclear {
            kept::add(&mut left, room, since);
        }
        is_cut |= is_more_cut;
    }
    let mut left: Vec<(Room, u64)> = left.into_iter().collect();
    left.sort();
    let (mut rooms, mut told, mut entered) = (Vec::new(), Vec::new(), Vec::new());
    if is_cut {
        let refusal = Refusal::from(TooManyRooms(door.limits.subscriptions));
        told.push(Message::new("error", &refusal.event(Some("lead:subscribe"))));
    }
    for (room, since) in left {
        let Room::Lead(lead_id) = &room else { continue };
        match handler::may_follow(&door.source, &client.user(), &room).await {
            Ok(followed) => {
                if followed != Followed::Judged {
                    client.leave_unjudged(&room);
                }
                entered.extend(room.lead().filter(|_| followed != Followed::Unseen));
                told.push(Message::new("lead:subscribed", &json!({"leadId": lead_id})));
                rooms.push((room, since));
            }
            Err(refusal) => {
                let mut error = refusal.event(Some("lead:subscribe"));
                error["leadId"] = json!(lead_id);
                told.push(Message::new("error", &error));
            }
        }
    }
    door.source.registry.add(client, rooms.iter().cloned());
    // Not earlier: at any moment they stand in one place or the other, and so in what the next process is left.
    kept.taken(session);
    if client.is_back() {
        kept_for_resumed.taken(session);
    }
    for lead in entered {
        door.source.presence.enter(client, lead);
        // What it is told comes behind the greetings.
        door.source.presence.welcome(client, lead);
    }
    if client.closed().is_cancelled() {
        // It was counted when it closed, without these.
        let rooms = rooms.into_iter().collect();
        match client.parting() {
            Parting::Lost => kept.keep(session, rooms, 0, door.source.max_subscriptions),
            Parting::Unclear => kept_for_resumed.keep(session, rooms, 0, door.source.max_subscriptions),
            Parting::Left => {}
        }
    }
    told
}

/// Whether a client goes on where it was in the log: `auth: {since, epoch}`.
enum Resumed {
    /// It does not ask to.
    Fresh,
    From(u64),
    /// Another log, a seq that is yet to come, lines that are not kept any more, or a reset line among them.
    Impossible,
    /// What it says is no place in a log.
    Invalid(Invalid),
}

/// How far back in the log a user can be told of what went by.
struct Past {
    /// The seq of the oldest line that is kept.
    oldest: u64,
    /// The newest line that changed what the user may see.
    rights: u64,
    /// The newest reset line of the user's role.
    reset: u64,
}

impl Past {
    async fn read(door: &Door, user: &User) -> Result<Self, store::Error> {
        let mut reader = door.app.store().read().await?;
        let resets = reader.resets().await?;
        let reset = resets.iter().find(|(role, _)| *role == user.role).map_or(0, |(_, seq)| *seq);
        Ok(Self { oldest: reader.oldest().await?, rights: reader.rights_seq(user.id).await?, reset })
    }

    /// Whether what follows `since` makes a list right that was right there.
    fn reaches(&self, since: u64, head: u64) -> bool {
        let is_kept = since == head || self.oldest <= since + 1;
        is_kept && since >= self.rights && since >= self.reset
    }
}

impl Resumed {
    fn judge(auth: &Json, door: &Door, head: u64, past: &Past) -> Self {
        let since = match auth.get("since") {
            None | Some(Json::Null) => return Self::Fresh,
            Some(since) => handler::seq("since", since),
        };
        let (since, epoch) = match (since, handler::epoch(auth.get("epoch").cloned())) {
            (Ok(since), Ok(epoch)) => (since, epoch),
            (Err(invalid), _) | (_, Err(invalid)) => return Self::Invalid(invalid),
        };
        let is_this_log = since <= head && epoch == door.source.replay.epoch();
        if is_this_log && past.reaches(since, head) { Self::From(since) } else { Self::Impossible }
    }
}

impl Caller {
    fn flow(&self) -> Option<&Arc<Flow>> {
        self.socket.req_parts().extensions.get()
    }

    fn auth(&self) -> Result<Json, Refused> {
        let auth = self.auth.as_ref().and_then(|auth| auth.as_str()).map(|text| text.as_str());
        match auth {
            Some(text) => serde_json::from_str(text).map_err(|_| Refused::BadToken),
            None => Ok(Json::Null),
        }
    }

    /// The token from the CONNECT packet or, where that has none, from the first request's header.
    fn token(&self, auth: &Json) -> Result<String, Refused> {
        match auth.get("token") {
            Some(Json::String(token)) if !token.is_empty() => return Ok(token.clone()),
            None | Some(Json::Null | Json::String(_)) => {}
            Some(_) => return Err(Refused::BadToken),
        }
        let Some(header) = self.socket.req_parts().headers.get("authorization") else { return Err(Refused::NoToken) };
        let header = header.to_str().map_err(|_| Refused::BadToken)?.trim();
        let (scheme, token) = header.split_once(' ').unwrap_or((header, ""));
        match token.trim() {
            "" => Err(Refused::NoToken),
            token if scheme.eq_ignore_ascii_case("bearer") => Ok(token.into()),
            _ => Err(Refused::BadToken),
        }
    }
}

impl Refused {
    /// Why somebody should look at it. A token that expired is what every client that was away comes with.
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

impl From<auth::Error> for Refused {
    fn from(error: auth::Error) -> Self {
        match error {
            auth::Error::Store(error) => error.into(),
            auth::Error::TokenExpired => Self::OldToken,
            error @ auth::Error::Internal { .. } => unavailable(&error),
            _ => Self::BadToken,
        }
    }
}

impl From<store::Error> for Refused {
    fn from(error: store::Error) -> Self {
        unavailable(&error)
    }
}

fn unavailable(error: &impl fmt::Display) -> Refused {
    error!("cannot judge a connection: {error}");
    Refused::Unavailable
}

/// Cleans up behind a socket that is gone.
///
/// An async closure would do this after the fact, when the same socket may have connected again.
struct Farewell {
    door: Arc<Door>,
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
        let flow = socket.req_parts().extensions.get::<Arc<Flow>>();
        let last_heard = flow.and_then(|flow| flow.last_heard());
        let parting = match reason {
            DisconnectReason::ClientNSDisconnect => Parting::Left,
            DisconnectReason::TransportClose => flow.map_or(Parting::Lost, |flow| flow.parting(true)),
            DisconnectReason::TransportError => flow.map_or(Parting::Lost, |flow| flow.parting(false)),
            // A page that polled, or that the browser keeps in its cache, says nothing when it is left for the next one.
            DisconnectReason::HeartbeatTimeout => {
                match last_heard.is_some_and(|last_heard| self.client.has_sibling_since(last_heard)) {
                    true => Parting::Left,
                    false => Parting::Lost,
                }
            }
            _ => Parting::Lost,
        };
        // A client that was back before its old connection was missed, or before its goodbye got here.
        let successor = match reason {
            DisconnectReason::HeartbeatTimeout => last_heard.and_then(|heard| self.client.successor_since(heard)),
            _ if parting == Parting::Unclear => {
                let recently = Instant::now().checked_sub(self.door.overdue());
                recently.and_then(|recently| self.client.successor_since(recently))
            }
            _ => None,
        };
        self.door.source.part(&self.client, parting, successor);
        defer(socket);
    }
}
