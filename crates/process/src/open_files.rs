//! The limit of open files.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::debug;

/// Lets this process have as many open files as the system allows it. Every connection is one, and the
/// usual soft limit of 1,024 is fewer than the limits of connections let in.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    let wanted = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Nothing depends on it yet; a server that runs out of files says so.
    match setrlimit(Resource::Nofile, wanted) {
        Ok(()) => debug!(limit = ?limit.maximum, "raised the limit of open files"),
        Err(error) => debug!(%error, "the limit of open files stays as it is"),
    }
}
