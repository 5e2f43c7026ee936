//! Open files: each connection needs one, and one more towards the upstream.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// For the store, the trail, listeners, standard streams.
const RESERVED: u64 = 64;

/// How many of `wanted` connections this process can have. Raises its own limit as far as it may; with too low a
/// limit it takes fewer connections, rather than failing at one when another file has to be opened.
pub(crate) fn room(wanted: usize) -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    let current = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    };
    // None is no limit.
    let Some(current) = current else { return wanted };
    let room = usize::try_from(current.saturating_sub(RESERVED) / 2).unwrap_or(usize::MAX).max(1);
    if room < wanted {
        tracing::warn!(
            open_files = current,
            connections = room,
            wanted,
            "the limit on open files allows fewer connections than configured (LimitNOFILE, ulimit -n)"
        );
    }
    room.min(wanted)
}
