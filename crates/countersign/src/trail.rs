//! A trail whose key and heads are in the embedded store.

use std::path::Path;

use countersign_audit::{AuditError, AuditKey, Heads, HeadsError, Settings, StoredHead, Trail};
use countersign_store::StoreError;
use countersign_store::sqlite::{AuditHead, AuditHeads, SqliteStore};

/// Opens the chain of `writer` in `directory`, under the key of `store` and with its head there.
///
/// # Errors
/// The files or the store cannot be read or written.
pub fn open_trail(
    store: &SqliteStore,
    directory: &Path,
    writer: &str,
    settings: Settings,
) -> Result<Trail, AuditError> {
    let heads = StoreHeads::of(store)
        .map_err(|error| AuditError::new(directory.display().to_string(), std::io::Error::other(error)))?;
    Trail::open(directory, writer, &AuditKey::new(store.audit_key()), Box::new(heads), settings)
}

/// Where chains end, kept in the table `audit_head` of the embedded store.
#[derive(Debug)]
pub struct StoreHeads(AuditHeads);

impl StoreHeads {
    /// Those of this store.
    ///
    /// # Errors
    /// The store cannot be opened a second time, or another file is in its place.
    pub fn of(store: &SqliteStore) -> Result<Self, StoreError> {
        store.audit_heads().map(Self)
    }
}

impl Heads for StoreHeads {
    fn load(&self, writer: &str) -> Result<Option<StoredHead>, HeadsError> {
        let stored = self.0.load(writer)?;
        Ok(stored.map(|AuditHead { seq, mac, start_seq, start_mac, seal }| StoredHead {
            seq,
            mac,
            start_seq,
            start_mac,
            seal,
        }))
    }

    fn store(&self, writer: &str, head: &StoredHead) -> Result<(), HeadsError> {
        let StoredHead { seq, mac, start_seq, start_mac, seal } = head.clone();
        Ok(self.0.store(writer, &AuditHead { seq, mac, start_seq, start_mac, seal })?)
    }

    fn writers(&self) -> Result<Vec<String>, HeadsError> {
        Ok(self.0.writers()?)
    }
}
