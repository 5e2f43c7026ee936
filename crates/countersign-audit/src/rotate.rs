//! Putting full files aside, and removing old ones.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use time::OffsetDateTime;

use crate::chain::Chain;
use crate::files::{self, Kind};
use crate::find::before_first;
use crate::head::Ends;
use crate::{Direction, Outcome, Record};

impl Chain {
    /// Whether the file in use has to give way before so many bytes more are written.
    pub(crate) fn is_due(&self, more: u64) -> bool {
        let Some(tip) = &self.tip else { return false };
        let old = || {
            let begun = tip.first.and_then(|(_, time)| time)?;
            Duration::try_from(OffsetDateTime::now_utc() - begun).ok()
        };
        tip.end > 0
            && (tip.end.saturating_add(more) > self.settings.rotate_bytes
                || old().is_some_and(|age| age > self.settings.keep / 10))
    }

    /// Puts the file in use aside under the number of its first record, and begins a new one. The chain goes on.
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        let first = self.tip.as_ref().and_then(|tip| tip.first).map_or(0, |(first, _)| first);
        let aside = files::free(&self.directory, &files::numbered(&self.writer, first), "jsonl");
        std::fs::rename(&self.path, &aside)?;
        files::sync_directory(&self.directory)?;
        self.settle()?;
        self.prune();
        Ok(())
    }

    /// What has to be done from time to time; that it fails stops nothing.
    pub(crate) fn tidy(&mut self) {
        self.prune();
        match self.reserve.make() {
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "no room could be kept on the disk for the audit trail"),
        }
    }

    /// Removes the writer's oldest files as far as the settings say.
    fn prune(&mut self) {
        if let Err(error) = self.remove_old() {
            tracing::warn!(%error, writer = self.writer, "old files of the audit trail could not be removed");
        }
    }

    fn remove_old(&mut self) -> io::Result<()> {
        let files = files::of_writer(&self.directory, &self.writer)?;
        if files.len() < 2 {
            return Ok(());
        }
        let mut total = 0;
        let mut known = Vec::with_capacity(files.len());
        for (kind, path) in files {
            let metadata = path.metadata()?;
            total += metadata.len();
            known.push((kind, path, metadata.len(), metadata.modified()?));
        }
        let now = SystemTime::now();
        let mut known = known.into_iter().peekable();
        while let Some((kind, path, length, modified)) = known.next() {
            let old = now.duration_since(modified).is_ok_and(|age| age > self.settings.keep);
            if !matches!(kind, Kind::Unchained | Kind::Archive(_))
                || !(old || total > self.settings.keep_bytes)
            {
                return Ok(());
            }
            let next = known.peek().map(|(_, path, _, _)| path.as_path());
            if matches!(kind, Kind::Archive(_)) && !self.begin_at(next)? {
                return Ok(());
            }
            std::fs::remove_file(&path)?;
            total -= length;
            self.removed(&path);
        }
        Ok(())
    }

    /// Stores that the chain begins with the first line of `next`. Only then may what stands before it go.
    fn begin_at(&mut self, next: Option<&Path>) -> io::Result<bool> {
        let Some(start) = next.map(|next| before_first(next, &self.key)).transpose()?.flatten() else {
            // The file in use has no line yet, or a damaged one: the next time.
            return Ok(false);
        };
        let Some(ends) = self.ends else { return Ok(false) };
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
        record.detail = Some(format!("{name} was older or more than is to be kept"));
        tracing::info!(file = %name, "an old file of the audit trail was removed");
        self.notes.push(record);
    }
}
