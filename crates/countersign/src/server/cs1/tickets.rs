//! The keys that seal tickets, and what is kept of them and of used nonces for the next start (CS-20, CS-42, CS-45).

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::ticket::{Claims, TicketKeys};
use countersign_protocol::identity::ServiceName;
use countersign_protocol::refusal::Refusal;
use countersign_store::{Opened, ReplayLog, State, StateStore, StoreError, TicketCache, random};
use zeroize::Zeroizing;

/// How often it is written down that the keys are in use, in seconds.
const NOTE_EVERY: u64 = 5;
/// So long after the last note a run that crashed may have gone on, in seconds: a note takes its time, too.
const UNNOTED: u64 = NOTE_EVERY + 2;
/// Without state nobody knows what another process of this service has accepted under the keys of a pair, at whatever time.
pub(super) const ALWAYS: UnixTime = UnixTime(u64::MAX);
/// So much before they have served their time keys are replaced by whoever can write the new ones down, in seconds.
const EARLY: u64 = 30 * 60;

/// What is not kept of an opened ticket.
enum Uncached {
    Refused(Refusal),
    /// It is of an earlier run, of which the log of used nonces may be lost.
    Lost(Box<Claims>, UnixTime),
}

/// Opened tickets that are kept, at about a kilobyte each.
const OPENED: usize = 8192;

pub(in crate::server) struct Tickets {
    keys: RwLock<TicketKeys>,
    state: Option<Arc<dyn StateStore>>,
    /// Tickets that were opened before; none of which the log is lost.
    opened: TicketCache,
    /// When it was last written down that the keys are in use, in seconds since 1970.
    noted: AtomicU64,
    /// Up to when something may have been accepted of which nothing is known, if a log of used nonces was ever lost (CS-43): when
    /// the run after it began, or up to when the one before it may have gone on by a clock that was ahead. It is kept for the
    /// next start as well: what that reads of this run says nothing about what was lost before.
    lost: Option<UnixTime>,
    /// Whether the log of used nonces was written for the next start.
    closed: AtomicBool,
}

impl Tickets {
    /// The keys of the last run, if there was one; else new ones. What the last run wrote of used nonces is read back, and is
    /// gone from then on. Without `state` every request without a handshake needs a nonce of ours: there may be other processes
    /// that hold the keys of the pair (CS-12).
    pub(in crate::server) fn open(
        service: &ServiceName,
        state: Option<Arc<dyn StateStore>>,
        replays: &ReplayLog,
        now: UnixTime,
    ) -> Result<Self, StoreError> {
        let (mut keys, mut lost) = (None, Some(ALWAYS));
        if let Some(state) = &state {
            let log = state.take(State::ReplayLog)?;
            let kept = state.kept(State::TicketKeys)?;
            let before = state.kept(State::Lost)?;
            let remembers = match (&kept, &log) {
                // What is there and does not open, which may have said anything; also in what came from a backup.
                _ if before.is_none() && state.has(State::Lost)? => false,
                // Whoever has never run has forgotten nothing.
                (None, None) => before.is_none() && !state.has(State::TicketKeys)?,
                (_, Some(log)) if log.at <= now => replays.import(&log.bytes, now).is_some(),
                _ => false,
            };
            lost = before.map(|before| before.at);
            if !remembers {
                let notes = [&kept, &log].into_iter().flatten().map(|kept| kept.at.plus(UNNOTED));
                let up_to = notes.chain(lost).fold(now, UnixTime::max);
                state.keep(State::Lost, up_to, b"")?;
                lost = Some(up_to);
            }
            if let Some(ahead) = lost.filter(|up_to| up_to.since(now) > 60) {
                tracing::warn!(
                    until = ahead.0,
                    "what was accepted by a clock that was ahead is not known any more: requests without a handshake, and those of sessions from before a restart, need a nonce of ours until then (docs/troubleshooting.md, \"A wrong clock\")"
                );
            }
            // A clock that is behind would revive tickets, and nonces that were forgotten (CS-45).
            if let Some(kept) = kept.filter(|kept| kept.at <= now) {
                keys = TicketKeys::import(service.clone(), &kept.bytes);
            }
        }
        let random = Zeroizing::new(random());
        let keys = match keys {
            // Each run seals with a key of its own: it tells what was sealed before.
            Some(mut keys) => {
                keys.rotate(&random, now);
                keys
            }
            None => TicketKeys::new(service.clone(), &random, now),
        };
        let (opened, closed) = (TicketCache::new(OPENED), AtomicBool::new(false));
        let this = Self { keys: RwLock::new(keys), state, opened, noted: AtomicU64::new(0), lost, closed };
        // Before the first ticket is given out.
        this.upkeep(now)?;
        Ok(this)
    }

    /// Seals what a session is.
    pub(super) fn seal(&self, claims: &Claims, now: UnixTime) -> Zeroizing<String> {
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if !keys.is_due(now) {
                return keys.seal(claims, random());
            }
        }
        // Nobody has seen to it in time.
        self.rotate(now);
        self.keys.read().unwrap_or_else(PoisonError::into_inner).seal(claims, random())
    }

    /// Opens a ticket; and, if it is of an earlier run, up to when a log was lost, if one was.
    pub(super) fn open_ticket(
        &self,
        ticket: &str,
        now: UnixTime,
    ) -> Result<(Arc<Opened>, Option<UnixTime>), Refusal> {
        let opened = self.opened.get_or_open(ticket, now, || {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            let opened = keys.open_noting(ticket, now);
            let (claims, of_earlier_run) =
                opened.map_err(|error| Uncached::Refused(Refusal::Ticket(error)))?;
            match self.lost {
                Some(lost) if of_earlier_run => Err(Uncached::Lost(Box::new(claims), lost)),
                _ => Ok(claims),
            }
        });
        match opened {
            Ok(opened) => Ok((opened, None)),
            Err(Uncached::Lost(claims, lost)) => Ok((Arc::new(Opened::new(*claims)), Some(lost))),
            Err(Uncached::Refused(refusal)) => Err(refusal),
        }
    }

    /// Up to when a log was lost, if one was: see the field.
    pub(super) const fn lost(&self) -> Option<UnixTime> {
        self.lost
    }

    fn rotate(&self, now: UnixTime) {
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.is_due(now.plus(EARLY)) {
            keys.rotate(&Zeroizing::new(random()), now);
            self.noted.store(0, Ordering::Relaxed);
        }
    }

    /// Replaces keys that have served their time, erases those whose last ticket has expired, and writes down what there is and
    /// that it is in use. Blocks.
    pub(in crate::server) fn upkeep(&self, now: UnixTime) -> Result<(), StoreError> {
        let noted = self.noted.load(Ordering::Relaxed);
        if noted != 0 && now.0.saturating_sub(noted) < NOTE_EVERY {
            return Ok(());
        }
        self.opened.tidy(now);
        self.rotate(now);
        let bytes = {
            let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
            keys.tidy(now);
            keys.export()
        };
        if let Some(state) = &self.state {
            state.keep(State::TicketKeys, now, &bytes)?;
        }
        self.noted.store(now.0.max(1), Ordering::Relaxed);
        Ok(())
    }

    /// Whether nothing may be burned any more: the next start would not know of it.
    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// Writes down which nonces were used, at a clean stop. Nothing is accepted any more from then on, also where a connection is
    /// still open. Blocks.
    pub(in crate::server) fn close(
        &self,
        replays: &ReplayLog,
        clock: impl FnOnce() -> UnixTime,
    ) -> Result<(), StoreError> {
        let Some(state) = &self.state else { return Ok(()) };
        // Before the log is read, and before the time is: who burns after that sees it.
        self.closed.store(true, Ordering::SeqCst);
        let now = clock();
        let bytes = self.keys.read().unwrap_or_else(PoisonError::into_inner).export();
        state.keep(State::TicketKeys, now, &bytes)?;
        state.keep(State::ReplayLog, now, &replays.export(now))
    }
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("lost", &self.lost).finish_non_exhaustive()
    }
}
