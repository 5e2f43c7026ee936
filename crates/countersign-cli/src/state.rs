//! What `serve` keeps for its next start, for one process at a time: two that shared the keys of tickets and not the log of used
//! nonces would each take what the other has taken already (CS-12).

use std::fs::{File, OpenOptions, TryLockError};
use std::io::ErrorKind;
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::Arc;
use std::time::Duration;

use countersign::protocol::UnixTime;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{self, Kept, StateStore, StoreError};

use crate::failure::{Context as _, Failure};
use crate::home::Home;

/// The file that says by its lock that somebody serves.
const LOCK: &str = "serve.lock";

pub(crate) struct State {
    store: Arc<SqliteStore>,
    /// Held as long as this lives; the system lets go of it when the process ends, however it does.
    _lock: File,
}

impl State {
    /// `None` if another process serves.
    pub(crate) fn open(home: &Home, store: Arc<SqliteStore>) -> Result<Option<Self>, Failure> {
        let path = home.path().join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .context(|| path.display().to_string())?;
        // `is_served` holds it for a moment.
        for _ in 0..20 {
            match lock.try_lock() {
                Ok(()) => return Ok(Some(Self { store, _lock: lock })),
                Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(10)),
                Err(TryLockError::Error(error)) => {
                    return Err(error).context(|| path.display().to_string());
                }
            }
        }
        Ok(None)
    }
}

/// Whether a `serve` runs on this data directory.
pub(crate) fn is_served(home: &Home) -> Result<bool, Failure> {
    let path = home.path().join(LOCK);
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context(|| path.display().to_string()),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error).context(|| path.display().to_string()),
    }
}

impl StateStore for State {
    fn keep(&self, state: store::State, at: UnixTime, bytes: &[u8]) -> Result<(), StoreError> {
        self.store.keep(state, at, bytes)
    }

    fn kept(&self, state: store::State) -> Result<Option<Kept>, StoreError> {
        self.store.kept(state)
    }

    fn has(&self, state: store::State) -> Result<bool, StoreError> {
        self.store.has(state)
    }

    fn forget(&self, state: store::State) -> Result<(), StoreError> {
        self.store.forget(state)
    }
}
