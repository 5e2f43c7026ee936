//! Finding the end of a chain again: after a start, a crash, or when another process has written to it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::chain::{Chain, Tip, id};
use crate::files::{self, Kind};
use crate::head::Ends;
use crate::key::WriterKey;
use crate::line::{self, Link};
use crate::lines::{self, Lines};

/// How much of a file's end is read at first; much longer than any line.
const WINDOW: u64 = 64 * 1024;

/// Files of a writer that are kept with what others have put behind its last record.
const ASIDE_FILES: usize = 16;
/// Bytes of each.
const ASIDE_BYTES: u64 = 16 << 20;

/// The last line of a file that is its writer's.
#[derive(Clone, Copy, Debug)]
struct Last {
    link: Link,
    /// The byte after it, and after its line end if it has one.
    end: u64,
    /// Whether it has a line end.
    ended: bool,
}

impl Chain {
    /// Finds where the chain ends, in files and in the store, and takes the file in use to hand. What is missing,
    /// or none of ours, gets a record that says so.
    pub(crate) fn find_end(&mut self) -> io::Result<()> {
        let known = self.known_ends()?;
        let mut file = files::open(&self.path)?;
        if is_unchained(&file, &self.key)? {
            let aside = files::free(&self.directory, &format!("{}.v1", self.writer), "jsonl");
            std::fs::rename(&self.path, &aside)?;
            tracing::info!(
                aside = %aside.display(),
                "records of an earlier version, which are not chained, were put aside; `audit tail` still shows them"
            );
            file = files::open(&self.path)?;
        }
        let at_least = known.map_or(0, |ends| ends.head.seq);
        let mut length = file.metadata()?.len();
        let mut last = last_line(&file, &self.key, at_least)?;
        if last.is_none() {
            // It was put aside a moment ago, and what follows has not been written yet, or not to its end.
            last = self.last_of_archives(at_least)?.map(|link| Last { link, end: 0, ended: true });
        }
        let last = last.filter(|last| last.link.seq >= at_least);
        let ends = match (known, last) {
            (known, Some(last)) => {
                length = self.trim(&file, last, length)?;
                if known.is_some_and(|known| known.head.seq == last.link.seq && known.head != last.link) {
                    let detail = format!("record {at_least} is not the one that the store knows");
                    self.note("chain-replaced", None, detail);
                }
                let start = match known {
                    Some(known) => known.start,
                    None => self.lost_head(last.link)?,
                };
                Ends { start, head: last.link }
            }
            (Some(known), None) if known.head.seq > 0 => {
                length = end_line(&file, length)?;
                self.missing(&file, known)?;
                known
            }
            (known, None) => {
                length = self.set_aside(&file, 0, length, 0)?;
                known.unwrap_or(Ends::NEW)
            }
        };
        self.ends = Some(ends);
        let first = first_in(&file, &self.key)?.map(|first| (first.before.seq + 1, first.time));
        self.tip = Some(Tip { id: id(&file)?, first, end: length, file });
        Ok(())
    }

    /// What the store says, or this process knows better.
    fn known_ends(&mut self) -> io::Result<Option<Ends>> {
        let stored = match (self.heads.load(&self.writer), self.ends) {
            (Ok(stored), _) => stored,
            (Err(error), None) => {
                return Err(io::Error::other(format!("where it ends cannot be read: {error}")));
            }
            (Err(_), Some(_)) => None,
        };
        let opened = stored.as_ref().and_then(|stored| Ends::open(&self.key, stored));
        if stored.is_some() && opened.is_none() {
            let detail = "where the store says that this chain ends was not written by its writer";
            self.note("head-changed", None, detail.to_owned());
        }
        Ok(match (self.ends, opened) {
            (Some(ours), Some(stored)) if stored.head.seq < ours.head.seq => Some(ours),
            (ours, stored) => stored.or(ours),
        })
    }

    /// Cuts off what comes after `last`: half a line was never told to be written; whole lines are kept elsewhere.
    fn trim(&mut self, file: &File, last: Last, length: u64) -> io::Result<u64> {
        if !last.ended {
            return end_line(file, length);
        }
        self.set_aside(file, last.end, length, last.link.seq)
    }

    /// Takes everything from `end` on out of the file, and keeps it if there is a whole line in it.
    fn set_aside(&mut self, file: &File, end: u64, length: u64, number: u64) -> io::Result<u64> {
        if end >= length {
            return Ok(length);
        }
        let mut lines = 0_u64;
        pieces(file, end, length, |piece| {
            lines += piece.iter().filter(|byte| **byte == b'\n').count() as u64;
            Ok(())
        })?;
        if lines > 0 {
            let kept = self.keep_aside(file, (end, length), number)?;
            self.note(
                "lines-set-aside",
                Some(lines),
                format!("what stood after record {number} was not written by this chain's writer; {kept}"),
            );
        } else {
            tracing::info!(path = %self.path.display(), "half a line that a crash left was cut off");
        }
        file.set_len(end)?;
        file.sync_all()?;
        Ok(end)
    }

    /// Keeps what stands in a range of a file as evidence: the first of it and the first times, for whoever can put it
    /// there must not fill the disk so. What became of it.
    fn keep_aside(&self, file: &File, (from, to): (u64, u64), number: u64) -> io::Result<String> {
        let mine = |name: &str| {
            name.ends_with(".aside") && name.split('.').next().is_some_and(|writer| writer == self.writer)
        };
        let there = files::all(&self.directory)?.iter().filter(|(name, _)| mine(name)).count();
        if there >= ASIDE_FILES {
            return Ok(format!(
                "it was not kept, for there are {there} files with such already; look at them"
            ));
        }
        let aside = files::free(&self.directory, &files::numbered(&self.writer, number), "aside");
        let mut kept = files::open(&aside)?;
        let most = to.min(from.saturating_add(ASIDE_BYTES));
        pieces(file, from, most, |piece| kept.write_all(piece))?;
        kept.sync_all()?;
        let name = aside.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(match to - most {
            0 => format!("it is in {name}"),
            more => format!("its beginning is in {name}, and {more} bytes were not kept"),
        })
    }

    /// The file is behind what is known to have been written.
    fn missing(&mut self, file: &File, known: Ends) -> io::Result<()> {
        let found = match last_line(file, &self.key, 0)? {
            Some(last) => last.link.seq,
            None => self.last_of_archives(0)?.map_or(known.start.seq, |link| link.seq),
        };
        let (first, last) = (found.min(known.head.seq - 1) + 1, known.head.seq);
        self.note(
            "records-missing",
            Some(last - first + 1),
            format!("the records {first} to {last} were written and are missing; somebody removed them, or the disk lost them"),
        );
        Ok(())
    }

    /// There are records, and the store knows of none: where do they begin?
    fn lost_head(&mut self, last: Link) -> io::Result<Link> {
        let detail = format!("the store had nothing about this chain, whose last record is {}", last.seq);
        self.note("head-lost", None, detail);
        for (kind, path) in files::of_writer(&self.directory, &self.writer)? {
            if !matches!(kind, Kind::Unchained(_))
                && let Some(first) = first_record(&path, &self.key)?
            {
                return Ok(first.before);
            }
        }
        Ok(Link::START)
    }

    fn last_of_archives(&self, at_least: u64) -> io::Result<Option<Link>> {
        let files = files::of_writer(&self.directory, &self.writer)?;
        let newest = files.iter().rfind(|(kind, _)| matches!(kind, Kind::Archive(..)));
        let Some((_, path)) = newest else { return Ok(None) };
        Ok(last_line(&lines::open(path)?, &self.key, at_least)?.map(|last| last.link))
    }
}

/// The first record of a file that is its writer's.
#[derive(Clone, Copy, Debug)]
pub(crate) struct First {
    /// The place before it.
    pub(crate) before: Link,
    /// When it was written.
    pub(crate) time: Option<OffsetDateTime>,
}

/// The first record of the file at `path` that is its writer's.
pub(crate) fn first_record(path: &Path, key: &WriterKey) -> io::Result<Option<First>> {
    first_in(&lines::open(path)?, key)
}

fn first_in(file: &File, key: &WriterKey) -> io::Result<Option<First>> {
    let length = file.metadata()?.len();
    // Nearly always it is the first line.
    let bytes = read_range(file, 0, length.min(4096))?;
    let near = bytes.split(|byte| *byte == b'\n').find_map(|line| first_of(line, key));
    if near.is_some() || length <= 4096 {
        return Ok(near);
    }
    let mut whole = file.try_clone()?;
    whole.seek(SeekFrom::Start(0))?;
    let mut lines = Lines::new(whole.take(length));
    while let Some(line) = lines.next()? {
        if let Some(first) = first_of(line.text, key) {
            return Ok(Some(first));
        }
    }
    Ok(None)
}

fn first_of(line: &[u8], key: &WriterKey) -> Option<First> {
    let sealed = line::read(key, line)?;
    let time = serde_json::from_slice::<Time>(line).ok();
    let time = time.and_then(|it| OffsetDateTime::parse(&it.time, &Rfc3339).ok());
    let before = Link { seq: sealed.link.seq.saturating_sub(1), mac: sealed.prev };
    Some(First { before, time })
}

#[derive(Deserialize)]
struct Time {
    time: String,
}

/// The line with the greatest number of those that are the writer's; if one near the end has at least this number,
/// the others are not looked at.
fn last_line(file: &File, key: &WriterKey, at_least: u64) -> io::Result<Option<Last>> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(WINDOW);
    let near = last_after(file, key, from)?;
    if from == 0 || near.is_some_and(|near| near.link.seq >= at_least) {
        return Ok(near);
    }
    last_after(file, key, 0)
}

/// The same of the lines that begin after the byte `from`.
fn last_after(file: &File, key: &WriterKey, from: u64) -> io::Result<Option<Last>> {
    let mut whole = file.try_clone()?;
    whole.seek(SeekFrom::Start(from))?;
    let mut lines = Lines::new(whole.take(file.metadata()?.len().saturating_sub(from)));
    let mut best: Option<Last> = None;
    // A window seldom begins where a line does.
    let mut skip = from > 0;
    loop {
        let before = from + lines.bytes();
        let Some(line) = lines.next()? else { return Ok(best) };
        if std::mem::take(&mut skip) {
            continue;
        }
        if let Some(sealed) = line::read(key, line.text)
            && best.is_none_or(|best| best.link.seq < sealed.link.seq)
        {
            let (length, ended) = (line.text.len() as u64, line.ended);
            best = Some(Last { link: sealed.link, end: before + length + u64::from(ended), ended });
        }
    }
}

/// Hands over what stands in a range of a file, in pieces.
fn pieces(
    file: &File,
    mut from: u64,
    to: u64,
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    while from < to {
        let end = to.min(from.saturating_add(WINDOW));
        take(&read_range(file, from, end)?)?;
        from = end;
    }
    Ok(())
}

/// Ends the last line of a file.
fn end_line(file: &File, length: u64) -> io::Result<u64> {
    if length == 0 || read_range(file, length - 1, length)? == b"\n" {
        return Ok(length);
    }
    let mut file = file;
    file.write_all(b"\n")?;
    file.sync_data()?;
    Ok(length + 1)
}

fn read_range(file: &File, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to - from).map_err(io::Error::other)?];
    file.read_exact_at(&mut bytes, from)?;
    Ok(bytes)
}

fn first_line(file: &File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len().min(WINDOW);
    let mut bytes = read_range(file, 0, length)?;
    bytes.truncate(bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len()));
    Ok(bytes)
}

/// Whether it was written before there was a chain. One line of version 1 in a chain is something else.
fn is_unchained(file: &File, key: &WriterKey) -> io::Result<bool> {
    Ok(line::claimed(&first_line(file)?).is_some_and(|(version, _)| version < line::VERSION)
        && last_line(file, key, 0)?.is_none())
}
