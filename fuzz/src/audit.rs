//! The trail's readers: whatever is in a file, each line is a record or counted as unreadable, and a record is written
//! as it was read; and whatever was done to a chain, that it was is found.

use std::path::Path;
use std::sync::LazyLock;

use countersign_audit::{
    AuditKey, AuditSink as _, Direction, Entry, MemoryHeads, Outcome, Record, Settings, Trail, Verify, tail,
    verify,
};

/// A file in the trail's directory.
pub(crate) fn lines(input: &[u8]) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("serve.jsonl"), input).unwrap();
    let (entries, unreadable) = tail(directory.path(), usize::MAX).unwrap();
    let there = input.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).count();
    assert_eq!(entries.len() + unreadable, there);
    assert!(entries.is_sorted_by(|a, b| a.time <= b.time));
    for entry in &entries {
        let written = serde_json::to_vec(entry).unwrap();
        assert!(!written.contains(&b'\n'));
        assert_eq!(&serde_json::from_slice::<Entry>(&written).unwrap(), entry);
    }
    let (last, _) = tail(directory.path(), 2).unwrap();
    assert!(last.len() <= 2 && last.len() <= entries.len());
}

/// A whole trail: the names and bytes of its files, oldest first, and where it ends.
struct Template {
    files: Vec<(String, Vec<u8>)>,
    heads: MemoryHeads,
}

fn key() -> AuditKey {
    AuditKey::new([5; 32].into())
}

static TEMPLATE: LazyLock<Template> = LazyLock::new(|| {
    let directory = tempfile::tempdir().unwrap();
    let heads = MemoryHeads::default();
    let settings = Settings { rotate_bytes: 600, danger_no_sync: true, ..Settings::default() };
    let trail = Trail::open(directory.path(), "serve", &key(), Box::new(heads.clone()), settings).unwrap();
    for number in 0..6 {
        let reason = number.to_string();
        trail.submit(Record::new(Direction::Inbound, "token", Outcome::Refused, &reason)).wait().unwrap();
    }
    drop(trail);
    let mut files: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|file| file.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    files.sort();
    assert_eq!(files.len(), 3);
    Template { files, heads }
});

fn look(directory: &Path) -> countersign_audit::Report {
    verify(directory, &key(), &TEMPLATE.heads, &Verify { most: 50, ..Verify::default() }).unwrap()
}

/// A count of edits of a whole trail, then these, four bytes each: a file, what is done, and where (two bytes); the rest
/// is what is put in. What has come out of it is whole exactly if every file has the records that it had, in the same
/// bytes.
pub(crate) fn chain(input: &[u8]) {
    let Template { files: before, .. } = &*TEMPLATE;
    let mut files = before.clone();
    let (count, rest) = input.split_first().unwrap_or((&0, &[]));
    let (edits, put_in) = rest.split_at(rest.len().min(usize::from(count % 8) * 4));
    for edit in edits.chunks_exact(4) {
        let count = files.len();
        let (name, bytes) = &mut files[usize::from(edit[0]) % count];
        let at = usize::from(u16::from_be_bytes([edit[2], edit[3]])) % (bytes.len() + 1);
        match edit[1] % 5 {
            0 => bytes.truncate(at),
            1 => drop(bytes.splice(at..at, put_in.iter().copied())),
            2 if at < bytes.len() => bytes[at] ^= edit[1] | 1,
            3 => {
                let lines: Vec<&[u8]> = bytes.split_inclusive(|byte| *byte == b'\n').collect();
                if let Some(line) = lines.get(at % lines.len().max(1)) {
                    *bytes = [bytes.as_slice(), line].concat();
                }
            }
            4 => "serve.old.jsonl".clone_into(name),
            _ => {}
        }
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, bytes) in &files {
        std::fs::write(directory.path().join(name), bytes).unwrap();
    }
    let report = look(directory.path());
    // Half a line at the very end is what a crash leaves, and a record without its line end is whole.
    let ended = |bytes: &[u8]| bytes.strip_suffix(b"\n").unwrap_or(bytes).to_vec();
    let (last, rest) = files.split_last().unwrap();
    let (last_before, rest_before) = before.split_last().unwrap();
    let half = last.1.strip_prefix(last_before.1.as_slice()).is_some_and(|more| !more.contains(&b'\n'));
    let same = rest
        .iter()
        .map(|(name, bytes)| (name, ended(bytes)))
        .eq(rest_before.iter().map(|(name, bytes)| (name, ended(bytes))))
        && last.0 == last_before.0
        && (half || ended(&last.1) == ended(&last_before.1));
    assert_eq!(report.is_whole(), same, "{report:#?}");
    assert!(report.faults.len() <= 50 && report.faults.iter().all(|fault| fault.writer == "serve"));
    let records = report.writers[0].records;
    assert!(!same || records == 6);
}
