//! Removing old files.
//!
//! What goes, and when, is decided by what the writer wrote, under its MACs, and by nothing that somebody else can
//! change: not by a file's name, date or length. Whoever could make the writer remove records would need no key to be
//! rid of them, and the chain would say that it is whole. So
//!
//! * files are in the order of the records in them, and of their bytes those count that are records, each once;
//! * the chain's beginning moves to where the next file goes on, and over nothing that was not in the file that goes;
//!   where that cannot be, because records are missing there already, a record says so and stays a fault;
//! * a record says what is removed before it is removed.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::chain::Chain;
use crate::disk;
use crate::files::{self, Kind};
use crate::find::{First, first_record};
use crate::head::Ends;
use crate::key::WriterKey;
use crate::line::{self, Link};
use crate::lines::{self, Lines};
use crate::{Direction, Outcome, Record};

/// Files that are looked through at one time while records are written: each takes some tenths of a second, in which
/// none are.
pub(crate) const FEW: usize = 2;

/// The reason of the record that says which records retention has removed.
pub(crate) const REMOVED: &str = "file-removed";
/// The same, where they were not all there.
pub(crate) const REMOVED_DAMAGED: &str = "damaged-file-removed";

/// A file of the chain that retention looks at.
struct Kept {
    kind: Kind,
    path: PathBuf,
    first: First,
}

/// What is known of a file that is put aside.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Looked {
    first: Option<First>,
    /// Bytes of its records up to the one of this number, with which the next file begins; once it was looked through.
    own: Option<(u64, u64)>,
    /// Bytes of all lines that are its writer's; with `own`.
    all: u64,
    /// How long it was when it had no record.
    empty: u64,
    /// Whether it was said that it holds more than its writer wrote.
    said: bool,
}

/// What stands in a file, read from its beginning to its end.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// The place before its first record.
    before: Link,
    /// After the last of those that follow one another.
    last: Link,
    /// The greatest number.
    greatest: u64,
    /// Records with a number greater than those before them.
    records: u64,
    /// Bytes of those that come before the next file.
    own: u64,
    /// Bytes of all lines that are its writer's.
    all: u64,
    /// Whether there is nothing else in it, and each follows the one before it.
    whole: bool,
}

/// When each file's last record was written, as far as its first and that of the next file tell. Where these are of a
/// clock that was set ahead (they are in the future), the first record after that was put right tells.
fn ends(kept: &[Kept], now: OffsetDateTime) -> Vec<Option<OffsetDateTime>> {
    let soon = now.saturating_add(time::Duration::DAY);
    let (mut next, mut right) = (None, None);
    let mut ends = Vec::with_capacity(kept.len());
    for file in kept.iter().rev() {
        let first = file.first.time;
        ends.push(match first.max(next) {
            Some(end) if end > soon => right.or(Some(end)),
            end => end,
        });
        next = first.or(next);
        right = first.filter(|first| *first <= soon).or(right);
    }
    ends.reverse();
    ends
}

impl Chain {
    /// What has to be done from time to time; that it fails stops nothing. `few` files are looked through at most, and
    /// with no limit only if it matters.
    pub(crate) fn tidy(&mut self, few: usize) {
        self.prune(OffsetDateTime::now_utc(), few);
        match self.reserve.make() {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no room could be kept on the disk for the audit trail"),
        }
    }

    /// Removes the writer's oldest files as far as the settings say.
    fn prune(&mut self, now: OffsetDateTime, few: usize) {
        self.rotated = false;
        let noted = self.notes.len();
        if let Err(error) = self.remove_old(now, few) {
            tracing::warn!(%error, writer = self.writer, "old files of the audit trail could not be removed");
        }
        for (reason, (files, mut detail)) in std::mem::take(&mut self.amiss) {
            if files > 1 {
                detail.push_str(&format!("; and the same of {} other files", files - 1));
            }
            self.note(reason, Some(files), detail);
        }
        // What was found does not wait for the next record: the process may end before.
        if self.notes.len() > noted {
            match self.append(&[]) {
                Ok(()) => self.keep_head(),
                Err(error) => {
                    tracing::warn!(%error, "what the audit trail has to say of itself waits for room");
                }
            }
        }
    }

    /// Age is what the records say, whose times are under their MACs: anybody can give a file an old date. And what
    /// is compared with is no clock but the newest file that began a tenth of [`Settings::keep`](crate::Settings)
    /// ago: a clock that is set ahead by a year removes nothing until it has been so for that long.
    fn remove_old(&mut self, now: OffsetDateTime, few: usize) -> io::Result<()> {
        self.settle()?;
        self.remove_unchained(now)?;
        let kept = self.kept()?;
        let keep = time::Duration::try_from(self.settings.keep).unwrap_or(time::Duration::MAX);
        let believed = kept
            .iter()
            .filter_map(|file| file.first.time)
            .filter(|time| now.checked_sub(keep / 10).is_some_and(|settled| *time <= settled))
            .max();
        self.doubt(now, believed, keep);
        let mut total = self.bytes(&kept, few)?;
        let ends = ends(&kept, now);
        for (index, (file, end)) in kept.iter().zip(ends).enumerate() {
            let old = end.zip(believed).is_some_and(|(end, believed)| believed - end > keep);
            if file.kind == Kind::Current || !(old || total > self.settings.keep_bytes) {
                return Ok(());
            }
            if self.remove(file, next(&kept, index), now)? {
                let own = self.looked.remove(&file.path).and_then(|looked| looked.own);
                total = total.saturating_sub(own.unwrap_or_default().1);
            }
        }
        Ok(())
    }

    /// The chain's files, in the order of the records with which they begin. One that has none is nobody's.
    fn kept(&mut self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        let mut known = HashMap::new();
        for (kind, path) in files::of_writer(&self.directory, &self.writer)? {
            let first = match kind {
                Kind::Unchained(_) | Kind::Other => None,
                Kind::Current => first_record(&path, &self.key)?,
                Kind::Archive(..) => {
                    let length = path.metadata()?.len();
                    let mut looked = self.looked.remove(&path).unwrap_or_default();
                    if looked.first.is_none() && looked.empty != length {
                        looked = Looked {
                            first: first_record(&path, &self.key)?,
                            empty: length,
                            ..Looked::default()
                        };
                    }
                    known.insert(path.clone(), looked);
                    looked.first
                }
            };
            kept.extend(first.map(|first| Kept { kind, path, first }));
        }
        self.looked = known;
        kept.sort_by_key(|file| (file.kind == Kind::Current, file.first.before.seq));
        Ok(kept)
    }

    /// Bytes of the chain's records, each counted once. Files are looked through for that only if their lengths make
    /// more than is to be kept, or in passing; as long as one of them has to wait for it, it is nought.
    fn bytes(&mut self, kept: &[Kept], few: usize) -> io::Result<u64> {
        let current = self.tip.as_ref().map_or(0, |tip| tip.end);
        // What begins where the file in use does, or behind that, is a copy of it.
        let in_use = kept.iter().find(|file| file.kind == Kind::Current).map(|file| file.first.before.seq);
        let is_before = |file: &Kept| in_use.is_none_or(|seq| file.first.before.seq < seq);
        let archives =
            || kept.iter().enumerate().filter(|(_, file)| file.kind != Kind::Current && is_before(file));
        let mut most = current;
        for (_, file) in archives() {
            most = most.saturating_add(file.path.metadata()?.len());
        }
        let little = most <= self.settings.keep_bytes;
        if little && few == usize::MAX {
            return Ok(0);
        }
        let (mut total, mut left, mut before) = (current, few, None);
        for (index, file) in archives() {
            let Some(looked) = self.looked.get_mut(&file.path) else { continue };
            let to = next(kept, index).map_or(u64::MAX, |next| next.seq);
            // What somebody did to files may have changed what comes next.
            if looked.own.is_none_or(|(known, _)| known != to) {
                if left == 0 {
                    return Ok(0);
                }
                left -= 1;
                let held = look_through(&file.path, &self.key, to)?;
                looked.own = Some((to, held.map_or(0, |held| held.own)));
                looked.all = held.map_or(0, |held| held.all);
            }
            // A copy is no more than there was.
            if before.replace(file.first.before.seq) != Some(file.first.before.seq) {
                total = total.saturating_add(looked.own.unwrap_or_default().1);
            }
            let more = file.path.metadata()?.len().saturating_sub(looked.all);
            if more > 0 && !std::mem::replace(&mut looked.said, true) {
                self.grown(&file.path, more);
            }
        }
        // The file in use is looked through only if it matters. It changes all the time.
        let own = total - current;
        if little || total <= self.settings.keep_bytes {
            return Ok(if little { 0 } else { total });
        }
        let held = look_through(&self.path, &self.key, u64::MAX)?;
        Ok(own.saturating_add(held.map_or(0, |held| held.own)))
    }

    /// Removes a file of the chain, which then begins at `next`, if it is the one that is to go: its records are those
    /// that come before. Says so first. `false` if it has to stay.
    fn remove(&mut self, file: &Kept, next: Option<Link>, now: OffsetDateTime) -> io::Result<bool> {
        let (Some(Ends { start, .. }), Some(held)) =
            (self.ends, look_through(&file.path, &self.key, u64::MAX)?)
        else {
            return Ok(false);
        };
        let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if held.greatest > start.seq {
            let Some(next) = next else {
                // The file in use has no line yet: the next time.
                return Ok(false);
            };
            if held.greatest > next.seq {
                self.not_removed(&file.path, &name, held.greatest);
                return Ok(false);
            }
            let fits = held.whole && held.before == start && held.last == next;
            self.say_removed(&name, (start, next), held.records, fits, now)?;
            self.begin_at(next)?;
        } else {
            tracing::info!(file = %name, "a file that was to be removed already is there still, or again");
        }
        std::fs::remove_file(&file.path)?;
        files::sync_directory(&self.directory)?;
        Ok(true)
    }

    /// Puts on the chain that these records are about to go.
    fn say_removed(
        &mut self,
        name: &str,
        (start, next): (Link, Link),
        there: u64,
        fits: bool,
        now: OffsetDateTime,
    ) -> io::Result<()> {
        let (from, to) = (start.seq + 1, next.seq);
        let mut record = if fits {
            tracing::info!(file = %name, "an old file of the audit trail is removed");
            Record::new(Direction::Local, "trail", Outcome::Changed, REMOVED)
        } else {
            tracing::error!(file = %name, "an old file of the audit trail is removed, and was not as its writer wrote it");
            Record::new(Direction::Local, "trail", Outcome::Gap, REMOVED_DAMAGED)
        };
        let what = if fits {
            format!("with the records {from} to {to}")
        } else {
            format!(
                "not whole: of the records {from} to {to} there were {there}, or they did not follow one another"
            )
        };
        record.count = Some(to.saturating_sub(start.seq));
        record.detail = Some(format!("{name} was older or more than is to be kept, {what}; {}", begins(to)));
        match self.append(&[(now, record.clone())]) {
            // What is removed makes room for saying so.
            Err(error) if fits && disk::is_full(&error) => self.notes.push(record),
            written => return written,
        }
        Ok(())
    }

    /// Stores that the chain begins after `start`. Only then may what stands before it go.
    fn begin_at(&mut self, start: Link) -> io::Result<()> {
        if let Some(ends) = self.ends.filter(|ends| start.seq > ends.start.seq) {
            let ends = Ends { start, ..ends };
            self.heads.store(&self.writer, &ends.sealed(&self.key)).map_err(io::Error::other)?;
            self.ends = Some(ends);
        }
        Ok(())
    }

    /// Files of version 1, which nobody can check: they go by date and length, and count for nothing else.
    fn remove_unchained(&mut self, now: OffsetDateTime) -> io::Result<()> {
        let mut unchained = Vec::new();
        for (kind, path) in files::of_writer(&self.directory, &self.writer)? {
            if matches!(kind, Kind::Unchained(_)) {
                let metadata = path.metadata()?;
                unchained.push((path, OffsetDateTime::from(metadata.modified()?), metadata.len()));
            }
        }
        let mut total: u64 = unchained.iter().map(|(.., length)| *length).sum();
        for (path, modified, length) in unchained {
            let age = std::time::Duration::try_from(now - modified).unwrap_or_default();
            if age > self.settings.keep || total > self.settings.keep_bytes {
                std::fs::remove_file(&path)?;
                total -= length;
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                tracing::info!(file = %name, "an old file of the audit trail was removed");
                let mut record = Record::new(Direction::Local, "trail", Outcome::Changed, REMOVED);
                record.detail =
                    Some(format!("{name}, lines of version 1, was older or more than is to be kept"));
                self.notes.push(record);
            }
        }
        Ok(())
    }

    /// Says once that the clock is far ahead of what it was when records were written.
    fn doubt(&mut self, now: OffsetDateTime, believed: Option<OffsetDateTime>, keep: time::Duration) {
        if let Some(believed) = believed.filter(|believed| now - *believed > keep)
            && !std::mem::replace(&mut self.doubted, true)
        {
            let days = (now - believed).whole_days();
            tracing::warn!(
                writer = self.writer,
                days,
                "the audit trail has no file that began in the time for which files are kept; if the clock is set ahead, mend it: files are removed by it once it has been so for a tenth of that time"
            );
        }
    }

    /// Somebody has put something into a file that was put aside. `audit verify` names the lines.
    fn grown(&mut self, path: &Path, bytes: u64) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let detail = format!(
            "{name} has {bytes} bytes that this chain's writer did not write; nothing is removed on their account"
        );
        self.found_amiss("file-grown", detail);
    }

    /// Records that are not old stand in a file that is.
    fn not_removed(&mut self, path: &Path, name: &str, greatest: u64) {
        let looked = self.looked.entry(path.to_owned()).or_default();
        if !std::mem::replace(&mut looked.said, true) {
            let detail = format!(
                "{name} is old and holds record {greatest}, which is not: somebody put it there; the file stays"
            );
            self.found_amiss("file-mixed", detail);
        }
    }

    /// One record says it of all files: with many of them somebody could fill the trail.
    fn found_amiss(&mut self, reason: &'static str, detail: String) {
        self.amiss.entry(reason).or_insert((0, detail)).0 += 1;
    }
}

const BEGINS: &str = "the chain begins after record ";

fn begins(after: u64) -> String {
    format!("{BEGINS}{after} now")
}

/// After which record the chain begins, as a record says that removed others.
pub(crate) fn begins_after(detail: &str) -> Option<u64> {
    detail.rsplit_once(BEGINS)?.1.strip_suffix(" now")?.parse().ok()
}

/// Where the file after this one begins.
fn next(kept: &[Kept], index: usize) -> Option<Link> {
    let this = kept.get(index)?.first.before.seq;
    kept.iter().skip(index + 1).map(|next| next.first.before).find(|next| next.seq > this)
}

/// Reads a file from beginning to end; `None` if there is no record in it. The next one begins after record `to`.
fn look_through(path: &Path, key: &WriterKey, to: u64) -> io::Result<Option<Held>> {
    let mut lines = Lines::new(lines::open(path)?);
    let (mut held, mut whole): (Option<Held>, bool) = (None, true);
    while let Some(line) = lines.next()? {
        let Some(sealed) = line::read(key, line.text) else {
            whole = false;
            continue;
        };
        let bytes = line.text.len() as u64 + u64::from(line.ended);
        let before = Link { seq: sealed.link.seq.saturating_sub(1), mac: sealed.prev };
        let Some(held) = &mut held else {
            let (last, greatest) = (sealed.link, sealed.link.seq);
            let own = if greatest <= to { bytes } else { 0 };
            held = Some(Held { before, last, greatest, records: 1, own, all: bytes, whole: true });
            continue;
        };
        held.all += bytes;
        if before == held.last {
            held.last = sealed.link;
        } else {
            whole = false;
        }
        if sealed.link.seq > held.greatest {
            held.greatest = sealed.link.seq;
            held.records += 1;
            held.own += if sealed.link.seq <= to { bytes } else { 0 };
        }
    }
    Ok(held.map(|held| Held { whole, ..held }))
}

#[cfg(test)]
#[path = "retain_tests.rs"]
mod tests;
