//! What a server writes to the store by itself: which credentials were used, and that one is over.

use std::time::{Duration, Instant};

use countersign_store::StoreError;

use super::{Authenticator, uses};

/// How long nothing is written after the store has refused a write.
const PAUSE: Duration = Duration::from_secs(10);

/// How often a peer whose rotation is overdue is named in the log.
const REMIND: Duration = Duration::from_secs(24 * 60 * 60);

/// What was done last.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    failed: Option<Instant>,
    reminded: Option<(Instant, Vec<String>)>,
}

impl Upkeep {
    /// Does what is due. Blocks. What cannot be written is tried again later; no decision depends on it.
    pub(super) fn run(&mut self, authenticator: &Authenticator) {
        self.remind(authenticator);
        if self.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let done = Self::note(authenticator, false).and_then(|()| Self::settle(authenticator));
        if let Err(error) = &done {
            tracing::warn!(%error, "uses and ends of credentials cannot be written to the store; trying again");
        }
        self.failed = done.is_err().then(Instant::now);
    }

    /// Tells the store which credentials were used; of those that it knows to be in use only now and then, unless it
    /// is to be `all`.
    pub(super) fn note(authenticator: &Authenticator, all: bool) -> Result<(), StoreError> {
        let inner = authenticator.inner();
        let (snapshot, now) = (inner.snapshot(), inner.clock.now());
        let due = uses::due(&snapshot, now, all);
        if due.is_empty() {
            return Ok(());
        }
        inner.store().note(&due)?;
        uses::noted(&snapshot, &due, now);
        Ok(())
    }

    /// Retires what has ended.
    fn settle(authenticator: &Authenticator) -> Result<(), StoreError> {
        let inner = authenticator.inner();
        let now = inner.clock.now();
        if inner.snapshot().next_end.is_none_or(|end| now < end) {
            return Ok(());
        }
        for credential in inner.store().settle(now)? {
            tracing::info!(%credential, "retired: its successor has taken over");
        }
        Ok(())
    }

    /// Names the peers whose rotation is overdue: when that changes, and once a day.
    fn remind(&mut self, authenticator: &Authenticator) {
        let (ages, now) = authenticator.ages();
        let overdue: Vec<_> = ages.iter().filter(|age| age.is_overdue(now)).collect();
        let names: Vec<String> = overdue.iter().map(|age| age.credential.to_string()).collect();
        if let Some((at, before)) = &self.reminded
            && *before == names
            && at.elapsed() < REMIND
        {
            return;
        }
        for age in overdue {
            let (peer, days) = (&age.credential.peer, now.since(age.created) / (24 * 60 * 60));
            tracing::warn!(
                credential = %age.credential,
                days,
                "its rotation is overdue: `countersign rotate {peer}`, or `countersign rotate {peer} --check` if one is open"
            );
        }
        self.reminded = Some((Instant::now(), names));
    }
}
