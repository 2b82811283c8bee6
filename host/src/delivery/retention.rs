//! How much of the log is kept: the task that takes away what is too old, or too much.
//!
//! Whoever is behind what is kept finds a gap where it reads on, and is told to fetch again. The tail never does:
//! nothing is taken away that it has not handed out, because what changes rights may be among it.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    domain::time::Timestamp,
    store::{self, Store},
};

/// Lines that are taken away in one transaction: others write between two of them.
const BATCH: u32 = 256;
const PAUSE: Duration = Duration::from_millis(10);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What is kept: lines that are neither older nor further from the head than that.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    pub keep_for: Duration,
    pub keep_events: u32,
}

/// Prunes one log.
pub struct Retention {
    pub store: Arc<Store>,
    pub settings: Settings,
    pub now: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// How far the tail of this process is.
    pub position: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl Retention {
    /// Runs until `stop`. A failing database is waited for.
    pub async fn run(self, stop: CancellationToken) {
        let pruning = async {
            loop {
                match self.prune().await {
                    Ok(0) => {}
                    Ok(pruned) => {
                        metrics::counter!("leadwire_log_pruned_total").increment(pruned);
                        debug!(pruned, "lines of the log are no longer kept");
                    }
                    Err(error) => warn!("cannot prune the log, trying again later: {error}"),
                }
                sleep(LOOK_EVERY).await;
            }
        };
        stop.run_until_cancelled(pruning).await;
    }

    /// Takes away what need not be kept, and what was recorded for the sake of it; says how many lines that were.
    async fn prune(&self) -> store::Result<u64> {
        let mut reader = self.store.read().await?;
        let (oldest, kept) = (reader.oldest().await?, self.first_kept(&mut reader).await?);
        drop(reader);
        let mut pruned = 0;
        while oldest + pruned < kept {
            let mut tx = self.store.write().await?;
            let count = tx.prune_events(kept, BATCH).await?;
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

    /// The seq of the first line that is to be kept.
    async fn first_kept(&self, reader: &mut store::Reader) -> store::Result<u64> {
        let Settings { keep_for, keep_events } = self.settings;
        let head = reader.head().await?;
        let young = reader.first_seq_since((self.now)().minus(keep_for)).await?;
        let few = (head + 1).saturating_sub(keep_events.into());
        Ok(young.max(few).min(head).min((self.position)()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::domain::event::Draft;

    const MINUTE: i64 = 60_000;

    /// A log of 1000 lines, one a minute, which is the last minute's age.
    async fn log(dir: &tempfile::TempDir) -> Arc<Store> {
        let store = Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens");
        let mut tx = store.write().await.expect("a transaction");
        for number in 1..=1000 {
            let (rooms, payload, context) = (Vec::new(), json!({}), json!({}));
            let at = Timestamp::from_millis(number * MINUTE).expect("in range");
            let draft = Draft { name: "lead:created", rooms, lead_id: None, payload, context, at };
            tx.append(&draft).await.expect("a line");
        }
        tx.commit().await.expect("commits");
        Arc::new(store)
    }

    /// What the oldest line is, once the log of that store was pruned at that minute.
    async fn pruned(store: &Arc<Store>, minute: i64, keep_minutes: u64, keep_events: u32, position: u64) -> u64 {
        let retention = Retention {
            store: store.clone(),
            settings: Settings { keep_for: Duration::from_secs(60 * keep_minutes), keep_events },
            now: Box::new(move || Timestamp::from_millis(minute * MINUTE).expect("in range")),
            position: Box::new(move || position),
        };
        let mut reader = store.read().await.expect("a reader");
        let before = reader.oldest().await.expect("readable");
        drop(reader);
        let count = retention.prune().await.expect("prunes");
        let mut reader = store.read().await.expect("a reader");
        let oldest = reader.oldest().await.expect("readable");
        assert_eq!(oldest - before, count);
        assert_eq!(reader.head().await.expect("readable"), 1000);
        oldest
    }

    #[tokio::test]
    async fn the_log_is_kept_by_age_or_count_whichever_is_less() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = log(&dir).await;
        let epoch = store.epoch().to_owned();
        assert_eq!(pruned(&store, 1000, 1000, 1000, 1000).await, 1);
        assert_eq!(pruned(&store, 1000, 990, 1000, 1000).await, 10, "by age");
        assert_eq!(pruned(&store, 1000, 990, 900, 1000).await, 101, "by count");
        assert_eq!(pruned(&store, 1000, 990, 10, 150).await, 150, "not beyond the tail");
        assert_eq!(pruned(&store, 1000, 10, 900, 1000).await, 990, "in several batches");
        assert_eq!(pruned(&store, 9000, 10, 900, 1000).await, 1000, "but the newest");
        store.close().await;
        let again = Store::open(dir.path().join("test.db").to_str().expect("utf-8")).await.expect("opens again");
        assert_eq!((again.epoch(), *again.appended().borrow()), (epoch.as_str(), 1000));
    }
}
