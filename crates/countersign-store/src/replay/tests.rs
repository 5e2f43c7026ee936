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
                shard.generations.iter().map(|generation| generation.ids.places()).collect();
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
        log.shards.iter().map(|shard| shard.lock().unwrap().generations[0].ids.len()).collect();
    for number in 0..MANY {
        log.claim(odd(number), UnixTime(230), UnixTime(200)).unwrap();
    }
    for (shard, before) in log.shards.iter().zip(before) {
        let shard = shard.lock().unwrap();
        let generation = &shard.generations[0];
        assert_eq!((shard.generations.len(), generation.ids.len()), (1, before));
        // The very size with which it began: it has not grown, and is no larger than it has to be.
        assert!(generation.ids.places() <= before * 20 / 17 + 1, "{}", generation.ids.places());
    }
    // What was a burst is not kept room for: a generation with few claims is followed by a small one.
    log.claim(1, UnixTime(330), UnixTime(300)).unwrap();
    log.claim(1, UnixTime(430), UnixTime(400)).unwrap();
    let places = |shard: &Mutex<Shard>| {
        shard.lock().unwrap().generations.iter().map(|one| one.ids.places()).sum::<usize>()
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
    let whole: Vec<usize> = (FORM.len()..=good.len()).filter(|end| import(&good[..*end]).is_some()).collect();
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
