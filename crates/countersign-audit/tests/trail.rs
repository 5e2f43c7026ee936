//! The trail as a file: one line a record, one sequence a writer, whatever happens in between.

mod support;

use std::fs;
use std::future::Future as _;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use countersign_audit::{AuditSink as _, Outcome, tail};
use proptest::prelude::*;
use support::{Place, pairs, record, write};

#[test]
fn a_record_is_one_json_line_with_everything_an_auditor_asks_for() {
    let place = Place::new();
    place.write("serve", &["wrong-signature"]);
    let text = fs::read_to_string(place.file("serve.jsonl")).unwrap();
    let line: serde_json::Value = serde_json::from_str(text.strip_suffix('\n').unwrap()).unwrap();
    for (member, value) in [
        ("direction", "inbound"),
        ("service", "billing"),
        ("credential", "billing/1"),
        ("profile", "shared-secret"),
        ("source", "127.0.0.1"),
        ("outcome", "refused"),
        ("reason", "wrong-signature"),
        ("requestId", "0123"),
        ("prev", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    ] {
        assert_eq!(line[member], value);
    }
    assert_eq!((line["v"].as_u64(), line["seq"].as_u64()), (Some(2), Some(1)));
    let time = line["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-21T12:34:56.789Z".len(), "sorts as text: {time}");
    assert!(text.starts_with("{\"v\":2,\"seq\":1,\"time\":") && text.contains(",\"prev\":\""));
    assert_eq!(text.rfind(",\"mac\":\""), Some(text.len() - 54), "the MAC stands last");
}

#[test]
fn the_sequence_and_the_chain_go_on_after_a_restart() {
    let place = Place::new();
    for _ in 0..3 {
        place.write("serve", &["a", "b"]);
    }
    let entries = place.entries();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(entries.windows(2).all(|pair| pair[0].mac == pair[1].prev));
}

#[test]
fn half_a_line_left_by_a_crash_is_cut_off_at_every_length() {
    let place = Place::new();
    place.write("serve", &["before"]);
    let path = place.file("serve.jsonl");
    let heads = place.heads.all();
    place.write("serve", &["torn"]);
    let whole = fs::read(&path).unwrap();
    let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for length in first..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        place.heads.restore(heads.clone());
        place.write("serve", &["after"]);
        // Without its line end alone the record is whole.
        let expected: &[_] = if length == whole.len() - 1 {
            &[(1, "before"), (2, "torn"), (3, "after")]
        } else {
            &[(1, "before"), (2, "after")]
        };
        assert_eq!(place.found(), pairs(expected), "{length} bytes");
    }
}

#[test]
fn half_a_line_in_a_file_that_was_just_begun_is_no_missing_record() {
    let mut place = Place::new();
    place.write("serve", &["one"]);
    place.settings.rotate_bytes = 1;
    let heads = place.heads.all();
    place.write("serve", &["two", "torn"]);
    let whole = fs::read(place.file("serve.jsonl")).unwrap();
    fs::write(place.file("serve.jsonl"), &whole[..20]).unwrap();
    // Also with a head from before the file was begun.
    place.heads.restore(heads);
    place.assert_whole();
    place.write("serve", &["after"]);
    assert_eq!(place.found(), pairs(&[(1, "one"), (2, "two"), (3, "after")]));
    place.assert_whole();
}

#[test]
fn records_beyond_the_head_that_are_the_writers_are_adopted() {
    let place = Place::new();
    place.write("serve", &["one"]);
    let heads = place.heads.all();
    place.write("serve", &["two", "three"]);
    place.heads.restore(heads);
    place.write("serve", &["four"]);
    assert_eq!(place.found(), pairs(&[(1, "one"), (2, "two"), (3, "three"), (4, "four")]));
    assert_eq!(place.heads.all()["serve"].seq, 4);
}

#[test]
fn a_file_behind_the_head_gets_a_record_that_names_the_gap() {
    for (kept, missing) in [(2, 1), (1, 2), (0, 3)] {
        let place = Place::new();
        place.write("serve", &["one", "two", "three"]);
        let path = place.file("serve.jsonl");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.split_inclusive('\n').take(kept).collect::<String>()).unwrap();
        place.write("serve", &["after"]);
        let entries = place.entries();
        let (gap, last) = (&entries[kept], &entries[kept + 1]);
        assert_eq!((last.seq, last.record.reason.as_str()), (5, "after"));
        assert_eq!(
            (gap.seq, gap.record.outcome, gap.record.reason.as_str(), gap.record.count),
            (4, Outcome::Gap, "records-missing", Some(missing))
        );
    }
}

#[test]
fn what_others_wrote_after_the_last_record_is_set_aside_and_said() {
    let place = Place::new();
    place.write("serve", &["one"]);
    let path = place.file("serve.jsonl");
    let stranger = "{\"v\":2,\"seq\":2,\"reason\":\"made up\"}\n";
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(stranger.as_bytes()).unwrap();
    place.write("serve", &["two"]);
    assert_eq!(place.found(), pairs(&[(1, "one"), (2, "lines-set-aside"), (3, "two")]));
    assert_eq!(fs::read_to_string(place.file("serve.000000000001.aside")).unwrap(), stranger);
}

#[test]
fn a_head_that_somebody_else_wrote_or_removed_is_said() {
    let place = Place::new();
    place.write("serve", &["one"]);
    let mut forged = place.heads.all();
    forged.get_mut("serve").unwrap().seq = 0;
    place.heads.restore(forged);
    place.write("serve", &["two"]);
    place.heads.restore(std::collections::BTreeMap::new());
    place.write("serve", &["three"]);
    let reasons: Vec<_> = place.found().into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(reasons, ["one", "head-changed", "head-lost", "two", "head-lost", "three"]);
}

#[test]
fn writers_have_files_of_their_own_and_are_read_together() {
    let place = Place::new();
    place.write("serve", &["one"]);
    place.write("call", &["two"]);
    assert_eq!(place.entries().len(), 2);
    assert_eq!(tail(&place.audit(), 1).unwrap().0.len(), 1);
    assert!(tail(&place.file("nowhere"), 1).unwrap().0.is_empty());
    assert_eq!(place.names(), ["call.jsonl", "call.lock", "serve.jsonl", "serve.lock"]);
}

#[test]
fn two_processes_with_one_file_share_its_chain() {
    let place = Place::new();
    let (one, two) = (place.open("call"), place.open("call"));
    std::thread::scope(|scope| {
        for trail in [&one, &two] {
            scope.spawn(move || (0..50).for_each(|_| write(trail, "a").unwrap()));
        }
    });
    let mut entries = place.entries();
    entries.sort_by_key(|entry| entry.seq);
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), (1..=100).collect::<Vec<_>>());
    assert!(entries.windows(2).all(|pair| pair[0].mac == pair[1].prev));
}

#[test]
fn records_that_come_together_are_all_written_in_their_order() {
    let place = Place::new();
    let trail = place.open("serve");
    let tickets: Vec<_> = (0..3_000).map(|number| trail.submit(record(&number.to_string()))).collect();
    for ticket in tickets {
        ticket.wait().unwrap();
    }
    let found = place.found();
    assert_eq!(found.len(), 3_000);
    assert!(
        found
            .iter()
            .enumerate()
            .all(|(index, (seq, reason))| { *seq == index as u64 + 1 && *reason == index.to_string() })
    );
}

#[test]
fn a_ticket_can_be_awaited() {
    let place = Place::new();
    let trail = place.open("serve");
    let mut ticket = pin!(trail.submit(record("a")));
    let mut context = Context::from_waker(Waker::noop());
    // Ends with the thread that writes: dropping the trail waits for it.
    drop(trail);
    assert!(matches!(ticket.as_mut().poll(&mut context), Poll::Ready(Ok(()))));
}

#[test]
fn a_file_that_is_taken_away_while_in_use_is_a_gap_and_not_the_end() {
    let place = Place::new();
    let trail = place.open("serve");
    write(&trail, "before").unwrap();
    fs::rename(place.file("serve.jsonl"), place.file("elsewhere")).unwrap();
    write(&trail, "after").unwrap();
    assert_eq!(place.found(), pairs(&[(2, "records-missing"), (3, "after")]));
    assert_eq!(fs::metadata(place.file("serve.jsonl")).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_dir_all(place.audit()).unwrap();
    write(&trail, "again").unwrap();
    assert_eq!(place.found(), pairs(&[(4, "records-missing"), (5, "again")]));
}

#[test]
fn where_no_file_can_be_made_records_are_refused_until_one_can() {
    let place = Place::new();
    let trail = place.open("serve");
    fs::remove_file(place.file("serve.jsonl")).unwrap();
    fs::create_dir(place.file("serve.jsonl")).unwrap();
    assert!(write(&trail, "nowhere").is_err());
    fs::File::open(place.file("serve.lock")).unwrap().try_lock().unwrap();
    fs::remove_dir(place.file("serve.jsonl")).unwrap();
    write(&trail, "at last").unwrap();
    assert_eq!(place.found(), pairs(&[(1, "at last")]));
}

#[test]
fn a_lock_that_is_not_given_back_is_an_error_and_no_endless_wait() {
    let place = Place::new();
    let trail = place.open("serve");
    let other = fs::File::open(place.file("serve.lock")).unwrap();
    other.lock().unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = write(&trail, "held up").unwrap_err().to_string();
                assert!(error.contains("another process holds its lock"), "{error}");
            });
        }
    });
    assert!(place.try_open("serve").is_err());
    other.unlock().unwrap();
    write(&trail, "free").unwrap();
    assert_eq!(place.found(), pairs(&[(1, "free")]));
}

#[test]
fn a_lock_that_is_given_back_soon_is_waited_for() {
    let place = Place::new();
    let trail = place.open("serve");
    let other = fs::File::open(place.file("serve.lock")).unwrap();
    other.lock().unwrap();
    let ticket = trail.submit(record("late"));
    other.unlock().unwrap();
    ticket.wait().unwrap();
}

#[test]
fn only_the_owner_can_read_the_trail() {
    let place = Place::new();
    place.write("serve", &["a"]);
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.audit()), 0o700);
    for name in place.names() {
        assert_eq!(mode(&place.file(&name)), 0o600, "{name}");
    }
}

#[test]
fn a_trail_that_cannot_be_written_is_an_error() {
    let place = Place::new();
    fs::write(place.audit(), "a file where the directory should be").unwrap();
    assert!(place.try_open("serve").is_err());
    if std::path::Path::new("/dev/full").exists() {
        let place = Place::new();
        fs::create_dir(place.audit()).unwrap();
        std::os::unix::fs::symlink("/dev/full", place.file("serve.jsonl")).unwrap();
        assert!(place.try_open("serve").and_then(|trail| write(&trail, "a")).is_err());
    }
}

#[test]
fn lines_without_a_chain_are_put_aside_one_file_after_the_other() {
    let place = Place::new();
    fs::create_dir(place.audit()).unwrap();
    for reason in ["one", "two"] {
        let line = format!(
            "{{\"v\":1,\"seq\":7,\"time\":\"2026-01-01T00:00:00.000Z\",\"direction\":\"inbound\",\"step\":\"token\",\
             \"outcome\":\"refused\",\"reason\":\"{reason}\",\"requestId\":\"0\"}}\n"
        );
        fs::write(place.file("serve.jsonl"), line).unwrap();
        // As if nothing but the older version had ever run here.
        place.heads.restore(std::collections::BTreeMap::new());
        drop(place.open("serve"));
    }
    place.write("serve", &["three"]);
    assert_eq!(place.found(), pairs(&[(7, "one"), (7, "two"), (1, "three")]));
    assert!(place.names().contains(&"serve.v1-2.jsonl".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn whatever_stands_in_a_record_it_stays_one_line_of_printable_json(text in any::<String>()) {
        let place = Place::new();
        let mut hostile = record(&text);
        hostile.detail = Some(text.clone());
        hostile.credential = Some(text);
        place.open("serve").submit(hostile.clone()).wait().unwrap();
        let written = fs::read(place.file("serve.jsonl")).unwrap();
        prop_assert_eq!(written.iter().filter(|byte| **byte < 0x20).count(), 1, "the line feed at the end");
        prop_assert_eq!(&place.entries()[0].record, &hostile);
        // And it is found again.
        place.write("serve", &["after"]);
        prop_assert_eq!(place.entries()[1].seq, 2);
    }
}

#[test]
fn what_others_put_behind_the_last_record_does_not_fill_the_disk_where_it_is_kept() {
    let place = Place::new();
    place.write("serve", &["one"]);
    for number in 0..20 {
        let mut file = fs::OpenOptions::new().append(true).open(place.file("serve.jsonl")).unwrap();
        // The first of them is mostly a hole.
        if number == 0 {
            let length = file.metadata().unwrap().len();
            file.set_len(length + (40 << 20)).unwrap();
        }
        std::io::Write::write_all(&mut file, b"stranger\n").unwrap();
        drop(file);
        place.write("serve", &["more"]);
    }
    let asides: Vec<_> = place.names().into_iter().filter(|name| name.ends_with(".aside")).collect();
    assert_eq!(asides.len(), 16);
    let lengths = asides.iter().map(|name| fs::metadata(place.file(name)).unwrap().len());
    assert_eq!(lengths.clone().max(), Some(16 << 20));
    assert_eq!(lengths.min(), Some(9));
    let said: Vec<_> = place.entries().into_iter().filter_map(|entry| entry.record.detail).collect();
    assert_eq!(said.iter().filter(|detail| detail.contains("it was not kept")).count(), 4);
    assert_eq!(said.iter().filter(|detail| detail.contains("bytes were not kept")).count(), 1);
    place.assert_whole();
}
