//! Resource limits of the operating system for this process.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Raises the limit of open files to its maximum: each connection needs one, and the usual 1024 are soon exhausted.
pub(crate) fn raise() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        debug!(%error, "cannot raise the number of open files");
    }
}
