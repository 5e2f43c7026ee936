//! One writer's files, in the order of reading, as they are at one moment.

use std::collections::{BTreeSet, VecDeque};
use std::fs::{File, Metadata};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use crate::Entry;
use crate::files::{self, Kind};
use crate::key::WriterKey;
use crate::line;
use crate::lines::{self, Lines};

/// A file that is there.
pub(crate) struct Found {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// Of the file in use, which may get another name at any time.
    open: Option<io::Result<File>>,
}

impl Found {
    /// Opens it. One that is put aside keeps its name; it is not found if it was removed meanwhile.
    pub(crate) fn open(&mut self) -> io::Result<File> {
        self.open.take().unwrap_or_else(|| lines::open(&self.path))
    }

    /// A file in use whose first line is of version 1 is one without a chain.
    pub(crate) fn check_unchained(&mut self) {
        if let Some(Ok(file)) = &self.open
            && let Ok(file) = file.try_clone()
        {
            let mut start = Lines::new(file.take(lines::LONGEST as u64));
            let claimed = start.next().ok().flatten().and_then(|line| line::claimed(line.text));
            if claimed.is_some_and(|(version, _)| version < line::VERSION) {
                self.kind = Kind::Unchained(0);
            }
            // The clone shares its place in the file.
            self.open = None;
        }
    }

    /// Whether this is a file of the chain that holds a line, whole or too long to be one. One that cannot be read may.
    pub(crate) fn has_line(&self) -> bool {
        match self.kind {
            Kind::Archive(..) => true,
            Kind::Current => match lines::open(&self.path) {
                Ok(file) => Lines::new(file)
                    .next()
                    .map_or(true, |line| line.is_some_and(|line| line.ended || line.too_long)),
                Err(error) => error.kind() != ErrorKind::NotFound,
            },
            Kind::Unchained(_) | Kind::Other => false,
        }
    }

    pub(crate) fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Device and inode.
pub(crate) fn id(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

/// The files of one writer. No lock is taken: the file in use is opened first and the others are listed then, so that
/// one that is put aside in between is not overlooked.
pub(crate) fn found(directory: &Path, writer: &str) -> io::Result<Vec<Found>> {
    let path = files::current(directory, writer);
    let current = match lines::open(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        opened => Some(opened),
    };
    let open = current.as_ref().and_then(|opened| opened.as_ref().ok()?.metadata().ok());
    let open = open.as_ref().map(id);
    let (mut found, mut aside) = (Vec::new(), false);
    // A name that comes while a directory is read may not be told; then it is read again.
    for _ in 0..8 {
        (found, aside) = (Vec::new(), false);
        for (kind, path) in files::of_writer(directory, writer)? {
            if kind != Kind::Current {
                aside |= open.is_some() && path.metadata().ok().as_ref().map(id) == open;
                found.push(Found { kind, path, open: None });
            }
        }
        if aside || open.is_none() || path.metadata().ok().as_ref().map(id) == open {
            break;
        }
    }
    if let Some(opened) = current.filter(|_| !aside) {
        found.push(Found { kind: Kind::Current, path, open: Some(opened) });
    }
    Ok(found)
}

/// The writers that have files here, by what stands before the first dot of their names.
pub(crate) fn writers(directory: &Path) -> io::Result<BTreeSet<String>> {
    let names = files::all(directory)?.into_iter().map(|(name, _)| name);
    let of = |name: String| {
        let trail = name.ends_with(".jsonl") || name.ends_with(".aside");
        name.split('.').next().filter(|_| trail).map(str::to_owned)
    };
    Ok(names.filter_map(of).collect())
}

/// One writer's records, one after the other.
pub(crate) struct Stream {
    pub(crate) writer: String,
    key: Option<WriterKey>,
    files: VecDeque<Found>,
    current: Option<(Lines<File>, u64, Kind)>,
    /// Lines that are no record.
    pub(crate) unreadable: u64,
}

impl Stream {
    /// With a key, a line that its writer did not write is an error.
    pub(crate) fn open(directory: &Path, writer: &str, key: Option<WriterKey>) -> io::Result<Self> {
        let files = found(directory, writer)?.into();
        Ok(Self { writer: writer.to_owned(), key, files, current: None, unreadable: 0 })
    }

    /// The files that have a chain, only: anybody can have put the others there.
    pub(crate) fn chained(directory: &Path, writer: &str, key: WriterKey) -> io::Result<Self> {
        let mut stream = Self::open(directory, writer, Some(key))?;
        stream.files.retain(|file| matches!(file.kind, Kind::Archive(..) | Kind::Current));
        Ok(stream)
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Entry>> {
        loop {
            let Some((lines, length, kind)) = &mut self.current else {
                let Some(mut file) = self.files.pop_front() else { return Ok(None) };
                match file.open() {
                    Ok(opened) => {
                        let length = opened.metadata()?.len();
                        self.current = Some((Lines::new(opened), length, file.kind));
                    }
                    // Retention has removed it.
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                continue;
            };
            // What is written from now on is not looked at: a writer may be faster.
            let line = if lines.bytes() < *length { lines.next()? } else { None };
            let Some(line) = line else {
                self.current = None;
                continue;
            };
            let entry = serde_json::from_slice::<Entry>(line.text).ok().filter(|_| !line.too_long);
            if let Some(key) = &self.key
                && matches!(kind, Kind::Archive(..) | Kind::Current)
                && line::read(key, line.text).is_none()
                && line.ended
            {
                let text =
                    "it has lines that its writer did not write; `countersign audit verify` names them";
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
            match entry {
                Some(entry) => return Ok(Some(entry)),
                None if line.text.is_empty() && !line.too_long => {}
                None => self.unreadable += 1,
            }
        }
    }
}
