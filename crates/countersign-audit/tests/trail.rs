//! The trail as a file.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

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

/// Sequence numbers and reasons of what readers find.
#[allow(clippy::unwrap_used, reason = "a trail that cannot be read ends the test")]
fn found(directory: &std::path::Path) -> Vec<(u64, String)> {
    let (entries, unreadable) = tail(directory, 1_000).unwrap();
    assert_eq!(unreadable, 0);
    entries.into_iter().map(|entry| (entry.seq, entry.record.reason)).collect()
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
fn a_renamed_file_is_left_alone_and_a_new_one_begun() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("serve.jsonl"), directory.path().join("serve.jsonl.1"));
    let sink = JsonLines::open(directory.path(), "serve").unwrap();
    sink.record(&record("before")).unwrap();
    let before = fs::read(&path).unwrap();
    fs::rename(&path, &old).unwrap();
    sink.record(&record("after")).unwrap();
    sink.record(&record("later")).unwrap();
    assert_eq!(fs::read(&old).unwrap(), before);
    assert_eq!(found(directory.path()), [(1, "after".to_owned()), (2, "later".to_owned())]);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    fs::remove_file(&old).unwrap();
    sink.record(&record("still")).unwrap();
    assert_eq!(found(directory.path()).len(), 3);
}

#[test]
fn a_removed_file_is_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    let audit = directory.path().join("audit");
    let sink = JsonLines::open(&audit, "serve").unwrap();
    sink.record(&record("before")).unwrap();
    let old = audit.join("old");
    fs::rename(audit.join("serve.jsonl"), &old).unwrap();
    fs::remove_file(&old).unwrap();
    sink.record(&record("after")).unwrap();
    assert_eq!(found(&audit), [(1, "after".to_owned())]);
    fs::remove_dir_all(&audit).unwrap();
    sink.record(&record("again")).unwrap();
    assert_eq!(found(&audit), [(1, "again".to_owned())]);
    // Where none can be made, that is an error until one can, and it holds no lock.
    let kept = directory.path().join("kept");
    fs::rename(audit.join("serve.jsonl"), &kept).unwrap();
    fs::create_dir(audit.join("serve.jsonl")).unwrap();
    assert!(sink.record(&record("nowhere")).is_err());
    fs::File::open(&kept).unwrap().try_lock().unwrap();
    fs::remove_dir(audit.join("serve.jsonl")).unwrap();
    sink.record(&record("at last")).unwrap();
    assert_eq!(found(&audit), [(1, "at last".to_owned())]);
}

#[test]
fn a_file_that_others_put_in_place_is_gone_on_with() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("call.jsonl");
    let (one, two) = (
        JsonLines::open(directory.path(), "call").unwrap(),
        JsonLines::open(directory.path(), "call").unwrap(),
    );
    one.record(&record("before")).unwrap();
    // Moved away before a reader gets to it.
    std::os::unix::fs::symlink("nowhere", directory.path().join("gone.jsonl")).unwrap();
    fs::rename(&path, directory.path().join("call.1")).unwrap();
    two.record(&record("two")).unwrap();
    one.record(&record("one")).unwrap();
    two.record(&record("two again")).unwrap();
    let sequence: Vec<_> = found(directory.path()).into_iter().map(|(seq, _)| seq).collect();
    assert_eq!(sequence, [1, 2, 3]);
}

#[test]
fn a_lock_that_is_not_given_back_is_an_error_and_no_endless_wait() {
    let directory = tempfile::tempdir().unwrap();
    let sink = JsonLines::open(directory.path(), "serve").unwrap();
    let other = fs::File::open(directory.path().join("serve.jsonl")).unwrap();
    other.lock().unwrap();
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let error = sink.record(&record("held up")).unwrap_err().to_string();
                assert!(error.contains("another process holds its lock"), "{error}");
            });
        }
    });
    assert!(start.elapsed() < Duration::from_millis(1500), "all wait at once: {:?}", start.elapsed());
    assert!(JsonLines::open(directory.path(), "serve").is_err());
    other.unlock().unwrap();
    sink.record(&record("free")).unwrap();
    assert_eq!(found(directory.path()), [(1, "free".to_owned())]);
}

#[test]
fn a_lock_that_is_given_back_soon_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let sink = JsonLines::open(directory.path(), "serve").unwrap();
    let other = fs::File::open(directory.path().join("serve.jsonl")).unwrap();
    other.lock().unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| sink.record(&record("late")));
        std::thread::sleep(Duration::from_millis(30));
        other.unlock().unwrap();
        waiting.join().unwrap().unwrap();
    });
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
