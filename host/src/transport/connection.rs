//! The TCP connection below a client, as far as the transports care: it can be cut, tells what it has sent, and
//! counts what comes in once it is a WebSocket.

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

use super::frames::Ending;

/// One accepted connection; the listener puts it into the extensions of every request it bears.
///
/// Socket.IO has no packet that closes a transport and lets the stock client come back by itself; losing the
/// connection does.
#[derive(Clone, Debug)]
pub struct Connection {
    cut: CancellationToken,
    sent: Arc<Sent>,
    web_socket: Arc<WebSocket>,
    on_packets: Arc<OnceLock<OnPackets>>,
}

/// What is told how many packets came in.
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

impl Connection {
    pub fn new(cut: CancellationToken) -> Self {
        Self { cut, sent: Arc::default(), web_socket: Arc::default(), on_packets: Arc::default() }
    }

    /// Ends the connection at once, upgraded or not: reads see its end, writes fail.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Cancelled when the connection is to end.
    pub fn is_cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// Tells `on_packets` how many packets come in, once it is a WebSocket.
    pub fn count_packets(&self, on_packets: impl Fn(u32) + Send + Sync + 'static) {
        let _ = self.on_packets.set(OnPackets(Box::new(on_packets)));
    }

    /// For the listener: so many packets came in.
    pub fn note_packets(&self, count: u32) {
        if let Some(OnPackets(tell)) = self.on_packets.get().filter(|_| count > 0) {
            tell(count);
        }
    }

    /// How many bytes the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.sent.bytes.load(Ordering::Acquire)
    }

    /// Woken whenever the kernel takes more.
    pub fn more_sent(&self) -> &Notify {
        &self.sent.more
    }

    /// From here on, what the client sends are frames. To be called before it is answered that it may send them.
    pub fn begin_web_socket(&self) {
        self.web_socket.has_begun.store(true, Ordering::Release);
    }

    /// How the client said that it ends its WebSocket.
    pub fn ending(&self) -> Option<Ending> {
        self.web_socket.ending.get().copied()
    }

    /// When the client last sent anything by its WebSocket.
    pub fn last_heard(&self) -> Option<Instant> {
        *self.web_socket.last_heard.lock()
    }

    /// For the listener: the client sent something by its WebSocket.
    pub fn note_heard(&self) {
        *self.web_socket.last_heard.lock() = Some(Instant::now());
    }

    /// For the listener: whether what is read are frames.
    pub fn is_web_socket(&self) -> bool {
        self.web_socket.has_begun.load(Ordering::Acquire)
    }

    /// For the listener: the client said that it ends its WebSocket.
    pub fn note_ending(&self, ending: Ending) {
        let _ = self.web_socket.ending.set(ending);
    }

    /// For the listener: the kernel took so many bytes.
    pub fn note_sent(&self, bytes: usize) {
        self.sent.bytes.fetch_add(bytes as u64, Ordering::Release);
        self.sent.more.notify_waiters();
    }
}
