//! What a look at the trail found.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::line::{self, Link};

/// What was found in one trail.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The writers that there are, by name.
    pub writers: Vec<WriterReport>,
    /// What is wrong, in the order of writers, files and lines.
    pub faults: Vec<Fault>,
    /// Faults that are not listed, for there are too many.
    pub more_faults: u64,
    /// What is to be known and is no fault of the chains.
    pub notices: Vec<Notice>,
    /// Notices that are not listed.
    pub more_notices: u64,
}

impl Report {
    /// Whether every record that was ever known to be written is there as it was written, but for those that
    /// retention has removed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.faults.is_empty() && self.more_faults == 0
    }
}

/// One writer's chain.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WriterReport {
    /// Whose.
    pub writer: String,
    /// Whether it has no fault.
    pub whole: bool,
    /// Its records that were read and are its writer's.
    pub records: u64,
    /// Its files, those without a chain included.
    pub files: u64,
    /// Bytes in them.
    pub bytes: u64,
    /// The number of the first record that is to be there; absent if nobody can tell.
    pub first: Option<u64>,
    /// The number of the last record that was found; 0 for none.
    pub last: u64,
    /// The last record, to be noted elsewhere; absent if there is none.
    pub anchor: Option<Anchor>,
}

/// A record that was there: `WRITER:NUMBER:MAC`. Noted elsewhere, it shows later that the trail still has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Whose chain.
    pub writer: String,
    /// The record's number.
    pub seq: u64,
    pub(crate) mac: [u8; 32],
}

impl Anchor {
    pub(crate) fn new(writer: &str, link: Link) -> Self {
        Self { writer: writer.to_owned(), seq: link.seq, mac: link.mac }
    }
}

impl fmt::Display for Anchor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.writer, self.seq, line::encode(&self.mac))
    }
}

impl Serialize for Anchor {
    fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

/// This is no [`Anchor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an anchor is WRITER:NUMBER:MAC, as `audit verify` printed it")]
pub struct AnchorError;

impl FromStr for Anchor {
    type Err = AnchorError;

    fn from_str(text: &str) -> Result<Self, AnchorError> {
        let mut parts = text.split(':');
        let (Some(writer), Some(seq), Some(mac), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(AnchorError);
        };
        let digits = !seq.is_empty() && seq.bytes().all(|byte| byte.is_ascii_digit());
        let seq = seq.parse().ok().filter(|seq| digits && *seq > 0).ok_or(AnchorError)?;
        let mac = line::decode(mac.as_bytes()).ok_or(AnchorError)?;
        if !super::is_writer(writer) {
            return Err(AnchorError);
        }
        Ok(Self { writer: writer.to_owned(), seq, mac })
    }
}

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum FaultKind {
    /// A record's line is not as its writer wrote it.
    Changed,
    /// Records between others are not there.
    Missing,
    /// Records at the beginning are not there, and retention did not remove them.
    MissingStart,
    /// The files end before the last record that the store knows of.
    CutOff,
    /// Records stand behind later ones.
    Moved,
    /// Records are there once more.
    Repeated,
    /// A line that no writer wrote.
    Inserted,
    /// A line of another writer's chain.
    Foreign,
    /// A record has the number but not the MAC that the one after or before it, or the store, speaks of: the trail
    /// was put back in time and written on, or somebody has the key.
    Forked,
    /// There are files, and the store knows nothing of their chain.
    HeadLost,
    /// What the store says of the chain's end was not written by its writer.
    HeadChanged,
    /// The writer itself found, when it last looked, that somebody had been at the chain's end.
    Noted,
    /// The store says that retention has removed records, and the chain does not.
    RemovedUnsaid,
    /// A file has another number in its name than its first record.
    FileRenamed,
    /// A file with a name that no writer gives.
    FileUnknown,
    /// A file cannot be read.
    FileUnreadable,
    /// The record of an anchor is not there.
    AnchorMissing,
    /// Another record has the number of an anchor.
    AnchorDiffers,
    /// Retention has removed the record of an anchor, or the one that the anchor is about cannot be told: nobody can
    /// say that it was there.
    AnchorRemoved,
}

/// Something that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// Whose chain.
    pub writer: String,
    /// What it is.
    pub kind: FaultKind,
    /// The first record that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// The last one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<u64>,
    /// In which file it was noticed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// In which of its lines, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// All of it for a person.
    pub text: String,
}

/// What a notice is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum NoticeKind {
    /// Half a line at the end: a crash left it, or it is being written. Nobody was told of its record.
    HalfLine,
    /// A file with what a writer found behind its last record and did not write.
    Aside,
    /// A file with lines of version 1, which nobody can check.
    Unchained,
    /// Retention has removed records.
    Removed,
    /// The writer says that something is missing, or was not as it should be.
    Noted,
}

/// Something to know that is no fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// Whose chain.
    pub writer: String,
    /// What it is.
    pub kind: NoticeKind,
    /// The record that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// In which file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// All of it for a person.
    pub text: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `record 7`, or `the records 7 to 9`.
pub(super) fn records(from: u64, to: u64) -> String {
    if from == to { format!("record {from}") } else { format!("the records {from} to {to}") }
}

/// Takes faults and notices until there are too many.
#[derive(Debug)]
pub(super) struct Collected {
    pub(super) report: Report,
    most: usize,
    /// Where each listed fault was noticed: file and line.
    places: Vec<(usize, u64)>,
    /// Faults of the writers before the one that is looked at.
    settled: usize,
    pub(super) count: u64,
}

impl Collected {
    pub(super) fn new(most: usize) -> Self {
        Self { report: Report::default(), most, places: Vec::new(), settled: 0, count: 0 }
    }

    pub(super) fn fault(&mut self, place: (usize, u64), fault: Fault) {
        self.count += 1;
        if self.report.faults.len() < self.most {
            self.report.faults.push(fault);
            self.places.push(place);
        } else {
            self.report.more_faults += 1;
        }
    }

    pub(super) fn notice(&mut self, notice: Notice) {
        if self.report.notices.len() < self.most {
            self.report.notices.push(notice);
        } else {
            self.report.more_notices += 1;
        }
    }

    /// Puts the faults of one writer in the order of files and lines: what is missing is known for sure only in the
    /// end.
    pub(super) fn settle(&mut self) {
        let faults = self.report.faults.split_off(self.settled);
        let mut with_places: Vec<_> = self.places.drain(..).zip(faults).collect();
        with_places.sort_by_key(|(place, fault)| (*place, fault.from));
        self.report.faults.extend(with_places.into_iter().map(|(_, fault)| fault));
        self.settled = self.report.faults.len();
    }
}
