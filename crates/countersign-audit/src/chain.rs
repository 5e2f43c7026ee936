//! One writer's chain on disk. Everything here happens while the writer's lock is held.

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::disk::{self, Reserve};
use crate::head::{Ends, Heads};
use crate::key::WriterKey;
use crate::line;
use crate::record::written;
use crate::retain::Looked;
use crate::{AuditError, AuditKey, Direction, Outcome, Record, Settings, files};

/// How long a group waits while another process writes. Each of them holds the lock for one group; one that holds
/// it longer hangs, and must not take the callers of this process with it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is said that a head cannot be stored.
const COMPLAIN: Duration = Duration::from_secs(60);

pub(crate) struct Chain {
    pub(crate) directory: PathBuf,
    pub(crate) writer: String,
    pub(crate) path: PathBuf,
    pub(crate) key: WriterKey,
    pub(crate) heads: Box<dyn Heads>,
    pub(crate) settings: Settings,
    pub(crate) reserve: Reserve,
    lock: File,
    /// Where the chain begins and ends, as far as this process knows.
    pub(crate) ends: Option<Ends>,
    /// The file in use, if it has been looked at since anybody else touched it.
    pub(crate) tip: Option<Tip>,
    /// What the trail has to say of itself: goes before the next records.
    pub(crate) notes: Vec<Record>,
    /// The files that are put aside, as far as they were looked at.
    pub(crate) looked: HashMap<PathBuf, Looked>,
    /// What was found wrong with files that are put aside, by reason: with how many, and what with the first.
    pub(crate) amiss: BTreeMap<&'static str, (u64, String)>,
    /// Whether a file was put aside since old ones were last looked for.
    pub(crate) rotated: bool,
    /// Whether it was said that the clock may be wrong.
    pub(crate) doubted: bool,
    complained: Option<Instant>,
}

/// The file in use.
pub(crate) struct Tip {
    pub(crate) file: File,
    /// Device and inode.
    pub(crate) id: (u64, u64),
    /// Where its last line ends. A write that failed half-way is taken back to here; a file of another length has
    /// been written to by another process.
    pub(crate) end: u64,
    /// Number and time of its first record, once it has one.
    pub(crate) first: Option<(u64, Option<OffsetDateTime>)>,
}

impl Chain {
    /// Finds the end of the chain, or begins one. Half a line at its end, left by a crash, is cut off: nobody was
    /// told that it was written.
    pub(crate) fn open(
        directory: &Path,
        writer: &str,
        key: &AuditKey,
        heads: Box<dyn Heads>,
        settings: Settings,
    ) -> Result<Self, AuditError> {
        let path = files::current(directory, writer);
        let failed = |error| AuditError::new(path.display().to_string(), error);
        let lock = files::open(&files::lock(directory, writer)).map_err(failed)?;
        let mut chain = Self {
            directory: directory.to_owned(),
            writer: writer.to_owned(),
            path: path.clone(),
            key: key.writer(writer),
            heads,
            reserve: Reserve::new(directory, settings.reserve_bytes),
            settings,
            lock,
            ends: None,
            tip: None,
            notes: Vec::new(),
            looked: HashMap::new(),
            amiss: BTreeMap::new(),
            rotated: false,
            doubted: false,
            complained: None,
        };
        let opened = chain.locked(|chain| {
            chain.settle()?;
            // Stored before the first record is written: a file without a head is one whose head was taken away.
            chain.keep_head();
            chain.tidy(usize::MAX);
            Ok(())
        });
        opened.map_err(failed)?;
        Ok(chain)
    }

    pub(crate) fn error(&self, error: io::Error) -> AuditError {
        AuditError::new(self.path.display().to_string(), error)
    }

    /// Runs `work` while no other process writes to this chain: several `countersign call` share one.
    pub(crate) fn locked<T>(&mut self, work: impl FnOnce(&mut Self) -> io::Result<T>) -> io::Result<T> {
        let deadline = Instant::now() + PATIENCE;
        let path = files::lock(&self.directory, &self.writer);
        // More than once only if the lock's file is removed meanwhile.
        for _ in 0..4 {
            take_lock(&self.lock, deadline, &path)?;
            if is_at(&path, id(&self.lock)?)?.is_some() {
                let result = work(self);
                self.lock.unlock()?;
                return result;
            }
            // Closing the old file ends its lock.
            self.lock = files::open(&path)?;
        }
        Err(io::Error::other("its lock is removed again and again; see what does that"))
    }

    /// Makes sure that the end of the file in use is known.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        if let Some(tip) = &self.tip
            && is_at(&self.path, tip.id)? == Some(tip.end)
        {
            return Ok(());
        }
        self.tip = None;
        self.find_end()
    }

    /// Writes these records, all or none of them.
    pub(crate) fn append(&mut self, group: &[(OffsetDateTime, Record)]) -> io::Result<()> {
        self.settle()?;
        let start = self.ends.unwrap_or(Ends::NEW).head;
        let noted = self.notes.len();
        let mut bytes = Vec::with_capacity(512 * (group.len() + self.notes.len()));
        let mut link = start;
        // Notes go before the group, and their time not after its own.
        let now = group.first().map_or_else(OffsetDateTime::now_utc, |(time, _)| *time);
        let notes = self.notes.iter().map(|note| (now, note));
        for (time, record) in notes.chain(group.iter().map(|(time, record)| (*time, record))) {
            link = line::write(&self.key, link, &written(time), record, &mut bytes)?;
        }
        if self.is_due(bytes.len() as u64, now) {
            self.rotate()?;
        }
        if let Err(error) = self.write(&bytes) {
            if !disk::is_full(&error) || !self.reserve.release() {
                return Err(error);
            }
            tracing::error!(
                path = %self.path.display(),
                "THE DISK IS FULL: the trail goes on in the room that was kept for this; make room now"
            );
            self.write(&bytes)?;
        }
        // Not those that putting a file aside has added.
        self.notes.drain(..noted);
        self.ends = Some(Ends { head: link, ..self.ends.unwrap_or(Ends::NEW) });
        if let Some(tip) = &mut self.tip {
            tip.first.get_or_insert((start.seq + 1, Some(now)));
        }
        Ok(())
    }

    /// One write, so that readers and a crash see whole lines, and one sync.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(tip) = &mut self.tip else { return Err(io::Error::other("the file is not open")) };
        let written = (&tip.file)
            .write_all(bytes)
            .and_then(|()| if self.settings.danger_no_sync { Ok(()) } else { tip.file.sync_data() });
        match written {
            Ok(()) => tip.end += bytes.len() as u64,
            // A full disk can take half a line.
            Err(_) => drop(tip.file.set_len(tip.end)),
        }
        written
    }

    /// Stores where the chain ends. That this fails is no reason to refuse anybody: the next one makes up for it.
    pub(crate) fn keep_head(&mut self) {
        let Some(ends) = self.ends else { return };
        if let Err(error) = self.heads.store(&self.writer, &ends.sealed(&self.key))
            && self.complained.is_none_or(|last| last.elapsed() > COMPLAIN)
        {
            self.complained = Some(Instant::now());
            tracing::warn!(%error, writer = self.writer, "where the audit trail ends could not be stored; it is tried again with the next record");
        }
    }

    /// Says something about the trail itself, loudly here and in the chain.
    pub(crate) fn note(&mut self, reason: &str, count: Option<u64>, detail: String) {
        tracing::error!(writer = self.writer, reason, "the audit trail: {detail}");
        let mut record = Record::new(Direction::Local, "trail", Outcome::Gap, reason);
        (record.count, record.detail) = (count, Some(detail));
        self.notes.push(record);
    }

    /// Records that were let go because there was no room for them.
    pub(crate) fn lost(&mut self, count: u64) {
        const REASON: &str = "records-dropped";
        self.notes.retain(|note| note.reason != REASON);
        let mut record = Record::new(Direction::Local, "trail", Outcome::Gap, REASON);
        record.detail = Some(format!("{count} records were not written, for the disk was full"));
        record.count = Some(count);
        self.notes.push(record);
    }
}

/// The length of what is at `path`, if it is the file with this device and inode: one that was renamed or removed
/// takes records that nobody will read.
fn is_at(path: &Path, id: (u64, u64)) -> io::Result<Option<u64>> {
    match path.metadata() {
        Ok(there) => Ok(((there.dev(), there.ino()) == id).then_some(there.len())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

pub(crate) fn id(file: &File) -> io::Result<(u64, u64)> {
    let metadata = file.metadata()?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Takes the lock, or gives up at `deadline`.
fn take_lock(file: &File, deadline: Instant, path: &Path) -> io::Result<()> {
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if Instant::now() >= deadline => {
                let held = format!(
                    "another process holds its lock and does not let go; `lsof {}` shows which",
                    path.display()
                );
                return Err(io::Error::new(ErrorKind::TimedOut, held));
            }
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(2)),
        }
    }
}
