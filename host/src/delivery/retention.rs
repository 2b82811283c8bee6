//! Log retention: a task prunes lines that are too old, or too many.
//!
//! A reader that is behind the oldest kept line finds a gap where it reads on, and has to fetch again. The tail never
//! does: no line is pruned that it has not handed out, because the line may change somebody's rights.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    domain::{counter::Seq, time::Timestamp},
    store::{
        self,
        handle::{self, Store},
    },
};

/// Lines that are pruned per transaction; others can write between two of them.
const BATCH: u32 = 256;
const PAUSE: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Retention limits: a line is kept if it is neither older nor further from the head than this.
#[derive(Clone, Copy, Debug)]
pub struct RetentionConfig {
    pub keep_for: Duration,
    pub keep_events: u32,
}

/// Prunes one log.
pub struct Retention {
    pub store: Arc<Store>,
    pub settings: RetentionConfig,
    pub now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// Returns the position of this process's tail.
    pub position: Box<dyn Fn() -> Seq + Send + Sync>,
}

impl Retention {
    /// Runs until `stop`. Retries while the database fails.
    pub async fn run(self, stop: CancellationToken) {
        let pruning = async {
            loop {
                match self.prune().await {
                    Ok(0) => {}
                    Ok(pruned) => {
                        metrics::counter!("leadwire_log_pruned_total").increment(pruned);
                        debug!(pruned, "pruned old events from the log");
                    }
                    Err(error) => warn!("cannot prune the log, retrying later: {error}"),
                }
                sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(pruning).await;
    }

    /// Prunes the lines that need not be kept, and the generations that were recorded only for them; returns the number
    /// of lines.
    async fn prune(&self) -> store::Result<u64> {
        let mut reader = self.store.read().await?;
        let (oldest, first) = (reader.oldest().await?, self.first_retained(&mut reader).await?);
        drop(reader);
        let mut pruned = 0;
        while oldest.forward(pruned) < first {
            let mut tx = self.store.write().await?;
            let count = tx.prune_events(first, BATCH).await?;
            if count == 0 {
                break;
            }
            tx.commit().await?;
            pruned += count;
            sleep(PAUSE).await;
        }
        if pruned > 0 {
            let mut tx = self.store.write().await?;
            tx.forget_generations().await?;
            tx.commit().await?;
        }
        Ok(pruned)
    }

    /// Returns the seq of the first line to keep.
    async fn first_retained(&self, reader: &mut handle::Reader) -> store::Result<Seq> {
        let RetentionConfig { keep_for, keep_events } = self.settings;
        let head = reader.head().await?;
        let young = reader.first_seq_since((self.now)().minus(keep_for)).await?;
        let few = head.next().back(keep_events.into());
        Ok(young.max(few).min(head).min((self.position)()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{domain::event::NewEvent, store::test_database::TestDatabase};

    const MINUTE: i64 = 60_000;

    /// Creates a log of 1000 lines, one per minute; the number of a line is its minute.
    async fn log(database: &TestDatabase) -> Arc<Store> {
        let store = database.open().await;
        let mut tx = store.write().await.expect("a transaction");
        for number in 1..=1000 {
            let (rooms, payload, context) = (Vec::new(), json!({}), json!({}));
            let at = Timestamp::from_millis(number * MINUTE).expect("in range");
            let draft = NewEvent { name: "lead:created", rooms, lead_id: None, payload, context, at };
            tx.append(&draft).await.expect("a line");
        }
        tx.commit().await.expect("commits");
        Arc::new(store)
    }

    /// Prunes the log at the given minute and returns its oldest line.
    async fn pruned(store: &Arc<Store>, minute: i64, keep_minutes: u64, keep_events: u32, position: Seq) -> u64 {
        let retention = Retention {
            store: store.clone(),
            settings: RetentionConfig { keep_for: Duration::from_secs(60 * keep_minutes), keep_events },
            now: Box::new(move || Timestamp::from_millis(minute * MINUTE).expect("in range")),
            position: Box::new(move || position),
        };
        let mut reader = store.read().await.expect("a reader");
        let before = reader.oldest().await.expect("readable");
        drop(reader);
        let count = retention.prune().await.expect("prunes");
        let mut reader = store.read().await.expect("a reader");
        let oldest = reader.oldest().await.expect("readable");
        assert_eq!(oldest.since(before), count);
        assert_eq!(reader.head().await.expect("readable"), Seq(1000));
        oldest.0
    }

    #[tokio::test]
    async fn the_log_is_pruned_by_age_and_by_count() {
        let database = TestDatabase::new();
        let store = log(&database).await;
        let epoch = store.epoch().to_owned();
        assert_eq!(pruned(&store, 1000, 1000, 1000, Seq(1000)).await, 1);
        assert_eq!(pruned(&store, 1000, 990, 1000, Seq(1000)).await, 10, "by age");
        assert_eq!(pruned(&store, 1000, 990, 900, Seq(1000)).await, 101, "by count");
        assert_eq!(pruned(&store, 1000, 990, 10, Seq(150)).await, 150, "not beyond the tail");
        assert_eq!(pruned(&store, 1000, 10, 900, Seq(1000)).await, 990, "in several batches");
        assert_eq!(pruned(&store, 9000, 10, 900, Seq(1000)).await, 1000, "but the newest");
        store.close().await;
        let again = database.open().await;
        assert_eq!((again.epoch(), *again.appended().borrow()), (&epoch, Seq(1000)));
    }
}
