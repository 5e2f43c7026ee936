//! Putting full files aside.

use std::io;
use std::time::Duration;

use time::OffsetDateTime;

use crate::chain::Chain;
use crate::files;

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
    pub(crate) fn rotate(&mut self) -> io::Result<()> {
        let first = self.tip.as_ref().and_then(|tip| tip.first).map(|(first, _)| first);
        // Nobody's line stands first: some number of a record in it is as good.
        let first = first.unwrap_or_else(|| self.ends.map_or(1, |ends| ends.head.seq.max(1)));
        let aside = files::free(&self.directory, &files::numbered(&self.writer, first), "jsonl");
        std::fs::rename(&self.path, &aside)?;
        files::sync_directory(&self.directory)?;
        self.rotated = true;
        self.settle()
    }
}
