//! Handle to the TCP connection of a client, as far as the transports need it: it can be cut, reports what it has
//! sent, and counts what comes in once it is a WebSocket.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::transport::tcp::frames::Ending;

/// One accepted connection; the listener puts it into the extensions of every request on it.
///
/// Socket.IO has no packet that closes a transport and lets the stock client reconnect by itself; losing the
/// connection does.
#[derive(Clone, Debug)]
pub struct ConnectionHandle {
    cut: CancellationToken,
    sent: Arc<Sent>,
    web_socket: Arc<WebSocket>,
    on_packets: Arc<OnceLock<OnPackets>>,
}

/// Callback that gets the number of packets that came in.
struct OnPackets(Box<dyn Fn(u32) + Send + Sync>);

impl fmt::Debug for OnPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnPackets")
    }
}

#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    more: Notify,
}

#[derive(Debug, Default)]
struct WebSocket {
    has_begun: AtomicBool,
    last_heard: Mutex<Option<Instant>>,
    ending: OnceLock<Ending>,
}

impl ConnectionHandle {
    pub fn new(cut: CancellationToken) -> Self {
        Self { cut, sent: Arc::default(), web_socket: Arc::default(), on_packets: Arc::default() }
    }

    /// Ends the connection at once, upgraded or not: reads see its end, writes fail.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Token that is cancelled when the connection has to end.
    pub fn is_cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Registers `on_packets`, which gets the number of packets that come in once the connection is a WebSocket.
    pub fn count_packets(&self, on_packets: impl Fn(u32) + Send + Sync + 'static) {
        let _ = self.on_packets.set(OnPackets(Box::new(on_packets)));
    }

    /// Reports, for the listener, the number of packets that came in.
    pub fn note_packets(&self, count: u32) {
        if let Some(OnPackets(notify)) = self.on_packets.get().filter(|_| count > 0) {
            notify(count);
        }
    }

    /// Returns the number of bytes that the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.sent.bytes.load(Ordering::Acquire)
    }

    /// Notified whenever the kernel takes more.
    pub fn more_sent(&self) -> &Notify {
        &self.sent.more
    }

    /// Marks that the client sends frames from now on. Call it before the client is answered that it may send them.
    pub fn begin_web_socket(&self) {
        self.web_socket.has_begun.store(true, Ordering::Release);
    }

    /// Returns how the client ended its WebSocket, if it said so.
    pub fn ending(&self) -> Option<Ending> {
        self.web_socket.ending.get().copied()
    }

    /// Returns when the client last sent anything over its WebSocket.
    pub fn last_heard(&self) -> Option<Instant> {
        *self.web_socket.last_heard.lock()
    }

    /// Records, for the listener, that the client sent something over its WebSocket.
    pub fn note_heard(&self) {
        *self.web_socket.last_heard.lock() = Some(Instant::now());
    }

    /// Returns true, for the listener, if what it reads are frames.
    pub fn is_web_socket(&self) -> bool {
        self.web_socket.has_begun.load(Ordering::Acquire)
    }

    /// Records, for the listener, how the client ended its WebSocket.
    pub fn note_ending(&self, ending: Ending) {
        let _ = self.web_socket.ending.set(ending);
    }

    /// Records, for the listener, the number of bytes that the kernel took.
    pub fn note_sent(&self, bytes: usize) {
        self.sent.bytes.fetch_add(bytes as u64, Ordering::Release);
        self.sent.more.notify_waiters();
    }
}
