//! A trail that somebody, or a crash, changed, and the writer that finds it so.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::LazyLock;

use countersign_audit::{
    AuditKey, AuditSink as _, Direction, Entry, Heads as _, MemoryHeads, Outcome, Record, Settings,
    StoredHead, Trail,
};

use crate::input;

/// A chain of five records, and where the store said that it ends: after one, after three, after all.
struct Chain {
    file: Vec<u8>,
    heads: [BTreeMap<String, StoredHead>; 3],
}

static CHAIN: LazyLock<Chain> = LazyLock::new(|| {
    let (directory, heads) = (tempfile::tempdir().unwrap(), MemoryHeads::default());
    let after = |reasons: &[&str]| {
        reasons.iter().for_each(|reason| write(directory.path(), &heads, reason));
        heads.all()
    };
    let heads = [after(&["one"]), after(&["two", "three"]), after(&["four", "five"])];
    Chain { file: std::fs::read(directory.path().join("serve.jsonl")).unwrap(), heads }
});

fn write(directory: &Path, heads: &MemoryHeads, reason: &str) {
    let settings = Settings { danger_no_sync: true, ..Settings::default() };
    let key = AuditKey::new([7; 32].into());
    let trail = Trail::open(directory, "serve", &key, Box::new(heads.clone()), settings).unwrap();
    let record = Record::new(Direction::Inbound, "request", Outcome::Refused, reason);
    trail.submit(record).wait().unwrap();
}

/// The chain's file with some changes: four bytes each, what to do, where, and with what.
fn changed(mut changes: &[u8]) -> Vec<u8> {
    let mut file = CHAIN.file.clone();
    while !changes.is_empty() {
        let [what, high, low, with] = input::take(&mut changes);
        let at = usize::from(u16::from_be_bytes([high, low])).min(file.len());
        match what % 5 {
            0 if at < file.len() => file[at] = with,
            1 => file.truncate(at),
            2 => file.insert(at, with),
            // A line is taken out, or comes once more.
            3 | 4 => {
                let mut lines: Vec<Vec<u8>> =
                    file.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
                if lines.is_empty() {
                    continue;
                }
                let (from, to) = (at % lines.len(), usize::from(with) % lines.len());
                let line = lines.remove(from);
                if what % 5 == 4 {
                    lines.insert(to, line.clone());
                    lines.insert(to, line);
                }
                file = lines.concat();
            }
            _ => {}
        }
    }
    file
}

/// The first byte says what the store knows, the others change the file.
pub(crate) fn recovery(input: &[u8]) {
    let mut rest = input;
    let [known] = input::take(&mut rest);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("serve.jsonl");
    let before = changed(rest);
    std::fs::write(&path, &before).unwrap();
    let heads = MemoryHeads::default();
    match known % 5 {
        which @ 0..=2 => heads.restore(CHAIN.heads[usize::from(which)].clone()),
        3 => {
            let mut head = CHAIN.heads[2]["serve"].clone();
            head.mac[0] ^= 1;
            heads.store("serve", &head).unwrap();
        }
        _ => {}
    }
    write(directory.path(), &heads, "after");
    let all = everything(directory.path());
    // No whole line is lost or overwritten, whoever wrote it.
    for line in before.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")) {
        assert!(all.windows(line.len()).any(|window| window == line), "lost: {}", line.escape_ascii());
    }
    // What the store knows to be there, and is not, is said.
    let last = CHAIN.file.split_inclusive(|byte| *byte == b'\n').next_back().unwrap();
    let last_is_there = before.windows(last.len() - 1).any(|window| window == &last[..last.len() - 1]);
    let mut entries = entries(&path);
    if known % 5 == 2 && !last_is_there {
        assert!(entries.iter().any(|entry| entry.record.outcome == Outcome::Gap), "nothing is said");
    }
    assert_eq!(entries.last().unwrap().record.reason, "after");
    // From here on it is a chain again.
    write(directory.path(), &heads, "next");
    let end = entries.pop().unwrap();
    let entries = self::entries(&path);
    let [.., before_it, next] = entries.as_slice() else { panic!("two records were written") };
    assert_eq!((before_it, &next.prev), (&end, &end.mac));
    assert_eq!((next.seq, next.record.reason.as_str()), (end.seq + 1, "next"));
    assert!(std::fs::read(&path).unwrap().ends_with(b"\n"));
}

fn entries(path: &Path) -> Vec<Entry> {
    let bytes = std::fs::read(path).unwrap();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// All that is in the directory.
fn everything(directory: &Path) -> Vec<u8> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        all.extend(std::fs::read(entry.unwrap().path()).unwrap());
        all.push(0);
    }
    all
}
