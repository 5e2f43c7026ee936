//! What a server writes by itself: to the store which credentials were used, and that one is over; to the trail for how
//! many attempts there was no line.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use countersign_audit::Ticket;
use countersign_store::StoreError;

use super::lines::Folded;
use super::{Authenticator, uses};

/// How long nothing is written after the store has refused a write.
const PAUSE: Duration = Duration::from_secs(10);

/// How often a peer whose rotation is overdue is named in the log.
const REMIND: Duration = Duration::from_secs(24 * 60 * 60);

/// How long the end of the process waits for the last counts.
const LAST_COUNTS: Duration = Duration::from_secs(5);

/// What was done last.
#[derive(Debug, Default)]
pub(super) struct Upkeep {
    failed: Option<Instant>,
    reminded: Option<(Instant, Vec<String>)>,
    /// Counts of attempts on their way to the trail.
    folded: Vec<(Ticket, Folded)>,
}

impl Upkeep {
    /// Does what is due. Blocks. What cannot be written is tried again later; no decision depends on it.
    pub(super) fn run(&mut self, authenticator: &Authenticator) {
        self.remind(authenticator);
        Self::alarm(authenticator, false);
        self.fold(authenticator);
        if self.failed.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        let inner = authenticator.inner();
        let done = Self::note(authenticator, false)
            .and_then(|()| Self::settle(authenticator))
            .and_then(|()| inner.cs1.tickets.upkeep(inner.clock.now()));
        if let Err(error) = &done {
            tracing::warn!(%error, "uses and ends of credentials, or the keys of tickets, cannot be written to the store; trying again");
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

    /// Writes the counts of attempts that got no line of their own. Never waits for the disk: a revocation must not.
    fn fold(&mut self, authenticator: &Authenticator) {
        let inner = authenticator.inner();
        let (now, lines) = (inner.clock.now_ms(), &inner.limiters.lines);
        let Some(audit) = &inner.audit else { return };
        self.folded.retain_mut(|(ticket, folded)| {
            match Pin::new(ticket).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Pending => true,
                Poll::Ready(Ok(())) => false,
                Poll::Ready(Err(_)) => {
                    lines.put_back(folded.clone(), now);
                    false
                }
            }
        });
        if self.folded.is_empty() {
            let due = lines.take(false, now).into_iter();
            self.folded.extend(due.map(|folded| (audit.submit(folded.record()), folded)));
        }
    }

    /// Says how often somebody came with a compromised credential since that was last said.
    fn alarm(authenticator: &Authenticator, all: bool) {
        let inner = authenticator.inner();
        for (credential, times) in inner.limiters.alarms.due(all, inner.clock.now_ms()) {
            tracing::error!(
                credential,
                times,
                "somebody has come with a credential that is marked as compromised"
            );
        }
    }

    /// Writes all counts, before the process ends. What the trail does not take in time is in the log: a disk that
    /// hangs must not keep the process from ending.
    pub(super) fn fold_all(authenticator: &Authenticator) {
        let inner = authenticator.inner();
        Self::alarm(authenticator, true);
        let Some(audit) = &inner.audit else { return };
        let all = inner.limiters.lines.take(true, inner.clock.now_ms());
        let tickets: Vec<_> = all.iter().map(|folded| audit.submit(folded.record())).collect();
        let deadline = Instant::now() + LAST_COUNTS;
        for (ticket, folded) in tickets.into_iter().zip(all) {
            match ticket.wait_until(deadline) {
                Some(Ok(())) => {}
                Some(Err(error)) => {
                    tracing::error!(%error, record = ?folded.record(), "counts of attempts are not on the trail");
                }
                None => {
                    tracing::error!(record = ?folded.record(), "the trail does not take counts of attempts in time");
                }
            }
        }
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
