//! The TCP connection below a client, as far as the transports care: it can be cut.

use tokio_util::sync::CancellationToken;

/// One accepted connection; the listener puts it into the extensions of every request it bears.
///
/// Socket.IO has no packet that closes a transport and lets the stock client come back by itself; losing the
/// connection does.
#[derive(Clone, Debug)]
pub struct Connection {
    cut: CancellationToken,
}

impl Connection {
    pub fn new(cut: CancellationToken) -> Self {
        Self { cut }
    }

    /// Ends the connection at once, upgraded or not: reads see its end, writes fail.
    pub fn cut(&self) {
        self.cut.cancel();
    }
}
