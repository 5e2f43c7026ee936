use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::path::Path;

use crate::Entry;
use crate::files;

/// The last `count` records of all writers in `directory`, by time. The second value counts lines that could
/// not be read (a crash leaves at most half a line per writer).
///
/// # Errors
/// A file cannot be read. A directory that does not exist has no records.
pub fn tail(directory: &Path, count: usize) -> std::io::Result<(Vec<Entry>, usize)> {
    let mut entries = Vec::new();
    let mut unreadable = 0;
    for (_, path) in files::all(directory)? {
        if path.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        let file = match File::open(&path) {
            Ok(file) => file,
            // It was moved away since the directory was read.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let mut last = VecDeque::with_capacity(count.min(4096));
        for line in BufReader::new(file).split(b'\n') {
            let line = line?;
            if line.is_empty() {
                continue;
            }
            match serde_json::from_slice::<Entry>(&line) {
                Ok(entry) => {
                    if last.len() == count {
                        last.pop_front();
                    }
                    last.push_back(entry);
                }
                Err(_) => unreadable += 1,
            }
        }
        entries.extend(last);
    }
    // RFC 3339 in one zone and with one precision sorts as text does; the sort is stable within a writer.
    entries.sort_by(|a, b| a.time.cmp(&b.time));
    let surplus = entries.len().saturating_sub(count);
    entries.drain(..surplus);
    Ok((entries, unreadable))
}
