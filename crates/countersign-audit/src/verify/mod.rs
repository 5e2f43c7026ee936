//! Whether anybody touched the trail: reads every writer's files in order under the key, and compares with what the
//! store knows of their ends.
//!
//! It takes no lock and changes nothing, so it can be run while writers write, and on a copy. The head is read first,
//! then the file in use is opened, then the others are listed: files may be ahead of the head so, never behind it, and
//! what is put aside meanwhile is in the list. What retention removes meanwhile is noticed by asking for the head
//! again, which moves before a file is removed.

mod amiss;
mod report;
mod walk;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::Path;

pub use report::{Anchor, AnchorError, Fault, FaultKind, Notice, NoticeKind, Report, WriterReport};

use crate::files::{self, Kind};
use crate::head::Ends;
use crate::key::WriterKey;
use crate::line::Link;
use crate::lines::Lines;
use crate::source::Found;
use crate::{AuditKey, Heads, source};
use report::Collected;
use walk::Walk;

/// How a look at the trail goes.
#[derive(Clone, Debug)]
pub struct Verify {
    /// Records that are to be there.
    pub expect: Vec<Anchor>,
    /// Faults, and notices, that are listed at most; the others are counted. Default: 1000.
    pub most: usize,
}

impl Default for Verify {
    fn default() -> Self {
        Self { expect: Vec::new(), most: 1000 }
    }
}

/// Whether a writer can have this name.
pub(crate) fn is_writer(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// Reads the trail in `directory`, and says what is wrong with it. Memory does not depend on its size.
///
/// # Errors
/// The directory or the heads cannot be read. A file that cannot be read is a fault.
pub fn verify(directory: &Path, key: &AuditKey, heads: &dyn Heads, options: &Verify) -> io::Result<Report> {
    let known = heads.writers().map_err(io::Error::other)?;
    let mut names: BTreeSet<String> = known.into_iter().collect();
    names.extend(source::writers(directory)?);
    names.extend(options.expect.iter().map(|anchor| anchor.writer.clone()));
    let keys: BTreeMap<String, WriterKey> =
        names.into_iter().map(|name| (name.clone(), key.writer(&name))).collect();
    let mut collected = Collected::new(options.most);
    for writer in keys.keys() {
        let expect: Vec<_> = options.expect.iter().filter(|anchor| anchor.writer == *writer).collect();
        Look { directory, heads, writer }.at(&keys, &expect, &mut collected)?;
        collected.settle();
    }
    Ok(collected.report)
}

/// What the store says.
enum Stored {
    Sealed(Ends),
    Changed,
}

struct Look<'a> {
    directory: &'a Path,
    heads: &'a dyn Heads,
    writer: &'a str,
}

impl Look<'_> {
    fn head(&self, key: &WriterKey) -> io::Result<Option<Stored>> {
        let stored = self.heads.load(self.writer).map_err(io::Error::other)?;
        Ok(stored.map(|stored| Ends::open(key, &stored).map_or(Stored::Changed, Stored::Sealed)))
    }

    fn at(
        &self,
        keys: &BTreeMap<String, WriterKey>,
        expect: &[&Anchor],
        collected: &mut Collected,
    ) -> io::Result<()> {
        let Some(key) = keys.get(self.writer) else { return Ok(()) };
        let before = collected.count;
        // In this order: files may be ahead of what the store says, never behind it.
        let mut head = self.head(key)?;
        let mut files = source::found(self.directory, self.writer)?;
        let mut begun = false;
        if head.is_none() {
            // Lines of version 1 that no later version has put aside yet.
            files.iter_mut().for_each(Found::check_unchained);
            begun = files.iter().any(Found::has_line);
        }
        if begun {
            // A writer stores the head before its first line: it may have begun since the store was asked.
            head = self.head(key)?;
            if head.is_some() {
                files = source::found(self.directory, self.writer)?;
            }
        }
        let mut ends = match head {
            Some(Stored::Sealed(ends)) => Some(ends),
            Some(Stored::Changed) | None => None,
        };
        let stored_start = ends.map_or(0, |ends| ends.start.seq);
        // Retention may have removed something before the files were listed: it has said so before.
        if let (Some(ends), Some(Stored::Sealed(later))) = (&mut ends, self.head(key)?)
            && later.start.seq > ends.start.seq
        {
            ends.start = later.start;
        }
        let first = ends.map(|ends| ends.start.seq + 1);
        let mut walk = Walk::new(self.writer, keys, ends, expect, collected);
        walk.stored_start(stored_start);
        match head {
            Some(Stored::Changed) => walk.head_changed(),
            // Lines of version 1 have no chain, and no head. A file without a line has been created, and no more.
            None if begun => walk.head_lost(),
            None | Some(Stored::Sealed(_)) => {}
        }
        let (mut count, mut bytes) = (0, 0);
        let last = files.len().checked_sub(1);
        for (index, mut found) in files.into_iter().enumerate() {
            let (kind, name) = (found.kind, found.name());
            let file = match found.open() {
                Ok(file) => file,
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    // Retention says how far it has come before it removes anything.
                    if let Some(Stored::Sealed(ends)) = self.head(key)? {
                        walk.begin_again(ends.start);
                    }
                    continue;
                }
                Err(error) => {
                    walk.unreadable_file(index, &name, &error);
                    continue;
                }
            };
            count += 1;
            bytes += match kind {
                Kind::Unchained(_) => {
                    walk.unchained(&name);
                    file.metadata()?.len()
                }
                Kind::Other => {
                    walk.unknown_file(index, &name);
                    file.metadata()?.len()
                }
                Kind::Archive(..) | Kind::Current => {
                    let named = if let Kind::Archive(number, _) = kind { Some(number) } else { None };
                    let is_last = kind == Kind::Current && Some(index) == last;
                    read(&mut walk, (index, &name), named, file, is_last)?
                }
            };
        }
        for (name, _) in files::all(self.directory)? {
            if name.ends_with(".aside") && name.split('.').next() == Some(self.writer) {
                walk.aside(&name);
            }
        }
        let (records, last) = walk.end();
        collected.report.writers.push(WriterReport {
            writer: self.writer.to_owned(),
            whole: collected.count == before,
            records,
            files: count,
            bytes,
            first,
            last: last.seq,
            anchor: (last != Link::START).then(|| Anchor::new(self.writer, last)),
        });
        Ok(())
    }
}

/// Walks through one file; the bytes that were read of it.
fn read(
    walk: &mut Walk<'_>,
    (index, name): (usize, &str),
    named: Option<u64>,
    file: File,
    is_last: bool,
) -> io::Result<u64> {
    // What is written from now on is not looked at: a writer may be faster.
    let length = file.metadata()?.len();
    walk.enter(index, name, named);
    let mut lines = Lines::new(file);
    while lines.bytes() < length {
        match lines.next() {
            Ok(None) => break,
            Ok(Some(line)) => walk.line(&line, is_last),
            Err(error) => {
                walk.unreadable_file(index, name, &error);
                break;
            }
        }
    }
    walk.leave();
    Ok(lines.bytes())
}
