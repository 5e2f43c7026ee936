use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::Record;
use crate::reader::Entry;

/// Where records go.
pub trait AuditSink: Send + Sync {
    /// Writes one record. When it returns, the record has been handed to the operating system.
    ///
    /// # Errors
    /// It could not be written; the attempt must then not be accepted.
    fn record(&self, record: &Record) -> Result<(), AuditError>;
}

/// The trail cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the audit trail {path} cannot be written: {error}")]
pub struct AuditError {
    /// Which file.
    pub path: String,
    /// What the system said.
    pub error: std::io::Error,
}

/// A file of JSON lines, appended to.
#[derive(Debug)]
pub struct JsonLines {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    sequence: u64,
    /// Where our last line ends. A write that failed half-way is taken back to here; a file of another length
    /// has been written to by another process.
    end: u64,
}

#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    seq: u64,
    time: String,
    #[serde(flatten)]
    record: &'a Record,
}

impl JsonLines {
    /// Opens `DIRECTORY/WRITER.jsonl` (made with modes 0700 and 0600) and goes on after its last record. Half a
    /// line at its end, left by a crash, is ended so that the next record has a line of its own.
    ///
    /// # Errors
    /// The file cannot be opened or written.
    pub fn open(directory: &Path, writer: &str) -> Result<Self, AuditError> {
        let path = directory.join(format!("{writer}.jsonl"));
        let open = || -> std::io::Result<State> {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(&path)?;
            let mut state = State { file, sequence: 0, end: 0 };
            state.locked(State::resume)?;
            Ok(state)
        };
        match open() {
            Ok(state) => Ok(Self { path, state: Mutex::new(state) }),
            Err(error) => Err(AuditError { path: path.display().to_string(), error }),
        }
    }
}

impl State {
    /// Runs `work` while no other process writes to the file: several `countersign call` share one.
    fn locked(&mut self, work: impl FnOnce(&mut Self) -> std::io::Result<()>) -> std::io::Result<()> {
        self.file.lock()?;
        let result = work(self);
        self.file.unlock()?;
        result
    }

    /// Finds the last record's sequence number and ends a broken last line.
    fn resume(&mut self) -> std::io::Result<()> {
        /// Longer than any record.
        const TAIL: u64 = 64 * 1024;
        self.end = self.file.metadata()?.len();
        self.file.seek(SeekFrom::Start(self.end.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        (&self.file).take(TAIL).read_to_end(&mut tail)?;
        let last = tail
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Entry>(line).ok())
            .next_back();
        self.sequence = last.map_or(0, |entry| entry.seq);
        if tail.last().is_some_and(|byte| *byte != b'\n') {
            self.file.write_all(b"\n")?;
            self.end += 1;
        }
        Ok(())
    }

    fn append(&mut self, record: &Record) -> std::io::Result<()> {
        if self.file.metadata()?.len() != self.end {
            self.resume()?;
        }
        let seq = self.sequence + 1;
        let line = Line { v: 1, seq, time: now(), record };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        // One write for one line, so that readers and a crash see whole lines.
        if let Err(error) = self.file.write_all(&bytes) {
            // A full disk can take half a line.
            let _ = self.file.set_len(self.end);
            return Err(error);
        }
        self.sequence = seq;
        self.end += bytes.len() as u64;
        Ok(())
    }
}

impl AuditSink for JsonLines {
    fn record(&self, record: &Record) -> Result<(), AuditError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .locked(|state| state.append(record))
            .map_err(|error| AuditError { path: self.path.display().to_string(), error })
    }
}

/// RFC 3339, UTC, always with three digits of a second, so that text sorts as time does.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The wall clock.
fn now() -> String {
    OffsetDateTime::now_utc().format(TIME).unwrap_or_default()
}

/// Records in memory, for tests.
#[derive(Debug, Default)]
pub struct MemorySink(Mutex<Vec<Record>>);

impl MemorySink {
    /// What was recorded so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AuditSink for MemorySink {
    fn record(&self, record: &Record) -> Result<(), AuditError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record.clone());
        Ok(())
    }
}
