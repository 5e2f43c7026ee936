use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How a [`Trail`](crate::Trail) is kept.
#[derive(Clone)]
pub struct Settings {
    /// A file that would grow beyond this many bytes is put aside and a new one begun. Default: 64 MiB.
    pub rotate_bytes: u64,
    /// A writer's files that are older than this are removed. Default: 90 days. The file in use is put aside when
    /// its first record is older than a tenth of this, so that it comes to that.
    pub keep: Duration,
    /// A writer's oldest files are removed when all of them have more than this many bytes. Default: 4 GiB.
    pub keep_bytes: u64,
    /// Bytes that are set aside on the disk, to be given up when it is full; 0 for none. Default: none.
    pub reserve_bytes: u64,
    /// What happens when the disk is full and the reserve is used up. Default: refuse.
    pub when_full: WhenFull,
    /// Tell a record done when the operating system has it and not the disk: a power cut loses the last ones, and
    /// that then looks as if somebody had removed them. Default: `false`.
    pub danger_no_sync: bool,
    /// Told how many records were lost, each time some are. Default: nobody.
    pub on_dropped: Option<Dropped>,
}

/// Told of lost records.
type Dropped = Arc<dyn Fn(u64) + Send + Sync>;

/// What happens to attempts when the disk takes no record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// They are refused.
    #[default]
    Refuse,
    /// They go on, unrecorded and counted. Whoever can fill the disk then acts unseen.
    DangerContinue,
}

/// Bytes of the line of an attempt that is not accepted, or of a count of them, at most.
const LINE: u64 = 640;

impl Settings {
    /// Lines a day that may go to attempts which are not accepted: what they come to over [`Settings::keep`] is half of
    /// [`Settings::keep_bytes`], so that whoever makes them does not push older records out. (Files are kept for up to
    /// a third longer, and still fit.)
    #[must_use]
    pub fn spare_lines(&self) -> u64 {
        let lines = u128::from(self.keep_bytes / 2 / LINE);
        let a_day = lines * (24 * 60 * 60) / u128::from(self.keep.as_secs().max(1));
        u64::try_from(a_day).unwrap_or(u64::MAX)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rotate_bytes: 64 << 20,
            keep: Duration::from_secs(90 * 24 * 60 * 60),
            keep_bytes: 4 << 30,
            reserve_bytes: 0,
            when_full: WhenFull::Refuse,
            danger_no_sync: false,
            on_dropped: None,
        }
    }
}

impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("rotate_bytes", &self.rotate_bytes)
            .field("keep", &self.keep)
            .field("keep_bytes", &self.keep_bytes)
            .field("reserve_bytes", &self.reserve_bytes)
            .field("when_full", &self.when_full)
            .field("danger_no_sync", &self.danger_no_sync)
            .finish_non_exhaustive()
    }
}
