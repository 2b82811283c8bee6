//! Event delivery: one task tails the log, shapes each event for the roles that are subscribed, and hands it to a
//! [`Publisher`] for fan-out.
//!
//! Delivery knows the outside only through that trait, and the log is the only way in: a socket that could not take
//! an event reads it again through [`replay`], shaped by the same [`shape::Shaper`]. An event that changes a user's
//! rights, or that takes effect for everybody, is applied at its place in the tail, before any later event is shaped.

pub mod current_leads;
pub mod explain;
mod hold_release;
pub mod holds;
pub mod line;
pub mod replay;
pub mod retention;
pub mod shape;
pub mod switch;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{task::yield_now, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::{
    backoff::Backoff,
    delivery::{
        line::{DeliveredLine, LogLine},
        replay::Replay,
        shape::Shaper,
        switch::{SwitchLog, Switches},
    },
    domain::{
        counter::Seq,
        event::{Event, Resets},
        event_name::EventName,
        id::{SessionId, UserId},
        role::Role,
        room::Room,
        time::Timestamp,
        user::User,
    },
    plugin::PinnedSet,
    store::{self, handle::Store},
};

/// Log lines per read.
const BATCH: u32 = 64;
/// Largest number of lines that are handed out together.
const MAX_RUN: usize = 16;
/// Longest time between two reads of the log: appends by other processes wake nobody here.
const POLL: Duration = Duration::from_secs(2);
const MIN_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_millis(500);

/// Port to the subscribers of events, as far as delivery needs to know them.
pub trait Publisher: Send + Sync + 'static {
    /// Announces that everything up to `seq` is being handed out: from here on, a socket that has less must read the
    /// log.
    fn begin(&self, seq: Seq);

    /// Announces that everything up to `seq` was handed out.
    fn end(&self, seq: Seq);

    /// Returns the roles of the subscribers of any of the rooms.
    fn roles(&self, rooms: &[Room]) -> Vec<Role>;

    /// Offers lines, one after the other, to the subscribers of their rooms; never waits for any of them. The lines are
    /// for the same rooms, or all for everyone.
    fn publish(&self, lines: Arc<[DeliveredLine]>) -> impl Future<Output = ()> + Send;

    /// Resets those of `whom` who have not got as far as line `seq`, which was just handed out: they have to fetch
    /// again.
    fn reset(&self, seq: Seq, whom: &Resets);

    /// Applies a change of somebody's rights to every event that follows `seq`.
    fn apply(&self, seq: Seq, change: &RightsChange);

    /// Reports a gap: log lines are gone that nobody was offered, so every socket has to read the log.
    fn lost(&self);
}

/// Log line that changes what a user may see or do.
#[derive(Clone, Debug)]
pub enum RightsChange {
    /// The account as it is now.
    User(User),
    /// One session of the user ended, or all of them.
    SessionsEnded { user: UserId, session: Option<SessionId> },
}

impl RightsChange {
    /// Returns the user whose rights change.
    pub fn user(&self) -> UserId {
        match self {
            Self::User(user) => user.id,
            Self::SessionsEnded { user, .. } => *user,
        }
    }

    /// Reads the change of rights from an event, if it is one.
    pub fn of(event: &Event) -> Option<Self> {
        let member = |pointer| event.context.pointer(pointer).cloned().unwrap_or_default();
        match EventName::parse(&event.name)? {
            EventName::SessionUpdated => serde_json::from_value(member("/user")).map(Self::User),
            EventName::SessionEnded => serde_json::from_value(member("/userId")).and_then(|user| {
                Ok(Self::SessionsEnded { user, session: serde_json::from_value(member("/sessionId"))? })
            }),
            _ => return None,
        }
        .inspect_err(|error| error!(event.seq = event.seq.0, "cannot read the rights in {}: {error}", event.name))
        .ok()
    }
}

/// Tail of the log.
pub struct Delivery<P> {
    store: Arc<Store>,
    replay: Arc<Replay>,
    shaper: Arc<Shaper>,
    publisher: Arc<P>,
    position: Seq,
    switches: Arc<Switches>,
    /// Set while the log cannot be read. Dropped with the task, by which `health` notices that the task has stopped.
    is_failing: Arc<AtomicBool>,
}

impl<P: Publisher> Delivery<P> {
    /// Creates a tail that delivers what is appended from now on; create it before anybody can connect. Plugin sets
    /// that were left in `switches` take effect when the tail passes their lines.
    pub fn new(
        store: Arc<Store>,
        replay: Arc<Replay>,
        shaper: Arc<Shaper>,
        publisher: Arc<P>,
        switches: Arc<Switches>,
        begun: &SwitchLog,
    ) -> Self {
        let position = *store.appended().borrow();
        for (role, seq) in &begun.resets {
            publisher.reset(*seq, &Resets::Roles(vec![*role]));
        }
        publisher.begin(position);
        publisher.end(position);
        switches.open();
        Self { store, replay, shaper, publisher, position, switches, is_failing: Arc::default() }
    }

    /// Returns a health check for any later time; its error says why the log is not being read.
    pub fn health(&self) -> impl Fn() -> Result<(), String> + Send + Sync + 'static {
        let is_failing = Arc::downgrade(&self.is_failing);
        move || match is_failing.upgrade() {
            None => Err("the delivery of events has stopped".into()),
            Some(is_failing) if is_failing.load(Ordering::Relaxed) => Err("the log cannot be read".into()),
            Some(_) => Ok(()),
        }
    }

    /// Runs until `stop`. Retries while the database fails; skips nothing.
    pub async fn run(mut self, stop: CancellationToken) {
        let stopped = stop.clone();
        stopped.run_until_cancelled(self.tail()).await;
    }

    async fn tail(&mut self) {
        let mut appended = self.store.appended();
        let mut pauses = Backoff::new(MIN_PAUSE, MAX_PAUSE);
        loop {
            let head = *appended.borrow_and_update();
            match self.deliver(head).await {
                Ok(()) => {
                    if self.is_failing.swap(false, Ordering::Relaxed) {
                        pauses.reset();
                        info!(seq = self.position.0, "log readable again");
                    }
                }
                Err(error) => {
                    if !self.is_failing.swap(true, Ordering::Relaxed) {
                        error!(seq = self.position.0, "cannot read the log, retrying: {error}");
                    }
                    sleep(pauses.next()).await;
                    continue;
                }
            }
            tokio::select! {
                changed = appended.changed() => changed.expect("self holds the store"),
                // A failure shows in the next read of the log.
                () = sleep(POLL) => drop(self.store.refresh().await),
            }
        }
    }

    async fn deliver(&mut self, head: Seq) -> Result<(), store::Error> {
        while self.position < head {
            let lines = self.replay.after(self.position, BATCH).await?;
            let Some(first) = lines.first() else { return Ok(()) };
            if first.event.seq != self.position.next() {
                warn!(seq = self.position.0, "gap in the log, continuing at {}", first.event.seq);
                self.publisher.lost();
            }
            let mut rest = lines.as_slice();
            while let Some(first) = rest.first() {
                walk_step!("deliver");
                let (run, later) = rest.split_at(run_length(rest));
                if first.event.is_erasure() {
                    self.replay.forget();
                }
                self.pass(&first.event);
                self.hand_out(run, &self.shaper.pinned()).await;
                self.position = run.last().unwrap_or(first).event.seq;
                rest = later;
                // Sockets drain between runs, so that a burst does not fill their queues.
                yield_now().await;
            }
        }
        Ok(())
    }

    /// Switches to the plugin set that takes effect with the line, if any.
    fn pass(&self, event: &Event) {
        let Some(next) = event.switches_to() else { return };
        if !self.switches.pass(next.generation) && next.generation != self.shaper.pinned().generation() {
            error!(event.seq = event.seq.0, "plugin generation {} was not prepared on this server", next.generation);
        }
    }

    /// Hands out a run of lines: one, or several that only lead to messages for the same rooms.
    async fn hand_out(&self, run: &[Arc<LogLine>], plugins: &PinnedSet) {
        let (Some(first), Some(last)) = (run.first(), run.last()) else { return };
        for line in run {
            self.replay.current_leads().pass(&line.event);
            self.shaper.pass(&line.event);
        }
        self.publisher.begin(last.event.seq);
        if let Some(change) = RightsChange::of(&first.event) {
            self.publisher.apply(first.event.seq, &change);
        }
        let roles = self.publisher.roles(&first.event.rooms);
        if !roles.is_empty() {
            let shape = |line: &Arc<LogLine>| DeliveredLine {
                line: line.clone(),
                slices: self.shaper.slices_by(plugins, line, &roles),
            };
            self.publisher.publish(run.iter().map(shape).collect()).await;
            let now = Timestamp::now();
            for line in run {
                metrics::histogram!("leadwire_delivery_seconds").record(now.since(line.event.at).as_secs_f64());
            }
        }
        if let Some(whom) = first.event.resets() {
            self.publisher.reset(first.event.seq, &whom);
        }
        self.publisher.end(last.event.seq);
        run.iter().for_each(|line| self.shaper.show_shadows(&line.event));
    }
}

/// Returns the number of lines at the beginning that can be handed out together.
///
/// A line that changes what somebody may see, or is for one user alone, is handed out by itself: what is known of the
/// newest line decides where a client that is reset goes on.
fn run_length(lines: &[Arc<LogLine>]) -> usize {
    let Some(first) = lines.first().filter(|line| is_plain(&line.event)) else { return 1 };
    let is_for_all = |event: &Event| event.rooms.contains(&Room::Everyone);
    let goes_on = |line: &&Arc<LogLine>| {
        let (event, first) = (&line.event, &first.event);
        is_plain(event) && (event.rooms == first.rooms || (is_for_all(event) && is_for_all(first)))
    };
    lines.iter().take(MAX_RUN).take_while(goes_on).count()
}

/// Returns true if the event leads to nothing but messages to the members of rooms.
fn is_plain(event: &Event) -> bool {
    let is_for_many = !event.rooms.is_empty() && !event.rooms.iter().any(|room| matches!(room, Room::User(_)));
    is_for_many && !event.is_about_rights() && event.resets().is_none() && event.switches_to().is_none()
}

impl<P> Drop for Delivery<P> {
    fn drop(&mut self) {
        self.switches.close();
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use serde_json::json;

    use super::*;

    fn event(name: &str, context: serde_json::Value) -> Event {
        let at = Timestamp::from_millis(0).expect("in range");
        Event {
            seq: Seq(1),
            name: name.into(),
            rooms: Vec::new(),
            lead_id: None,
            payload: json!({}).into(),
            context,
            at,
        }
    }

    #[test]
    fn lines_for_the_same_rooms_are_handed_out_together_and_those_that_change_more_alone() {
        let line = |name: &str, rooms: &[Room], context: serde_json::Value| {
            Arc::new(LogLine::new(Event { rooms: rooms.to_vec(), ..event(name, context) }))
        };
        let (all, x, y) = (Room::Everyone, Room::Lead("x".into()), Room::Lead("y".into()));
        let user = Room::User(UserId(uuid::Uuid::nil()));
        let plain = |room: &Room| line("lead:updated", from_ref(room), json!({}));
        let both = |room: &Room| line("lead:updated", &[all.clone(), room.clone()], json!({}));
        assert_eq!(run_length(&[both(&x), both(&y), plain(&all), plain(&x)]), 3);
        assert_eq!(run_length(&[plain(&x), plain(&x), plain(&y)]), 2);
        assert_eq!(run_length(&vec![plain(&all); 40]), MAX_RUN);
        let alone = [
            line("session:ended", &[], json!({})),
            line("session:updated", from_ref(&user), json!({})),
            line("lead:assigned-to-you", &[user], json!({})),
            line("lead:revoked", from_ref(&all), json!({})),
            line("lead:updated", from_ref(&all), json!({"erased": true})),
            line("delivery:reset", from_ref(&all), json!({"resets": {"roles": ["VIEWER"]}})),
        ];
        for alone in alone {
            let after = [both(&x), alone.clone(), both(&x)];
            assert_eq!((run_length(&after), run_length(&after[1..])), (1, 1), "{}", alone.event.name);
        }
    }

    #[test]
    fn session_end_and_user_update_events_change_rights() {
        let id = "018f3f3e-0000-7000-8000-000000000001";
        let user = json!({"id": id, "email": "a@b.example", "name": "A", "role": "VIEWER", "active": true,
            "createdAt": "2026-01-01T00:00:00.000Z", "updatedAt": "2026-01-01T00:00:00.000Z"});
        let changed = RightsChange::of(&event("session:updated", json!({"user": user})));
        assert!(matches!(changed, Some(RightsChange::User(user)) if user.role == Role::Viewer));
        let one = RightsChange::of(&event("session:ended", json!({"userId": id, "sessionId": id})));
        assert!(matches!(one, Some(RightsChange::SessionsEnded { session: Some(_), .. })));
        let all = RightsChange::of(&event("session:ended", json!({"userId": id, "sessionId": null})));
        assert!(matches!(all, Some(RightsChange::SessionsEnded { session: None, .. })));
        assert!(RightsChange::of(&event("lead:updated", json!({}))).is_none());
    }
}
