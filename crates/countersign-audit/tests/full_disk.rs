//! A disk that is really full: a file system of one MiB. Left out, and said so, where that cannot be had.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_audit::{Heads as _, MemoryHeads, Outcome, Settings, Verify, WhenFull, verify};
use countersign_testkit::small_disk::{fill, free, on_a_small_disk};
use support::{Place, write};

fn place(settings: Settings) -> Place {
    let mut place = Place::new();
    place.settings = settings;
    place
}

fn is_whole(place: &Place, heads: &MemoryHeads) -> bool {
    verify(&place.audit(), &place.key, heads, &Verify::default()).unwrap().is_whole()
}

#[test]
fn a_full_disk_takes_the_reserve_first_and_then_refuses_until_there_is_room() {
    let Some(disk) =
        on_a_small_disk(1, "a_full_disk_takes_the_reserve_first_and_then_refuses_until_there_is_room")
    else {
        return;
    };
    let settings = Settings { reserve_bytes: 64 << 10, ..Settings::default() };
    let place = place(settings);
    let trail = place.open("serve");
    let reserve = place.file("reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 64 << 10);
    fill(&disk, 32 << 10);
    let (mut written, mut with_reserve) = (0, 0);
    let error = loop {
        match write(&trail, "attempt") {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        with_reserve += usize::from(reserve.exists());
    };
    assert_eq!(error.error.kind(), ErrorKind::StorageFull, "{error}");
    assert!(
        !reserve.exists() && with_reserve > 20 && written > with_reserve + 50,
        "{written} {with_reserve}"
    );
    assert!(is_whole(&place, &place.heads));
    for _ in 0..10 {
        assert!(write(&trail, "refused").is_err());
    }
    assert_eq!(place.heads.load("serve").unwrap().unwrap().seq, written as u64);
    // It goes on by itself, without half a line in between.
    free(&disk);
    write(&trail, "room again").unwrap();
    drop(trail);
    let found = place.found();
    assert_eq!(found.len(), written + 1);
    assert_eq!(found.last().unwrap().1, "room again");
    assert!(is_whole(&place, &place.heads));
    drop(place.open("serve"));
    assert!(reserve.exists(), "room is kept again");
}

#[test]
fn whoever_chose_to_go_on_is_told_how_many_records_were_lost_in_the_log_in_numbers_and_on_the_trail() {
    let Some(disk) = on_a_small_disk(
        1,
        "whoever_chose_to_go_on_is_told_how_many_records_were_lost_in_the_log_in_numbers_and_on_the_trail",
    ) else {
        return;
    };
    let counted = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&counted);
    let settings = Settings {
        reserve_bytes: 32 << 10,
        when_full: WhenFull::DangerContinue,
        on_dropped: Some(Arc::new(move |count| {
            counter.fetch_add(count, Ordering::Relaxed);
        })),
        ..Settings::default()
    };
    let place = place(settings);
    let trail = place.open("serve");
    fill(&disk, 16 << 10);
    let mut tried = 0;
    while counted.load(Ordering::Relaxed) < 25 {
        write(&trail, "attempt").unwrap();
        tried += 1;
        assert!(tried < 10_000);
    }
    assert!(!place.file("reserve").exists());
    free(&disk);
    write(&trail, "room again").unwrap();
    drop(trail);
    let entries = place.entries();
    let (noted, last) = (&entries[entries.len() - 2].record, &entries[entries.len() - 1].record);
    assert_eq!(
        (noted.outcome, noted.reason.as_str(), noted.count),
        (Outcome::Gap, "records-dropped", Some(25))
    );
    assert_eq!(last.reason, "room again");
    assert_eq!(entries.len() as u64, tried - 25 + 2);
    assert!(is_whole(&place, &place.heads));
}

#[test]
fn a_full_disk_while_a_file_is_put_aside_loses_nothing() {
    let Some(disk) = on_a_small_disk(1, "a_full_disk_while_a_file_is_put_aside_loses_nothing") else {
        return;
    };
    let place = place(Settings { rotate_bytes: 2_000, ..Settings::default() });
    let trail = place.open("serve");
    fill(&disk, 64 << 10);
    let mut written = 0;
    while write(&trail, "attempt").is_ok() {
        written += 1;
    }
    assert!(is_whole(&place, &place.heads));
    drop(trail);
    free(&disk);
    place.write("serve", &["after"]);
    assert_eq!(place.found().len(), written + 1);
    assert!(is_whole(&place, &place.heads));
}
