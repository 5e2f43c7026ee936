//! The names of files: `WRITER.jsonl` in use, `WRITER.<first number>.jsonl` put aside, `WRITER.v1.jsonl` without a
//! chain, `WRITER.<number>.aside` what was found and is none of ours.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// What a file of a writer is, in the order of reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Lines of version 1; of several files, which one.
    Unchained(u64),
    /// Put aside; by its name, this is its first number. The second number is that of several with one first number.
    Archive(u64, u64),
    /// Named by somebody else.
    Other,
    /// In use.
    Current,
}

pub(crate) fn current(directory: &Path, writer: &str) -> PathBuf {
    directory.join(format!("{writer}.jsonl"))
}

pub(crate) fn lock(directory: &Path, writer: &str) -> PathBuf {
    directory.join(format!("{writer}.lock"))
}

/// A name that is free: `STEM.EXTENSION`, or else `STEM-2.EXTENSION` and so on.
pub(crate) fn free(directory: &Path, stem: &str, extension: &str) -> PathBuf {
    let mut path = directory.join(format!("{stem}.{extension}"));
    let mut number = 2;
    // Not `exists`: a link that leads nowhere is also in the way.
    while path.symlink_metadata().is_ok() {
        path = directory.join(format!("{stem}-{number}.{extension}"));
        number += 1;
    }
    path
}

/// Number, with zeros before it so that names sort as numbers do.
pub(crate) fn numbered(writer: &str, number: u64) -> String {
    format!("{writer}.{number:012}")
}

/// The files of one writer, oldest first as far as names tell.
pub(crate) fn of_writer(directory: &Path, writer: &str) -> io::Result<Vec<(Kind, PathBuf)>> {
    let mut files: Vec<(Kind, PathBuf)> = all(directory)?
        .into_iter()
        .filter_map(|(name, path)| Some((kind(name.strip_suffix(".jsonl")?, writer)?, path)))
        .collect();
    files.sort();
    Ok(files)
}

/// Names and paths of everything in the directory whose name is text; a directory that is not there is empty.
pub(crate) fn all(directory: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry?;
        found.extend(entry.file_name().into_string().ok().map(|name| (name, entry.path())));
    }
    Ok(found)
}

fn kind(stem: &str, writer: &str) -> Option<Kind> {
    let rest = stem.strip_prefix(writer)?;
    if rest.is_empty() {
        return Some(Kind::Current);
    }
    let rest = rest.strip_prefix('.')?;
    let (number, several) =
        rest.split_once('-').map_or((rest, Some(1)), |(number, several)| (number, several.parse().ok()));
    Some(match (number.parse(), several) {
        (_, Some(several)) if number == "v1" => Kind::Unchained(several),
        (Ok(number), Some(several)) => Kind::Archive(number, several),
        _ => Kind::Other,
    })
}

/// Opens a file of the trail to read and append, and makes it and its directory if they are not there.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let directory = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut options = OpenOptions::new();
    options.read(true).append(true).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let file = options.create(true).open(path)?;
            sync_directory(directory)?;
            Ok(file)
        }
        opened => opened,
    }
}

/// Makes names durable.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
