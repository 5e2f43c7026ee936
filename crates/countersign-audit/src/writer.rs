use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::Record;
use crate::reader::Entry;

/// How long a record waits while another process writes to the file. Each of them holds the lock for one line; one
/// that holds it longer hangs, and must not take the callers of this process with it.
const PATIENCE: Duration = Duration::from_millis(250);

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
    pub error: io::Error,
}

/// A file of JSON lines, appended to. If it is renamed or removed, the next record goes to a new one at its path.
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
    /// has been written to by another process. `None` before the file was looked at.
    end: Option<u64>,
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
        let open = || -> io::Result<State> {
            let mut state = State::open(&path)?;
            state.locked(&path, Instant::now() + PATIENCE, |_| Ok(()))?;
            Ok(state)
        };
        match open() {
            Ok(state) => Ok(Self { path, state: Mutex::new(state) }),
            Err(error) => Err(AuditError { path: path.display().to_string(), error }),
        }
    }
}

impl State {
    /// Opens the file, and makes it and its directory if they are not there. Nothing is known about what is in it.
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path)?;
        Ok(Self { file, sequence: 0, end: None })
    }

    /// Runs `work` on the file that is at `path` now, while no other process writes to it: several
    /// `countersign call` share one.
    fn locked(
        &mut self,
        path: &Path,
        deadline: Instant,
        work: impl FnOnce(&mut Self) -> io::Result<()>,
    ) -> io::Result<()> {
        // More than once only if the file is moved again meanwhile.
        for _ in 0..4 {
            lock(&self.file, deadline)?;
            let result = match self.is_at(path) {
                Ok(true) => self.resume().and_then(|()| work(self)),
                // Closing the old file ends its lock.
                Ok(false) => match Self::open(path) {
                    Ok(new) => {
                        *self = new;
                        continue;
                    }
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            };
            self.file.unlock()?;
            return result;
        }
        Err(io::Error::other("it is moved or replaced again and again; see what does that"))
    }

    /// Whether what is open is what readers find: a file that was renamed or removed takes records that nobody
    /// will read.
    fn is_at(&self, path: &Path) -> io::Result<bool> {
        let ours = self.file.metadata()?;
        match path.metadata() {
            Ok(there) => Ok((there.dev(), there.ino()) == (ours.dev(), ours.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Finds the last record's sequence number and ends a broken last line, unless our own line is the last one.
    fn resume(&mut self) -> io::Result<()> {
        /// Longer than any record.
        const TAIL: u64 = 64 * 1024;
        let mut end = self.file.metadata()?.len();
        if self.end == Some(end) {
            return Ok(());
        }
        self.file.seek(SeekFrom::Start(end.saturating_sub(TAIL)))?;
        let mut tail = Vec::new();
        (&self.file).take(TAIL).read_to_end(&mut tail)?;
        let last = tail
            .split(|byte| *byte == b'\n')
            .filter_map(|line| serde_json::from_slice::<Entry>(line).ok())
            .next_back();
        self.sequence = last.map_or(0, |entry| entry.seq);
        if tail.last().is_some_and(|byte| *byte != b'\n') {
            self.file.write_all(b"\n")?;
            end += 1;
        }
        self.end = Some(end);
        Ok(())
    }

    fn append(&mut self, record: &Record) -> io::Result<()> {
        let seq = self.sequence + 1;
        let line = Line { v: 1, seq, time: now(), record };
        let mut bytes = serde_json::to_vec(&line)?;
        bytes.push(b'\n');
        // One write for one line, so that readers and a crash see whole lines.
        if let Err(error) = self.file.write_all(&bytes) {
            // A full disk can take half a line.
            let _ = self.end.map(|end| self.file.set_len(end));
            return Err(error);
        }
        self.sequence = seq;
        self.end = self.end.map(|end| end + bytes.len() as u64);
        Ok(())
    }
}

/// Takes the lock, or gives up at `deadline`: a wait without an end would hold up everything that shares this
/// thread.
fn lock(file: &File, deadline: Instant) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let held =
                    "another process holds its lock and does not let go; `lsof` with this path shows which";
                return Err(io::Error::new(ErrorKind::TimedOut, held));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

impl AuditSink for JsonLines {
    fn record(&self, record: &Record) -> Result<(), AuditError> {
        // Set before the wait for other threads, so that a queue of them does not wait for each in turn.
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .locked(&self.path, deadline, |state| state.append(record))
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
