//! Reading records: the last ones, all of them, and those to come.

use std::collections::VecDeque;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

use crate::lines::{self, Lines};
use crate::source::{self, Stream};
use crate::{AuditKey, Entry, files};

/// The last `count` records of all writers in `directory`, by time. The second value counts lines that could
/// not be read (a crash leaves at most half a line per writer).
///
/// # Errors
/// A file cannot be read. A directory that does not exist has no records.
pub fn tail(directory: &Path, count: usize) -> std::io::Result<(Vec<Entry>, usize)> {
    let mut entries = Vec::new();
    let mut unreadable = 0;
    for writer in source::writers(directory)? {
        let mut of_writer: Vec<Entry> = Vec::new();
        // Newest first: files that are too old for it are not opened.
        for mut found in source::found(directory, &writer)?.into_iter().rev() {
            if of_writer.len() >= count && !of_writer.is_empty() {
                break;
            }
            let file = match found.open() {
                Ok(file) => file,
                // Retention has removed it.
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let (last, bad) = last_of(file, count)?;
            unreadable += bad;
            of_writer.splice(0..0, last);
        }
        entries.extend(of_writer);
    }
    // RFC 3339 in one zone and with one precision sorts as text does; the sort is stable within a writer.
    entries.sort_by(|a, b| a.time.cmp(&b.time));
    let surplus = entries.len().saturating_sub(count);
    entries.drain(..surplus);
    Ok((entries, unreadable))
}

fn last_of(file: File, count: usize) -> std::io::Result<(VecDeque<Entry>, usize)> {
    let mut last = VecDeque::with_capacity(count.min(4096));
    let mut unreadable = 0;
    let mut lines = Lines::new(file);
    while let Some(line) = lines.next()? {
        if line.text.is_empty() && !line.too_long {
            continue;
        }
        match serde_json::from_slice::<Entry>(line.text) {
            Ok(entry) => {
                if last.len() == count {
                    last.pop_front();
                }
                if count > 0 {
                    last.push_back(entry);
                }
            }
            Err(_) => unreadable += 1,
        }
    }
    Ok((last, unreadable))
}

/// A record with the name of its writer.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Written {
    /// Who wrote it down.
    pub writer: String,
    /// What.
    #[serde(flatten)]
    pub entry: Entry,
}

/// All records of a trail, merged by time, in memory of a fixed size.
pub struct Records {
    streams: Vec<(Stream, Option<Entry>)>,
    /// What comes after the record that was read before it.
    failed: Option<std::io::Error>,
    ended: bool,
}

impl Records {
    /// Those in `directory`. With a key, a line that is not its writer's ends it with an error; lines of version 1,
    /// which are in files of their own, come as they are.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn open(directory: &Path, key: Option<&AuditKey>) -> std::io::Result<Self> {
        let mut streams = Vec::new();
        for writer in source::writers(directory)? {
            let mut stream = Stream::open(directory, &writer, key.map(|key| key.writer(&writer)))?;
            let first = stream.next()?;
            streams.push((stream, first));
        }
        Ok(Self { streams, failed: None, ended: false })
    }

    /// Those of one writer, file by file. A line that it did not write ends it with an error of the kind
    /// [`ErrorKind::InvalidData`]; whether lines are missing, their numbers tell. Files without a chain, and those with
    /// a name that no writer gives, are passed over: anybody can have put them there.
    ///
    /// # Errors
    /// A file cannot be read, or its first line is not the writer's.
    pub fn chained(directory: &Path, writer: &str, key: &AuditKey) -> std::io::Result<Self> {
        let mut stream = Stream::chained(directory, writer, key.writer(writer))?;
        let first = stream.next()?;
        Ok(Self { streams: vec![(stream, first)], failed: None, ended: false })
    }

    /// Lines so far that are no records.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.streams.iter().map(|(stream, _)| stream.unreadable).sum()
    }
}

impl Iterator for Records {
    type Item = std::io::Result<Written>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            self.ended = true;
            return Some(Err(error));
        }
        if self.ended {
            return None;
        }
        let earliest = self
            .streams
            .iter_mut()
            .filter(|(_, next)| next.is_some())
            .min_by(|(_, a), (_, b)| time(a).cmp(&time(b)))?;
        let (stream, next) = earliest;
        let entry = next.take()?;
        match stream.next() {
            Ok(following) => *next = following,
            // After this record, which is good.
            Err(error) => self.failed = Some(error),
        }
        Some(Ok(Written { writer: stream.writer.clone(), entry }))
    }
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records").field("failed", &self.failed).finish_non_exhaustive()
    }
}

fn time(entry: &Option<Entry>) -> Option<&str> {
    entry.as_ref().map(|entry| entry.time.as_str())
}

/// The records that come after a moment, of all writers, over rotation.
#[derive(Debug, Default)]
pub struct Follow {
    writers: Vec<Following>,
    begun: bool,
}

#[derive(Debug)]
struct Following {
    writer: String,
    file: Option<File>,
    /// Bytes that were read of it.
    read: u64,
    /// What was read of a line that has no end yet.
    rest: Vec<u8>,
    /// The number of the last record.
    last: u64,
}

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

impl Follow {
    /// From now on: what is there already is passed over.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn from_now(directory: &Path) -> std::io::Result<Self> {
        let mut follow = Self::default();
        follow.next(directory)?;
        follow.begun = true;
        Ok(follow)
    }

    /// What has come since, by writer.
    ///
    /// # Errors
    /// The directory or a file cannot be read.
    pub fn next(&mut self, directory: &Path) -> std::io::Result<Vec<Entry>> {
        for writer in source::writers(directory)? {
            if !self.writers.iter().any(|known| known.writer == writer) {
                let (rest, last) = (Vec::new(), 0);
                self.writers.push(Following { writer, file: None, read: 0, rest, last });
            }
        }
        let mut entries = Vec::new();
        for following in &mut self.writers {
            if self.begun {
                following.catch_up(directory, &mut entries)?;
            } else {
                following.skip(directory)?;
            }
        }
        Ok(entries)
    }
}

impl Following {
    /// Goes to the end.
    fn skip(&mut self, directory: &Path) -> std::io::Result<()> {
        let (mut last, _) = match lines::open(&files::current(directory, &self.writer)) {
            Ok(file) => {
                let last = last_of(file.try_clone()?, 1)?;
                self.file = Some(file);
                last
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Default::default(),
            Err(error) => return Err(error),
        };
        if let Some(file) = &mut self.file {
            use std::io::Seek as _;
            // Behind the last whole line; half a one is read again.
            self.read = whole(file)?;
            file.seek(std::io::SeekFrom::Start(self.read))?;
        }
        self.last = last.pop_back().map_or(0, |entry| entry.seq);
        Ok(())
    }

    fn catch_up(&mut self, directory: &Path, entries: &mut Vec<Entry>) -> std::io::Result<()> {
        // Each turn ends one file; a writer that is faster than this is caught up with the next time.
        for _ in 0..64 {
            self.read_on(entries)?;
            let path = files::current(directory, &self.writer);
            let there = path.metadata().ok().as_ref().map(source::id);
            let ours = self.file.as_ref().and_then(|file| file.metadata().ok()).as_ref().map(source::id);
            if ours.is_some() && there == ours {
                return Ok(());
            }
            // It was put aside: what came before that, then the next one.
            self.read_on(entries)?;
            let next = files::of_writer(directory, &self.writer)?.into_iter().find(|(kind, _)| match kind {
                files::Kind::Archive(first, _) => *first > self.last,
                files::Kind::Current => true,
                files::Kind::Unchained(_) | files::Kind::Other => false,
            });
            let opened = next.map(|(_, path)| lines::open(&path));
            match opened {
                Some(Ok(file)) => (self.file, self.read) = (Some(file), 0),
                // It got another name in this moment, or there is none yet.
                Some(Err(error)) if error.kind() == ErrorKind::NotFound => return Ok(()),
                Some(Err(error)) => return Err(error),
                None => return Ok(()),
            }
            self.rest.clear();
        }
        Ok(())
    }

    fn read_on(&mut self, entries: &mut Vec<Entry>) -> std::io::Result<()> {
        use std::io::{Read as _, Seek as _};
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.metadata()?.len() < self.read {
            // Half a line was cut off: the writer has made room for a whole one.
            self.read = self.read.saturating_sub(self.rest.len() as u64);
            self.rest.clear();
            file.seek(std::io::SeekFrom::Start(self.read))?;
        }
        let mut piece = vec![0; PIECE];
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                return Ok(());
            }
            self.read += count as u64;
            self.rest.extend_from_slice(piece.get(..count).unwrap_or_default());
            while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                if let Ok(entry) = serde_json::from_slice::<Entry>(&line) {
                    self.last = entry.seq;
                    entries.push(entry);
                }
            }
            if self.rest.len() > lines::LONGEST {
                // Nobody's line: wait for its end without keeping it.
                self.rest.clear();
            }
        }
    }
}

/// The byte after the last line end.
fn whole(file: &File) -> std::io::Result<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut end = file.metadata()?.len();
    let mut piece = vec![0; PIECE];
    while end > 0 {
        let from = end.saturating_sub(PIECE as u64);
        let piece = piece.get_mut(..usize::try_from(end - from).unwrap_or(PIECE)).unwrap_or_default();
        file.read_exact_at(piece, from)?;
        if let Some(at) = piece.iter().rposition(|byte| *byte == b'\n') {
            return Ok(from + at as u64 + 1);
        }
        end = from;
    }
    Ok(0)
}
