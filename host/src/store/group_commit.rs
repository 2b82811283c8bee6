//! Group commit: one task runs the jobs that wait, one after the other in one transaction, and answers all of them once
//! it is committed. So one sync of the disk serves them all.
//!
//! Each job has a savepoint of its own, so that a refusal undoes nothing of others. Nobody is answered before the
//! COMMIT, refusals neither, because they may rest on what another job wrote. When the transaction fails as a whole,
//! every job of the group fails and nothing of it lasts.

use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, Location, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{timeout, timeout_at},
};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::{
    domain::counter::Seq,
    store::{
        error::{Error, Outage, Result},
        head::CommitSignals,
        pool::{ConnectionPool, PATIENCE},
        tx::Tx,
    },
};

/// Maximum number of jobs per group.
const MAX_JOBS: usize = 64;
/// Number of events after which no further job of a group begins.
const MAX_EVENTS: usize = 256;
/// Time after which no further job of a group begins. In unit tests, a slow machine must not divide a group.
const MAX_TIME: Duration = Duration::from_millis(if cfg!(test) { 60_000 } else { 20 });
/// Number of jobs that wait; further ones wait for a place.
const QUEUE: usize = 1024;

/// Handle of the task that writes; the task ends when this is dropped.
pub(crate) struct GroupCommit {
    queue: mpsc::Sender<QueuedJob>,
    pool: Arc<ConnectionPool>,
    stop: CancellationToken,
    task: parking_lot::Mutex<Option<JoinHandle<()>>>,
    #[cfg(test)]
    queued: std::sync::atomic::AtomicUsize,
}

struct QueuedJob {
    job: Box<dyn GroupJob>,
    /// Set by whoever is first: the task that begins the job, or the caller who no longer waits for that.
    is_taken: Arc<AtomicBool>,
    since: Instant,
}

/// Job, and the caller who waits for its answer.
trait GroupJob: Send {
    /// True if nobody waits for the answer.
    fn is_abandoned(&self) -> bool;

    /// Runs it; false if its changes must be undone.
    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> BoxFuture<'c, bool>;

    /// True if its code panicked, so that the state of its transaction is unknown.
    fn has_panicked(&self) -> bool;

    /// Answers with its outcome.
    fn answer(self: Box<Self>);

    /// Answers that it failed together with its group.
    fn fail(self: Box<Self>, error: Error);
}

struct JobOf<F, T, E> {
    run: Option<F>,
    outcome: Option<thread::Result<std::result::Result<T, E>>>,
    caller: oneshot::Sender<Result<thread::Result<std::result::Result<T, E>>>>,
}

impl<F, T, E> GroupJob for JobOf<F, T, E>
where
    F: for<'c, 's> FnOnce(&'c mut Tx<'s>) -> BoxFuture<'c, std::result::Result<T, E>> + Send,
    T: Send,
    E: Send,
{
    fn is_abandoned(&self) -> bool {
        self.caller.is_closed()
    }

    fn run<'c>(&'c mut self, tx: &'c mut Tx<'_>) -> BoxFuture<'c, bool> {
        async move {
            let run = self.run.take().expect("a job runs once");
            let outcome = AssertUnwindSafe(async { run(tx).await }).catch_unwind().await;
            let is_kept = matches!(outcome, Ok(Ok(_)));
            self.outcome = Some(outcome);
            is_kept
        }
        .boxed()
    }

    fn has_panicked(&self) -> bool {
        matches!(self.outcome, Some(Err(_)))
    }

    fn answer(self: Box<Self>) {
        let outcome = self.outcome.expect("it has run");
        // Without a caller, it has happened all the same.
        let _ = self.caller.send(Ok(outcome));
    }

    fn fail(self: Box<Self>, error: Error) {
        let _ = self.caller.send(Err(error));
    }
}

impl GroupCommit {
    pub(crate) fn start(pool: Arc<ConnectionPool>, signals: CommitSignals) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let stop = CancellationToken::new();
        let writer = GroupWriter { pool: Arc::clone(&pool), signals, jobs, waiting: VecDeque::new() };
        let task = tokio::spawn(writer.run(stop.clone()));
        Self {
            queue,
            pool,
            stop,
            task: Some(task).into(),
            #[cfg(test)]
            queued: Default::default(),
        }
    }

    /// Runs a job in the next group, and returns its outcome once that is durable. An error of the job undoes its
    /// changes.
    ///
    /// A caller that goes away interrupts nothing: the job runs as a whole, or not at all if it has not begun.
    ///
    /// # Errors
    /// [`Error::Busy`] when the job could not begin within `patience`; [`Error::Unavailable`] when its group failed.
    pub(crate) async fn run<F, T, E>(&self, patience: Duration, job: F) -> std::result::Result<T, E>
    where
        F: for<'c, 's> FnOnce(&'c mut Tx<'s>) -> BoxFuture<'c, std::result::Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        if self.stop.is_cancelled() {
            return Err(closed().into());
        }
        let (caller, mut answer) = oneshot::channel();
        let job = Box::new(JobOf { run: Some(job), outcome: None, caller });
        let (is_taken, since) = (Arc::<AtomicBool>::default(), Instant::now());
        let queued = QueuedJob { job, is_taken: Arc::clone(&is_taken), since };

        let deadline = tokio::time::Instant::from_std(since + patience);
        match timeout_at(deadline, self.queue.send(queued)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(closed().into()),
            Err(_) => return Err(self.pool.waited_too_long().into()),
        }
        #[cfg(test)]
        self.queued.fetch_add(1, Ordering::AcqRel);
        let answered = match timeout_at(deadline, &mut answer).await {
            Ok(answered) => answered,
            Err(_) if !is_taken.swap(true, Ordering::AcqRel) => return Err(self.pool.waited_too_long().into()),
            // It has begun, and will be answered.
            Err(_) => answer.await,
        };
        match answered {
            Ok(Ok(Ok(outcome))) => outcome,
            Ok(Ok(Err(panic))) => resume_unwind(panic),
            Ok(Err(error)) => Err(error.into()),
            Err(_) => Err(closed().into()),
        }
    }

    /// Number of jobs that were queued so far.
    #[cfg(test)]
    pub(crate) fn queued(&self) -> usize {
        self.queued.load(Ordering::Acquire)
    }

    /// Accepts no more jobs, and returns once those that wait are done.
    pub(crate) async fn close(&self) {
        self.stop.cancel();
        let task = self.task.lock().take();
        let Some(mut task) = task else { return };
        if timeout(PATIENCE, &mut task).await.is_err() {
            // Those who still wait are refused; a COMMIT that is under way completes.
            task.abort();
        }
    }
}

impl Drop for GroupCommit {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Task that owns the writing connection while it has jobs.
struct GroupWriter {
    pool: Arc<ConnectionPool>,
    signals: CommitSignals,
    jobs: mpsc::Receiver<QueuedJob>,
    /// Jobs that a group left over; they are first in the next one.
    waiting: VecDeque<QueuedJob>,
}

/// Position of the savepoint in a transaction that several jobs share.
#[derive(Clone, Copy)]
enum Savepoint {
    Missing,
    /// Before the changes of a job that are kept.
    BeforeKept,
    /// After everything that is kept.
    AtEnd,
}

/// Changes of a group that are kept.
#[derive(Default)]
struct KeptChanges {
    jobs: usize,
    events: usize,
    appended: Option<Seq>,
    staged: bool,
}

impl GroupWriter {
    async fn run(mut self, stop: CancellationToken) {
        loop {
            if self.waiting.is_empty() {
                let job = tokio::select! {
                    job = self.jobs.recv() => job,
                    () = stop.cancelled(), if !self.jobs.is_closed() => {
                        self.jobs.close();
                        continue;
                    }
                };
                let Some(job) = job else { return };
                self.waiting.push_back(job);
            }
            let signals = self.signals.clone();
            match self.pool.begin(Location::caller()).await {
                Ok(tx) => self.write_group(Tx::new(tx, &signals)).await,
                // Somebody else holds the connection. Each caller ends its own wait.
                Err(Error::Busy(_)) if !self.pool.is_closed() => self.waiting.retain(|queued| !queued.is_gone()),
                Err(error) => {
                    let outage = error.outage();
                    self.take_waiting().into_iter().for_each(|queued| queued.job.fail(failed(outage)));
                }
            }
        }
    }

    /// Removes the jobs that wait now, which make up a group.
    fn take_waiting(&mut self) -> VecDeque<QueuedJob> {
        let mut group = VecDeque::new();
        while group.len() < MAX_JOBS
            && let Some(queued) = self.waiting.pop_front().or_else(|| self.jobs.try_recv().ok())
        {
            if !queued.is_gone() {
                group.push_back(queued);
            }
        }
        group
    }

    async fn write_group(&mut self, mut tx: Tx<'_>) {
        let mut group = self.take_waiting();
        let (begun, is_shared) = (Instant::now(), group.len() > 1);
        let (mut done, mut kept, mut savepoint) = (Vec::new(), KeptChanges::default(), Savepoint::Missing);
        while let Some(queued) = group.pop_front() {
            if is_shared && set_savepoint(&mut tx, savepoint).await.is_err() {
                group.push_front(queued);
                return self.give_up(tx, done, group, None).await;
            }
            savepoint = Savepoint::AtEnd;
            let Some(mut job) = queued.begin() else { continue };
            let is_kept = job.run(&mut tx).await;
            if job.has_panicked() {
                tx.reader.tx.break_off();
            }
            if tx.reader.tx.is_broken().await {
                return self.give_up(tx, done, group, Some(job)).await;
            }
            done.push(job);
            if is_kept {
                kept.add(&mut tx);
                savepoint = Savepoint::BeforeKept;
            } else if is_shared && undo(&mut tx).await.is_err() {
                return self.give_up(tx, done, group, None).await;
            }
            if kept.events >= MAX_EVENTS || begun.elapsed() >= MAX_TIME {
                break;
            }
        }
        group.append(&mut self.waiting);
        self.waiting = group;
        finish(tx, done, kept).await;
    }

    /// Ends a group whose transaction failed. After an outage, none of its jobs is carried out; after the fault of one
    /// of them, `culprit`, those that have not begun are.
    async fn give_up(
        &mut self,
        tx: Tx<'_>,
        done: Vec<Box<dyn GroupJob>>,
        mut rest: VecDeque<QueuedJob>,
        culprit: Option<Box<dyn GroupJob>>,
    ) {
        let outage = tx.reader.tx.outage();
        // Its connection goes with it.
        drop(tx);
        done.into_iter().for_each(|job| job.fail(failed(outage)));
        match (culprit, outage) {
            (Some(job), None) => job.answer(),
            (Some(job), Some(_)) => job.fail(failed(outage)),
            (None, _) => {}
        }
        if outage.is_some() {
            rest.into_iter().for_each(|queued| queued.job.fail(failed(outage)));
        } else {
            rest.append(&mut self.waiting);
            self.waiting = rest;
        }
    }
}

/// Commits what is kept, and answers.
async fn finish(mut tx: Tx<'_>, done: Vec<Box<dyn GroupJob>>, kept: KeptChanges) {
    if kept.jobs == 0 {
        drop(tx);
        return done.into_iter().for_each(GroupJob::answer);
    }
    (tx.appended, tx.staged) = (kept.appended, kept.staged);
    match tx.commit().await {
        Ok(()) => {
            metrics::histogram!("leadwire_database_commit_jobs").record(kept.jobs as f64);
            done.into_iter().for_each(GroupJob::answer);
        }
        Err(error) => {
            let outage = error.outage();
            if outage.is_none() {
                error!("cannot commit: {error}");
            }
            done.into_iter().for_each(|job| job.fail(failed(outage)));
        }
    }
}

/// Prepares the transaction for a job whose changes can be undone alone.
async fn set_savepoint(tx: &mut Tx<'_>, savepoint: Savepoint) -> Result<()> {
    let statement = match savepoint {
        Savepoint::Missing => "SAVEPOINT job",
        Savepoint::BeforeKept => "RELEASE job; SAVEPOINT job",
        Savepoint::AtEnd => return Ok(()),
    };
    sqlx::query(statement).execute(&mut *tx.reader.tx).await?;
    Ok(())
}

async fn undo(tx: &mut Tx<'_>) -> Result<()> {
    tx.end_job();
    sqlx::query("ROLLBACK TO job").execute(&mut *tx.reader.tx).await?;
    Ok(())
}

/// Error of a job whose group failed, with the outage that is to blame or because of another job.
fn failed(outage: Option<Outage>) -> Error {
    match outage {
        Some(outage) => outage.error("the commit that it belongs to failed"),
        None => Error::Busy(sqlx::Error::Protocol("another command in the same commit failed".into())),
    }
}

fn closed() -> Error {
    sqlx::Error::PoolClosed.into()
}

impl QueuedJob {
    /// True if its caller no longer waits.
    fn is_gone(&self) -> bool {
        self.is_taken.load(Ordering::Acquire) || self.job.is_abandoned()
    }

    /// Takes it from its caller; `None` if that no longer waits.
    fn begin(self) -> Option<Box<dyn GroupJob>> {
        if self.is_taken.swap(true, Ordering::AcqRel) || self.job.is_abandoned() {
            return None;
        }
        metrics::histogram!("leadwire_database_write_wait_seconds").record(self.since.elapsed());
        Some(self.job)
    }
}

impl KeptChanges {
    /// Adds the changes of a job that ended.
    fn add(&mut self, tx: &mut Tx<'_>) {
        let (appended, events, staged) = tx.end_job();
        self.jobs += 1;
        self.events += events;
        self.appended = appended.or(self.appended);
        self.staged |= staged;
    }
}

#[cfg(test)]
mod tests;
