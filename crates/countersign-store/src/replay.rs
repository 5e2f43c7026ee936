use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;

use crate::random;

/// Seconds of expiry that share a generation.
const WIDTH: u64 = 32;
/// Parts that are locked one by one. So many claims go on side by side, and what one part has to do when it grows or
/// forgets is small.
const SHARDS: usize = 64;

/// Challenges and nonces that were used: each can be claimed once until it expires.
///
/// Claims are kept in generations by expiry; a generation is dropped as a whole when its time is over. A live
/// claim is never evicted: when the log is full, new claims are refused, because forgetting one would let a
/// replay pass.
///
/// A claim takes 16 bytes in a table that is never less than 68 % full once it has some entries: 19 to 24 bytes.
pub struct ReplayLog {
    capacity: usize,
    /// Claims that are kept.
    kept: AtomicUsize,
    /// The slot of the time at which all parts have forgotten what had expired.
    swept: AtomicU64,
    /// Odd and random: see [`ReplayLog::mix`].
    factor: u128,
    shards: Box<[Mutex<Shard>]>,
}

#[derive(Debug, Default)]
struct Shard {
    /// By slot, the oldest first.
    generations: VecDeque<Generation>,
    /// The greatest time of any claim. Callers read the clock before they get here, so that a slow one comes
    /// with a time before which a faster one has dropped generations already.
    latest: UnixTime,
}

#[derive(Debug)]
struct Generation {
    /// The expiry of its claims, divided by [`WIDTH`].
    slot: u64,
    ids: Table,
}

/// A set of mixed numbers with open addressing and linear probing. Nothing is ever taken out.
#[derive(Debug, Default)]
struct Table {
    /// 0 where there is none.
    places: Vec<u128>,
    used: usize,
    /// Whether 0 is in the set.
    zero: bool,
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
    /// A log for at most `capacity` live claims.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        let factor = u128::from_ne_bytes(random()) | 1;
        Self { capacity, kept: AtomicUsize::new(0), swept: AtomicU64::new(0), factor, shards }
    }

    /// Claims `id`, atomically: of many callers exactly one gets `Ok`. It is remembered until the first `expires` that it
    /// came with; with a later one it can be claimed again from then on.
    ///
    /// # Errors
    /// [`ClaimError::Used`], [`ClaimError::Full`], [`ClaimError::Expired`].
    pub fn claim(&self, id: u128, expires: UnixTime, now: UnixTime) -> Result<(), ClaimError> {
        let id = self.mix(id);
        let slot = expires.0 / WIDTH;
        let current = now.0 / WIDTH;
        if self.swept.load(Ordering::Relaxed) < current
            && self.swept.fetch_max(current, Ordering::Relaxed) < current
        {
            self.sweep(now);
        }
        let mut shard = self.shard(id);
        self.forget(&mut shard, now);
        if slot < shard.latest.0 / WIDTH {
            return Err(ClaimError::Expired);
        }
        // In whichever generation: whoever signs one nonce twice may give it two ends.
        if shard.generations.iter().any(|generation| generation.ids.has(id)) {
            return Err(ClaimError::Used);
        }
        // Counted first, so that the log never holds more than it may.
        let counted = self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            (kept < self.capacity).then_some(kept + 1)
        });
        if counted.is_err() {
            return Err(ClaimError::Full);
        }
        shard.generation(slot).ids.put(id);
        Ok(())
    }

    /// How many claims are kept. Some of them may have expired a moment ago.
    #[must_use]
    pub fn len(&self) -> usize {
        self.kept.load(Ordering::Relaxed)
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Another number for each id, whose upper bits say where it goes. Multiplied by a random odd factor they are a
    /// universal hash (Dietzfelbinger and others, 1997): whoever could choose ids could not choose where they go.
    const fn mix(&self, id: u128) -> u128 {
        id.wrapping_mul(self.factor)
    }

    fn shard(&self, id: u128) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(id >> 122).unwrap_or(0) % SHARDS;
        match self.shards.get(index) {
            // A claim is made of steps that cannot panic half-way.
            Some(shard) => shard.lock().unwrap_or_else(PoisonError::into_inner),
            None => unreachable!("the index was taken modulo the length"),
        }
    }

    fn forget(&self, shard: &mut Shard, now: UnixTime) {
        shard.latest = shard.latest.max(now);
        let oldest = shard.latest.0 / WIDTH;
        while shard.generations.front().is_some_and(|generation| generation.slot < oldest) {
            let forgotten = shard.generations.pop_front().map_or(0, |generation| generation.ids.len());
            self.kept.fetch_sub(forgotten, Ordering::Relaxed);
        }
    }

    /// Forgets what has expired in every part, one after the other.
    fn sweep(&self, now: UnixTime) {
        for shard in &self.shards {
            self.forget(&mut shard.lock().unwrap_or_else(PoisonError::into_inner), now);
        }
    }
}

impl std::fmt::Debug for ReplayLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplayLog").field("capacity", &self.capacity).field("kept", &self.len()).finish()
    }
}

impl Shard {
    fn generation(&mut self, slot: u64) -> &mut Generation {
        let at = self.generations.partition_point(|generation| generation.slot < slot);
        if self.generations.get(at).is_none_or(|generation| generation.slot != slot) {
            self.generations.insert(at, Generation { slot, ids: Table::default() });
        }
        match self.generations.get_mut(at) {
            Some(generation) => generation,
            None => unreachable!("it was put there"),
        }
    }
}

impl Table {
    const fn len(&self) -> usize {
        self.used + self.zero as usize
    }

    /// Where one begins to look, by the bits below those that chose the shard: the table's length need not be a power of
    /// two.
    fn start(&self, id: u128) -> usize {
        let place = (((id << 6) >> 64) * self.places.len() as u128) >> 64;
        usize::try_from(place).unwrap_or(0)
    }

    /// The place of `id`, or the empty one where it belongs. There is always one.
    fn find(&self, id: u128) -> Option<usize> {
        let start = self.start(id);
        let (before, after) = self.places.split_at_checked(start)?;
        let here = |place: &u128| *place == id || *place == 0;
        let found = after.iter().position(here).map(|at| start + at);
        found.or_else(|| before.iter().position(here))
    }

    fn has(&self, id: u128) -> bool {
        if id == 0 {
            return self.zero;
        }
        self.find(id).and_then(|at| self.places.get(at)).is_some_and(|place| *place == id)
    }

    /// Puts in one that is not there.
    fn put(&mut self, id: u128) {
        if id == 0 {
            self.zero = true;
            return;
        }
        // 85 % at most: then one looks at a few places only.
        if (self.used + 1) * 20 > self.places.len() * 17 {
            let larger = (self.places.len() + self.places.len() / 4).max(16);
            let old = std::mem::replace(&mut self.places, vec![0; larger]);
            for id in old.into_iter().filter(|id| *id != 0) {
                self.set(id);
            }
        }
        self.set(id);
        self.used += 1;
    }

    fn set(&mut self, id: u128) {
        if let Some(place) = self.find(id).and_then(|at| self.places.get_mut(at)) {
            *place = id;
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

    #[test]
    fn a_live_claim_is_not_taken_again_with_another_end() {
        let log = ReplayLog::new(10);
        assert_eq!(log.claim(7, UnixTime(100), UnixTime(70)), Ok(()));
        for expires in [70, 99, 131, 200, 10_000] {
            assert_eq!(log.claim(7, UnixTime(expires), UnixTime(70)), Err(ClaimError::Used), "{expires}");
        }
    }

    #[test]
    fn zero_is_a_claim_like_any_other() {
        let log = ReplayLog::new(10);
        assert_eq!(log.claim(0, UnixTime(100), UnixTime(70)), Ok(()));
        assert_eq!(log.claim(0, UnixTime(100), UnixTime(70)), Err(ClaimError::Used));
        assert_eq!(log.len(), 1);
    }

    #[test]
    fn a_million_claims_are_all_remembered_in_24_bytes_each_and_forgotten_in_time() {
        const MANY: u128 = 1_000_000;
        let log = ReplayLog::new(usize::try_from(MANY).unwrap());
        let odd = |number: u128| (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        for number in 0..MANY {
            assert_eq!(log.claim(odd(number), UnixTime(100), UnixTime(70)), Ok(()));
        }
        let places: usize = log
            .shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock().unwrap();
                let lengths: Vec<_> =
                    shard.generations.iter().map(|generation| generation.ids.places.capacity()).collect();
                lengths
            })
            .sum();
        assert!(places * 16 <= 24_000_000, "{} bytes each", places * 16 / 1_000_000);
        for number in (0..MANY).step_by(997) {
            assert_eq!(log.claim(odd(number), UnixTime(100), UnixTime(70)), Err(ClaimError::Used));
        }
        assert_eq!(log.claim(1, UnixTime(100), UnixTime(70)), Err(ClaimError::Full));
        assert_eq!(log.claim(1, UnixTime(230), UnixTime(200)), Ok(()), "what has expired makes room");
        assert_eq!(log.len(), 1);
    }

    proptest::proptest! {
        /// Against a set that forgets nothing: taken once, never twice while it lives.
        #[test]
        fn whatever_comes_in_whatever_order_nothing_is_taken_twice(
            claims in proptest::collection::vec((0..40_u128, 0..3_u64, 0..6_u64), 1..200)
        ) {
            let log = ReplayLog::new(1_000);
            let mut taken = std::collections::HashSet::new();
            let (mut now, mut latest) = (1_000, 0);
            for (id, kind, step) in claims {
                now += step;
                // A slow caller's clock is a little behind.
                let seen = now - kind;
                latest = latest.max(seen);
                // One id, one expiry.
                let expires = UnixTime(1_000 + u64::try_from(id).unwrap() * 7);
                match log.claim(id, expires, UnixTime(seen)) {
                    Ok(()) => proptest::prop_assert!(taken.insert(id), "{id} twice"),
                    Err(ClaimError::Used) => proptest::prop_assert!(taken.contains(&id)),
                    Err(ClaimError::Expired) => proptest::prop_assert!(expires.0 / WIDTH < latest / WIDTH),
                    Err(ClaimError::Full) => proptest::prop_assert!(false, "there is room"),
                }
            }
        }
    }
}
