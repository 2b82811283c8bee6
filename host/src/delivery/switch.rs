//! Switches: another set of plugins takes effect at a line of the log, when the tail passes that line.
//!
//! A reload leaves the set that it prepared here before the line is appended, and waits until the tail has taken it.
//! The tail waits for nobody. Before the tail runs, [`begin`] records what the process starts with.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::{sync::watch, time::timeout};

use crate::{
    domain::{
        counter::{Generation, Seq},
        event::InForce,
        policy::Visibility,
        role::Role,
        time::Timestamp,
    },
    plugin::Plugins,
    store::{
        self,
        generation::{StoredGeneration, shapes_differ},
        handle::{self, Store},
    },
};

/// Time that a reload waits for a server that is just starting.
const PATIENCE: Duration = Duration::from_secs(30);

/// Callback that puts a prepared set in force. Never blocks.
pub type Swap = Box<dyn FnOnce() + Send>;

/// Prepared sets whose line the tail has not passed yet.
pub struct Switches {
    waiting: Mutex<Vec<(Generation, Swap)>>,
    stage: watch::Sender<SwitchStage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SwitchStage {
    Starting,
    Running,
    Stopped,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the server has not started yet")]
    Starting,
    #[error("the server is stopping")]
    Stopping,
    #[error(transparent)]
    Store(#[from] store::Error),
}

impl Default for Switches {
    fn default() -> Self {
        Self { waiting: Mutex::default(), stage: watch::Sender::new(SwitchStage::Starting) }
    }
}

impl Switches {
    /// Appends the line with which `in_force` takes effect, and leaves `swap` to the tail. With `resets`, clients have
    /// to fetch again.
    ///
    /// # Errors
    /// Nothing takes effect.
    pub async fn announce(&self, store: &Store, in_force: InForce, resets: bool, swap: Swap) -> Result<(), Error> {
        let mut stage = self.stage.subscribe();
        let begun = timeout(PATIENCE, stage.wait_for(|stage| *stage != SwitchStage::Starting)).await;
        drop(begun.map_err(|_| Error::Starting)?);
        let mut tx = store.write().await?;
        let is_empty = tx.head().await? == Seq::START;
        if is_empty {
            // Nobody has anything of an empty log, and nobody can append while this transaction is open.
            tx.begin_delivery(in_force).await?;
        } else {
            tx.switch_delivery(in_force, resets, Timestamp::now()).await?;
        }
        tx.forget_generations().await?;
        self.leave(in_force.generation, swap)?;
        if is_empty {
            self.pass(in_force.generation);
        }
        // Even if the outcome of the commit is unknown: the swap is done where the line is met.
        tx.commit().await?;
        Ok(())
    }

    /// Leaves a swap to the tail. Only the newest one is kept; those before it were given up.
    fn leave(&self, generation: Generation, swap: Swap) -> Result<(), Error> {
        let mut waiting = self.waiting.lock();
        if *self.stage.borrow() == SwitchStage::Stopped {
            return Err(Error::Stopping);
        }
        waiting.clear();
        waiting.push((generation, swap));
        Ok(())
    }

    /// Puts the set of a line in force; false if it was not prepared here.
    pub(crate) fn pass(&self, generation: Generation) -> bool {
        let mut waiting = self.waiting.lock();
        let Some(place) = waiting.iter().position(|(prepared, _)| *prepared == generation) else { return false };
        let (_, swap) = waiting.remove(place);
        drop(waiting);
        swap();
        true
    }

    pub(crate) fn open(&self) {
        self.stage.send_replace(SwitchStage::Running);
    }

    /// Ends all waiting: the tail passes no lines any more.
    pub(crate) fn close(&self) {
        self.stage.send_replace(SwitchStage::Stopped);
        self.waiting.lock().clear();
    }
}

/// Proof that the log records what is in force at the start of the process.
#[derive(Debug)]
pub struct SwitchLog {
    /// Newest reset line of each role.
    pub(crate) resets: Vec<(Role, Seq)>,
}

/// Records what is in force at the start of a process, if it is not what the log ends with.
///
/// Call it before anybody can connect and before the tail begins.
pub async fn begin(store: &Store, plugins: &Plugins, visibility: Visibility) -> store::Result<SwitchLog> {
    note_start(store, plugins, visibility).await?;
    Ok(SwitchLog { resets: store.read().await?.resets().await? })
}

async fn note_start(store: &Store, plugins: &Plugins, visibility: Visibility) -> store::Result<()> {
    let in_force = InForce { generation: plugins.generation(), visibility };
    let mut tx = store.write().await?;
    let last = tx.switch_before(Seq::END).await?;
    match last {
        None if tx.head().await? == Seq::START => tx.begin_delivery(in_force).await?,
        Some(last) if last.in_force == in_force => return Ok(()),
        last => {
            let before = last.map(|last| last.in_force);
            let resets = before.is_none_or(|before| before.visibility != visibility)
                || members_differ(&mut tx, before, in_force).await?;
            tx.switch_delivery(in_force, resets, Timestamp::now()).await?;
        }
    }
    tx.forget_generations().await?;
    tx.commit().await
}

async fn members_differ(reader: &mut handle::Reader, before: Option<InForce>, after: InForce) -> store::Result<bool> {
    let Some(before) = before else { return Ok(true) };
    let (before, after) = (generation(reader, before).await?, generation(reader, after).await?);
    Ok(match (before, after) {
        (Some(before), Some(after)) => shapes_differ(&before.members, &after.members),
        _ => true,
    })
}

/// Returns the plugin set that was in force, if it is still known.
async fn generation(reader: &mut handle::Reader, in_force: InForce) -> store::Result<Option<StoredGeneration>> {
    match in_force.generation {
        none @ Generation::NONE => Ok(Some(StoredGeneration { id: none, at: Timestamp::now(), members: Vec::new() })),
        id => reader.generation(id).await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    };

    use super::*;
    use crate::{domain::policy::Scope, store::test_database::TestDatabase};

    async fn head(store: &Store) -> (u64, Vec<u64>) {
        let mut reader = store.read().await.expect("a reader");
        let resets = reader.resets().await.expect("reads").into_iter().map(|(_, seq)| seq.0).collect();
        (reader.head().await.expect("reads").0, resets)
    }

    fn in_force(generation: Generation) -> InForce {
        InForce { generation, visibility: Visibility::default() }
    }

    #[tokio::test]
    async fn a_start_writes_an_event_only_if_visibility_changed() {
        let database = TestDatabase::new();
        let (store, plugins) = (Arc::new(database.open().await), Plugins::none());
        begin(&store, &plugins, Visibility::default()).await.expect("begins");
        assert_eq!(head(&store).await, (0, vec![]), "nobody has anything of an empty log");

        let mut tx = store.write().await.expect("a transaction");
        tx.switch_delivery(in_force(Generation(0)), false, Timestamp::now()).await.expect("a line");
        tx.commit().await.expect("commits");
        begin(&store, &plugins, Visibility::default()).await.expect("begins");
        assert_eq!(head(&store).await, (1, vec![]));

        let narrow = Visibility { sales: Scope::Own, ..Visibility::default() };
        for _ in 0..2 {
            begin(&store, &plugins, narrow).await.expect("begins");
            assert_eq!(head(&store).await, (2, vec![2; 4]));
        }
    }

    #[tokio::test]
    async fn a_swap_waits_for_startup_and_runs_once_when_its_event_is_passed() {
        let database = TestDatabase::new();
        let store = Arc::new(database.open().await);
        let (switches, done) = (Arc::new(Switches::default()), Arc::new(AtomicU64::new(0)));
        let swap = |to: u64| -> Swap {
            let done = done.clone();
            Box::new(move || done.store(to, Relaxed))
        };
        // With an empty log, the swap is done at once.
        switches.open();
        switches.announce(&store, in_force(Generation(3)), true, swap(3)).await.expect("announced");
        assert_eq!((head(&store).await, done.load(Relaxed)), ((0, vec![]), 3));
        let mut tx = store.write().await.expect("a transaction");
        tx.switch_delivery(in_force(Generation(3)), false, Timestamp::now()).await.expect("a line");
        tx.commit().await.expect("commits");

        switches.stage.send_replace(SwitchStage::Starting);
        done.store(0, Relaxed);
        let early = {
            let (store, switches, swap) = (store.clone(), switches.clone(), swap(7));
            tokio::spawn(async move { switches.announce(&store, in_force(Generation(7)), true, swap).await })
        };
        tokio::task::yield_now().await;
        assert_eq!(head(&store).await.0, 1, "the tail is not there yet");
        switches.open();
        early.await.expect("ends").expect("announced");
        assert_eq!((head(&store).await, done.load(Relaxed)), ((2, vec![2; 4]), 0));
        assert!(!switches.pass(Generation(6)));
        assert!(switches.pass(Generation(7)) && !switches.pass(Generation(7)));
        assert_eq!(done.load(Relaxed), 7);

        switches.announce(&store, in_force(Generation(8)), false, swap(8)).await.expect("announced");
        switches.close();
        assert_eq!(Arc::strong_count(&done), 1, "nobody waits for a tail that is gone");
        let late = switches.announce(&store, in_force(Generation(9)), false, swap(9)).await;
        assert!(matches!(late, Err(Error::Stopping)));
        assert_eq!(head(&store).await.0, 3);
    }
}
