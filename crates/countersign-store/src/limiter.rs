use std::collections::HashMap;
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
    pub fn per_minute(per_minute: u32, burst: u32) -> Self {
        Self { interval_ms: (60_000 / u64::from(per_minute.max(1))).max(1), burst: burst.max(1) }
    }
}

const SHARDS: usize = 16;

/// Counts events by key against a [`Quota`], one `u64` a key. Memory is bounded: see [`Limiter::new`].
///
/// Keys are kept as keyed 64-bit hashes, so that nobody can choose two that collide.
#[derive(Debug)]
pub struct Limiter {
    quota: Quota,
    hasher: RandomState,
    capacity: usize,
    /// By key, the theoretical arrival time in milliseconds: when the key would be at rest again.
    shards: [Mutex<HashMap<u64, u64>>; SHARDS],
}

impl Limiter {
    /// A limiter for at most about `capacity` keys that are not at rest. Beyond that, of a few keys the one
    /// nearest to rest is forgotten: a flood of addresses costs memory up to here and no more.
    #[must_use]
    pub fn new(quota: Quota, capacity: usize) -> Self {
        let capacity = (capacity / SHARDS).max(1);
        Self { quota, hasher: RandomState::new(), capacity, shards: Default::default() }
    }

    /// Counts one event of `key` if the quota allows it.
    ///
    /// # Errors
    /// The milliseconds until it would.
    pub fn hit(&self, key: &impl Hash, now_ms: u64) -> Result<(), u64> {
        self.count(key, now_ms, true)
    }

    /// Whether an event of `key` would be allowed; counts nothing.
    ///
    /// # Errors
    /// The milliseconds until it would.
    pub fn peek(&self, key: &impl Hash, now_ms: u64) -> Result<(), u64> {
        self.count(key, now_ms, false)
    }

    fn count(&self, key: &impl Hash, now_ms: u64, take: bool) -> Result<(), u64> {
        let hash = self.hasher.hash_one(key);
        let mut shard = self.shard(hash);
        let arrival = shard.get(&hash).copied().unwrap_or(now_ms).max(now_ms);
        let tolerance = self.quota.interval_ms.saturating_mul(u64::from(self.quota.burst - 1));
        let ahead = arrival - now_ms;
        if ahead > tolerance {
            return Err(ahead - tolerance);
        }
        if take {
            if shard.len() >= self.capacity && !shard.contains_key(&hash) {
                make_room(&mut shard, self.capacity, now_ms);
            }
            shard.insert(hash, arrival.saturating_add(self.quota.interval_ms));
        }
        Ok(())
    }

    #[allow(
        clippy::cast_possible_truncation,
        clippy::indexing_slicing,
        reason = "the remainder is below SHARDS"
    )]
    fn shard(&self, hash: u64) -> MutexGuard<'_, HashMap<u64, u64>> {
        self.shards[(hash % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(shard: &mut HashMap<u64, u64>, capacity: usize, now_ms: u64) {
    shard.retain(|_, arrival| *arrival > now_ms);
    while shard.len() >= capacity {
        let Some(victim) = shard.iter().take(8).min_by_key(|(_, arrival)| **arrival).map(|(key, _)| *key)
        else {
            return;
        };
        shard.remove(&victim);
    }
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
    fn a_million_keys_stay_within_the_capacity() {
        let limiter = Limiter::new(Quota::per_minute(60, 3), 1_600);
        for key in 0..1_000_000_u32 {
            assert_eq!(limiter.hit(&key, u64::from(key) / 1_000), Ok(()));
        }
        let kept: usize = limiter.shards.iter().map(|shard| shard.lock().unwrap().len()).sum();
        assert!(kept <= 1_600, "{kept}");
    }
}
