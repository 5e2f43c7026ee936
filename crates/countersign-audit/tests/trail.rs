//! The trail as a file.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use countersign_audit::{AuditSink as _, Direction, JsonLines, Outcome, Record, tail};
use countersign_protocol::identity::Profile;
use proptest::prelude::*;

fn record(reason: &str) -> Record {
    Record {
        direction: Direction::Inbound,
        service: Some("billing".to_owned()),
        credential: Some("billing/1".to_owned()),
        profile: Some(Profile::SharedSecret),
        step: "verify-challenge".to_owned(),
        source: Some([127, 0, 0, 1].into()),
        outcome: Outcome::Refused,
        reason: reason.to_owned(),
        detail: None,
        request_id: "0123".to_owned(),
    }
}

#[test]
fn a_record_is_one_json_line_with_everything_an_auditor_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    JsonLines::open(directory.path(), "serve").unwrap().record(&record("wrong-signature")).unwrap();
    let text = fs::read_to_string(directory.path().join("serve.jsonl")).unwrap();
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
    ] {
        assert_eq!(line[member], value);
    }
    assert_eq!((line["v"].as_u64(), line["seq"].as_u64()), (Some(1), Some(1)));
    let time = line["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.len() == "2026-11-21T12:34:56.789Z".len(), "sorts as text: {time}");
}

#[test]
fn the_sequence_goes_on_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..3 {
        let sink = JsonLines::open(directory.path(), "serve").unwrap();
        sink.record(&record("a")).unwrap();
        sink.record(&record("b")).unwrap();
    }
    let (entries, unreadable) = tail(directory.path(), 100).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(unreadable, 0);
}

#[test]
fn half_a_line_left_by_a_crash_swallows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    JsonLines::open(directory.path(), "serve").unwrap().record(&record("before")).unwrap();
    let path = directory.path().join("serve.jsonl");
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"v\":1,\"seq\":2,\"ti").unwrap();
    JsonLines::open(directory.path(), "serve").unwrap().record(&record("after")).unwrap();
    let (entries, unreadable) = tail(directory.path(), 100).unwrap();
    let reasons: Vec<_> = entries.iter().map(|entry| entry.record.reason.as_str()).collect();
    assert_eq!((reasons.as_slice(), unreadable), (["before", "after"].as_slice(), 1));
}

#[test]
fn writers_have_files_of_their_own_and_are_read_together() {
    let directory = tempfile::tempdir().unwrap();
    JsonLines::open(directory.path(), "serve").unwrap().record(&record("one")).unwrap();
    JsonLines::open(directory.path(), "call").unwrap().record(&record("two")).unwrap();
    let (entries, _) = tail(directory.path(), 100).unwrap();
    assert_eq!(entries.len(), 2);
    assert_eq!(tail(directory.path(), 1).unwrap().0.len(), 1);
    assert!(tail(&directory.path().join("nowhere"), 1).unwrap().0.is_empty());
}

#[test]
fn two_processes_with_one_file_share_its_sequence() {
    let directory = tempfile::tempdir().unwrap();
    let one = JsonLines::open(directory.path(), "call").unwrap();
    let two = JsonLines::open(directory.path(), "call").unwrap();
    std::thread::scope(|scope| {
        for sink in [&one, &two] {
            scope.spawn(move || (0..50).for_each(|_| sink.record(&record("a")).unwrap()));
        }
    });
    let (entries, unreadable) = tail(directory.path(), 1_000).unwrap();
    let mut sequence: Vec<_> = entries.iter().map(|entry| entry.seq).collect();
    sequence.sort_unstable();
    assert_eq!((sequence, unreadable), ((1..=100).collect(), 0));
}

#[test]
fn only_the_owner_can_read_the_trail() {
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit");
    JsonLines::open(&audit, "serve").unwrap();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&audit), mode(&audit.join("serve.jsonl"))), (0o700, 0o600));
}

#[test]
fn a_trail_that_cannot_be_written_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let blocked = directory.path().join("audit");
    fs::write(&blocked, "a file where the directory should be").unwrap();
    assert!(JsonLines::open(&blocked, "serve").is_err());
    if std::path::Path::new("/dev/full").exists() {
        std::os::unix::fs::symlink("/dev/full", directory.path().join("serve.jsonl")).unwrap();
        let written = JsonLines::open(directory.path(), "serve").and_then(|sink| sink.record(&record("a")));
        assert!(written.is_err());
    }
}

proptest! {
    #[test]
    fn whatever_stands_in_a_record_it_stays_one_line_of_printable_json(text in any::<String>()) {
        let directory = tempfile::tempdir().unwrap();
        let mut hostile = record(&text);
        hostile.detail = Some(text.clone());
        hostile.credential = Some(text);
        JsonLines::open(directory.path(), "serve").unwrap().record(&hostile).unwrap();
        let written = fs::read(directory.path().join("serve.jsonl")).unwrap();
        prop_assert_eq!(written.iter().filter(|byte| **byte < 0x20).count(), 1, "the line feed at the end");
        let (entries, _) = tail(directory.path(), 10).unwrap();
        prop_assert_eq!(&entries[0].record, &hostile);
    }
}
