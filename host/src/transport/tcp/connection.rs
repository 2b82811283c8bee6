//! Handle to the TCP connection of a client, as far as the transports need it: it can be cut, takes ready frames,
//! reports what it has sent, and counts what comes in once it is a WebSocket.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::transport::tcp::{frames::Ending, gate::SendGate};

/// One accepted connection; the listener puts it into the extensions of every request on it.
///
/// Socket.IO has no packet that closes a transport and lets the stock client reconnect by itself; losing the
/// connection does.
#[derive(Clone, Debug)]
pub struct ConnectionHandle(Arc<Connection>);

#[derive(Debug)]
struct Connection {
    cut: CancellationToken,
    gate: SendGate,
    is_web_socket: AtomicBool,
    last_heard: Mutex<Option<Instant>>,
    ending: OnceLock<Ending>,
    on_packets: OnceLock<OnPackets>,
}

/// Callback that gets the number of packets that came in.
struct OnPackets(Box<dyn Fn(u32) + Send + Sync>);

impl fmt::Debug for OnPackets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnPackets")
    }
}

impl ConnectionHandle {
    pub fn new(cut: CancellationToken) -> Self {
        Self(Arc::new(Connection {
            cut,
            gate: SendGate::default(),
            is_web_socket: AtomicBool::new(false),
            last_heard: Mutex::default(),
            ending: OnceLock::new(),
            on_packets: OnceLock::new(),
        }))
    }

    /// Ends the connection at once, upgraded or not: reads see its end, writes fail.
    pub fn cut(&self) {
        self.0.cut.cancel();
    }

    /// Token that is cancelled when the connection has to end.
    pub fn is_cut(&self) -> &CancellationToken {
        &self.0.cut
    }

    /// Returns the gate through which everything leaves.
    pub(crate) fn gate(&self) -> &SendGate {
        &self.0.gate
    }

    /// Registers `on_packets`, which gets the number of packets that come in once the connection is a WebSocket.
    pub fn count_packets(&self, on_packets: impl Fn(u32) + Send + Sync + 'static) {
        let _ = self.0.on_packets.set(OnPackets(Box::new(on_packets)));
    }

    /// Reports, for the listener, the number of packets that came in.
    pub fn note_packets(&self, count: u32) {
        if let Some(OnPackets(notify)) = self.0.on_packets.get().filter(|_| count > 0) {
            notify(count);
        }
    }

    /// Marks that the client sends frames from now on. Call it before the client is answered that it may send them.
    pub fn begin_web_socket(&self) {
        self.0.is_web_socket.store(true, Ordering::Release);
    }

    /// Returns how the client ended its WebSocket, if it said so.
    pub fn ending(&self) -> Option<Ending> {
        self.0.ending.get().copied()
    }

    /// Returns when the client last sent anything over its WebSocket.
    pub fn last_heard(&self) -> Option<Instant> {
        *self.0.last_heard.lock()
    }

    /// Records, for the listener, that the client sent something over its WebSocket.
    pub fn note_heard(&self) {
        *self.0.last_heard.lock() = Some(Instant::now());
    }

    /// Returns true, for the listener, if what it reads are frames.
    pub fn is_web_socket(&self) -> bool {
        self.0.is_web_socket.load(Ordering::Acquire)
    }

    /// Records, for the listener, how the client ended its WebSocket.
    pub fn note_ending(&self, ending: Ending) {
        let _ = self.0.ending.set(ending);
    }
}
