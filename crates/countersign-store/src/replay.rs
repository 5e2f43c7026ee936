use std::collections::{BTreeMap, HashSet};
use std::sync::{Mutex, PoisonError};

use countersign_protocol::UnixTime;

/// Seconds of expiry that share a generation.
const WIDTH: u64 = 32;

/// Burned challenges: each can be claimed once until it expires.
///
/// Claims are kept in generations by expiry; a generation is dropped as a whole when its time is over. A live
/// claim is never evicted: when the log is full, new claims are refused, because forgetting one would let a
/// replay pass.
#[derive(Debug)]
pub struct ReplayLog {
    capacity: usize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generations: BTreeMap<u64, HashSet<u128>>,
    /// The greatest time of any claim. Callers read the clock before they get here, so that a slow one comes
    /// with a time before which a faster one has dropped generations already.
    latest: UnixTime,
}

/// Why a claim was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// It was claimed before.
    #[error("claimed before")]
    Used,
    /// There is no room for another live claim.
    #[error("the replay log is full")]
    Full,
    /// Its time is over, and the log no longer knows whether it was claimed.
    #[error("expired before it was claimed")]
    Expired,
}

impl ReplayLog {
    /// A log for at most `capacity` live claims, of about 32 bytes each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, state: Mutex::default() }
    }

    /// Claims `id`, atomically: of many callers exactly one gets `Ok`. One id must always come with the same
    /// `expires`.
    ///
    /// # Errors
    /// [`ClaimError::Used`], [`ClaimError::Full`], [`ClaimError::Expired`].
    pub fn claim(&self, id: u128, expires: UnixTime, now: UnixTime) -> Result<(), ClaimError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.latest = state.latest.max(now);
        let oldest = state.latest.0 / WIDTH;
        if expires.0 / WIDTH < oldest {
            return Err(ClaimError::Expired);
        }
        // What is left are the generations that end after now.
        state.generations = state.generations.split_off(&oldest);
        let live: usize = state.generations.values().map(HashSet::len).sum();
        let generation = state.generations.entry(expires.0 / WIDTH).or_default();
        if generation.contains(&id) {
            Err(ClaimError::Used)
        } else if live >= self.capacity {
            Err(ClaimError::Full)
        } else {
            generation.insert(id);
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_holds_until_it_expires() {
        let log = ReplayLog::new(10);
        assert_eq!(log.claim(7, UnixTime(100), UnixTime(70)), Ok(()));
        for now in 70..=100 {
            assert_eq!(log.claim(7, UnixTime(100), UnixTime(now)), Err(ClaimError::Used), "at {now}");
        }
    }

    #[test]
    fn a_full_log_refuses_and_forgets_nothing() {
        let log = ReplayLog::new(2);
        assert_eq!(log.claim(1, UnixTime(100), UnixTime(70)), Ok(()));
        assert_eq!(log.claim(2, UnixTime(100), UnixTime(70)), Ok(()));
        assert_eq!(log.claim(3, UnixTime(100), UnixTime(70)), Err(ClaimError::Full));
        assert_eq!(log.claim(1, UnixTime(100), UnixTime(70)), Err(ClaimError::Used));
        assert_eq!(log.claim(3, UnixTime(300), UnixTime(200)), Ok(()), "room again once they expired");
    }

    #[test]
    fn a_dropped_claim_is_not_taken_again_with_an_older_time() {
        let log = ReplayLog::new(10);
        assert_eq!(log.claim(7, UnixTime(100), UnixTime(99)), Ok(()));
        assert_eq!(log.claim(8, UnixTime(230), UnixTime(200)), Ok(()), "drops the generation of 7");
        assert_eq!(log.claim(7, UnixTime(100), UnixTime(99)), Err(ClaimError::Expired));
        assert_eq!(log.claim(8, UnixTime(230), UnixTime(99)), Err(ClaimError::Used));
        assert_eq!(log.claim(9, UnixTime(230), UnixTime(99)), Ok(()), "what lives is not touched");
    }

    #[test]
    fn of_many_racing_claims_exactly_one_wins() {
        let log = ReplayLog::new(10);
        let wins: usize = std::thread::scope(|scope| {
            let claims: Vec<_> = (0..16)
                .map(|_| scope.spawn(|| usize::from(log.claim(9, UnixTime(100), UnixTime(70)).is_ok())))
                .collect();
            claims.into_iter().map(|claim| claim.join().unwrap()).sum()
        });
        assert_eq!(wins, 1);
    }
}
