//! Any one thing that is done to a trail is found, and no crash looks like one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;

use countersign_audit::{NoticeKind, StoredHead};
use proptest::prelude::*;
use proptest::sample::Index;
use support::{Place, write};

const WRITERS: [&str; 2] = ["call", "serve"];

/// Two writers with so many records each, in files of a few.
fn trail(counts: [usize; 2], rotate_bytes: u64) -> Place {
    let mut place = Place::new();
    place.settings.rotate_bytes = rotate_bytes;
    for (writer, count) in WRITERS.into_iter().zip(counts) {
        let trail = place.open(writer);
        for number in 0..count {
            write(&trail, &number.to_string()).unwrap();
        }
    }
    place
}

/// The names of all files with records.
fn files(place: &Place) -> Vec<String> {
    place.names().into_iter().filter(|name| name.ends_with(".jsonl")).collect()
}

#[derive(Clone, Debug)]
enum Mutation {
    Flip { byte: Index, with: u8 },
    RemoveByte(Index),
    Remove(Index),
    Swap(Index, Index),
    Double { line: Index, to: Index },
    Truncate(Index),
    RemoveFile,
    Rewrite(Index),
    Move { line: Index, to: Index },
    Grow { kib: u64 },
    Rename { number: u64 },
    Copy { times: u64 },
}

fn mutation() -> impl Strategy<Value = Mutation> {
    let at = || any::<Index>();
    prop_oneof![
        6 => (at(), 1..=255_u8).prop_map(|(byte, with)| Mutation::Flip { byte, with }),
        2 => at().prop_map(Mutation::RemoveByte),
        2 => at().prop_map(Mutation::Remove),
        2 => (at(), at()).prop_map(|(a, b)| Mutation::Swap(a, b)),
        2 => (at(), at()).prop_map(|(line, to)| Mutation::Double { line, to }),
        2 => at().prop_map(Mutation::Truncate),
        1 => Just(Mutation::RemoveFile),
        1 => at().prop_map(Mutation::Rewrite),
        2 => (at(), at()).prop_map(|(line, to)| Mutation::Move { line, to }),
        2 => (16..600_u64).prop_map(|kib| Mutation::Grow { kib }),
        2 => (0..20_u64).prop_map(|number| Mutation::Rename { number }),
        1 => (1..40_u64).prop_map(|times| Mutation::Copy { times }),
    ]
}

/// Does it to one file; `false` if nothing that means anything is changed by it.
fn mutate(place: &Place, name: &str, mutation: &Mutation) -> bool {
    let path = place.file(name);
    let before = fs::read(&path).unwrap();
    let mut bytes = before.clone();
    let lines: Vec<Vec<u8>> = before.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    if lines.is_empty() && !matches!(mutation, Mutation::RemoveFile) {
        return false;
    }
    let (writer, in_use) = (name.split('.').next().unwrap(), name.matches('.').count() == 1);
    match mutation {
        // Without a line end it is what a crash leaves in a file that is in use.
        Mutation::Grow { kib } => {
            fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(kib << 10).unwrap();
            return !in_use;
        }
        // And the other name is what a file gets that is put aside.
        Mutation::Rename { number } => {
            let to = place.file(&format!("{writer}.{number:012}.jsonl"));
            let possible = !in_use && !to.exists();
            if possible {
                fs::rename(&path, to).unwrap();
            }
            return possible;
        }
        Mutation::Copy { times } => {
            for number in 2..2 + times {
                fs::copy(&path, place.file(&format!("{writer}.000000000001-{number}.jsonl"))).unwrap();
            }
            return true;
        }
        Mutation::Flip { byte, with } => bytes[byte.index(before.len())] ^= with,
        Mutation::RemoveByte(byte) => drop(bytes.remove(byte.index(before.len()))),
        Mutation::Truncate(length) => bytes.truncate(length.index(before.len())),
        Mutation::RemoveFile => {
            fs::remove_file(&path).unwrap();
            return !before.is_empty();
        }
        Mutation::Remove(_)
        | Mutation::Swap(..)
        | Mutation::Double { .. }
        | Mutation::Rewrite(_)
        | Mutation::Move { .. } => {
            let mut lines = lines;
            let count = lines.len();
            match mutation {
                Mutation::Remove(line) => drop(lines.remove(line.index(count))),
                Mutation::Swap(a, b) => lines.swap(a.index(count), b.index(count)),
                Mutation::Double { line, to } => {
                    lines.insert(to.index(count + 1), lines[line.index(count)].clone());
                }
                Mutation::Move { line, to } => {
                    let line = lines.remove(line.index(count));
                    lines.insert(to.index(count), line);
                }
                Mutation::Rewrite(line) => {
                    // As a record of another outcome, valid JSON, with the MAC that was there.
                    let line = &mut lines[line.index(count)];
                    let text = String::from_utf8_lossy(line).into_owned();
                    *line = text.replace("\"refused\"", "\"accepted\"").into_bytes();
                }
                _ => {}
            }
            bytes = lines.concat();
        }
    }
    fs::write(&path, &bytes).unwrap();
    // Without its line end a record is still what it was.
    let ended = |bytes: &[u8]| bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
    ended(&bytes) != ended(&before)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_one_thing_that_is_done_to_a_trail_is_found(
        counts in [0..12_usize, 1..12_usize],
        rotate_bytes in 300..2_000_u64,
        file in any::<Index>(),
        mutation in mutation(),
    ) {
        let place = trail(counts, rotate_bytes);
        place.assert_whole();
        let names = files(&place);
        let name = file.get(&names);
        let changed = mutate(&place, name, &mutation);
        let report = place.verify();
        prop_assert_eq!(report.is_whole(), !changed, "{} {:#?}", name, report);
        // Only the writer whose file it is.
        let writer = name.split('.').next().unwrap();
        prop_assert!(report.faults.iter().all(|fault| fault.writer == writer), "{report:#?}");
        prop_assert!(report.writers.iter().all(|it| it.whole == (it.writer != writer || !changed)));
    }

    #[test]
    fn nothing_that_is_done_to_a_trail_makes_its_writer_remove_a_record(
        count in 6..16_usize,
        rotate_bytes in 300..2_000_u64,
        file in any::<Index>(),
        mutation in mutation(),
        again in mutation(),
    ) {
        let mut place = trail([0, count], rotate_bytes);
        let names: Vec<String> = files(&place).into_iter().filter(|name| name.starts_with("serve")).collect();
        let bytes: u64 = names.iter().map(|name| fs::metadata(place.file(name)).unwrap().len()).sum();
        // Room for what is written further down, and for no more.
        place.settings.keep_bytes = bytes + 8_000;
        let name = file.get(&names);
        mutate(&place, name, &mutation);
        if place.file(name).exists() {
            mutate(&place, name, &again);
        }
        for _ in 0..3 {
            place.write("serve", &["after"]);
        }
        prop_assert_eq!(place.heads.all()["serve"].start_seq, 0, "{:#?}", place.verify());
        for other in names.iter().filter(|other| *other != name) {
            prop_assert!(place.file(other).exists(), "{} is gone", other);
        }
    }

    #[test]
    fn no_crash_looks_like_somebody_who_changed_something(
        count in 1..12_usize,
        rotate_bytes in 300..2_000_u64,
        keep_bytes in prop_oneof![Just(u64::MAX), 600..3_000_u64],
        told in any::<Index>(),
        lost in any::<Index>(),
    ) {
        let mut place = Place::new();
        (place.settings.rotate_bytes, place.settings.keep_bytes) = (rotate_bytes, keep_bytes);
        // What the store knew after each record.
        let mut known: Vec<BTreeMap<String, StoredHead>> = Vec::new();
        let trail = place.open("serve");
        for number in 0..count {
            write(&trail, &number.to_string()).unwrap();
            known.push(place.heads.all());
        }
        drop(trail);
        // The head is stored after the records are there, so a crash leaves any earlier one. Only what retention
        // needs is stored before a file goes.
        let last = place.heads.all()["serve"].clone();
        let mut at_crash = told.get(&known).clone();
        let stored = at_crash["serve"].clone();
        if stored.start_seq != last.start_seq {
            at_crash.insert("serve".to_owned(), last);
        }
        let told = at_crash["serve"].seq;
        place.heads.restore(at_crash);
        place.assert_whole();
        // Of what was not told any part may be there.
        let path = place.file("serve.jsonl");
        let Ok(whole) = fs::read(&path) else { return Ok(()) };
        let untold: usize = place
            .lines("serve.jsonl")
            .iter()
            .filter(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                line["seq"].as_u64().unwrap() > told
            })
            .map(String::len)
            .sum();
        let cut = lost.index(untold + 1);
        fs::write(&path, &whole[..whole.len() - cut]).unwrap();
        place.assert_whole();
        // And the next start goes on with it.
        place.write("serve", &["after"]);
        place.assert_whole();
        let notices = place.verify().notices;
        prop_assert!(notices.iter().all(|notice| notice.kind == NoticeKind::Removed), "{notices:#?}");
    }
}
