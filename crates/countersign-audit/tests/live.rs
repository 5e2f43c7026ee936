//! Looking while writers write, put aside and remove.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use countersign_audit::{Follow, Records};
use support::{Place, write};

/// Runs writers as fast as they go while `look` is called, until it has been so often.
fn while_writing(place: &Place, times: usize, mut look: impl FnMut()) -> u64 {
    let (over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for writer in ["serve", "call", "call"] {
            let (over, written) = (&over, &written);
            let trail = place.open(writer);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    write(&trail, "a").unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Also if it fails: the writers are waited for.
        let looked =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| (0..times).for_each(|_| look())));
        over.store(true, Ordering::Relaxed);
        if let Err(failed) = looked {
            std::panic::resume_unwind(failed);
        }
    });
    written.into_inner()
}

#[test]
fn a_trail_that_is_written_put_aside_and_removed_meanwhile_is_whole_whenever_it_is_looked_at() {
    let mut place = Place::new();
    place.settings.rotate_bytes = 2_000;
    place.settings.keep_bytes = 40_000;
    let mut looked = 0;
    let written = while_writing(&place, 300, || {
        let report = place.verify();
        assert!(report.is_whole(), "{report:#?}");
        looked += report.writers.iter().map(|writer| writer.records).sum::<u64>();
    });
    place.assert_whole();
    let removed = place.heads.all().values().map(|head| head.start_seq).sum::<u64>();
    println!("{written} written, {removed} removed, {looked} looked at in 300 looks");
    assert!(removed > 0, "retention has removed some");
}

#[test]
fn everything_is_read_once_and_in_order_while_it_is_put_aside() {
    let mut place = Place::new();
    place.settings.rotate_bytes = 2_000;
    while_writing(&place, 30, || {
        let mut last = std::collections::BTreeMap::new();
        for record in Records::open(&place.audit(), Some(&place.key)).unwrap() {
            let record = record.unwrap();
            let before = last.insert(record.writer, record.entry.seq).unwrap_or(0);
            assert_eq!(record.entry.seq, before + 1);
        }
    });
}

#[test]
fn whoever_follows_sees_each_record_once_over_any_number_of_files() {
    let mut place = Place::new();
    place.settings.rotate_bytes = 2_000;
    place.write("serve", &["before"]);
    place.write("call", &["before"]);
    let mut follow = Follow::from_now(&place.audit()).unwrap();
    let mut seen = Vec::new();
    while_writing(&place, 30, || seen.extend(follow.next(&place.audit()).unwrap()));
    let all = place.entries();
    // The last ones may still be on their way over several files.
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while seen.len() < all.len() - 2 {
        assert!(std::time::Instant::now() < deadline, "{} of {}", seen.len(), all.len());
        seen.extend(follow.next(&place.audit()).unwrap());
    }
    let key = |entry: &countersign_audit::Entry| entry.mac.clone().unwrap();
    let mut expected: Vec<_> = all.iter().filter(|entry| entry.record.reason != "before").map(key).collect();
    let mut found: Vec<_> = seen.iter().map(key).collect();
    expected.sort();
    found.sort();
    assert!(expected == found, "{} and {}", expected.len(), found.len());
    place.write("admin", &["a writer that was not there"]);
    assert_eq!(follow.next(&place.audit()).unwrap().len(), 1);
}
