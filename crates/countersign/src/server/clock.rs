use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use countersign_protocol::UnixTime;

/// The time that challenges, tokens and limits live by: the wall clock as it stood when the process started,
/// and from then on only what has passed since. Setting the machine's clock, forwards or back, neither revives
/// an old challenge nor kills a token.
#[derive(Clone, Debug)]
pub struct Clock {
    start: Duration,
    since: Instant,
    advanced_ms: Arc<AtomicU64>,
}

impl Clock {
    /// Starts from the wall clock.
    #[must_use]
    pub fn start() -> Self {
        let start = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { start, since: Instant::now(), advanced_ms: Arc::default() }
    }

    /// Moves this clock and its clones forward, for tests.
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
        self.advanced_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// Seconds since 1970.
    #[must_use]
    pub fn now(&self) -> UnixTime {
        UnixTime(self.now_ms() / 1_000)
    }

    /// The wall clock of this moment: where another process has written a time down.
    pub(super) fn wall(&self) -> UnixTime {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixTime(wall.as_secs() + self.advanced_ms.load(Ordering::Relaxed) / 1_000)
    }

    /// Milliseconds since 1970.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let passed = self.start + self.since.elapsed();
        u64::try_from(passed.as_millis()).unwrap_or(u64::MAX) + self.advanced_ms.load(Ordering::Relaxed)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::start()
    }
}
