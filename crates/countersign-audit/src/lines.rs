//! Lines of a file, however long somebody made them, in memory of a fixed size.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::OFlags;

/// No record has a line as long as this: see [`Record::MOST`](crate::Record).
pub(crate) const LONGEST: usize = 1 << 20;

/// Opens a file of the trail to read. What only looks like one (a pipe would be waited for without end) is an error.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file =
        OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    Ok(file)
}

/// One line.
#[derive(Debug)]
pub(crate) struct Line<'a> {
    /// Without its line end; empty if it is longer than [`LONGEST`].
    pub(crate) text: &'a [u8],
    /// From 1.
    pub(crate) number: u64,
    /// Whether it has a line end.
    pub(crate) ended: bool,
    /// Whether it is longer than [`LONGEST`].
    pub(crate) too_long: bool,
}

/// Reads lines.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    from: BufReader<R>,
    line: Vec<u8>,
    number: u64,
    bytes: u64,
}

impl<R: Read> Lines<R> {
    pub(crate) fn new(from: R) -> Self {
        Self { from: BufReader::with_capacity(64 * 1024, from), line: Vec::new(), number: 0, bytes: 0 }
    }

    /// Bytes of all lines so far, line ends included.
    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let (mut too_long, mut any) = (false, false);
        let ended = loop {
            let buffer = match self.from.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                buffer => buffer?,
            };
            if buffer.is_empty() {
                break false;
            }
            any = true;
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let piece = buffer.get(..end.unwrap_or(buffer.len())).unwrap_or_default();
            too_long |= self.line.len() + piece.len() > LONGEST;
            if too_long {
                self.line.clear();
            } else {
                self.line.extend_from_slice(piece);
            }
            let used = piece.len() + usize::from(end.is_some());
            self.from.consume(used);
            self.bytes += used as u64;
            if end.is_some() {
                break true;
            }
        };
        if !any {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(Line { text: &self.line, number: self.number, ended, too_long }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &[u8]) -> Vec<(Vec<u8>, u64, bool, bool)> {
        let mut lines = Lines::new(text);
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((line.text.to_vec(), line.number, line.ended, line.too_long));
        }
        assert_eq!(lines.bytes(), text.len() as u64);
        found
    }

    #[test]
    fn lines_come_with_their_numbers_and_the_last_may_have_no_end() {
        assert_eq!(read(b""), []);
        assert_eq!(
            read(b"a\n\nb"),
            [(b"a".to_vec(), 1, true, false), (vec![], 2, true, false), (b"b".to_vec(), 3, false, false)]
        );
    }

    #[test]
    fn a_line_that_is_too_long_is_passed_over_and_not_kept() {
        let text = [vec![b'x'; LONGEST + 1], b"\nb\n".to_vec(), vec![b'y'; LONGEST]].concat();
        let found = read(&text);
        assert_eq!(found[0], (vec![], 1, true, true));
        assert_eq!(found[1], (b"b".to_vec(), 2, true, false));
        assert_eq!((found[2].0.len(), found[2].3), (LONGEST, false));
    }
}
