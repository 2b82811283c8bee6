//! Takes connections and serves HTTP on them, until told to stop.
//!
//! `axum::serve` would do but for three things: it sets no timer for a client that sends its head slowly, gives
//! no hold on a connection once it is a WebSocket, and cannot set options on the accepted socket.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{Router, body::Body};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use rustix::net::sockopt::{set_tcp_nodelay, set_tcp_user_timeout};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use super::line::Line;
use crate::{
    auth,
    transport::{
        address::Proxies,
        connection::Connection,
        http,
        socket::limits::{self, Place, Places},
    },
};

/// The longest head of a request in bytes. Beyond it the answer is 431.
const MAX_HEAD: usize = 64 * 1024;
/// How long requests under way may take to finish once the server stops.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How long to leave the listener alone when the process is out of file descriptors.
const BACK_OFF: Duration = Duration::from_millis(200);

/// What one connection too many is answered, unread. Its client may have to try again to see it.
const CROWDED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
    X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";

/// The address has as many connections as it may.
struct TooMany;

pub(super) struct Listener {
    tcp: TcpListener,
    header_timeout: Duration,
    tcp_user_timeout: Duration,
    proxies: Arc<Proxies>,
    /// The connections of each address, but for trusted proxies, which speak for many.
    addresses: Places<IpAddr>,
    per_address: usize,
}

impl Listener {
    pub(super) async fn bind(address: SocketAddr, settings: &http::Settings, per_address: usize) -> Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self {
            tcp,
            header_timeout: settings.header_timeout,
            tcp_user_timeout: settings.tcp_user_timeout,
            proxies: Arc::new(settings.proxies()),
            addresses: Places::default(),
            per_address,
        })
    }

    pub(super) fn address(&self) -> Result<SocketAddr> {
        self.tcp.local_addr().context("cannot tell the address that was bound")
    }

    /// Serves until `stop`, then lets requests under way finish and cuts what is left, WebSockets included.
    pub(super) async fn serve(self, router: Router, stop: CancellationToken) {
        let cut = CancellationToken::new();
        let graceful = GracefulShutdown::new();
        while let Some((stream, peer)) = self.accept(&stop).await {
            self.set_options(&stream);
            let place = match self.count(peer.ip()) {
                Ok(place) => place,
                Err(TooMany) => {
                    debug!(%peer, "refused a connection: its address has too many");
                    send_away(&stream);
                    continue;
                }
            };
            let connection = Connection::new(cut.child_token());
            let line = Line::new(stream, connection.clone(), self.header_timeout, self.tcp_user_timeout, place);
            let proxies = self.proxies.clone();
            let service = router.clone().map_request(move |mut request: Request<Incoming>| {
                let client = proxies.client(peer.ip(), request.headers());
                request.extensions_mut().insert(client);
                request.extensions_mut().insert(connection.clone());
                request.map(Body::new)
            });
            let builder = self.builder();
            let watcher = graceful.watcher();
            tokio::spawn(async move {
                let served =
                    builder.serve_connection_with_upgrades(TokioIo::new(line), TowerToHyperService::new(service));
                if let Err(error) = watcher.watch(served.into_owned()).await {
                    debug!(%peer, error, "a connection ended early");
                }
            });
        }
        // Closed before the wait, so that clients turn elsewhere at once.
        drop(self);
        if timeout(GRACE, graceful.shutdown()).await.is_err() {
            debug!("some requests did not finish in time");
        }
        cut.cancel();
    }

    /// The next connection; nothing once the server stops.
    async fn accept(&self, stop: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return None,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok(connection) => return Some(connection),
                // The client was gone before it was taken.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    // Most likely out of file descriptors: connections that end give some back.
                    warn!(%error, "cannot accept a connection");
                    sleep(BACK_OFF).await;
                }
            }
        }
    }

    /// Counts a connection for its address.
    fn count(&self, peer: IpAddr) -> Result<Option<Place<IpAddr>>, TooMany> {
        if self.proxies.trust(peer.to_canonical()) {
            return Ok(None);
        }
        self.addresses.take(auth::network(peer.to_canonical()), self.per_address).map(Some).ok_or(TooMany)
    }

    /// Small packets leave at once, and a peer that takes nothing is not waited for.
    fn set_options(&self, stream: &TcpStream) {
        let millis = u32::try_from(self.tcp_user_timeout.as_millis()).unwrap_or(u32::MAX);
        let set = set_tcp_nodelay(stream, true).and_then(|()| set_tcp_user_timeout(stream, millis));
        if let Err(error) = set {
            debug!(%error, "cannot set options of an accepted connection");
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(MAX_HEAD);
        // WebSocket needs HTTP/1, and no timer of hyper's bounds an idle or half-said HTTP/2 connection.
        builder.http1_only()
    }
}

/// Closes a connection that nothing was read from.
fn send_away(stream: &TcpStream) {
    limits::hit("tcp_connections_per_address");
    // A new connection has room for this; where it has none, the client sees that it is closed.
    let _ = stream.try_write(CROWDED);
}
