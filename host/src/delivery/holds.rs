//! Holds: leads that are withheld from a role because a filter gave no verdict, so that sockets can go on with other
//! leads.
//!
//! Sockets wait at an event for a grace period, then record a hold and go past the event, and past every later event
//! of that lead. [`Holds::run`] asks about the lead again and releases it with a line of the log; a socket that is
//! past that line has to fetch again. Holds are stored in the database and survive a restart.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use metrics::counter;
use parking_lot::RwLock;
use serde_json::{Value, json};
use tokio::{
    sync::{Notify, watch},
    time::sleep,
};
use tracing::{info, warn};

use crate::{
    backoff::Backoff,
    domain::{
        counter::Seq,
        event::{Event, NewEvent},
        event_name::EventName,
        id::LeadId,
        role::Role,
        time::Timestamp,
    },
    plugin::Unavailable,
    store::{self, handle::Store, hold::Hold},
};

/// Maximum number of single holds per role. Beyond it everything is withheld from the role, because the failure is no
/// longer about single leads.
const MOST_LEADS: usize = 200;
/// Number of grace periods after which sockets wait again: they wait once for a failing plugin, and not again for each
/// of its events.
const GRACES: u32 = 10;
/// Delay before the plugins are asked again after they gave no verdict; it grows up to `LONGEST_PAUSE` (back-off).
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Minimum time between two lines that release holds; it grows up to `LONGEST_GAP` if one soon follows the other.
pub(crate) const FIRST_GAP: Duration = Duration::from_secs(1);
pub(crate) const LONGEST_GAP: Duration = Duration::from_secs(60);
/// Maximum length of a plugin's reason that is stored, in bytes.
const MAX_REASON: usize = 300;

/// Name of the line that releases holds.
const RELEASED: &str = EventName::DeliveryReleased.as_str();
/// Key of the released holds in the context of that line.
const LEADS: &str = "leads";

/// Withheld leads, per role.
pub struct Holds {
    pub(crate) store: Arc<Store>,
    grace: Duration,
    pub(crate) state: RwLock<HoldState>,
    /// Set while there is any hold: a cheap check, because it is made for each event.
    is_any: AtomicBool,
    /// Locked while holds are written to the database.
    writing: tokio::sync::Mutex<()>,
    changed: watch::Sender<()>,
    /// Notified when a hold may be due earlier.
    pub(crate) sooner: Notify,
}

#[derive(Default)]
pub(crate) struct HoldState {
    pub(crate) holds: HashMap<(Role, LeadId), ActiveHold>,
    waiting: HashMap<Role, HoldWaiters>,
}

/// Period during which sockets of a role wait for a plugin.
struct HoldWaiters {
    since: Instant,
    last: Instant,
}

/// Hold in force, and when the plugins are asked about it again.
pub(crate) struct ActiveHold {
    stored: Hold,
    asked: Instant,
    pub(crate) due: Instant,
    backoff: Backoff,
}

impl ActiveHold {
    fn new(stored: Hold) -> Self {
        let now = Instant::now();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        Self { stored, asked: now, due: now + backoff.next(), backoff }
    }

    /// Makes the hold due at once, in place of the end of its first pause.
    fn restart(&mut self, now: Instant) {
        self.due = now;
        self.backoff.reset();
        self.backoff.next();
    }
}

impl Holds {
    /// Loads the holds from the database; sockets wait for `grace` before there is another one.
    pub async fn open(store: Arc<Store>, grace: Duration) -> store::Result<Arc<Self>> {
        let stored = store.read().await?.holds().await?;
        let holds: HashMap<_, _> =
            stored.into_iter().map(|hold| ((hold.role, hold.lead), ActiveHold::new(hold))).collect();
        Ok(Arc::new(Self {
            store,
            grace,
            is_any: AtomicBool::new(!holds.is_empty()),
            state: RwLock::new(HoldState { holds, waiting: HashMap::new() }),
            writing: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            sooner: Notify::new(),
        }))
    }

    /// Returns true if events of the lead are withheld from the role.
    pub fn withholds(&self, role: Role, lead: LeadId) -> bool {
        self.is_any.load(Ordering::Acquire) && self.state.read().withholds(role, lead)
    }

    /// Returns the number of holds per role.
    pub fn count(&self) -> [(Role, usize); Role::ALL.len()] {
        let state = self.state.read();
        Role::ALL.map(|role| (role, state.holds.keys().filter(|(of, _)| *of == role).count()))
    }

    /// Signals when a hold is added or released.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Records that a socket of the role waits for a plugin that gives no verdict; returns true once sockets of the
    /// role have waited long enough.
    pub fn is_grace_over(&self, role: Role) -> bool {
        let now = Instant::now();
        let mut state = self.state.write();
        let waiting = state.waiting.entry(role).or_insert(HoldWaiters { since: now, last: now });
        if now - waiting.last > self.grace * GRACES {
            waiting.since = now;
        }
        waiting.last = now;
        now - waiting.since >= self.grace
    }

    /// Withholds the lead from the role from now on, because a plugin gave no verdict on event `seq`.
    ///
    /// # Errors
    /// When the hold cannot be written: then no socket may go past the event.
    pub async fn hold(&self, role: Role, lead: LeadId, seq: Seq, why: &Unavailable) -> store::Result<()> {
        let _writing = self.writing.lock().await;
        let is_all = {
            let state = self.state.read();
            if state.withholds(role, lead) {
                return Ok(());
            }
            state.holds.keys().filter(|(of, _)| *of == role).count() >= MOST_LEADS
        };
        let reason = why.reason[..why.reason.floor_char_boundary(MAX_REASON)].to_owned();
        let hold =
            Hold { role, lead, is_all, first_seq: seq, plugin: why.plugin.clone(), reason, at: Timestamp::now() };
        let mut tx = self.store.write().await?;
        tx.hold(&hold).await?;
        tx.commit().await?;

        let plugin = &hold.plugin;
        if is_all {
            warn!(plugin = plugin.as_str(), %role, "withholding all leads from {role} until {plugin} returns a verdict again");
        } else {
            warn!(plugin = plugin.as_str(), %role, %lead, event.seq = seq.0, "withholding lead {lead} from {role} until {plugin} returns a verdict");
        }
        counter!("leadwire_holds_total").increment(1);
        let mut state = self.state.write();
        if is_all {
            state.holds.retain(|(of, _), _| *of != role);
        }
        state.holds.insert((role, lead), ActiveHold::new(hold));
        self.is_any.store(true, Ordering::Release);
        drop(state);
        self.changed.send_replace(());
        self.sooner.notify_one();
        Ok(())
    }

    /// Schedules an earlier retry for a lead to which something happened: if it is withheld, a plugin's verdict on it
    /// may be different now.
    fn note(&self, lead: LeadId) {
        let mut state = self.state.write();
        let mut is_sooner = false;
        for ((_, of), hold) in &mut state.holds {
            if *of == lead {
                hold.due = hold.due.min(hold.asked + FIRST_PAUSE);
                is_sooner = true;
            }
        }
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// Applies a line that the tail passes: it releases holds, or makes those of its lead due earlier.
    pub(crate) fn pass(&self, event: &Event) {
        if !self.is_any.load(Ordering::Acquire) {
            return;
        }
        if event.name != RELEASED {
            return event.lead_id.into_iter().for_each(|lead| self.note(lead));
        }
        let released = event.context.get(LEADS).and_then(Value::as_array).into_iter().flatten();
        let released = released.filter_map(|of| serde_json::from_value::<(Role, LeadId)>(of.clone()).ok());
        let mut state = self.state.write();
        for of in released {
            if state.holds.remove(&of).is_some() {
                counter!("leadwire_holds_released_total").increment(1);
            }
        }
        self.is_any.store(!state.holds.is_empty(), Ordering::Release);
        drop(state);
        self.changed.send_replace(());
    }

    pub(crate) async fn complain(&self, error: &store::Error) {
        warn!("cannot update withheld leads, retrying: {error}");
        sleep(FIRST_GAP).await;
    }

    pub(crate) fn ask_all_at_once(&self) {
        let now = Instant::now();
        for hold in self.state.write().holds.values_mut() {
            hold.restart(now);
        }
    }

    pub(crate) fn put_off(&self, of: (Role, LeadId)) {
        let mut state = self.state.write();
        if let Some(hold) = state.holds.get_mut(&of) {
            let now = Instant::now();
            hold.asked = now;
            hold.due = now + hold.backoff.next();
        }
    }

    /// Appends one line that releases all of them. Here they are released when the tail passes it.
    pub(crate) async fn release(&self, answered: &[(Role, LeadId)]) -> store::Result<()> {
        let mut roles: Vec<Role> = answered.iter().map(|(role, _)| *role).collect();
        roles.sort_unstable();
        roles.dedup();
        let mut line = NewEvent::delivery_released(&roles, Timestamp::now());
        line.context[LEADS] = json!(answered);
        let _writing = self.writing.lock().await;
        let mut tx = self.store.write().await?;
        for (role, lead) in answered {
            tx.release(*role, *lead).await?;
        }
        let seq = tx.append(&line).await?;
        tx.commit().await?;
        info!(event.seq = seq.0, "released {} withheld leads: plugins return verdicts again", answered.len());
        Ok(())
    }
}

impl HoldState {
    fn withholds(&self, role: Role, lead: LeadId) -> bool {
        let is_all = |(of, hold): (&(Role, LeadId), &ActiveHold)| of.0 == role && hold.stored.is_all;
        self.holds.contains_key(&(role, lead)) || self.holds.iter().any(is_all)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::{delivery::shape::Shaper, domain::id::Epoch, store::test_database::TestDatabase};

    async fn open(database: &TestDatabase, grace: Duration) -> Arc<Holds> {
        Holds::open(Arc::new(database.open().await), grace).await.expect("opens")
    }

    fn lead(number: usize) -> LeadId {
        LeadId(Uuid::from_u128(number as u128))
    }

    fn why() -> Unavailable {
        Unavailable { plugin: "guard".parse().expect("a name"), reason: "filter trapped ä".repeat(100) }
    }

    #[tokio::test]
    async fn many_holds_of_a_role_become_one_and_survive_a_restart() {
        let database = TestDatabase::new();
        let holds = open(&database, Duration::ZERO).await;
        for number in 0..MOST_LEADS {
            holds.hold(Role::Viewer, lead(number), Seq(number as u64), &why()).await.expect("stored");
            holds.hold(Role::Viewer, lead(number), Seq(9999), &why()).await.expect("stored already");
        }
        assert!(holds.withholds(Role::Viewer, lead(7)) && !holds.withholds(Role::Viewer, lead(MOST_LEADS)));
        assert_eq!(holds.count()[3], (Role::Viewer, MOST_LEADS));
        holds.hold(Role::Viewer, lead(MOST_LEADS), Seq(9999), &why()).await.expect("stored");
        let again = open(&database, Duration::ZERO).await;
        for holds in [&holds, &again] {
            assert_eq!(holds.count()[3], (Role::Viewer, 1));
            assert!(holds.withholds(Role::Viewer, lead(7)) && holds.withholds(Role::Viewer, lead(8888)));
            assert!(!holds.withholds(Role::Sales, lead(7)));
        }
    }

    #[tokio::test]
    async fn a_hold_is_released_only_when_the_tail_passes_its_event() {
        let database = TestDatabase::new();
        let holds = open(&database, Duration::ZERO).await;
        holds.hold(Role::Viewer, lead(1), Seq(1), &why()).await.expect("stored");
        holds.hold(Role::Sales, lead(1), Seq(1), &why()).await.expect("stored");
        // There is no such lead, so no plugin has to be asked.
        let shaper = Shaper::new(
            crate::plugin::Plugins::none(),
            crate::domain::policy::Visibility::default(),
            &Epoch::from("e"),
        );
        tokio::time::sleep(FIRST_PAUSE).await;
        let mut answered = holds.answered(&shaper).await.expect("asked");
        answered.sort();
        assert_eq!(answered, [(Role::Sales, lead(1)), (Role::Viewer, lead(1))]);
        holds.release(&answered).await.expect("released");
        assert!(holds.withholds(Role::Viewer, lead(1)), "the tail is not there yet");
        let mut reader = holds.store.read().await.expect("a reader");
        let line = reader.event(Seq(1)).await.expect("reads").expect("a line");
        assert_eq!((reader.holds().await.expect("reads"), line.name.as_str()), (vec![], RELEASED));
        assert_eq!(line.resets(), Some(crate::domain::event::Resets::Roles(vec![Role::Sales, Role::Viewer])));
        holds.pass(&line);
        assert!(!holds.withholds(Role::Viewer, lead(1)) && !holds.withholds(Role::Sales, lead(1)));
    }

    #[tokio::test]
    async fn sockets_wait_one_grace_period_instead_of_one_per_event() {
        let database = TestDatabase::new();
        let grace = Duration::from_millis(50);
        let holds = open(&database, grace).await;
        assert!(!holds.is_grace_over(Role::Viewer));
        tokio::time::sleep(grace).await;
        assert!(holds.is_grace_over(Role::Viewer) && holds.is_grace_over(Role::Viewer));
        assert!(!holds.is_grace_over(Role::Sales), "each role by itself");
        tokio::time::sleep(grace * (GRACES + 1)).await;
        assert!(!holds.is_grace_over(Role::Viewer), "that was long ago");
    }
}
