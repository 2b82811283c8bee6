//! How many sockets there are, kept in the data directory: however this process ends, the next one knows how many
//! clients will come back to it.

use std::{
    fs, io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use tokio::{
    select,
    time::{Instant, sleep},
};
use tracing::debug;

const FILE: &str = "sockets";
const EVERY: Duration = Duration::from_secs(5);
/// How long those of the process before may take to come back. Until then fewer than there were count for nothing:
/// a process that falls over again at once has not lost them.
pub(super) const RETURN: Duration = Duration::from_secs(60);

pub(super) struct Census {
    path: PathBuf,
    before: usize,
    every: Duration,
    settled: Duration,
}

impl Census {
    /// Reads what the process before has kept; nothing that can be read is none.
    pub(super) fn open(dir: &Path) -> Self {
        let path = dir.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self { path, before: text.trim().parse().unwrap_or_default(), every: EVERY, settled: RETURN }
    }

    /// How many sockets the process before had.
    pub(super) fn before(&self) -> usize {
        self.before
    }

    /// Keeps the count until `end`, the last one included.
    pub(super) async fn keep(self, count: impl Fn() -> usize, end: impl Future<Output = ()>) {
        let (begin, mut end) = (Instant::now(), pin!(end));
        let mut kept = self.before;
        loop {
            let is_over = select! {
                () = sleep(self.every) => false,
                () = &mut end => true,
            };
            let is_settled = begin.elapsed() >= self.settled;
            let now = if is_settled { count() } else { count().max(kept) };
            if now != kept {
                match self.write(now) {
                    Ok(()) => kept = now,
                    Err(error) => debug!(%error, "cannot keep the number of sockets"),
                }
            }
            if is_over {
                return;
            }
        }
    }

    fn write(&self, count: usize) -> io::Result<()> {
        let aside = self.path.with_extension("partial");
        fs::write(&aside, count.to_string())?;
        fs::rename(aside, &self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_next_process_knows_how_many_there_were_and_a_brief_one_takes_nothing_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let run = async |count, settled| {
            let every = Duration::from_millis(5);
            let census = Census { every, settled, ..Census::open(dir.path()) };
            census.keep(|| count, sleep(4 * every)).await;
        };
        assert_eq!(Census::open(dir.path()).before(), 0);
        run(2000, RETURN).await;
        assert_eq!(Census::open(dir.path()).before(), 2000);
        run(3, RETURN).await;
        assert_eq!(Census::open(dir.path()).before(), 2000, "they had no time to come back");
        run(3, Duration::ZERO).await;
        assert_eq!(Census::open(dir.path()).before(), 3);
        fs::write(dir.path().join(FILE), "many").expect("writes");
        assert_eq!(Census::open(dir.path()).before(), 0);
    }
}
