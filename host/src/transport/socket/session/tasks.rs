//! Tasks of a client, each of which runs only while there is something to do for it.

use std::sync::{Arc, Weak};

use metrics::counter;
use socketioxide::socket::Socket;
use tokio::time::timeout;
use tracing::info;

use crate::transport::socket::{
    client::{Client, ClientTasks},
    commands,
    conn::close_transport::close_transport,
    context::{HandshakeContext, caller_address, origin},
    writer::{DRAINING, FAREWELL, Writer},
};

/// Port of a client to its socket, which holds the client, and to the state that all share.
pub(crate) struct SocketTasks {
    socket: Weak<Socket>,
    context: Weak<HandshakeContext>,
}

impl SocketTasks {
    pub(crate) fn new(socket: &Arc<Socket>, context: &Arc<HandshakeContext>) -> Self {
        Self { socket: Arc::downgrade(socket), context: Arc::downgrade(context) }
    }

    fn upgrade(&self) -> Option<(Arc<Socket>, Arc<HandshakeContext>)> {
        Some((self.socket.upgrade()?, self.context.upgrade()?))
    }
}

impl ClientTasks for SocketTasks {
    fn start_writer(&self, client: Arc<Client>) {
        if let Some((socket, context)) = self.upgrade() {
            tokio::spawn(Writer::new(client, socket, context.shared.clone()).run(None));
        }
    }

    fn start_commands(&self, client: Arc<Client>) {
        if let Some((socket, context)) = self.upgrade() {
            tokio::spawn(commands::run(context, client, origin(&socket)));
        }
    }

    fn judge_lease(&self, client: Arc<Client>) {
        if let Some(context) = self.context.upgrade() {
            context.shared.leases.judge(client);
        }
    }

    fn cut(&self, client: &Client, reason: &'static str, why: &'static str) {
        let Some((socket, context)) = self.upgrade() else { return };
        info!(user = %client.user().id, socket = %socket.id, client = caller_address(&socket), "disconnected a client: {why}");
        counter!("leadwire_sockets_cut_total", "reason" => reason).increment(1);
        context.shared.lose(client);
        let web_socket = client.engine_session().and_then(|engine_session| engine_session.open_web_socket());
        let Some(connection) = web_socket.filter(|_| reason == DRAINING) else { return close_transport(&socket) };
        // Closed at once, a connection on which something came in meanwhile would lose what is on its way out.
        connection.gate().finish();
        tokio::spawn(async move {
            let _ = timeout(FAREWELL, connection.gate().ended()).await;
            close_transport(&socket);
        });
    }
}
