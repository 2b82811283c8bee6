//! Who may connect: token and plugins are asked before the client is told that it is connected.
//!
//! The socket's handlers are set up in here as well, so that nothing it says is missed; but
//! nothing is sent before [`begin`], because what is sent earlier never arrives.

use std::{fmt, sync::Arc};

use parking_lot::Mutex;
use serde_json::json;
use socketioxide::{
    adapter::LocalAdapter,
    handler::{DisconnectHandler, FromConnectParts},
    socket::{DisconnectReason, Socket},
};
use socketioxide_core::Value;
use tracing::{debug, error};

use super::{
    Door,
    client::Client,
    handler::{self, Inbox},
    outbox::Writer,
    session::Lease,
};
use crate::{
    auth::{self, Authenticated},
    delivery::shape::Message,
    domain::room::Room,
    plugin::Decision,
    store,
};

/// Why a client may not connect; its text is the client's `connect_error.message`.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("Authentication token required")]
    NoToken,
    #[error("Invalid authentication token")]
    BadToken,
    /// A plugin's reason, word for word.
    #[error("{0}")]
    Denied(String),
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
struct Prepared(Arc<Mutex<Option<(Inbox, Message)>>>, Arc<Client>);

/// Judges a client that wants to connect and makes everything ready for it.
pub(super) async fn judge(door: Arc<Door>, caller: Caller) -> Result<(), Refused> {
    let token = caller.token()?;
    // Noted first: whatever changes from here on is in the log behind this line.
    let head = door.app.store().read().await?.head().await?;
    let Authenticated { user, session, expires_at } = door.auth.authenticate(&token).await?;
    match door.app.plugins().authorize_connect(&user) {
        Ok(Decision::Allow) => {}
        Ok(Decision::Deny(reason)) => return Err(Refused::Denied(reason)),
        Err(unavailable) => {
            debug!("refused a connection: {unavailable}");
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
        "recovered": false,
        "tokenExpiresAt": expires_at,
    });
    let socket = caller.socket;
    let client = Client::new(user, Lease::new(session, expires_at), head, &door.settings);
    let (intake, inbox) = handler::queue(client.clone(), &door.settings);
    socket.on_fallback(intake);
    socket.on_disconnect(Farewell { door: door.clone(), client: client.clone() });
    let inbox = Arc::new(Mutex::new(Some((inbox, Message::new("connected", &greeting)))));
    socket.extensions.insert(Prepared(inbox, client));
    Ok(())
}

/// Starts to listen to a client that has been told that it is connected, and to send to it.
pub(super) async fn begin(door: Arc<Door>, caller: Caller) {
    let socket = caller.socket;
    let Some(Prepared(inbox, client)) = socket.extensions.remove::<Prepared>() else { return };
    let Some((inbox, greeting)) = inbox.lock().take() else { return };
    let user = client.user().id;
    // A client that is gone by now is closed, and enters no room.
    door.source.registry.add(&client, [Room::Everyone, Room::User(user)]);
    debug!(%user, socket = %socket.id, "a socket connected");
    let writer = Writer::new(client.clone(), socket, door.source.clone());
    tokio::spawn(writer.run(greeting));
    tokio::spawn(handler::run(door, client, inbox));
}

impl Caller {
    /// The token from the CONNECT packet or, where that has none, from the first request's header.
    fn token(&self) -> Result<String, Refused> {
        let auth = self.auth.as_ref().and_then(|auth| auth.as_str()).map(|text| text.as_str());
        let auth: serde_json::Value = match auth {
            Some(text) => serde_json::from_str(text).map_err(|_| Refused::BadToken)?,
            None => serde_json::Value::Null,
        };
        match auth.get("token") {
            Some(serde_json::Value::String(token)) if !token.is_empty() => return Ok(token.clone()),
            None | Some(serde_json::Value::Null | serde_json::Value::String(_)) => {}
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

impl From<auth::Error> for Refused {
    fn from(error: auth::Error) -> Self {
        match error {
            auth::Error::Store(error) => error.into(),
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
        self.door.source.registry.remove(&self.client);
        defer(socket);
    }
}
