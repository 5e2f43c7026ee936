use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How much is allowed: a burst, then one each interval (GCRA, the generic cell rate algorithm of ITU-T I.371).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    interval_ms: u64,
    burst: u32,
}

impl Quota {
    /// `burst` at once, and `per_minute` in the long run. Zeros count as one.
    #[must_use]
    pub const fn per_minute(per_minute: u32, burst: u32) -> Self {
        let interval_ms = if per_minute == 0 { 60_000 } else { 60_000 / per_minute as u64 };
        Self {
            interval_ms: if interval_ms == 0 { 1 } else { interval_ms },
            burst: if burst == 0 { 1 } else { burst },
        }
    }

    /// `burst` at once, and `per_day` in the long run. Zeros count as one.
    #[must_use]
    pub const fn per_day(per_day: u64, burst: u32) -> Self {
        const DAY_MS: u64 = 24 * 60 * 60 * 1_000;
        let interval_ms = DAY_MS / if per_day == 0 { 1 } else { per_day };
        Self {
            interval_ms: if interval_ms == 0 { 1 } else { interval_ms },
            burst: if burst == 0 { 1 } else { burst },
        }
    }

    /// How many are allowed at once.
    #[must_use]
    pub const fn burst(self) -> u32 {
        self.burst
    }

    /// The seconds, rounded up, after which a whole burst that was used is there again.
    #[must_use]
    pub fn window(self) -> u64 {
        self.interval_ms.saturating_mul(u64::from(self.burst)).div_ceil(1_000)
    }

    /// How far ahead of now a key's arrival may be for another event to be allowed.
    fn tolerance_ms(self) -> u64 {
        self.interval_ms.saturating_mul(u64::from(self.burst - 1))
    }
}

/// How a key stands: what it may do now, and when it may do more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Events that would be allowed now.
    pub remaining: u32,
    /// Milliseconds until one more would be; 0 if the whole burst is there.
    pub wait_ms: u64,
}

/// Parts of the table with a lock each.
const SHARDS: usize = 16;
/// Places among which a key has its own: where it is looked for, and what it competes with.
const WAYS: usize = 16;

/// A key's keyed hash, and its theoretical arrival time in milliseconds: when the key would be at rest again. Nought
/// for both is an empty place, which is a key at rest.
type Place = (u64, u64);
type Set = [Place; WAYS];

/// Counts events by key against a [`Quota`], in a table whose size never changes: 16 bytes a key.
///
/// # What is exact, and what is forgotten
/// A key has its place among 16, chosen by a keyed hash. While no more than 16 keys that are not at rest share a set,
/// every count is exact. A 17th takes the place of the one that is nearest to rest, whose count then begins anew. So
///
/// * a key is never refused for what others did: forgetting only ever allows more;
/// * a key that is refused now is forgotten early only if 16 others in its set are at least as far from rest, which
///   takes as many events of each of them. Nobody can choose keys that share a set, nor two that count as one (the
///   hash has 64 bits and a random key of this process).
///
/// Each call looks at 16 places, however full the table is.
#[derive(Debug)]
pub struct Limiter {
    quota: Quota,
    hasher: RandomState,
    shards: [Mutex<Vec<Set>>; SHARDS],
}

impl Limiter {
    /// A limiter with places for `capacity` keys, rounded up to a multiple of 256.
    #[must_use]
    pub fn new(quota: Quota, capacity: usize) -> Self {
        let sets = capacity.div_ceil(SHARDS * WAYS).max(1);
        // Zeroed memory that is not touched takes none where the system hands out pages on first use.
        let shards = std::array::from_fn(|_| Mutex::new(vec![[(0, 0); WAYS]; sets]));
        Self { quota, hasher: RandomState::new(), shards }
    }

    /// What is counted against.
    #[must_use]
    pub const fn quota(&self) -> Quota {
        self.quota
    }

    /// Counts one event of `key` if the quota allows it.
    ///
    /// # Errors
    /// The milliseconds until it would.
    pub fn hit(&self, key: &impl Hash, now_ms: u64) -> Result<(), u64> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let Some(place) = place(&mut shard, hash) else { return Ok(()) };
        let arrival = if place.0 == hash { place.1.max(now_ms) } else { now_ms };
        self.check(arrival - now_ms)?;
        *place = (hash, arrival.saturating_add(self.quota.interval_ms));
        Ok(())
    }

    /// Whether an event of `key` would be allowed; counts nothing.
    ///
    /// # Errors
    /// The milliseconds until it would.
    pub fn peek(&self, key: &impl Hash, now_ms: u64) -> Result<(), u64> {
        self.check(self.ahead(key, now_ms))
    }

    /// How `key` stands; counts nothing.
    #[must_use]
    pub fn standing(&self, key: &impl Hash, now_ms: u64) -> Standing {
        let (ahead, interval) = (self.ahead(key, now_ms), self.quota.interval_ms);
        let whole = interval.saturating_mul(u64::from(self.quota.burst));
        let remaining = whole.saturating_sub(ahead) / interval;
        let wait_ms = ahead.saturating_sub(whole.saturating_sub(interval.saturating_mul(remaining + 1)));
        Standing {
            remaining: u32::try_from(remaining).unwrap_or(self.quota.burst),
            wait_ms: if ahead == 0 { 0 } else { wait_ms },
        }
    }

    /// The bytes of the table: fixed, however many keys come.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).len() * size_of::<Set>()).sum()
    }

    /// How many keys are not at rest. Looks through the whole table.
    #[must_use]
    pub fn counted(&self, now_ms: u64) -> usize {
        let counted = |shard: &Mutex<Vec<Set>>| {
            lock(shard).iter().flatten().filter(|(_, arrival)| *arrival > now_ms).count()
        };
        self.shards.iter().map(counted).sum()
    }

    fn check(&self, ahead: u64) -> Result<(), u64> {
        let tolerance = self.quota.tolerance_ms();
        if ahead > tolerance { Err(ahead - tolerance) } else { Ok(()) }
    }

    /// By how many milliseconds the arrival of `key` is ahead of now.
    fn ahead(&self, key: &impl Hash, now_ms: u64) -> u64 {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let found = place(&mut shard, hash).filter(|place| place.0 == hash);
        found.map_or(0, |place| place.1.saturating_sub(now_ms))
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "the remainder is below SHARDS"
    )]
    fn shard(&self, hash: u64) -> MutexGuard<'_, Vec<Set>> {
        lock(&self.shards[(hash % SHARDS as u64) as usize])
    }
}

fn lock(shard: &Mutex<Vec<Set>>) -> MutexGuard<'_, Vec<Set>> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The place of a key, or else the one in its set that is nearest to rest. There is always one.
#[allow(clippy::cast_possible_truncation, reason = "the remainder is below a length")]
fn place(shard: &mut [Set], hash: u64) -> Option<&mut Place> {
    let sets = shard.len().max(1) as u64;
    let set = shard.get_mut((hash / SHARDS as u64 % sets) as usize)?;
    let nearest_to_rest = || set.iter().enumerate().min_by_key(|(_, (_, arrival))| *arrival);
    let at = match set.iter().position(|(key, _)| *key == hash) {
        Some(own) => own,
        None => nearest_to_rest()?.0,
    };
    set.get_mut(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_next_waits_for_its_turn() {
        let limiter = Limiter::new(Quota::per_minute(60, 3), 100);
        for _ in 0..3 {
            assert_eq!(limiter.hit(&"a", 0), Ok(()));
        }
        assert_eq!(limiter.hit(&"a", 0), Err(1_000));
        assert_eq!(limiter.hit(&"a", 400), Err(600));
        assert_eq!(limiter.hit(&"b", 400), Ok(()), "another key is not touched");
        assert_eq!(limiter.hit(&"a", 1_000), Ok(()));
    }

    #[test]
    fn peeking_counts_nothing() {
        let limiter = Limiter::new(Quota::per_minute(60, 1), 100);
        assert_eq!(limiter.peek(&"a", 0), Ok(()));
        assert_eq!(limiter.peek(&"a", 0), Ok(()));
        assert_eq!(limiter.hit(&"a", 0), Ok(()));
        assert_eq!(limiter.peek(&"a", 0), Err(1_000));
    }

    #[test]
    fn a_standing_tells_what_is_left_and_when_there_is_one_more() {
        let limiter = Limiter::new(Quota::per_minute(60, 3), 100);
        let standing = |now| {
            let Standing { remaining, wait_ms } = limiter.standing(&"a", now);
            (remaining, wait_ms)
        };
        assert_eq!(standing(0), (3, 0));
        limiter.hit(&"a", 0).unwrap();
        assert_eq!(standing(0), (2, 1_000));
        assert_eq!(standing(400), (2, 600));
        assert_eq!(standing(1_000), (3, 0));
        limiter.hit(&"a", 400).unwrap();
        limiter.hit(&"a", 400).unwrap();
        assert_eq!(standing(400), (0, 600));
        assert_eq!(limiter.peek(&"a", 400), Err(600), "the wait is the same");
        assert_eq!(standing(1_000), (1, 1_000));
        assert_eq!(standing(3_000), (3, 0));
    }

    #[test]
    fn a_quota_tells_its_burst_and_the_time_in_which_that_comes_back() {
        for (per_minute, burst, window) in [(60, 60, 60), (20, 20, 60), (30_000, 1_000, 2), (60_000, 1, 1)] {
            let quota = Quota::per_minute(per_minute, burst);
            assert_eq!((quota.burst(), quota.window()), (burst, window));
        }
    }
}
