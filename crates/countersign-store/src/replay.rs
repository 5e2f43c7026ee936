use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;

use crate::random;

/// Seconds of expiry that share a generation.
pub(crate) const WIDTH: u64 = 32;
/// Parts that are locked one by one. So many claims go on side by side, and what one part has to do when it grows or
/// forgets is small.
const SHARDS: usize = 64;

/// What [`ReplayLog::export`] begins with.
const FORM: &[u8] = b"countersign replay log 1\n";

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
    /// How many claims the generation had that was forgotten last: the next will have about as many, and need not grow.
    usual: usize,
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
        let is_in =
            |generation: &Generation| generation.slot != slot && generation.ids.place_of(id).is_none();
        if shard.generations.iter().any(is_in) {
            return Err(ClaimError::Used);
        }
        let ids = &mut shard.generation(slot).ids;
        let place = ids.place_of(id).ok_or(ClaimError::Used)?;
        // Counted first, so that the log never holds more than it may.
        let counted = self.kept.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |kept| {
            (kept < self.capacity).then_some(kept + 1)
        });
        if counted.is_err() {
            return Err(ClaimError::Full);
        }
        ids.put(id, place);
        Ok(())
    }

    /// All claims that have not expired, as bytes, to be read back after a clean stop (CS-42): 16 bytes each.
    #[must_use]
    pub fn export(&self, now: UnixTime) -> Vec<u8> {
        let mut bytes = FORM.to_vec();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            self.forget(&mut shard, now);
            for Generation { slot, ids } in &shard.generations {
                bytes.extend(slot.to_be_bytes());
                bytes.extend((ids.len() as u64).to_be_bytes());
                let zero = ids.zero.then_some(0);
                // As they were claimed: the next process mixes them by a factor of its own.
                let unmix = inverse(self.factor);
                for id in ids.places.iter().copied().filter(|id| *id != 0).chain(zero) {
                    bytes.extend(id.wrapping_mul(unmix).to_be_bytes());
                }
            }
        }
        bytes
    }

    /// Takes in what [`ReplayLog::export`] gave, in addition to what is there. `None` if it is not that, or there is no room
    /// for all of it: then nothing may be taken for read.
    #[must_use]
    pub fn import(&self, bytes: &[u8], now: UnixTime) -> Option<()> {
        let mut rest = bytes.strip_prefix(FORM)?;
        while !rest.is_empty() {
            let (head, after) = rest.split_first_chunk::<16>()?;
            let (slot, count) = head.split_first_chunk::<8>()?;
            let (slot, count) = (u64::from_be_bytes(*slot), u64::from_be_bytes(count.try_into().ok()?));
            let length = usize::try_from(count).ok()?.checked_mul(16)?;
            let (ids, after) = after.split_at_checked(length)?;
            // The last second of its generation: not forgotten before any of its claims has expired.
            let expires = UnixTime(slot.checked_mul(WIDTH)?.checked_add(WIDTH - 1)?);
            for id in ids.as_chunks::<16>().0 {
                match self.claim(u128::from_be_bytes(*id), expires, now) {
                    Ok(()) | Err(ClaimError::Used | ClaimError::Expired) => {}
                    Err(ClaimError::Full) => return None,
                }
            }
            rest = after;
        }
        Some(())
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
            shard.usual = forgotten;
        }
    }

    /// Forgets what has expired in every part, one after the other.
    fn sweep(&self, now: UnixTime) {
        for shard in &self.shards {
            self.forget(&mut shard.lock().unwrap_or_else(PoisonError::into_inner), now);
        }
    }
}

/// What undoes a multiplication by an odd number, modulo 2^128 (Newton's iteration: each step doubles the bits that are right,
/// and an odd number is its own inverse in the last three).
const fn inverse(odd: u128) -> u128 {
    let (mut inverse, mut step) = (odd, 0);
    while step < 6 {
        inverse = inverse.wrapping_mul(2_u128.wrapping_sub(odd.wrapping_mul(inverse)));
        step += 1;
    }
    inverse
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
            self.generations.insert(at, Generation { slot, ids: Table::with_room_for(self.usual) });
        }
        match self.generations.get_mut(at) {
            Some(generation) => generation,
            None => unreachable!("it was put there"),
        }
    }
}

impl Table {
    fn with_room_for(claims: usize) -> Self {
        // Just so much that the last of them does not make it grow.
        Self { places: vec![0; (claims * 20).div_ceil(17)], ..Self::default() }
    }

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

    /// Where `id` is to be put; `None` if it is there already.
    fn place_of(&self, id: u128) -> Option<usize> {
        if id == 0 {
            return (!self.zero).then_some(0);
        }
        match self.find(id) {
            Some(at) => (self.places.get(at) == Some(&0)).then_some(at),
            // There is no place yet.
            None => Some(0),
        }
    }

    /// Puts in one that is not there, where [`Table::place_of`] says.
    fn put(&mut self, id: u128, place: usize) {
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
            self.set(id);
        } else if let Some(free) = self.places.get_mut(place) {
            *free = id;
        }
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

    #[test]
    fn a_new_generation_has_room_for_as_many_claims_as_the_last_one_had() {
        const MANY: u128 = 10_000;
        let log = ReplayLog::new(usize::MAX);
        let odd = |number: u128| (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        for number in 0..MANY {
            log.claim(odd(number), UnixTime(100), UnixTime(70)).unwrap();
        }
        let before: Vec<usize> =
            log.shards.iter().map(|shard| shard.lock().unwrap().generations[0].ids.used).collect();
        for number in 0..MANY {
            log.claim(odd(number), UnixTime(230), UnixTime(200)).unwrap();
        }
        for (shard, before) in log.shards.iter().zip(before) {
            let shard = shard.lock().unwrap();
            let generation = &shard.generations[0];
            assert_eq!((shard.generations.len(), generation.ids.used), (1, before));
            // The very size with which it began: it has not grown, and is no larger than it has to be.
            assert!(generation.ids.places.len() <= before * 20 / 17 + 1, "{}", generation.ids.places.len());
        }
        // What was a burst is not kept room for: a generation with few claims is followed by a small one.
        log.claim(1, UnixTime(330), UnixTime(300)).unwrap();
        log.claim(1, UnixTime(430), UnixTime(400)).unwrap();
        let places = |shard: &Mutex<Shard>| {
            shard.lock().unwrap().generations.iter().map(|one| one.ids.places.len()).sum::<usize>()
        };
        assert!(log.shards.iter().map(places).sum::<usize>() <= 16);
    }

    /// What a log gives, read back by a new one.
    fn reread(log: &ReplayLog, capacity: usize, now: u64) -> Option<ReplayLog> {
        let other = ReplayLog::new(capacity);
        other.import(&log.export(UnixTime(now)), UnixTime(now)).map(|()| other)
    }

    #[test]
    fn what_was_claimed_before_a_restart_stays_claimed_until_it_expires() {
        let log = ReplayLog::new(10);
        for (id, expires) in [(0, 100), (1, 100), (u128::MAX, 131), (7, 10_000)] {
            log.claim(id, UnixTime(expires), UnixTime(70)).unwrap();
        }
        let log = reread(&log, 10, 80).unwrap();
        assert_eq!(log.len(), 4);
        for (id, expires) in [(0, 100), (1, 100), (u128::MAX, 131), (7, 10_000)] {
            for now in [80, expires] {
                assert_eq!(
                    log.claim(id, UnixTime(expires), UnixTime(80)),
                    Err(ClaimError::Used),
                    "{id} at {now}"
                );
            }
        }
        assert_eq!(log.claim(2, UnixTime(100), UnixTime(80)), Ok(()), "nothing else is");
    }

    #[test]
    fn what_has_expired_is_not_taken_over() {
        let log = || {
            let log = ReplayLog::new(10);
            log.claim(1, UnixTime(100), UnixTime(70)).unwrap();
            log.claim(2, UnixTime(1_000), UnixTime(70)).unwrap();
            log
        };
        assert_eq!(reread(&log(), 1, 500).unwrap().len(), 1, "there is room: the first one is gone");
        assert_eq!(reread(&log(), 10, 2_000).unwrap().len(), 0);
        // Nor by a server that starts long after the other one stopped.
        let later = ReplayLog::new(10);
        later.import(&log().export(UnixTime(70)), UnixTime(500)).unwrap();
        assert_eq!(later.len(), 1);
        assert_eq!(later.claim(2, UnixTime(1_000), UnixTime(500)), Err(ClaimError::Used));
    }

    #[test]
    fn an_import_adds_to_what_is_there() {
        let (one, two) = (ReplayLog::new(10), ReplayLog::new(10));
        for (log, ids) in [(&one, [1, 2]), (&two, [2, 3])] {
            for id in ids {
                log.claim(id, UnixTime(100), UnixTime(70)).unwrap();
            }
        }
        two.import(&one.export(UnixTime(70)), UnixTime(70)).unwrap();
        assert_eq!(two.len(), 3);
        for id in [1, 2, 3] {
            assert_eq!(two.claim(id, UnixTime(100), UnixTime(70)), Err(ClaimError::Used));
        }
    }

    #[test]
    fn without_room_for_all_of_it_nothing_counts_as_read() {
        let log = ReplayLog::new(3);
        for id in 1..=3 {
            log.claim(id, UnixTime(100), UnixTime(70)).unwrap();
        }
        assert!(reread(&log, 2, 70).is_none());
        assert!(reread(&log, 3, 70).is_some());
    }

    #[test]
    fn bytes_that_are_not_an_export_are_refused() {
        let log = ReplayLog::new(10);
        for id in 0..5 {
            log.claim(id, UnixTime(100 + 32 * u64::try_from(id).unwrap()), UnixTime(70)).unwrap();
        }
        let good = log.export(UnixTime(70));
        let import = |bytes: &[u8]| ReplayLog::new(10).import(bytes, UnixTime(70));
        assert!(import(&good).is_some());
        assert!(import(FORM).is_some(), "a log in which nothing is");
        // Cut off anywhere but between two generations.
        let whole: Vec<usize> =
            (FORM.len()..=good.len()).filter(|end| import(&good[..*end]).is_some()).collect();
        assert_eq!(whole.len(), 6, "the head, and behind each of five generations");
        for end in 0..FORM.len() {
            assert!(import(&good[..end]).is_none());
        }
        assert!(import(b"").is_none());
        assert!(import(b"countersign replay log 2\n").is_none());
        assert!(import(&[&good[..], b"x"].concat()).is_none());
        // A count and a time that nothing can have.
        for (slot, count) in [(0, u64::MAX), (0, 1 << 60), (0, 1), (u64::MAX, 1), (u64::MAX / WIDTH, 1)] {
            let mut bytes = FORM.to_vec();
            bytes.extend(slot.to_be_bytes());
            bytes.extend(count.to_be_bytes());
            bytes.extend(std::iter::repeat_n(7, if count == 1 && slot != 0 { 16 } else { 0 }));
            let taken = import(&bytes);
            assert!(taken.is_none() || slot == u64::MAX / WIDTH, "{slot} {count}");
        }
    }

    proptest::proptest! {
        /// Whatever bytes come: an import does not panic, and takes at most what there is room for.
        #[test]
        fn any_bytes_can_be_given_to_an_import(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200), headed in proptest::bool::ANY
        ) {
            let log = ReplayLog::new(4);
            let bytes = if headed { [FORM, &bytes].concat() } else { bytes };
            let _ = log.import(&bytes, UnixTime(70));
            proptest::prop_assert!(log.len() <= 4);
        }

        /// A restart at any moment lets no live claim pass again, and refuses nothing that was not claimed.
        #[test]
        fn a_restart_forgets_nothing_that_lives(
            claims in proptest::collection::vec((0..60_u128, 0..300_u64), 0..60),
            stop in 0..400_u64,
            down in 0..100_u64,
        ) {
            let log = ReplayLog::new(100);
            let mut ends = std::collections::HashMap::new();
            for (id, expires) in claims {
                let expires = 1_000 + expires;
                if log.claim(id, UnixTime(expires), UnixTime(1_000)).is_ok() {
                    ends.insert(id, expires);
                }
            }
            let (stopped, started) = (1_000 + stop, 1_000 + stop + down);
            let next = ReplayLog::new(100);
            next.import(&log.export(UnixTime(stopped)), UnixTime(started)).expect("it is one");
            for id in 0..60 {
                let again = next.claim(id, UnixTime(started + 60), UnixTime(started));
                match ends.get(&id) {
                    Some(end) if *end >= started => {
                        proptest::prop_assert_eq!(again, Err(ClaimError::Used), "{} until {}", id, end);
                    }
                    // It may be remembered a little longer, never more than a generation.
                    Some(end) if end + WIDTH > started => {}
                    _ => proptest::prop_assert_eq!(again, Ok(()), "{}", id),
                }
            }
        }

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
