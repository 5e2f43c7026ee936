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
    generations: Mutex<BTreeMap<u64, HashSet<u128>>>,
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
}

impl ReplayLog {
    /// A log for at most `capacity` live claims, of about 32 bytes each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { capacity, generations: Mutex::default() }
    }

    /// Claims `id`, atomically: of many callers exactly one gets `Ok`. One id must always come with the same
    /// `expires`.
    ///
    /// # Errors
    /// [`ClaimError::Used`], [`ClaimError::Full`].
    pub fn claim(&self, id: u128, expires: UnixTime, now: UnixTime) -> Result<(), ClaimError> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        // What is left are the generations that end after now.
        *generations = generations.split_off(&(now.0 / WIDTH));
        let live: usize = generations.values().map(HashSet::len).sum();
        let generation = generations.entry(expires.0 / WIDTH).or_default();
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
