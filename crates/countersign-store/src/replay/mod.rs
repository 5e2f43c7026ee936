mod table;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;

use self::table::Table;
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
    generations: Vec<Generation>,
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
                // As they were claimed: the next process mixes them by a factor of its own.
                let unmix = inverse(self.factor);
                for id in ids.iter() {
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
        while shard.generations.first().is_some_and(|generation| generation.slot < oldest) {
            // They are few: what is burned lives for little longer than a generation is wide.
            let forgotten = shard.generations.remove(0).ids.len();
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
