//! Expiry of leases: one task looks after those of all sockets. It warns a client before its token expires, and cuts it
//! when the token has expired or its session has ended.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::StreamExt;
use parking_lot::Mutex;
use serde_json::json;
use tokio::{
    select,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::Instant,
};
use tokio_util::time::{DelayQueue, delay_queue::Key};

use crate::{
    delivery::line::Message,
    domain::{event_name::EventName, time::Timestamp},
    transport::socket::{client::Client, packet::OutgoingPacket, session::lease::Over},
};

/// Longest time between two looks at the wall clock, which may be set.
const LOOK: Duration = Duration::from_secs(30);
/// Longest time between two attempts to warn a client, of which the send queue may be full.
const RETRY: Duration = Duration::from_secs(1);

/// Queue of the clients of which the lease is to be judged now.
pub(crate) struct Leases {
    changed: UnboundedSender<Arc<Client>>,
    changes: Mutex<Option<UnboundedReceiver<Arc<Client>>>>,
}

/// Leases that are looked after.
#[derive(Default)]
struct LeaseClock {
    due: DelayQueue<u64>,
    clients: HashMap<u64, WatchedLease>,
}

struct WatchedLease {
    client: Weak<Client>,
    key: Key,
    /// Lease of which the client was warned.
    warned: Option<Instant>,
}

/// Verdict on a lease.
#[derive(Debug, PartialEq, Eq)]
enum LeaseVerdict {
    Over(Over),
    /// The client is to be warned now; its token lasts for so long.
    Warn(Duration),
    /// There is nothing to do before that time has passed.
    Wait(Duration),
}

impl Default for Leases {
    fn default() -> Self {
        let (changed, changes) = unbounded_channel();
        Self { changed, changes: Mutex::new(Some(changes)) }
    }
}

impl Leases {
    /// Has the lease of a client judged, and looked after until the socket is closed.
    pub(crate) fn judge(&self, client: Arc<Client>) {
        // Nobody is left to look after it once the server has stopped.
        let _ = self.changed.send(client);
    }

    /// Looks after all leases. There is one such task; another one ends at once.
    pub(crate) async fn run(&self, now: impl Fn() -> Timestamp) {
        let Some(mut changes) = self.changes.lock().take() else { return };
        let mut clock = LeaseClock::default();
        loop {
            select! {
                Some(client) = changes.recv() => clock.look_at(&client, now()),
                Some(due) = clock.due.next(), if !clock.due.is_empty() => clock.expire(due.into_inner(), now()),
                else => return,
            }
        }
    }
}

impl LeaseClock {
    fn expire(&mut self, id: u64, now: Timestamp) {
        let Some(watched) = self.clients.remove(&id) else { return };
        if let Some(client) = watched.client.upgrade() {
            self.settle(&client, watched.warned, now);
        }
    }

    fn look_at(&mut self, client: &Arc<Client>, now: Timestamp) {
        let watched = self.clients.remove(&client.id());
        if let Some(watched) = &watched {
            self.due.remove(&watched.key);
        }
        self.settle(client, watched.and_then(|watched| watched.warned), now);
    }

    fn settle(&mut self, client: &Arc<Client>, mut warned: Option<Instant>, now: Timestamp) {
        if client.closed().is_cancelled() {
            return;
        }
        let wait = match judge(client, warned, now) {
            LeaseVerdict::Over(over) => {
                let (reason, why) = match over {
                    Over::Expired => ("token_expired", "its token has expired"),
                    Over::SessionEnded => ("session_ended", "its session has ended"),
                };
                return client.start(|tasks, client| tasks.cut(&client, reason, why));
            }
            LeaseVerdict::Warn(left) => {
                warned = warn(client).or(warned);
                left.min(RETRY)
            }
            LeaseVerdict::Wait(wait) => wait.min(LOOK),
        };
        let key = self.due.insert(client.id(), wait);
        self.clients.insert(client.id(), WatchedLease { client: Arc::downgrade(client), key, warned });
    }
}

fn judge(client: &Client, warned: Option<Instant>, now: Timestamp) -> LeaseVerdict {
    let Some(lease) = client.lease() else { return LeaseVerdict::Over(Over::SessionEnded) };
    let left = lease.expires_at.since(now);
    if left.is_zero() {
        return LeaseVerdict::Over(Over::Expired);
    }
    let notice = if warned == Some(lease.since) { Duration::ZERO } else { lease.notice };
    match left.saturating_sub(notice) {
        Duration::ZERO => LeaseVerdict::Warn(left),
        wait => LeaseVerdict::Wait(wait),
    }
}

/// Warns a client that its token expires soon; returns the lease of which it was warned, unless its send queue is full.
fn warn(client: &Client) -> Option<Instant> {
    let lease = client.lease()?;
    let expiring = Message::new(EventName::AuthExpiring.as_str(), &json!({"expiresAt": lease.expires_at}));
    client.try_reply(&OutgoingPacket::Event(expiring)).then_some(lease.since)
}
