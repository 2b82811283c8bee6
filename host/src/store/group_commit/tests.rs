//! Tests of group commit: what a group shares, and how it fails.

use std::sync::Mutex;

use serde_json::json;
use tokio::{
    sync::Notify,
    task::{JoinHandle, yield_now},
};

use super::*;
use crate::{
    domain::{event::NewEvent, time::Timestamp},
    store::{handle::Store, test_database::TestDatabase},
};

type Answer = JoinHandle<Result<Seq>>;

/// Store with a queue of jobs behind a transaction that holds the connection.
struct Desk {
    store: Arc<Store>,
    /// Heads in the order in which they were announced.
    announced: Arc<Mutex<Vec<u64>>>,
    _database: TestDatabase,
}

impl Desk {
    async fn open() -> Self {
        let database = TestDatabase::new();
        let store = Arc::new(database.open().await);
        let announced = Arc::<Mutex<Vec<u64>>>::default();
        let heads = Arc::clone(&announced);
        store.set_witness(move |seq| heads.lock().expect("no panic").push(seq.0));
        Self { store, announced, _database: database }
    }

    /// Lets jobs queue up, which then are one group, as far as it may be.
    async fn together(&self, jobs: impl FnOnce(&Self) -> Vec<Answer>) -> Vec<Result<Seq>> {
        let alone = self.store.write().await.expect("a transaction");
        let answers = jobs(self);
        self.queued(answers.len()).await;
        drop(alone);
        let mut outcomes = Vec::new();
        for answer in answers {
            outcomes.push(answer.await.expect("no panic"));
        }
        outcomes
    }

    /// Waits until so many jobs were queued.
    async fn queued(&self, jobs: usize) {
        while self.store.group_commit().queued() < jobs {
            yield_now().await;
        }
    }

    fn job(
        &self,
        job: impl for<'c, 's> FnOnce(&'c mut Tx<'s>) -> BoxFuture<'c, Result<Seq>> + Send + 'static,
    ) -> Answer {
        let store = Arc::clone(&self.store);
        tokio::spawn(async move { store.write_in_group(job).await })
    }

    fn append(&self) -> Answer {
        self.job(|tx| append(tx, 10).boxed())
    }

    /// Appends a line and then refuses.
    fn refuse(&self) -> Answer {
        self.job(|tx| {
            async move {
                append(tx, 10).await?;
                Err(Error::Taken("email"))
            }
            .boxed()
        })
    }

    fn announced(&self) -> Vec<u64> {
        self.announced.lock().expect("no panic").clone()
    }

    /// Seqs of the log, read from the database.
    async fn log(&self) -> Vec<u64> {
        let mut reader = self.store.read().await.expect("a reader");
        let events = reader.events_after(Seq(0), 1000).await.expect("events");
        assert_eq!(reader.head().await.expect("the head").0, events.len() as u64);
        events.iter().map(|event| event.seq.0).collect()
    }

    /// Checks that nothing of a group lasts, and that the next job is carried out on a new connection.
    async fn recovers(&self) {
        assert_eq!(self.log().await, [0_u64; 0]);
        assert_eq!(self.announced(), [0_u64; 0]);
        assert_eq!(self.append().await.expect("no panic").expect("writes as before"), Seq(1));
        assert_eq!(self.log().await, [1]);
    }
}

async fn append(tx: &mut Tx<'_>, bytes: usize) -> Result<Seq> {
    let at = Timestamp::from_millis(0).expect("in range");
    let (rooms, payload, context) = (Vec::new(), json!("x".repeat(bytes)), json!({}));
    tx.append(&NewEvent { name: "lead:created", rooms, lead_id: None, payload, context, at }).await
}

async fn execute(tx: &mut Tx<'_>, sql: &'static str) -> Result<()> {
    sqlx::query(sql).execute(&mut *tx.reader.tx).await?;
    Ok(())
}

fn is_outage(outcome: &Result<Seq>, expected: Outage) -> bool {
    matches!(outcome, Err(Error::Unavailable { outage, .. }) if *outage == expected)
}

fn is_busy(outcome: &Result<Seq>) -> bool {
    matches!(outcome, Err(Error::Busy(_)))
}

fn seqs(outcomes: Vec<Result<Seq>>) -> Vec<u64> {
    outcomes.into_iter().map(|outcome| outcome.expect("is carried out").0).collect()
}

#[tokio::test]
async fn jobs_that_wait_are_committed_together_and_in_order() {
    let desk = Desk::open().await;
    let outcomes = desk.together(|desk| (0..5).map(|_| desk.append()).collect()).await;
    assert_eq!(seqs(outcomes), [1, 2, 3, 4, 5]);
    assert_eq!(desk.announced(), [5]);
    assert_eq!(desk.log().await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_group_has_a_maximum_number_of_jobs() {
    let desk = Desk::open().await;
    let outcomes = desk.together(|desk| (0..100).map(|_| desk.append()).collect()).await;
    assert_eq!(seqs(outcomes), (1..=100).collect::<Vec<_>>());
    assert_eq!(desk.announced(), [MAX_JOBS as u64, 100]);
}

#[tokio::test]
async fn a_group_has_a_maximum_number_of_events() {
    let desk = Desk::open().await;
    let outcomes = desk.together(|desk| (0..4).map(|_| desk.job(|tx| append_many(tx, 100).boxed())).collect()).await;
    assert_eq!(seqs(outcomes), [100, 200, 300, 400]);
    assert_eq!(desk.announced(), [300, 400]);
}

async fn append_many(tx: &mut Tx<'_>, lines: u64) -> Result<Seq> {
    for _ in 1..lines {
        append(tx, 10).await?;
    }
    append(tx, 10).await
}

#[tokio::test]
async fn a_refused_job_undoes_only_its_own_changes() {
    let desk = Desk::open().await;
    let jobs = |desk: &Desk| {
        vec![desk.refuse(), desk.append(), desk.refuse(), desk.refuse(), desk.append(), desk.append(), desk.refuse()]
    };
    let outcomes = desk.together(jobs).await;
    let refused: Vec<bool> = outcomes.iter().map(|outcome| matches!(outcome, Err(Error::Taken(_)))).collect();
    assert_eq!(refused, [true, false, true, true, false, false, true]);
    assert_eq!(seqs(outcomes.into_iter().filter(Result::is_ok).collect()), [1, 2, 3]);
    assert_eq!(desk.log().await, [1, 2, 3]);
    assert_eq!(desk.announced().last(), Some(&3));

    assert!(matches!(desk.refuse().await.expect("no panic"), Err(Error::Taken(_))));
    assert_eq!(seqs(vec![desk.append().await.expect("no panic")]), [4]);
}

#[tokio::test]
async fn nobody_is_answered_before_the_commit() {
    let desk = Desk::open().await;
    let (begun, go) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let alone = desk.store.write().await.expect("a transaction");
    let (refused, made) = (desk.refuse(), desk.append());
    let (has_begun, may_end) = (Arc::clone(&begun), Arc::clone(&go));
    let last = desk.job(move |tx| {
        async move {
            has_begun.notify_one();
            may_end.notified().await;
            append(tx, 10).await
        }
        .boxed()
    });
    desk.queued(3).await;
    drop(alone);
    begun.notified().await;
    for _ in 0..100 {
        yield_now().await;
    }
    assert!(!refused.is_finished() && !made.is_finished());
    assert_eq!(desk.store.refresh().await.expect("reads"), Seq(0));
    go.notify_one();
    assert!(matches!(refused.await.expect("no panic"), Err(Error::Taken(_))));
    assert_eq!(seqs(vec![made.await.expect("no panic"), last.await.expect("no panic")]), [1, 2]);
}

#[tokio::test]
async fn a_full_disk_in_the_middle_fails_the_whole_group() {
    let desk = Desk::open().await;
    fn fill<'c>(tx: &'c mut Tx<'_>) -> BoxFuture<'c, Result<Seq>> {
        async move {
            // For this connection only.
            execute(tx, "PRAGMA max_page_count = 1").await?;
            append(tx, 1 << 20).await
        }
        .boxed()
    }
    let jobs = |desk: &Desk| vec![desk.append(), desk.refuse(), desk.job(fill), desk.append(), desk.refuse()];
    let outcomes = desk.together(jobs).await;
    assert!(outcomes.iter().all(|outcome| is_outage(outcome, Outage::DiskFull)), "{outcomes:?}");
    desk.recovers().await;
}

#[tokio::test]
async fn an_error_that_a_job_ignores_fails_the_whole_group() {
    let desk = Desk::open().await;
    fn fill<'c>(tx: &'c mut Tx<'_>) -> BoxFuture<'c, Result<Seq>> {
        async move {
            execute(tx, "PRAGMA max_page_count = 1").await?;
            let _ = append(tx, 1 << 20).await;
            Ok(Seq(77))
        }
        .boxed()
    }
    let outcomes = desk.together(|desk| vec![desk.append(), desk.job(fill), desk.append()]).await;
    assert!(outcomes.iter().all(|outcome| is_outage(outcome, Outage::DiskFull)), "{outcomes:?}");
    desk.recovers().await;
}

#[tokio::test]
async fn an_interrupted_statement_fails_the_whole_group() {
    let desk = Desk::open().await;
    fn interrupted<'c>(tx: &'c mut Tx<'_>) -> BoxFuture<'c, Result<Seq>> {
        async move {
            tx.reader.tx.interrupt().await;
            execute(
                tx,
                "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000000)
                 UPDATE log SET head = head + (SELECT max(i) FROM n)",
            )
            .await?;
            append(tx, 10).await
        }
        .boxed()
    }
    let outcomes = desk.together(|desk| vec![desk.append(), desk.job(interrupted), desk.append()]).await;
    assert!(outcomes.iter().all(|outcome| is_outage(outcome, Outage::TookTooLong)), "{outcomes:?}");
    desk.recovers().await;
}

#[tokio::test]
async fn a_failed_commit_fails_the_whole_group() {
    let desk = Desk::open().await;
    fn orphan<'c>(tx: &'c mut Tx<'_>) -> BoxFuture<'c, Result<Seq>> {
        async move {
            let seq = append(tx, 10).await?;
            execute(tx, "PRAGMA defer_foreign_keys = ON").await?;
            execute(
                tx,
                "INSERT INTO refresh_tokens (hash, session_id, issued_at, expires_at) VALUES ('h', 'none', '', 'z')",
            )
            .await?;
            Ok(seq)
        }
        .boxed()
    }
    let outcomes = desk.together(|desk| vec![desk.append(), desk.refuse(), desk.job(orphan), desk.append()]).await;
    assert!(outcomes.iter().all(is_busy), "{outcomes:?}");
    desk.recovers().await;
}

#[tokio::test]
async fn a_rollback_by_one_job_fails_those_before_it_and_not_those_after_it() {
    let desk = Desk::open().await;
    fn rolls_back<'c>(tx: &'c mut Tx<'_>) -> BoxFuture<'c, Result<Seq>> {
        async move {
            append(tx, 10).await?;
            // Ends the whole transaction; the next statement would be one of its own.
            let _ = execute(tx, "INSERT OR ROLLBACK INTO events SELECT * FROM events").await;
            append(tx, 10).await
        }
        .boxed()
    }
    let outcomes = desk.together(|desk| vec![desk.append(), desk.job(rolls_back), desk.append()]).await;
    assert!(is_busy(&outcomes[0]), "{outcomes:?}");
    assert!(matches!(outcomes[1], Err(Error::Database(_))), "{outcomes:?}");
    assert!(matches!(outcomes[2], Ok(Seq(1))), "{outcomes:?}");
    assert_eq!(desk.log().await, [1]);
}

#[tokio::test]
async fn a_job_that_panics_fails_those_before_it_and_not_those_after_it() {
    let desk = Desk::open().await;
    let alone = desk.store.write().await.expect("a transaction");
    let before = desk.append();
    let panics = desk.job(|tx| {
        async move {
            append(tx, 10).await?;
            panic!("a bug")
        }
        .boxed()
    });
    let after = desk.append();
    desk.queued(3).await;
    drop(alone);
    assert!(panics.await.expect_err("passes its panic on").is_panic());
    assert!(is_busy(&before.await.expect("no panic")));
    assert_eq!(after.await.expect("no panic").expect("is carried out"), Seq(1));
    assert_eq!(desk.log().await, [1]);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_interrupt_its_job() {
    let desk = Desk::open().await;
    let (begun, go) = (Arc::<Notify>::default(), Arc::<Notify>::default());
    let (has_begun, may_end) = (Arc::clone(&begun), Arc::clone(&go));
    let leaving = desk.job(move |tx| {
        async move {
            append(tx, 10).await?;
            has_begun.notify_one();
            may_end.notified().await;
            append(tx, 10).await
        }
        .boxed()
    });
    begun.notified().await;
    // This one has not begun when its caller leaves.
    let waiting = desk.append();
    desk.queued(2).await;
    leaving.abort();
    waiting.abort();
    assert!(leaving.await.is_err() && waiting.await.is_err());
    go.notify_one();
    assert_eq!(desk.append().await.expect("no panic").expect("writes"), Seq(3));
    assert_eq!(desk.log().await, [1, 2, 3]);
}

#[tokio::test]
async fn a_job_that_could_not_begin_in_time_never_runs() {
    let desk = Desk::open().await;
    let alone = desk.store.write().await.expect("a transaction");
    let group_commit = desk.store.group_commit();
    let outcome = group_commit.run(Duration::from_millis(20), |tx| append(tx, 10).boxed()).await;
    assert!(is_busy(&outcome), "{outcome:?}");
    drop(alone);
    assert_eq!(desk.append().await.expect("no panic").expect("writes"), Seq(1));
    assert_eq!(desk.log().await, [1]);
}

#[tokio::test]
async fn long_work_takes_turns_with_groups() {
    let desk = Desk::open().await;
    let busy = (0..8).map(|_| {
        let store = Arc::clone(&desk.store);
        tokio::spawn(async move {
            loop {
                let written: Result<Seq> = store.write_in_group(|tx| append(tx, 10).boxed()).await;
                written.expect("writes");
            }
        })
    });
    let busy: Vec<JoinHandle<()>> = busy.collect();
    for _ in 0..5 {
        let before = desk.store.known_head();
        let mut alone = desk.store.write().await.expect("its turn comes");
        append(&mut alone, 10).await.expect("a line");
        alone.commit().await.expect("commits");
        while desk.store.known_head() <= before.next() {
            yield_now().await;
        }
    }
    busy.iter().for_each(JoinHandle::abort);
}

#[tokio::test]
async fn jobs_that_wait_are_carried_out_before_the_store_closes() {
    let desk = Desk::open().await;
    let alone = desk.store.write().await.expect("a transaction");
    let waiting = [desk.append(), desk.append()];
    desk.queued(2).await;
    let store = Arc::clone(&desk.store);
    let closing = tokio::spawn(async move { store.close().await });
    while !desk.store.group_commit().stop.is_cancelled() {
        yield_now().await;
    }
    let late = desk.append().await.expect("no panic");
    assert!(is_busy(&late), "{late:?}");
    drop(alone);
    for answer in waiting {
        answer.await.expect("no panic").expect("is carried out");
    }
    closing.await.expect("closes");
    assert_eq!(desk._database.open().await.refresh().await.expect("reads"), Seq(2));
}

#[tokio::test]
async fn no_commit_waits_for_a_checkpoint() {
    let desk = Desk::open().await;
    let read = desk.job(|tx| {
        async move {
            let pages: i64 = sqlx::query_scalar("PRAGMA wal_autocheckpoint").fetch_one(&mut *tx.reader.tx).await?;
            let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&mut *tx.reader.tx).await?;
            assert_eq!(synchronous, 2, "FULL");
            Ok(Seq(pages.unsigned_abs()))
        }
        .boxed()
    });
    assert_eq!(read.await.expect("no panic").expect("reads"), Seq(0));
}
