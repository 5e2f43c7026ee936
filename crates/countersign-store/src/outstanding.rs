use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;
use countersign_protocol::api_key::{Challenge, MAX_OUTSTANDING};
use countersign_protocol::lookup::LookupHash;

/// Guide-2 challenges that were handed out and not answered yet, by key: at most 64 each. Only known keys may
/// be put in, so that strangers cannot make it grow.
#[derive(Debug, Default)]
pub struct Outstanding(Mutex<HashMap<LookupHash, Vec<Entry>>>);

#[derive(Debug)]
struct Entry {
    challenge: Challenge,
    expires: UnixTime,
}

/// 64 challenges of this key are unanswered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("64 challenges of this key are unanswered")]
pub struct TooMany {
    /// Seconds until the first of them expires.
    pub retry_after: u64,
}

impl Outstanding {
    /// Adds a challenge of `key`, answerable before `expires`.
    ///
    /// # Errors
    /// [`TooMany`].
    pub fn put(
        &self,
        key: LookupHash,
        challenge: Challenge,
        expires: UnixTime,
        now: UnixTime,
    ) -> Result<(), TooMany> {
        let mut all = self.lock();
        let entries = live(&mut all, key, now);
        if entries.len() >= MAX_OUTSTANDING {
            let first = entries.iter().map(|entry| entry.expires.since(now)).min().unwrap_or(1);
            return Err(TooMany { retry_after: first.max(1) });
        }
        entries.push(Entry { challenge, expires });
        Ok(())
    }

    /// The live challenges of `key`.
    #[must_use]
    pub fn list(&self, key: LookupHash, now: UnixTime) -> Vec<Challenge> {
        let mut all = self.lock();
        let entries = live(&mut all, key, now);
        let challenges = entries.iter().map(|entry| entry.challenge.clone()).collect();
        if entries.is_empty() {
            all.remove(&key);
        }
        challenges
    }

    /// Takes one challenge of `key` away, atomically: of many callers with one challenge exactly one gets
    /// `true`.
    #[must_use]
    pub fn take(&self, key: LookupHash, challenge: &Challenge, now: UnixTime) -> bool {
        let mut all = self.lock();
        let entries = live(&mut all, key, now);
        let place = entries.iter().position(|entry| entry.challenge == *challenge);
        let taken = place.map(|place| entries.swap_remove(place)).is_some();
        if entries.is_empty() {
            all.remove(&key);
        }
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<LookupHash, Vec<Entry>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn live(all: &mut HashMap<LookupHash, Vec<Entry>>, key: LookupHash, now: UnixTime) -> &mut Vec<Entry> {
    let entries = all.entry(key).or_default();
    entries.retain(|entry| now < entry.expires);
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: LookupHash = LookupHash::from_bytes([1; 32]);

    fn challenge(seed: u8) -> Challenge {
        Challenge::generate(UnixTime(1_700_000_000), &[seed; 16])
    }

    #[test]
    fn a_challenge_is_taken_once() {
        let outstanding = Outstanding::default();
        outstanding.put(KEY, challenge(1), UnixTime(30), UnixTime(0)).unwrap();
        outstanding.put(KEY, challenge(2), UnixTime(30), UnixTime(0)).unwrap();
        assert!(outstanding.take(KEY, &challenge(1), UnixTime(1)));
        assert!(!outstanding.take(KEY, &challenge(1), UnixTime(1)));
        assert_eq!(outstanding.list(KEY, UnixTime(1)), [challenge(2)]);
    }

    #[test]
    fn a_challenge_ends_with_its_time() {
        let outstanding = Outstanding::default();
        outstanding.put(KEY, challenge(1), UnixTime(30), UnixTime(0)).unwrap();
        assert!(!outstanding.take(KEY, &challenge(1), UnixTime(30)));
    }

    #[test]
    fn the_sixty_fifth_has_to_wait_for_the_first() {
        let outstanding = Outstanding::default();
        for seed in 0..64 {
            outstanding.put(KEY, challenge(seed), UnixTime(30 + u64::from(seed)), UnixTime(0)).unwrap();
        }
        let full = outstanding.put(KEY, challenge(64), UnixTime(99), UnixTime(10));
        assert_eq!(full, Err(TooMany { retry_after: 20 }));
        assert!(outstanding.put(KEY, challenge(64), UnixTime(99), UnixTime(30)).is_ok());
    }

    #[test]
    fn keys_do_not_share_challenges() {
        let outstanding = Outstanding::default();
        outstanding.put(KEY, challenge(1), UnixTime(30), UnixTime(0)).unwrap();
        assert!(!outstanding.take(LookupHash::from_bytes([2; 32]), &challenge(1), UnixTime(1)));
    }
}
