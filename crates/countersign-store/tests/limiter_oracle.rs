//! Our GCRA against the `governor` crate's, on random schedules.

use std::num::NonZeroU32;
use std::time::Duration;

use countersign_store::{Limiter, Quota};
use governor::clock::FakeRelativeClock;
use governor::{Quota as Theirs, RateLimiter};
use proptest::prelude::*;

proptest! {
    #[test]
    fn decides_as_governor_does(
        per_minute in 1_u32..600,
        burst in 1_u32..50,
        waits in proptest::collection::vec(0_u64..5_000, 1..200),
    ) {
        let clock = FakeRelativeClock::default();
        // Both count in the same whole milliseconds.
        let interval = Duration::from_millis(u64::from(60_000 / per_minute));
        let theirs = Theirs::with_period(interval).unwrap().allow_burst(NonZeroU32::new(burst).unwrap());
        let theirs = RateLimiter::direct_with_clock(theirs, clock.clone());
        let ours = Limiter::new(Quota::per_minute(per_minute, burst), 100);
        let mut now = 0;
        for wait in waits {
            now += wait;
            clock.advance(Duration::from_millis(wait));
            prop_assert_eq!(ours.hit(&"key", now).is_ok(), theirs.check().is_ok(), "at {} ms", now);
        }
    }
}
