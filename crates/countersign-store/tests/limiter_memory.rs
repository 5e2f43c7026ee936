//! The limiter's table under floods: its size never changes, no key is refused for what others did, and a key that
//! is refused stays so while a million others come.

use std::collections::HashMap;

use countersign_store::{Limiter, Quota};
use proptest::prelude::*;

/// Sixty a minute, sixty at once: the default for failures of a source.
const SIXTY: Quota = Quota::per_minute(60, 60);
const CAPACITY: usize = 262_144;

/// Uses up the whole quota of a key.
fn exhaust(limiter: &Limiter, key: u64, now: u64) {
    while limiter.hit(&key, now).is_ok() {}
}

#[test]
fn a_million_keys_take_no_more_memory_than_none() {
    let limiter = Limiter::new(SIXTY, CAPACITY);
    assert_eq!(limiter.bytes(), CAPACITY * 16);
    assert_eq!(limiter.counted(0), 0);
    for key in 0..1_000_000_u64 {
        assert_eq!(limiter.hit(&key, 0), Ok(()), "nobody is refused for what others do");
    }
    assert_eq!(limiter.bytes(), CAPACITY * 16);
    assert!(limiter.counted(0) <= CAPACITY);
    assert!(limiter.counted(0) > CAPACITY * 99 / 100, "no place stays empty that could hold a count");
}

#[test]
fn whoever_is_refused_stays_so_while_a_million_others_come() {
    let limiter = Limiter::new(SIXTY, CAPACITY);
    let refused = 1_000_000_000..1_000_000_100_u64;
    for key in refused.clone() {
        exhaust(&limiter, key, 0);
    }
    // Over half a minute, which is half of the time for which they are ahead of now.
    for key in 0..1_000_000_u64 {
        let _ = limiter.hit(&key, key * 30_000 / 1_000_000);
    }
    for key in refused {
        let left = limiter.standing(&key, 30_000).remaining;
        assert_eq!(left, 30, "thirty have come back in thirty seconds, and no more");
    }
}

#[test]
fn a_refusal_is_not_pushed_out_by_as_many_refused_as_fill_an_eighth_of_the_table() {
    let limiter = Limiter::new(SIXTY, CAPACITY);
    let victim = u64::MAX;
    exhaust(&limiter, victim, 0);
    // Each of them is as far from rest: two million failures within a minute.
    for key in 0..CAPACITY as u64 / 8 {
        exhaust(&limiter, key, 1);
    }
    assert!(limiter.peek(&victim, 1).is_err());
}

#[test]
fn in_a_table_full_of_refused_keys_a_new_one_has_its_whole_burst() {
    let limiter = Limiter::new(SIXTY, 256);
    for key in 0..10_000_u64 {
        exhaust(&limiter, key, 0);
    }
    let new = u64::MAX;
    assert_eq!(limiter.standing(&new, 0).remaining, 60);
    for _ in 0..60 {
        assert_eq!(limiter.hit(&new, 0), Ok(()));
    }
    assert!(limiter.hit(&new, 0).is_err(), "and then it is counted like any other");
}

/// One key's exact count: the arrival time, fed with what was allowed.
#[derive(Default)]
struct Exact(u64);

impl Exact {
    fn allows(&self, now: u64) -> bool {
        self.0.saturating_sub(now) <= 1_000 * 2
    }

    fn allowed(&mut self, now: u64) {
        self.0 = self.0.max(now) + 1_000;
    }
}

proptest! {
    /// In a table that is far too small.
    #[test]
    fn no_key_is_refused_unless_its_own_events_say_so(
        events in proptest::collection::vec((0_u64..2_000, 0_u64..20), 1..3_000),
    ) {
        let limiter = Limiter::new(Quota::per_minute(60, 3), 1);
        let mut exact: HashMap<u64, Exact> = HashMap::new();
        let mut now = 0;
        for (key, wait) in events {
            now += wait;
            let own = exact.entry(key).or_default();
            match limiter.hit(&key, now) {
                Ok(()) => own.allowed(now),
                Err(_) => prop_assert!(!own.allows(now), "at {} ms", now),
            }
        }
    }

    /// As long as no more keys than a set holds are not at rest.
    #[test]
    fn few_keys_are_counted_exactly(
        events in proptest::collection::vec((0_u64..16, 0_u64..800), 1..300),
    ) {
        let limiter = Limiter::new(Quota::per_minute(60, 3), 1);
        let mut exact: HashMap<u64, Exact> = HashMap::new();
        let mut now = 0;
        for (key, wait) in events {
            now += wait;
            let own = exact.entry(key).or_default();
            prop_assert_eq!(limiter.hit(&key, now).is_ok(), own.allows(now), "at {} ms", now);
            if own.allows(now) {
                own.allowed(now);
            }
        }
    }
}
