//! The trail's reader: whatever is in a file, each line is a record or counted as unreadable, and a record is
//! written as it was read.

use countersign_audit::{Entry, tail};

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
