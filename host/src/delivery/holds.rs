//! Holds: leads that are withheld from a role because a filter gave no verdict, so that sockets go on with the others.
//!
//! Sockets wait at an event for a moment, then write down a hold and go past it, and past every later event of that
//! lead. [`Holds::run`] asks about the lead again, and releases it by a line of the log: whoever is past that line has
//! to fetch again. The database keeps holds over a restart.

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
    select,
    sync::{Notify, watch},
    task::yield_now,
    time::{sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::shape::Shaper;
use crate::{
    domain::{
        event::{Draft, Event},
        id::LeadId,
        lead::Lead,
        role::Role,
        time::Timestamp,
    },
    plugin::Unavailable,
    store::{self, Store, hold::Hold},
};

/// With more holds than this, everything is withheld from the role: it is no longer about single leads.
const MOST_LEADS: usize = 200;
/// Sockets wait once for a plugin, and not again for each of its events.
const GRACES: u32 = 10;
/// How long after an answer that was none the next question is asked.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two lines that release something, at least; longer, when one follows the other.
const FIRST_GAP: Duration = Duration::from_secs(1);
const LONGEST_GAP: Duration = Duration::from_secs(60);
/// The most of a plugin's words that is kept.
const MAX_REASON: usize = 300;

/// The name of the line that releases holds.
const RELEASED: &str = "delivery:released";
/// In the context of that line: the holds.
const LEADS: &str = "leads";

/// What is withheld, from whom.
pub struct Holds {
    store: Arc<Store>,
    grace: Duration,
    state: RwLock<State>,
    /// Whether there is any, for those who would have to ask for each event.
    is_any: AtomicBool,
    /// Held while a hold is written down.
    writing: tokio::sync::Mutex<()>,
    changed: watch::Sender<()>,
    /// Something may be due earlier.
    sooner: Notify,
}

#[derive(Default)]
struct State {
    kept: HashMap<(Role, LeadId), Kept>,
    waiting: HashMap<Role, Waiting>,
}

/// Sockets of a role wait for a plugin.
struct Waiting {
    since: Instant,
    last: Instant,
}

struct Kept {
    hold: Hold,
    asked: Instant,
    due: Instant,
    pause: Duration,
}

impl Kept {
    fn new(hold: Hold) -> Self {
        let now = Instant::now();
        Self { hold, asked: now, due: now + FIRST_PAUSE, pause: FIRST_PAUSE }
    }
}

impl Holds {
    /// The holds that the database keeps; sockets wait for `grace` before there is another one.
    pub async fn open(store: Arc<Store>, grace: Duration) -> store::Result<Arc<Self>> {
        let kept = store.read().await?.holds().await?;
        let kept: HashMap<_, _> = kept.into_iter().map(|hold| ((hold.role, hold.lead), Kept::new(hold))).collect();
        Ok(Arc::new(Self {
            store,
            grace,
            is_any: AtomicBool::new(!kept.is_empty()),
            state: RwLock::new(State { kept, waiting: HashMap::new() }),
            writing: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(()),
            sooner: Notify::new(),
        }))
    }

    /// Whether what happens to the lead is withheld from the role.
    pub fn withholds(&self, role: Role, lead: LeadId) -> bool {
        self.is_any.load(Ordering::Acquire) && self.state.read().withholds(role, lead)
    }

    /// How many there are, by role.
    pub fn count(&self) -> [(Role, usize); Role::ALL.len()] {
        let state = self.state.read();
        Role::ALL.map(|role| (role, state.kept.keys().filter(|(of, _)| *of == role).count()))
    }

    /// Told when there is a hold more or less.
    pub fn changed(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// Whether sockets of the role have waited long enough for a plugin that gives no verdict.
    pub fn is_grace_over(&self, role: Role) -> bool {
        let now = Instant::now();
        let mut state = self.state.write();
        let waiting = state.waiting.entry(role).or_insert(Waiting { since: now, last: now });
        if now - waiting.last > self.grace * GRACES {
            waiting.since = now;
        }
        waiting.last = now;
        now - waiting.since >= self.grace
    }

    /// Withholds the lead from the role from now on. A plugin gave no verdict on event `seq`.
    ///
    /// # Errors
    /// When it cannot be written down: then nobody may go past the event.
    pub async fn hold(&self, role: Role, lead: LeadId, seq: u64, why: &Unavailable) -> store::Result<()> {
        let _writing = self.writing.lock().await;
        let is_all = {
            let state = self.state.read();
            if state.withholds(role, lead) {
                return Ok(());
            }
            state.kept.keys().filter(|(of, _)| *of == role).count() >= MOST_LEADS
        };
        let reason = why.reason[..why.reason.floor_char_boundary(MAX_REASON)].to_owned();
        let hold =
            Hold { role, lead, is_all, first_seq: seq, plugin: why.plugin.clone(), reason, at: Timestamp::now() };
        let mut tx = self.store.write().await?;
        tx.hold(&hold).await?;
        tx.commit().await?;

        let plugin = &hold.plugin;
        match is_all {
            true => warn!(plugin, %role, "every lead is withheld from {role} until {plugin} gives a verdict again"),
            false => {
                warn!(plugin, %role, %lead, event.seq = seq, "lead {lead} is withheld from {role} until {plugin} gives a verdict")
            }
        }
        counter!("leadwire_holds_total").increment(1);
        let mut state = self.state.write();
        if is_all {
            state.kept.retain(|(of, _), _| *of != role);
        }
        state.kept.insert((role, lead), Kept::new(hold));
        self.is_any.store(true, Ordering::Release);
        drop(state);
        self.changed.send_replace(());
        self.sooner.notify_one();
        Ok(())
    }

    /// Something happened to a lead: if it is withheld, what a plugin says of it may be another now.
    fn note(&self, lead: LeadId) {
        let mut state = self.state.write();
        let mut is_sooner = false;
        for ((_, of), kept) in &mut state.kept {
            if *of == lead {
                kept.due = kept.due.min(kept.asked + FIRST_PAUSE);
                is_sooner = true;
            }
        }
        if is_sooner {
            self.sooner.notify_one();
        }
    }

    /// Takes note of a line that the tail passes.
    pub(super) fn pass(&self, event: &Event) {
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
            if state.kept.remove(&of).is_some() {
                counter!("leadwire_holds_released_total").increment(1);
            }
        }
        self.is_any.store(!state.kept.is_empty(), Ordering::Release);
        drop(state);
        self.changed.send_replace(());
    }

    /// Asks again about what is withheld, and releases it when there is an answer, until `stop`.
    pub async fn run(self: Arc<Self>, shaper: Arc<Shaper>, stop: CancellationToken) {
        stop.run_until_cancelled(self.ask_again(&shaper)).await;
    }

    async fn ask_again(&self, shaper: &Shaper) {
        let mut plugins = shaper.changed();
        let (mut gap, mut last_release) = (FIRST_GAP, None::<Instant>);
        loop {
            match self.answered(shaper).await {
                Ok(answered) if answered.is_empty() => {}
                Ok(answered) => match self.release(&answered).await {
                    Ok(()) => {
                        let is_soon = last_release.is_some_and(|last| last.elapsed() < LONGEST_GAP);
                        gap = if is_soon { (gap * 2).min(LONGEST_GAP) } else { FIRST_GAP };
                        last_release = Some(Instant::now());
                        sleep(gap).await;
                    }
                    Err(error) => self.complain(&error).await,
                },
                Err(error) => self.complain(&error).await,
            }
            let due = self.state.read().kept.values().map(|kept| kept.due).min();
            let due = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            select! {
                () = due => {}
                () = self.sooner.notified() => {}
                _ = plugins.changed() => self.ask_all_at_once(),
            }
        }
    }

    async fn complain(&self, error: &store::Error) {
        warn!("cannot look after what is withheld, trying again: {error}");
        sleep(FIRST_GAP).await;
    }

    fn ask_all_at_once(&self) {
        let now = Instant::now();
        for kept in self.state.write().kept.values_mut() {
            (kept.due, kept.pause) = (now, FIRST_PAUSE);
        }
    }

    /// Of what is due, what plugins give a verdict on again, and what is not there any more.
    async fn answered(&self, shaper: &Shaper) -> store::Result<Vec<(Role, LeadId)>> {
        let now = Instant::now();
        let due: Vec<(Role, LeadId)> =
            self.state.read().kept.iter().filter(|(_, kept)| kept.due <= now).map(|(of, _)| *of).collect();
        let mut answered = Vec::new();
        for (role, lead) in due {
            let found = self.store.read().await?.lead(lead).await?;
            let is_answered = found.is_none_or(|found| has_verdict(shaper, &found, role));
            self.put_off((role, lead));
            if is_answered {
                answered.push((role, lead));
            }
            yield_now().await;
        }
        Ok(answered)
    }

    fn put_off(&self, of: (Role, LeadId)) {
        let mut state = self.state.write();
        if let Some(kept) = state.kept.get_mut(&of) {
            let now = Instant::now();
            kept.asked = now;
            kept.pause = (kept.pause * 2).min(LONGEST_PAUSE);
            kept.due = now + kept.pause;
        }
    }

    /// Appends one line for them all. They are released here when the tail passes it.
    async fn release(&self, answered: &[(Role, LeadId)]) -> store::Result<()> {
        let mut roles: Vec<Role> = answered.iter().map(|(role, _)| *role).collect();
        roles.sort_unstable();
        roles.dedup();
        let mut line = Draft::delivery_released(&roles, Timestamp::now());
        line.context[LEADS] = json!(answered);
        let _writing = self.writing.lock().await;
        let mut tx = self.store.write().await?;
        for (role, lead) in answered {
            tx.release(*role, *lead).await?;
        }
        let seq = tx.append(&line).await?;
        tx.commit().await?;
        info!(event.seq = seq, "plugins give a verdict again on {} that were withheld", answered.len());
        Ok(())
    }
}

fn has_verdict(shaper: &Shaper, lead: &Lead, role: Role) -> bool {
    !shaper.sight(&shaper.pinned(), lead, &[role]).is_held()
}

impl State {
    fn withholds(&self, role: Role, lead: LeadId) -> bool {
        let is_all = |(of, kept): (&(Role, LeadId), &Kept)| of.0 == role && kept.hold.is_all;
        self.kept.contains_key(&(role, lead)) || self.kept.iter().any(is_all)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    async fn open(dir: &tempfile::TempDir, grace: Duration) -> Arc<Holds> {
        let store = Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens");
        Holds::open(Arc::new(store), grace).await.expect("opens")
    }

    fn lead(number: usize) -> LeadId {
        LeadId(Uuid::from_u128(number as u128))
    }

    fn why() -> Unavailable {
        Unavailable { plugin: "guard".into(), reason: "filter trapped ä".repeat(100) }
    }

    #[tokio::test]
    async fn many_holds_of_a_role_become_one_and_are_there_after_a_restart() {
        let dir = tempfile::tempdir().expect("a folder");
        let holds = open(&dir, Duration::ZERO).await;
        for number in 0..MOST_LEADS {
            holds.hold(Role::Viewer, lead(number), number as u64, &why()).await.expect("kept");
            holds.hold(Role::Viewer, lead(number), 9999, &why()).await.expect("kept already");
        }
        assert!(holds.withholds(Role::Viewer, lead(7)) && !holds.withholds(Role::Viewer, lead(MOST_LEADS)));
        assert_eq!(holds.count()[3], (Role::Viewer, MOST_LEADS));
        holds.hold(Role::Viewer, lead(MOST_LEADS), 9999, &why()).await.expect("kept");
        let again = open(&dir, Duration::ZERO).await;
        for holds in [&holds, &again] {
            assert_eq!(holds.count()[3], (Role::Viewer, 1));
            assert!(holds.withholds(Role::Viewer, lead(7)) && holds.withholds(Role::Viewer, lead(8888)));
            assert!(!holds.withholds(Role::Sales, lead(7)));
        }
    }

    #[tokio::test]
    async fn what_is_answered_is_released_by_the_tail_and_not_before() {
        let dir = tempfile::tempdir().expect("a folder");
        let holds = open(&dir, Duration::ZERO).await;
        holds.hold(Role::Viewer, lead(1), 1, &why()).await.expect("kept");
        holds.hold(Role::Sales, lead(1), 1, &why()).await.expect("kept");
        // There is no such lead, so that nobody has to be asked.
        let shaper = Shaper::new(crate::plugin::Plugins::none(), crate::domain::policy::Visibility::default(), "e");
        tokio::time::sleep(FIRST_PAUSE).await;
        let mut answered = holds.answered(&shaper).await.expect("asked");
        answered.sort();
        assert_eq!(answered, [(Role::Sales, lead(1)), (Role::Viewer, lead(1))]);
        holds.release(&answered).await.expect("released");
        assert!(holds.withholds(Role::Viewer, lead(1)), "the tail is not there yet");
        let mut reader = holds.store.read().await.expect("a reader");
        let line = reader.event(1).await.expect("reads").expect("a line");
        assert_eq!((reader.holds().await.expect("reads"), line.name.as_str()), (vec![], RELEASED));
        assert_eq!(line.resets(), Some(crate::domain::event::Resets::Roles(vec![Role::Sales, Role::Viewer])));
        holds.pass(&line);
        assert!(!holds.withholds(Role::Viewer, lead(1)) && !holds.withholds(Role::Sales, lead(1)));
    }

    #[tokio::test]
    async fn sockets_wait_once_and_not_for_every_event() {
        let dir = tempfile::tempdir().expect("a folder");
        let grace = Duration::from_millis(50);
        let holds = open(&dir, grace).await;
        assert!(!holds.is_grace_over(Role::Viewer));
        tokio::time::sleep(grace).await;
        assert!(holds.is_grace_over(Role::Viewer) && holds.is_grace_over(Role::Viewer));
        assert!(!holds.is_grace_over(Role::Sales), "each role by itself");
        tokio::time::sleep(grace * (GRACES + 1)).await;
        assert!(!holds.is_grace_over(Role::Viewer), "that was long ago");
    }
}
