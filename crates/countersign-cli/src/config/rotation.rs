//! `[rotation]`: how peers under `cs1` rotate in band.

use std::time::Duration;

use countersign::rotation::{LEAST_GRACE, Settings};
use serde::Deserialize;

use super::Bounded;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Rotation {
    /// Whether `serve` begins rotations by itself, and those that a peer wants.
    pub(crate) scheduled: bool,
    pub(crate) grace_seconds: Bounded<LEAST_GRACE, 2_592_000>,
    pub(crate) propagation_seconds: Bounded<0, 300>,
    pub(crate) give_up_seconds: Bounded<60, 86_400>,
    pub(crate) status_seconds: Bounded<1, 86_400>,
}

impl Default for Rotation {
    fn default() -> Self {
        let Settings { grace, propagation, give_up, status_every } = Settings::DEFAULT;
        Self {
            scheduled: true,
            grace_seconds: Bounded(grace.as_secs()),
            propagation_seconds: Bounded(propagation.as_secs()),
            give_up_seconds: Bounded(give_up.as_secs()),
            status_seconds: Bounded(status_every.as_secs()),
        }
    }
}

impl Rotation {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            grace: Duration::from_secs(self.grace_seconds.0),
            // None at all would be none for the process itself, which looks at its store twenty times a second.
            propagation: Duration::from_secs(self.propagation_seconds.0).max(Duration::from_millis(150)),
            give_up: Duration::from_secs(self.give_up_seconds.0),
            status_every: Duration::from_secs(self.status_seconds.0),
        }
    }
}
