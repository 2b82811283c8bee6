//! Accepts connections and serves HTTP on them until stopped.
//!
//! `axum::serve` lacks three things: it has no timeout for a client that sends its request head slowly, gives no handle
//! on a connection once it is a WebSocket, and cannot set options on the accepted socket.

use std::{
    io::ErrorKind,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use axum::{
    Router,
    body::Body,
    http::{HeaderValue, header::UPGRADE},
};
use hyper::{Request, body::Incoming};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use tracing::{debug, warn};

use crate::{
    auth,
    transport::{
        address::Proxies,
        http::settings,
        limits::{self, SlotGuard, Slots},
        tcp::{connection::ConnectionHandle, stream::GuardedStream},
    },
};

/// Maximum size of a request head in bytes; a larger one is answered with 431.
const MAX_HEAD: usize = 64 * 1024;
/// Time that requests in progress have to finish once the server stops.
pub(crate) const GRACE: Duration = Duration::from_secs(5);
/// Pause after a failed accept, for example when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(200);

/// Number of bytes that the kernel keeps for a connection before it sends them: the log is the queue of a slow reader,
/// and thousands of them must not fill the memory that the kernel has for TCP. What is on its way does not count.
const UNSENT: u32 = 16 * 1024;

/// Response to a connection over the limit, sent without reading a request. Its client may have to retry to see it.
const CROWDED: &[u8] = b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 5\r\nContent-Length: 0\r\n\
    X-Content-Type-Options: nosniff\r\nConnection: close\r\n\r\n";

/// The address has reached its connection limit.
struct TooMany;

pub(crate) struct Listener {
    tcp: TcpListener,
    header_timeout: Duration,
    tcp_user_timeout: Duration,
    proxies: Arc<Proxies>,
    /// Connections per address, except those of trusted proxies, which speak for many.
    addresses: Slots<IpAddr>,
    per_address: usize,
}

impl Listener {
    pub(crate) async fn bind(address: SocketAddr, settings: &settings::HttpConfig, per_address: usize) -> Result<Self> {
        let tcp = TcpListener::bind(address).await.with_context(|| format!("cannot listen on {address}"))?;
        Ok(Self {
            tcp,
            header_timeout: settings.header_timeout,
            tcp_user_timeout: settings.tcp_user_timeout,
            proxies: Arc::new(settings.proxies()),
            addresses: Slots::default(),
            per_address,
        })
    }

    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.tcp.local_addr().context("cannot read the bound address")
    }

    /// Serves until `stop`, then lets requests in progress finish and cuts the remaining connections, including
    /// WebSockets.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) {
        let cut = CancellationToken::new();
        let graceful = GracefulShutdown::new();
        while let Some((stream, peer)) = self.accept(&stop).await {
            self.set_options(&stream);
            let place = match self.count(peer.ip()) {
                Ok(place) => place,
                Err(TooMany) => {
                    debug!(%peer, "connection refused: too many connections from this address");
                    send_away(&stream);
                    continue;
                }
            };
            let connection = ConnectionHandle::new(cut.child_token());
            let line =
                GuardedStream::new(stream, connection.clone(), self.header_timeout, self.tcp_user_timeout, place);
            let proxies = self.proxies.clone();
            let service = router.clone().map_request(move |mut request: Request<Incoming>| {
                if request.headers().contains_key(UPGRADE) {
                    copy_head(&mut request);
                }
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
                    debug!(%peer, error, "connection closed early");
                }
            });
        }
        // Closed before the wait, so that clients turn elsewhere at once.
        drop(self);
        if timeout(GRACE, graceful.shutdown()).await.is_err() {
            debug!("graceful shutdown timed out, closing the remaining connections");
        }
        cut.cancel();
    }

    /// Next connection; `None` once the server stops.
    async fn accept(&self, stop: &CancellationToken) -> Option<(TcpStream, SocketAddr)> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return None,
                accepted = self.tcp.accept() => accepted,
            };
            match accepted {
                Ok(connection) => return Some(connection),
                // The client was gone before its connection was accepted.
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    // Most likely out of file descriptors; connections that end release some.
                    warn!(%error, "cannot accept a connection");
                    sleep(PAUSE).await;
                }
            }
        }
    }

    /// Counts a connection for its address.
    fn count(&self, peer: IpAddr) -> Result<Option<SlotGuard<IpAddr>>, TooMany> {
        if self.proxies.trust(peer.to_canonical()) {
            return Ok(None);
        }
        self.addresses.take(auth::network(peer.to_canonical()), self.per_address).map(Some).ok_or(TooMany)
    }

    /// Sets the socket options: small packets are sent at once (no Nagle delay), a peer that acknowledges nothing is
    /// dropped, and the kernel keeps little of what a peer does not read.
    fn set_options(&self, stream: &TcpStream) {
        let options = SockRef::from(stream);
        let set = options
            .set_tcp_nodelay(true)
            .and_then(|()| options.set_tcp_user_timeout(Some(self.tcp_user_timeout)))
            .and_then(|()| options.set_tcp_notsent_lowat(UNSENT));
        if let Err(error) = set {
            debug!(%error, "cannot set options of an accepted connection");
        }
    }

    fn builder(&self) -> auto::Builder<TokioExecutor> {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(self.header_timeout).max_buf_size(MAX_HEAD);
        // WebSocket needs HTTP/1, and hyper has no timeout for an idle or half-sent HTTP/2 connection.
        builder.http1_only()
    }
}

/// Copies what the head of a request refers to in the buffer that it was read into. A session keeps the head of its
/// first request as long as it lasts, and the whole buffer with it.
fn copy_head(request: &mut Request<Incoming>) {
    for value in request.headers_mut().values_mut() {
        if let Ok(mut copy) = HeaderValue::from_bytes(value.as_bytes()) {
            copy.set_sensitive(value.is_sensitive());
            *value = copy;
        }
    }
    if let Ok(copy) = request.uri().to_string().parse() {
        *request.uri_mut() = copy;
    }
}

/// Closes a connection from which nothing was read.
fn send_away(stream: &TcpStream) {
    limits::hit("tcp_connections_per_address");
    // The send buffer of a new connection has space for this; otherwise the client only sees that it is closed.
    let _ = stream.try_write(CROWDED);
}
