//! Putting full files aside, and removing old ones.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use time::OffsetDateTime;

use crate::chain::Chain;
use crate::files::{self, Kind};
use crate::find::{First, first_record};
use crate::head::Ends;
use crate::line::Link;
use crate::{Direction, Outcome, Record};

/// A file that retention looks at.
struct Kept {
    kind: Kind,
    path: PathBuf,
    length: u64,
    /// When it was changed last: for lines of version 1 alone, whose times nobody can check.
    modified: OffsetDateTime,
    first: Option<First>,
}

/// When each file's last record was written, as far as its first and that of the next file tell. Where these are of a
/// clock that was set ahead (they are in the future), the first record after that was put right tells.
fn ends(kept: &[Kept], now: OffsetDateTime) -> Vec<Option<OffsetDateTime>> {
    let soon = now.saturating_add(time::Duration::DAY);
    let (mut next, mut right) = (None, None);
    let mut ends = Vec::with_capacity(kept.len());
    for file in kept.iter().rev() {
        let first = file.first.and_then(|first| first.time);
        ends.push(match first.max(next) {
            _ if matches!(file.kind, Kind::Unchained(_)) => Some(file.modified),
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
    /// Whether the file in use has to give way before so many bytes more are written.
    pub(crate) fn is_due(&self, more: u64, now: OffsetDateTime) -> bool {
        let Some(tip) = &self.tip else { return false };
        // Also one that began in a time to come: the clock was wrong, and would not let it become old.
        let old = || {
            let begun = tip.first.and_then(|(_, time)| time)?;
            let age = now - begun;
            Some(
                age < -time::Duration::DAY
                    || Duration::try_from(age).is_ok_and(|age| age > self.settings.keep / 10),
            )
        };
        tip.end > 0 && (tip.end.saturating_add(more) > self.settings.rotate_bytes || old().unwrap_or(false))
    }

    /// Puts the file in use aside under the number of its first record, and begins a new one. The chain goes on.
    pub(crate) fn rotate(&mut self, now: OffsetDateTime) -> io::Result<()> {
        let first = self.tip.as_ref().and_then(|tip| tip.first).map(|(first, _)| first);
        // Nobody's line stands first: some number of a record in it is as good.
        let first = first.unwrap_or_else(|| self.ends.map_or(1, |ends| ends.head.seq.max(1)));
        let aside = files::free(&self.directory, &files::numbered(&self.writer, first), "jsonl");
        std::fs::rename(&self.path, &aside)?;
        files::sync_directory(&self.directory)?;
        self.settle()?;
        self.prune(now);
        Ok(())
    }

    /// What has to be done from time to time; that it fails stops nothing.
    pub(crate) fn tidy(&mut self) {
        self.prune(OffsetDateTime::now_utc());
        match self.reserve.make() {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no room could be kept on the disk for the audit trail"),
        }
    }

    /// Removes the writer's oldest files as far as the settings say.
    fn prune(&mut self, now: OffsetDateTime) {
        if let Err(error) = self.remove_old(now) {
            tracing::warn!(%error, writer = self.writer, "old files of the audit trail could not be removed");
        }
    }

    /// Age is what the records say, whose times are under their MACs: anybody can give a file an old date. And what
    /// is compared with is no clock but the newest file that began a tenth of [`Settings::keep`](crate::Settings)
    /// ago: a clock that is set ahead by a year removes nothing until it has been so for that long.
    fn remove_old(&mut self, now: OffsetDateTime) -> io::Result<()> {
        let kept = self.kept()?;
        if kept.len() < 2 {
            return Ok(());
        }
        let keep = time::Duration::try_from(self.settings.keep).unwrap_or(time::Duration::MAX);
        let believed = kept
            .iter()
            .filter_map(|file| file.first?.time)
            .filter(|time| now.checked_sub(keep / 10).is_some_and(|settled| *time <= settled))
            .max();
        self.doubt(now, believed, keep);
        let ends = ends(&kept, now);
        let mut total: u64 = kept.iter().map(|file| file.length).sum();
        let mut kept = kept.into_iter().zip(ends).peekable();
        while let Some((file, end)) = kept.next() {
            let old = end.zip(believed).is_some_and(|(end, believed)| believed - end > keep);
            if !matches!(file.kind, Kind::Unchained(_) | Kind::Archive(..))
                || !(old || total > self.settings.keep_bytes)
            {
                return Ok(());
            }
            let next = kept.peek().and_then(|(next, _)| next.first);
            if matches!(file.kind, Kind::Archive(..)) && !self.begin_at(next.map(|first| first.before))? {
                return Ok(());
            }
            std::fs::remove_file(&file.path)?;
            self.firsts.remove(&file.path);
            total -= file.length;
            self.removed(&file.path);
        }
        Ok(())
    }

    /// The writer's files, oldest first. What the first record of one that is put aside is does not change any more.
    fn kept(&mut self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for (kind, path) in files::of_writer(&self.directory, &self.writer)? {
            let metadata = path.metadata()?;
            let first = match (kind, self.firsts.get(&path)) {
                (Kind::Unchained(_) | Kind::Other, _) => None,
                (Kind::Archive(..), Some(first)) => Some(*first),
                (Kind::Archive(..) | Kind::Current, _) => first_record(&path, &self.key)?,
            };
            if let (Kind::Archive(..), Some(first)) = (kind, first) {
                self.firsts.insert(path.clone(), first);
            }
            let modified = OffsetDateTime::from(metadata.modified()?);
            kept.push(Kept { kind, path, length: metadata.len(), modified, first });
        }
        Ok(kept)
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

    /// Stores that the chain begins after `start`. Only then may what stands before it go.
    fn begin_at(&mut self, start: Option<Link>) -> io::Result<bool> {
        let (Some(start), Some(ends)) = (start, self.ends) else {
            // The file in use has no line yet, or the beginning of the next file is damaged: the next time.
            return Ok(false);
        };
        if start.seq > ends.start.seq {
            let ends = Ends { start, ..ends };
            self.heads.store(&self.writer, &ends.sealed(&self.key)).map_err(io::Error::other)?;
            self.ends = Some(ends);
        }
        Ok(true)
    }

    fn removed(&mut self, path: &Path) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let mut record = Record::new(Direction::Local, "trail", Outcome::Changed, "file-removed");
        let start = self.ends.map_or(0, |ends| ends.start.seq);
        record.detail = Some(format!(
            "{name} was older or more than is to be kept; the chain begins after record {start} now"
        ));
        tracing::info!(file = %name, "an old file of the audit trail was removed");
        self.notes.push(record);
    }
}

#[cfg(test)]
#[path = "rotate_tests.rs"]
mod tests;
