use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;
use countersign_protocol::api_key::{Challenge, MAX_OUTSTANDING};
use countersign_protocol::lookup::LookupHash;

/// For how many seconds a challenge is remembered after its time, to tell a late or repeated answer from a wrong one.
const REMEMBERED: u64 = 120;

/// Guide-2 challenges that were handed out and not answered yet, by key: at most 64 each, and as many that were
/// answered or have expired lately. Only known keys may be put in, so that strangers cannot make it grow. A key that
/// nobody asks about any more is forgotten with its last challenge.
#[derive(Debug, Default)]
pub struct Outstanding(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    keys: HashMap<LookupHash, Waiting>,
    /// When keys without any challenge were last looked for.
    swept: UnixTime,
}

#[derive(Debug, Default)]
struct Waiting {
    live: Vec<Entry>,
    spent: VecDeque<(Entry, Spent)>,
}

#[derive(Clone, Debug)]
struct Entry {
    challenge: Challenge,
    expires: UnixTime,
}

/// Why a challenge is not outstanding any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spent {
    /// It was answered.
    Used,
    /// It was not answered in time.
    Expired,
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
        let mut state = self.lock();
        state.sweep(now);
        let waiting = waiting(&mut state.keys, key, now);
        if waiting.live.len() >= MAX_OUTSTANDING {
            let first = waiting.live.iter().map(|entry| entry.expires.since(now)).min().unwrap_or(1);
            return Err(TooMany { retry_after: first.max(1) });
        }
        waiting.live.push(Entry { challenge, expires });
        Ok(())
    }

    /// The live challenges of `key`.
    #[must_use]
    pub fn list(&self, key: LookupHash, now: UnixTime) -> Vec<Challenge> {
        let keys = &mut self.lock().keys;
        let waiting = waiting(keys, key, now);
        let challenges = waiting.live.iter().map(|entry| entry.challenge.clone()).collect();
        if waiting.live.is_empty() && waiting.spent.is_empty() {
            keys.remove(&key);
        }
        challenges
    }

    /// The challenges of `key` that were answered or have expired lately.
    #[must_use]
    pub fn spent(&self, key: LookupHash, now: UnixTime) -> Vec<(Challenge, Spent)> {
        let keys = &mut self.lock().keys;
        let waiting = waiting(keys, key, now);
        waiting.spent.iter().map(|(entry, why)| (entry.challenge.clone(), *why)).collect()
    }

    /// Takes one challenge of `key` away, atomically: of many callers with one challenge exactly one gets
    /// `true`.
    #[must_use]
    pub fn take(&self, key: LookupHash, challenge: &Challenge, now: UnixTime) -> bool {
        let keys = &mut self.lock().keys;
        let waiting = waiting(keys, key, now);
        let place = waiting.live.iter().position(|entry| entry.challenge == *challenge);
        let taken = place.map(|place| waiting.live.swap_remove(place));
        let is_taken = taken.is_some();
        waiting.spend(taken, Spent::Used);
        is_taken
    }

    /// How many keys have challenges that wait, or did lately.
    #[must_use]
    pub fn keys(&self) -> usize {
        self.lock().keys.len()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets keys whose peers are gone, or call no more. Every two minutes at most.
    fn sweep(&mut self, now: UnixTime) {
        if now < self.swept.plus(REMEMBERED) {
            return;
        }
        self.swept = now;
        self.keys.retain(|_, waiting| {
            waiting.forget(now);
            !waiting.live.is_empty() || !waiting.spent.is_empty()
        });
    }
}

impl Waiting {
    /// Spends what has expired, and forgets what was spent long ago.
    fn forget(&mut self, now: UnixTime) {
        let (live, expired) = self.live.drain(..).partition(|entry: &Entry| now < entry.expires);
        self.live = live;
        self.spend(expired, Spent::Expired);
        self.spent.retain(|(entry, _)| now < entry.expires.plus(REMEMBERED));
    }

    fn spend(&mut self, entries: impl IntoIterator<Item = Entry>, why: Spent) {
        self.spent.extend(entries.into_iter().map(|entry| (entry, why)));
        let surplus = self.spent.len().saturating_sub(MAX_OUTSTANDING);
        self.spent.drain(..surplus);
    }
}

fn waiting(keys: &mut HashMap<LookupHash, Waiting>, key: LookupHash, now: UnixTime) -> &mut Waiting {
    let waiting = keys.entry(key).or_default();
    waiting.forget(now);
    waiting
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
    fn what_was_answered_or_has_expired_is_remembered_for_a_while() {
        let outstanding = Outstanding::default();
        outstanding.put(KEY, challenge(1), UnixTime(30), UnixTime(0)).unwrap();
        outstanding.put(KEY, challenge(2), UnixTime(30), UnixTime(0)).unwrap();
        assert!(outstanding.take(KEY, &challenge(1), UnixTime(1)));
        assert_eq!(outstanding.spent(KEY, UnixTime(1)), [(challenge(1), Spent::Used)]);
        let both = [(challenge(1), Spent::Used), (challenge(2), Spent::Expired)];
        assert_eq!(outstanding.spent(KEY, UnixTime(149)), both);
        assert!(outstanding.spent(KEY, UnixTime(150)).is_empty());
        assert!(outstanding.list(KEY, UnixTime(150)).is_empty());
        assert_eq!(outstanding.keys(), 0, "nothing is left of it");
    }

    #[test]
    fn no_more_is_remembered_than_may_wait() {
        let outstanding = Outstanding::default();
        for seed in 0..200 {
            outstanding.put(KEY, challenge(seed), UnixTime(30), UnixTime(0)).unwrap();
            assert!(outstanding.take(KEY, &challenge(seed), UnixTime(0)));
        }
        assert_eq!(outstanding.spent(KEY, UnixTime(1)).len(), MAX_OUTSTANDING);
    }

    #[test]
    fn a_key_that_nobody_asks_about_any_more_is_forgotten() {
        let outstanding = Outstanding::default();
        let key = |number: u8| LookupHash::from_bytes([number; 32]);
        for number in 0..100 {
            outstanding.put(key(number), challenge(number), UnixTime(30), UnixTime(0)).unwrap();
        }
        assert_eq!(outstanding.keys(), 100);
        outstanding.put(key(200), challenge(200), UnixTime(180), UnixTime(149)).unwrap();
        assert_eq!(outstanding.keys(), 101, "an answer that comes late is still told from a wrong one");
        outstanding.put(key(200), challenge(201), UnixTime(300), UnixTime(270)).unwrap();
        assert_eq!(outstanding.keys(), 1);
        assert_eq!(outstanding.list(key(200), UnixTime(270)), [challenge(201)]);
    }

    #[test]
    fn keys_do_not_share_challenges() {
        let outstanding = Outstanding::default();
        outstanding.put(KEY, challenge(1), UnixTime(30), UnixTime(0)).unwrap();
        assert!(!outstanding.take(LookupHash::from_bytes([2; 32]), &challenge(1), UnixTime(1)));
    }
}
