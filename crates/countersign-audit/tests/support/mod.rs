//! A directory with a trail, its key and its heads.

#![allow(dead_code, unreachable_pub, reason = "each file of tests uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

use std::fs;
use std::path::PathBuf;

use countersign_audit::{
    Anchor, AuditError, AuditKey, AuditSink as _, Direction, Entry, FaultKind, MemoryHeads, Outcome, Record,
    Report, Settings, Trail, Verify, tail, verify,
};
use countersign_protocol::identity::Profile;
use tempfile::TempDir;

/// Kind, from, to, file, line.
pub type Wrong = (FaultKind, Option<u64>, Option<u64>, String, Option<u64>);

pub fn record(reason: &str) -> Record {
    Record {
        service: Some("billing".to_owned()),
        credential: Some("billing/1".to_owned()),
        profile: Some(Profile::SharedSecret),
        source: Some([127, 0, 0, 1].into()),
        request_id: "0123".to_owned(),
        ..Record::new(Direction::Inbound, "verify-challenge", Outcome::Refused, reason)
    }
}

pub struct Place {
    pub directory: TempDir,
    pub heads: MemoryHeads,
    pub key: AuditKey,
    pub settings: Settings,
}

impl Place {
    pub fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            heads: MemoryHeads::default(),
            key: AuditKey::new([7; 32].into()),
            settings: Settings { danger_no_sync: true, ..Settings::default() },
        }
    }

    /// The directory of the trail.
    pub fn audit(&self) -> PathBuf {
        self.directory.path().join("audit")
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.audit().join(name)
    }

    pub fn try_open(&self, writer: &str) -> Result<Trail, AuditError> {
        let heads = Box::new(self.heads.clone());
        Trail::open(&self.audit(), writer, &self.key, heads, self.settings.clone())
    }

    pub fn open(&self, writer: &str) -> Trail {
        self.try_open(writer).unwrap()
    }

    /// Opens, writes these and closes again.
    pub fn write(&self, writer: &str, reasons: &[&str]) {
        let trail = self.open(writer);
        for reason in reasons {
            write(&trail, reason).unwrap();
        }
    }

    pub fn entries(&self) -> Vec<Entry> {
        let (entries, unreadable) = tail(&self.audit(), 100_000).unwrap();
        assert_eq!(unreadable, 0);
        entries
    }

    /// Sequence numbers and reasons of what readers find.
    pub fn found(&self) -> Vec<(u64, String)> {
        self.entries().into_iter().map(|entry| (entry.seq, entry.record.reason)).collect()
    }

    pub fn verify_with(&self, expect: Vec<Anchor>) -> Report {
        let options = Verify { expect, ..Verify::default() };
        verify(&self.audit(), &self.key, &self.heads, &options).unwrap()
    }

    pub fn verify(&self) -> Report {
        self.verify_with(Vec::new())
    }

    /// What is wrong: kind, from, to, file, line.
    pub fn faults(&self) -> Vec<Wrong> {
        let faults = self.verify().faults.into_iter();
        faults.map(|it| (it.kind, it.from, it.to, it.file.unwrap_or_default(), it.line)).collect()
    }

    #[track_caller]
    pub fn assert_whole(&self) {
        let report = self.verify();
        assert!(report.is_whole(), "{report:#?}");
    }

    /// The lines of a file, with their line ends.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.file(name)).unwrap();
        text.split_inclusive('\n').map(str::to_owned).collect()
    }

    pub fn put(&self, name: &str, lines: &[String]) {
        fs::write(self.file(name), lines.concat()).unwrap();
    }

    pub fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.audit()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub fn write(trail: &Trail, reason: &str) -> Result<(), AuditError> {
    trail.submit(record(reason)).wait()
}

pub fn pairs(expected: &[(u64, &str)]) -> Vec<(u64, String)> {
    expected.iter().map(|(seq, reason)| (*seq, (*reason).to_owned())).collect()
}
