use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::UnixTime;

use crate::replay::WIDTH;

/// So many slots of expiry can have claims at one time: what is burned lives for 70 seconds at most.
const SLOTS: usize = 4;

/// How much of a [`ReplayLog`](crate::ReplayLog) is one peer's: its live claims, counted as the log keeps them, so that nobody fills
/// it alone. Nothing is allocated and nothing is locked. Of claims that race a few more may pass than there is room for.
#[derive(Debug, Default)]
pub struct ReplayShare {
    /// By slot modulo their number: the slot in the upper half, its claims in the lower.
    slots: [AtomicU64; SLOTS],
}

impl ReplayShare {
    /// Whether there is room for another claim beside fewer than `most`.
    ///
    /// # Errors
    /// If there is none: in how many seconds the oldest claims are forgotten.
    pub fn has_room(&self, most: usize, now: UnixTime) -> Result<(), u64> {
        let current = now.0 / WIDTH;
        let (mut live, mut oldest) = (0, u64::MAX);
        for packed in &self.slots {
            let (slot, count) = unpack(packed.load(Ordering::Relaxed));
            if slot >= current && count > 0 {
                live += count;
                oldest = oldest.min(slot);
            }
        }
        if usize::try_from(live).unwrap_or(usize::MAX) < most {
            return Ok(());
        }
        Err(oldest.saturating_add(1).saturating_mul(WIDTH).saturating_sub(now.0).max(1))
    }

    /// Counts one that was claimed until `expires`.
    pub fn count(&self, expires: UnixTime) {
        let slot = (expires.0 / WIDTH) & u64::from(u32::MAX);
        let index = usize::try_from(slot % SLOTS as u64).unwrap_or(0);
        let Some(packed) = self.slots.get(index) else { return };
        let _ = packed.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |packed| {
            let (known, count) = unpack(packed);
            // One that came so late that its place is taken is forgotten by the log as well.
            (known <= slot).then(|| {
                let count = if known == slot { (count + 1).min(u64::from(u32::MAX)) } else { 1 };
                slot << 32 | count
            })
        });
    }
}

const fn unpack(packed: u64) -> (u64, u64) {
    (packed >> 32, packed & u32::MAX as u64)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ReplayLog;

    #[test]
    fn who_has_its_share_waits_until_the_oldest_are_forgotten() {
        let share = ReplayShare::default();
        let now = UnixTime(1_000);
        for _ in 0..3 {
            assert_eq!(share.has_room(3, now), Ok(()));
            share.count(now.plus(65));
        }
        let wait = share.has_room(3, now).unwrap_err();
        assert!(share.has_room(3, now.plus(wait - 1)).is_err());
        assert_eq!(share.has_room(3, now.plus(wait)), Ok(()));
        assert_eq!(share.has_room(4, now), Ok(()));
        assert!(share.has_room(0, now).is_err());
    }

    proptest! {
        /// It counts what a log of its own would hold.
        #[test]
        fn it_counts_what_the_log_keeps(
            claims in proptest::collection::vec((0..20_u64, 1..70_u64), 1..200)
        ) {
            let (share, log) = (ReplayShare::default(), ReplayLog::new(1_000));
            let mut now = UnixTime(1_700_000_000);
            for (number, (step, lives)) in (1_u128..).zip(claims) {
                now = now.plus(step);
                log.claim(number, now.plus(lives), now).unwrap();
                share.count(now.plus(lives));
                prop_assert_eq!(share.has_room(log.len() + 1, now), Ok(()));
                prop_assert!(share.has_room(log.len(), now).is_err());
            }
        }
    }
}
