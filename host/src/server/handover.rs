//! What this process leaves to the next one in the data directory, however it ends: how many sockets there are, so
//! that they can be let in at a pace, and which leads they follow, because a stock client subscribes once.

use std::{
    io,
    path::{Path, PathBuf},
    pin::pin,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tokio::{
    fs, select,
    time::{Instant, sleep},
};
use tracing::warn;

use crate::transport::socket::Followed;

const FILE: &str = "sockets.json";
/// A process that falls over forgets what is newer.
const EVERY: Duration = Duration::from_secs(2);
/// More than one process serves.
const MAX_SOCKETS: usize = 1_000_000;
/// It may work for one part in so many of the time.
const SHARE: u32 = 20;
/// How long those of the process before may take to come back. Until then fewer than there were count for nothing:
/// a process that falls over again at once has not lost them.
pub(super) const RETURN: Duration = Duration::from_secs(60);

pub(super) struct Handover {
    path: PathBuf,
    /// As it stands in the file.
    note: Note,
    every: Duration,
    settled: Duration,
}

#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Note {
    sockets: usize,
    /// The log that the numbers in `followed` belong to.
    epoch: String,
    followed: Followed,
}

/// What there is to keep at a moment.
pub(super) struct Look {
    /// None where fewer than there were say nothing.
    pub(super) sockets: Option<usize>,
    pub(super) followed: Followed,
}

impl Handover {
    /// Reads what the process before has left; what cannot be read, or is about another log, is nothing.
    pub(super) async fn open(dir: &Path, epoch: &str) -> Self {
        let path = dir.join(FILE);
        let mut note = read(&path).await;
        note.sockets = note.sockets.min(MAX_SOCKETS);
        if note.epoch != epoch {
            note = Note { epoch: epoch.to_owned(), sockets: note.sockets, ..Note::default() };
        }
        Self { path, note, every: EVERY, settled: RETURN }
    }

    /// How many sockets the process before had.
    pub(super) fn sockets(&self) -> usize {
        self.note.sockets
    }

    /// What they followed.
    pub(super) fn followed(&self) -> Followed {
        self.note.followed.clone()
    }

    /// Keeps both until `end`, as `look` finds them then; the number of sockets only while it says one.
    pub(super) async fn keep(mut self, look: impl Fn() -> Look, end: impl Future<Output = ()>) {
        let (begin, mut end) = (Instant::now(), pin!(end));
        let (mut is_over, mut pause, mut is_told) = (false, self.every, false);
        while !is_over {
            is_over = select! {
                () = sleep(pause) => false,
                () = &mut end => true,
            };
            let looked = Instant::now();
            let Look { sockets, followed } = look();
            let fewest = if begin.elapsed() < self.settled { self.note.sockets } else { 0 };
            let sockets = sockets.map_or(self.note.sockets, |sockets| sockets.max(fewest));
            let note = Note { sockets, epoch: self.note.epoch.clone(), followed };
            if note != self.note {
                match self.write(&note).await {
                    Ok(()) => (self.note, is_told) = (note, false),
                    // Tried again, but told once.
                    Err(error) if !is_told => {
                        warn!(%error, "cannot keep which sockets there are in {}", self.path.display());
                        is_told = true;
                    }
                    Err(_) => {}
                }
            }
            // However many there are, this is a small part of what the server does.
            pause = self.every.max(looked.elapsed() * SHARE);
        }
    }

    async fn write(&self, note: &Note) -> io::Result<()> {
        let aside = self.path.with_extension("partial");
        fs::write(&aside, serde_json::to_vec(note)?).await?;
        fs::rename(aside, &self.path).await
    }
}

/// What is damaged is put aside, because the next note takes its place.
async fn read(path: &Path) -> Note {
    let nothing = "clients come back as if there had been none";
    let json = match fs::read(path).await {
        Ok(json) => json,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Note::default(),
        Err(error) => {
            warn!(%error, "cannot read {}: {nothing}", path.display());
            return Note::default();
        }
    };
    serde_json::from_slice(&json).unwrap_or_else(|error| {
        let aside = path.with_extension("damaged");
        let kept = std::fs::rename(path, &aside).map(|()| format!("it is kept as {}", aside.display()));
        let kept = kept.unwrap_or_else(|error| format!("it cannot be kept: {error}"));
        warn!(%error, "{} is damaged, expected what a server wrote there: {nothing}; {kept}", path.display());
        Note::default()
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    async fn open(dir: &Path) -> Handover {
        Handover::open(dir, "epoch").await
    }

    #[tokio::test]
    async fn the_next_process_knows_how_many_there_were_and_a_brief_one_takes_nothing_away() {
        let dir = tempfile::tempdir().expect("a directory");
        let sockets = async || open(dir.path()).await.sockets();
        let run = async |sockets, settled| {
            let every = Duration::from_millis(5);
            let handover = Handover { every, settled, ..open(dir.path()).await };
            let look = || Look { sockets, followed: Followed::default() };
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
    async fn what_is_damaged_counts_for_nothing_and_is_kept_aside() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join(FILE), "many").expect("writes");
        assert_eq!(open(dir.path()).await.sockets(), 0);
        let aside = std::fs::read_to_string(dir.path().join("sockets.damaged")).expect("kept");
        assert_eq!(aside, "many");
    }

    fn followed() -> Followed {
        let session = "018f3f3e-0000-7000-8000-000000000001";
        serde_json::from_value(json!({session: {"sockets": 1, "leads": {"a": 7}}})).expect("followed")
    }

    #[tokio::test]
    async fn what_was_followed_counts_for_the_same_log_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let look = || Look { sockets: Some(1), followed: followed() };
        open(dir.path()).await.keep(look, async {}).await;
        assert_eq!(open(dir.path()).await.followed(), followed());
        let opened = Handover::open(dir.path(), "another").await;
        assert_eq!((opened.sockets(), opened.followed()), (1, Followed::default()));
    }
}
