//! Where a chain begins and ends, kept apart from the chain: without it nobody could tell that its last lines
//! were cut off.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use subtle::ConstantTimeEq as _;

use crate::key::WriterKey;
use crate::line::Link;

/// What a [`Heads`] says when it fails.
pub type HeadsError = Box<dyn std::error::Error + Send + Sync>;

/// Keeps where each writer's chain begins and ends. A head that is too old makes the trail look ahead of it, as
/// after a crash; one that is lost or made up is noticed.
pub trait Heads: Send {
    /// What was stored last for this writer.
    ///
    /// # Errors
    /// It cannot be read now. `None` in its place would begin a second chain.
    fn load(&self, writer: &str) -> Result<Option<StoredHead>, HeadsError>;

    /// Takes the place of what was stored.
    ///
    /// # Errors
    /// It cannot be written now. The next one makes up for it.
    fn store(&self, writer: &str, head: &StoredHead) -> Result<(), HeadsError>;

    /// The writers that have a head, by name.
    ///
    /// # Errors
    /// They cannot be read now.
    fn writers(&self) -> Result<Vec<String>, HeadsError>;
}

/// One writer's head as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredHead {
    /// The last record that is known to be on disk; 0 for none.
    pub seq: u64,
    /// Its MAC.
    pub mac: [u8; 32],
    /// The last record that retention has removed; 0 for none.
    pub start_seq: u64,
    /// Its MAC.
    pub start_mac: [u8; 32],
    /// MAC of all of this under the writer's key.
    pub seal: [u8; 32],
}

/// Where a chain begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// After the last record that retention removed.
    pub(crate) start: Link,
    /// After the last record.
    pub(crate) head: Link,
}

impl Ends {
    pub(crate) const NEW: Self = Self { start: Link::START, head: Link::START };

    pub(crate) fn sealed(self, key: &WriterKey) -> StoredHead {
        let Self { start, head } = self;
        StoredHead {
            seq: head.seq,
            mac: head.mac,
            start_seq: start.seq,
            start_mac: start.mac,
            seal: seal(key, start, head),
        }
    }

    /// `None` if the seal is wrong.
    pub(crate) fn open(key: &WriterKey, stored: &StoredHead) -> Option<Self> {
        let head = Link { seq: stored.seq, mac: stored.mac };
        let start = Link { seq: stored.start_seq, mac: stored.start_mac };
        bool::from(seal(key, start, head).ct_eq(&stored.seal)).then_some(Self { start, head })
    }
}

fn seal(key: &WriterKey, start: Link, head: Link) -> [u8; 32] {
    // Fields of fixed lengths.
    let mut fields = Vec::with_capacity(80);
    for Link { seq, mac } in [start, head] {
        fields.extend_from_slice(&seq.to_be_bytes());
        fields.extend_from_slice(&mac);
    }
    key.head(&fields)
}

/// Heads in memory, for tests and for those who keep no trail over a restart. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryHeads(Arc<Mutex<BTreeMap<String, StoredHead>>>);

impl MemoryHeads {
    /// Everything there is; to be put back with [`MemoryHeads::restore`].
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, StoredHead> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts these in place of everything there is.
    pub fn restore(&self, heads: BTreeMap<String, StoredHead>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = heads;
    }
}

impl Heads for MemoryHeads {
    fn load(&self, writer: &str) -> Result<Option<StoredHead>, HeadsError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(writer).cloned())
    }

    fn store(&self, writer: &str, head: &StoredHead) -> Result<(), HeadsError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(writer.to_owned(), head.clone());
        Ok(())
    }

    fn writers(&self) -> Result<Vec<String>, HeadsError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect())
    }
}
