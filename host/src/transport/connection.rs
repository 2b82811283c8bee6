//! The TCP connection below a client, as far as the transports care: it can be cut, and tells what it has sent.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// One accepted connection; the listener puts it into the extensions of every request it bears.
///
/// Socket.IO has no packet that closes a transport and lets the stock client come back by itself; losing the
/// connection does.
#[derive(Clone, Debug)]
pub struct Connection {
    cut: CancellationToken,
    sent: Arc<Sent>,
}

#[derive(Debug, Default)]
struct Sent {
    bytes: AtomicU64,
    more: Notify,
}

impl Connection {
    pub fn new(cut: CancellationToken) -> Self {
        Self { cut, sent: Arc::default() }
    }

    /// Ends the connection at once, upgraded or not: reads see its end, writes fail.
    pub fn cut(&self) {
        self.cut.cancel();
    }

    /// Cancelled when the connection is to end.
    pub fn is_cut(&self) -> &CancellationToken {
        &self.cut
    }

    /// How many bytes the kernel has taken.
    pub fn sent(&self) -> u64 {
        self.sent.bytes.load(Ordering::Acquire)
    }

    /// Woken whenever the kernel takes more.
    pub fn more_sent(&self) -> &Notify {
        &self.sent.more
    }

    /// For the listener: the kernel took so many bytes.
    pub fn note_sent(&self, bytes: usize) {
        self.sent.bytes.fetch_add(bytes as u64, Ordering::Release);
        self.sent.more.notify_waiters();
    }
}
