//! What a process that stops leaves to the next one in the data directory: which leads its sockets followed.

use std::{fs, io, path::Path};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::transport::socket::Followed;

const FILE: &str = "followed.json";

#[derive(Serialize, Deserialize)]
struct Handover<F> {
    /// The log that the numbers belong to.
    epoch: String,
    followed: F,
}

/// Leaves it; whoever takes it is sent what its leads have lived through in between.
pub(super) fn leave(dir: &Path, epoch: &str, followed: &Followed) {
    let path = dir.join(FILE);
    let written = serde_json::to_vec(&Handover { epoch: epoch.to_owned(), followed })
        .map_err(io::Error::other)
        .and_then(|json| write(&path, &json));
    if let Err(error) = written {
        warn!(%error, "clients will have to follow their leads again: cannot write {}", path.display());
    }
}

/// Takes what the process before has left, for good.
pub(super) fn take(dir: &Path, epoch: &str) -> Followed {
    let path = dir.join(FILE);
    let Ok(json) = fs::read(&path) else { return Followed::default() };
    if let Err(error) = fs::remove_file(&path) {
        warn!(%error, "cannot remove {}", path.display());
    }
    match serde_json::from_slice::<Handover<Followed>>(&json) {
        Ok(handover) if handover.epoch == epoch => handover.followed,
        Ok(_) => Followed::default(),
        Err(error) => {
            warn!(%error, "cannot read which leads were followed before");
            Followed::default()
        }
    }
}

fn write(path: &Path, json: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("partial");
    fs::write(&aside, json)?;
    fs::rename(aside, path)
}
