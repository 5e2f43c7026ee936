//! The queue in front of a chain, and the thread that empties it.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use time::OffsetDateTime;

use crate::chain::Chain;
use crate::disk;
use crate::head::Heads;
use crate::retain;
use crate::settings::WhenFull;
use crate::sink::Promise;
use crate::{AuditError, AuditKey, AuditSink, Record, Settings, Ticket};

/// Records that may wait. More than a disk that works lets come together; beyond it a record is refused.
const ROOM: usize = 8192;
/// Records that are written and synced together.
const GROUP: usize = 1024;
/// How often old files and the reserve are looked after.
const TIDY: Duration = Duration::from_secs(60);

/// A writer's chain of records. Records are written by a thread of its own, all that wait at one time with one
/// write and one sync, so that a disk that takes its time for a sync makes groups larger and not callers fewer.
///
/// Several processes may have a trail of one writer open; they take turns group by group.
#[derive(Debug)]
pub struct Trail {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    path: String,
    spare_lines: u64,
    queue: Mutex<Queue>,
    wake: Condvar,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<(OffsetDateTime, Record, Promise)>,
    closed: bool,
}

impl Trail {
    /// Opens the chain of `writer` in `directory` (made with mode 0700, its files with 0600), or begins one, and
    /// starts its thread. A writer's name is made of a-z and `-`.
    ///
    /// # Errors
    /// Its files or its head cannot be read or written.
    pub fn open(
        directory: &Path,
        writer: &str,
        key: &AuditKey,
        heads: Box<dyn Heads>,
        settings: Settings,
    ) -> Result<Self, AuditError> {
        let chain = Chain::open(directory, writer, key, heads, settings)?;
        let path = chain.path.display().to_string();
        let spare_lines = chain.settings.spare_lines();
        let shared = Arc::new(Shared {
            path: path.clone(),
            spare_lines,
            queue: Mutex::default(),
            wake: Condvar::new(),
        });
        let working = Arc::clone(&shared);
        let thread = thread::Builder::new()
            .name(format!("audit-{writer}"))
            .spawn(move || work(&working, chain))
            .map_err(|error| AuditError::new(path, error))?;
        Ok(Self { shared, thread: Some(thread) })
    }
}

impl AuditSink for Trail {
    fn submit(&self, mut record: Record) -> Ticket {
        let refuse =
            |why: &str| Ticket::known(Err(AuditError::new(&*self.shared.path, io::Error::other(why))));
        if !record.shorten() {
            return refuse("the record is too long");
        }
        let mut queue = self.shared.lock();
        if queue.closed {
            return refuse("its writer has ended");
        }
        if queue.waiting.len() >= ROOM {
            return refuse("too many records wait for the disk");
        }
        let (ticket, promise) = Ticket::open();
        // Under the lock, so that times go up as numbers do.
        queue.waiting.push_back((OffsetDateTime::now_utc(), record, promise));
        drop(queue);
        self.shared.wake.notify_one();
        ticket
    }

    fn spare_lines(&self) -> u64 {
        self.shared.spare_lines
    }
}

/// Everything that waits is written first.
impl Drop for Trail {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_one();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for records and takes a group of them: empty when it is time to tidy up, `None` when all is done.
    fn next(&self) -> Option<Vec<(OffsetDateTime, Record, Promise)>> {
        let mut queue = self.lock();
        if queue.waiting.is_empty() && !queue.closed {
            let idle = |queue: &mut Queue| queue.waiting.is_empty() && !queue.closed;
            (queue, _) =
                self.wake.wait_timeout_while(queue, TIDY, idle).unwrap_or_else(PoisonError::into_inner);
        }
        if queue.waiting.is_empty() && queue.closed {
            return None;
        }
        let count = queue.waiting.len().min(GROUP);
        Some(queue.waiting.drain(..count).collect())
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("path", &self.path).finish_non_exhaustive()
    }
}

/// Ends the queue however the thread ends, so that nobody waits for what will never be written.
struct Closing<'a>(&'a Shared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut queue = self.0.lock();
        queue.closed = true;
        queue.waiting.clear();
    }
}

fn work(shared: &Shared, mut chain: Chain) {
    let _closing = Closing(shared);
    let mut lost = 0;
    let mut tidied = Instant::now();
    while let Some(group) = shared.next() {
        if group.is_empty() {
            tidied = Instant::now();
            look_after(&mut chain);
            continue;
        }
        let mut promises = Vec::with_capacity(group.len());
        let records: Vec<(OffsetDateTime, Record)> = group
            .into_iter()
            .map(|(time, record, promise)| {
                promises.push(promise);
                (time, record)
            })
            .collect();
        let mut promises = promises.into_iter();
        let result = chain.locked(|chain| {
            chain.append(&records)?;
            promises.by_ref().for_each(|promise| promise.keep(Ok(())));
            // After those who wait were told: a crash in between leaves the file ahead of the head, never behind.
            chain.keep_head();
            Ok(())
        });
        match result {
            Ok(()) => lost = 0,
            Err(error) if disk::is_full(&error) && chain.settings.when_full == WhenFull::DangerContinue => {
                let count = promises.len() as u64;
                if lost == 0 {
                    tracing::error!(
                        path = shared.path,
                        "THE DISK IS FULL and attempts go on UNRECORDED, as `when_full` says; make room now"
                    );
                }
                lost += count;
                chain.lost(lost);
                if let Some(told) = &chain.settings.on_dropped {
                    told(count);
                }
                promises.for_each(|promise| promise.keep(Ok(())));
            }
            Err(error) => {
                let error = chain.error(error);
                promises.for_each(|promise| promise.keep(Err(error.clone())));
            }
        }
        if chain.rotated || tidied.elapsed() > TIDY {
            tidied = Instant::now();
            look_after(&mut chain);
        }
    }
}

fn look_after(chain: &mut Chain) {
    let done = chain.locked(|chain| {
        chain.tidy(retain::FEW);
        Ok(())
    });
    if let Err(error) = done {
        tracing::warn!(%error, "the audit trail could not be looked after");
    }
}
