//! Handover to the next process in the data directory, however this one ends: the number of sockets, so that the next
//! process can admit them at a pace, and the leads that they follow, because a stock client subscribes only once.

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    fs, select,
    task::spawn_blocking,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::{
    domain::id::Epoch,
    files::{self, FileAccess},
    transport::socket::session::resume::ResumeSnapshot,
};

const FILE: &str = "sockets.json";
/// Interval of writes: a process that crashes loses newer changes.
const EVERY: Duration = Duration::from_secs(2);
/// Maximum number of sockets that is trusted; more than one process serves.
const MAX_SOCKETS: usize = 1_000_000;
/// Limits the work to one part in this many of the time.
const SHARE: u32 = 20;
/// Time that sockets of the previous process may take to return. Until then a smaller number is ignored: a process that
/// crashes again at once has not lost them.
pub(crate) const RETURN: Duration = Duration::from_secs(60);

pub(crate) struct Handover {
    path: PathBuf,
    /// Content of the file.
    note: HandoverFile,
    every: Duration,
    settled: Duration,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct HandoverFile {
    sockets: usize,
    /// Epoch of the log that the seqs in `followed` belong to.
    epoch: Epoch,
    followed: ResumeSnapshot,
}

/// State to keep at a moment.
pub(crate) struct HandoverSnapshot {
    /// `None` when a smaller number would be meaningless.
    pub(crate) sockets: Option<usize>,
    pub(crate) followed: ResumeSnapshot,
}

impl Handover {
    /// Reads the handover of the previous process; an unreadable one, or one for another log, counts as empty.
    pub(crate) async fn open(dir: &Path, epoch: &Epoch) -> Self {
        let path = dir.join(FILE);
        let mut note = read(&path).await;
        note.sockets = note.sockets.min(MAX_SOCKETS);
        if note.epoch != *epoch {
            note = HandoverFile { epoch: epoch.to_owned(), sockets: note.sockets, ..HandoverFile::default() };
        }
        Self { path, note, every: EVERY, settled: RETURN }
    }

    /// Number of sockets that the previous process had.
    pub(crate) fn sockets(&self) -> usize {
        self.note.sockets
    }

    /// Subscriptions of these sockets.
    pub(crate) fn followed(&self) -> ResumeSnapshot {
        self.note.followed.clone()
    }

    /// Writes the state that `look` returns until `end`; the number of sockets only while it returns one.
    pub(crate) async fn keep(mut self, look: impl Fn() -> HandoverSnapshot, end: impl Future<Output = ()>) {
        let (begin, mut end) = (Instant::now(), pin!(end));
        let (mut is_over, mut pause, mut is_logged) = (false, self.every, false);
        while !is_over {
            is_over = select! {
                () = sleep(pause) => false,
                () = &mut end => true,
            };
            let looked = Instant::now();
            let HandoverSnapshot { sockets, followed } = look();
            let fewest = if begin.elapsed() < self.settled { self.note.sockets } else { 0 };
            let sockets = sockets.map_or(self.note.sockets, |sockets| sockets.max(fewest));
            let note = HandoverFile { sockets, epoch: self.note.epoch.clone(), followed };
            if note != self.note {
                match self.write(&note).await {
                    Ok(()) => (self.note, is_logged) = (note, false),
                    // Retried, but logged once.
                    Err(error) if !is_logged => {
                        warn!(%error, "cannot write the socket handover to {}", self.path.display());
                        is_logged = true;
                    }
                    Err(_) => {}
                }
            }
            // However many sockets there are, this stays a small part of the server's work.
            pause = self.every.max(looked.elapsed() * SHARE);
        }
    }

    async fn write(&self, note: &HandoverFile) -> io::Result<()> {
        let (path, bytes) = (self.path.clone(), serde_json::to_vec(note)?);
        spawn_blocking(move || files::replace_unsynced(&path, &bytes, FileAccess::Owner)).await?
    }
}

/// Reads the file. A damaged one is moved aside, because the next write would replace it.
async fn read(path: &Path) -> HandoverFile {
    let nothing = "starting without a handover";
    let json = match fs::read(path).await {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HandoverFile::default(),
        Err(error) => {
            warn!(%error, "cannot read {}: {nothing}", path.display());
            return HandoverFile::default();
        }
    };
    serde_json::from_slice(&json).unwrap_or_else(|error| {
        let aside = path.with_extension("damaged");
        let outcome = std::fs::rename(path, &aside).map(|()| format!("moved aside to {}", aside.display()));
        let outcome = outcome.unwrap_or_else(|error| format!("cannot move it aside: {error}"));
        warn!(%error, "{} is damaged: {nothing}; {outcome}", path.display());
        HandoverFile::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn open(dir: &Path) -> Handover {
        Handover::open(dir, &Epoch::from("epoch")).await
    }

    #[tokio::test]
    async fn the_socket_count_reaches_the_next_process_and_survives_a_short_run() {
        let dir = tempfile::tempdir().expect("a directory");
        let sockets = async || open(dir.path()).await.sockets();
        let run = async |sockets, settled| {
            let every = Duration::from_millis(5);
            let handover = Handover { every, settled, ..open(dir.path()).await };
            let look = || HandoverSnapshot { sockets, followed: ResumeSnapshot::default() };
            handover.keep(look, sleep(4 * every)).await;
        };
        assert_eq!(sockets().await, 0);
        run(Some(2000), RETURN).await;
        assert_eq!(sockets().await, 2000);
        run(Some(3), RETURN).await;
        assert_eq!(sockets().await, 2000, "they had no time to come back");
        run(None, Duration::ZERO).await;
        assert_eq!(sockets().await, 2000, "they are being sent away");
        run(Some(3), Duration::ZERO).await;
        assert_eq!(sockets().await, 3);
    }

    #[tokio::test]
    async fn a_damaged_handover_is_ignored_and_moved_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "many").expect("writes");
        assert_eq!(open(dir.path()).await.sockets(), 0);
        let aside = std::fs::read_to_string(dir.path().join("sockets.damaged")).expect("kept");
        assert_eq!(aside, "many");
    }

    fn followed() -> ResumeSnapshot {
        let session = "018f3f3e-0000-7000-8000-000000000001";
        serde_json::from_value(json!({session: {"sockets": 1, "leads": {"a": 7}}})).expect("followed")
    }

    #[tokio::test]
    async fn subscriptions_are_handed_over_only_for_the_same_log() {
        let dir = tempfile::tempdir().expect("a directory");
        let look = || HandoverSnapshot { sockets: Some(1), followed: followed() };
        open(dir.path()).await.keep(look, async {}).await;
        assert_eq!(open(dir.path()).await.followed(), followed());
        let opened = Handover::open(dir.path(), &Epoch::from("another")).await;
        assert_eq!((opened.sockets(), opened.followed()), (1, ResumeSnapshot::default()));
    }
}
