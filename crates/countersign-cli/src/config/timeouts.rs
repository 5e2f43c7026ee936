//! `[timeouts]`: for how long a connection may do nothing.

use std::time::Duration;

use countersign_gateway::Timeouts;
use serde::Deserialize;

use super::Bounded;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimeoutsConfig {
    tls_handshake_seconds: Option<Bounded<1, 300>>,
    head_seconds: Option<Bounded<1, 300>>,
    body_seconds: Option<Bounded<1, 3600>>,
    write_seconds: Option<Bounded<1, 3600>>,
    drain_seconds: Option<Bounded<1, 3600>>,
}

impl TimeoutsConfig {
    pub(crate) fn timeouts(&self) -> Timeouts {
        let mut timeouts = Timeouts::default();
        for (given, timeout) in [
            (self.tls_handshake_seconds.map(|seconds| seconds.0), &mut timeouts.tls_handshake),
            (self.head_seconds.map(|seconds| seconds.0), &mut timeouts.head),
            (self.body_seconds.map(|seconds| seconds.0), &mut timeouts.body),
            (self.write_seconds.map(|seconds| seconds.0), &mut timeouts.write),
            (self.drain_seconds.map(|seconds| seconds.0), &mut timeouts.drain),
        ] {
            if let Some(seconds) = given {
                *timeout = Duration::from_secs(seconds);
            }
        }
        timeouts
    }
}
