//! The next credential of a peer under `cs1`, agreed on in band (`specs/rotation.md`).
//!
//! [`Driver`] takes a rotation from its beginning to its end, whoever began it and wherever it was left; [`Scheduler`] has that done for
//! all peers when it is time. Answering the peer's is part of the server's endpoints ([`router`](crate::server::router)).
//!
//! At each step what is about to be sent is in the store already, so that a process can be killed at any moment and another go on. The
//! two sides accept each other throughout.

#[cfg(feature = "client")]
mod drive;
#[cfg(all(feature = "client", feature = "server"))]
mod schedule;

use std::time::Duration;

use countersign_store::agreement::{DEFAULT_GRACE, GIVE_UP_AFTER};

#[cfg(feature = "client")]
pub use drive::{Driver, Fault, Progress};
#[cfg(all(feature = "client", feature = "server"))]
pub use schedule::Scheduler;

/// The shortest grace period, in seconds: time is kept in whole ones, and a side needs some to change over.
pub const LEAST_GRACE: u64 = 2;

/// How rotations in band go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// For how long both credentials are accepted after the new one is known to be in use. At least the longest life of a ticket (10
    /// minutes) and what it takes until every process of a service knows: a shorter one cuts off sessions of peers that do not
    /// change over by themselves. Default: 15 minutes.
    pub grace: Duration,
    /// What it takes until every process of this service accepts a credential that was stored. So long who has begun waits before
    /// the peer may send with the new one. Default: 2 seconds; with a single process that watches its store, a tenth is enough.
    pub propagation: Duration,
    /// After how long an answered rotation that is not confirmed is given up. Default: 10 minutes.
    pub give_up: Duration,
    /// How often a peer that we can reach is asked whether it wants a rotation. Default: a minute.
    pub status_every: Duration,
}

impl Settings {
    /// The defaults.
    pub const DEFAULT: Self = Self {
        grace: Duration::from_secs(DEFAULT_GRACE),
        propagation: Duration::from_secs(2),
        give_up: Duration::from_secs(GIVE_UP_AFTER),
        status_every: Duration::from_secs(60),
    };
}

impl Default for Settings {
    fn default() -> Self {
        Self::DEFAULT
    }
}
