//! The store's own keys, wrapped by the master key. Changing the master key re-wraps these and nothing else.

use std::fmt;

use countersign_protocol::aead::AeadKey;
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::lp;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use zeroize::Zeroizing;

use crate::master::MasterKey;
use crate::{StoreError, random};

const DATA: &str = "data";
const LOOKUP: &str = "lookup";
const AUDIT: &str = "audit";
pub(super) const PURPOSES: [&str; 3] = [DATA, LOOKUP, AUDIT];

/// Which of the wraps of a key: while the master key is being changed there are two, and both open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    /// Under the master key that is in use.
    Present,
    /// Under the one that is to take its place.
    Next,
}

impl Slot {
    /// What stands in the column `purpose`.
    pub(super) fn row(self, purpose: &str) -> String {
        match self {
            Self::Present => purpose.to_owned(),
            Self::Next => format!("{purpose}.next"),
        }
    }
}

pub(super) struct Keyring {
    /// Seals credentials.
    pub(super) data: AeadKey,
    /// Seals copies of what is kept elsewhere, and what a server keeps for its next start.
    pub(super) aside: AeadKey,
    /// Hashes API keys and secrets.
    pub(super) lookup: LookupKey,
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(…)")
    }
}

impl Keyring {
    pub(super) fn create(connection: &mut Connection, master: &MasterKey) -> Result<Self, StoreError> {
        let transaction = connection.transaction()?;
        for purpose in PURPOSES {
            write(&transaction, master, Slot::Present, purpose, &Zeroizing::new(random()))?;
        }
        transaction.commit()?;
        Self::open(connection, master)
    }

    pub(super) fn open(connection: &Connection, master: &MasterKey) -> Result<Self, StoreError> {
        // One look at all of it: a change of the master key may come in between.
        let snapshot = connection.unchecked_transaction()?;
        let slot = slot(&snapshot, master)?;
        let key = |purpose| read(&snapshot, master, slot, purpose)?.ok_or(StoreError::WrongMasterKey);
        let data = key(DATA)?;
        Ok(Self {
            data: AeadKey::derive(&data, "credential"),
            aside: AeadKey::derive(&data, "aside"),
            lookup: LookupKey::new(&key(LOOKUP)?),
        })
    }
}

/// The key under the trail's chains. A store of an earlier version has none: it gets one.
pub(super) fn audit(
    connection: &mut Connection,
    master: &MasterKey,
) -> Result<Zeroizing<[u8; 32]>, StoreError> {
    let known = |connection: &Connection| read(connection, master, slot(connection, master)?, AUDIT);
    if let Some(key) = known(&*connection.transaction()?)? {
        return Ok(key);
    }
    // Of several processes that come here at once, one makes the key and the others read it.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if known(&transaction)?.is_none() {
        write(&transaction, master, slot(&transaction, master)?, AUDIT, &Zeroizing::new(random()))?;
    }
    transaction.commit()?;
    known(connection)?.ok_or(StoreError::WrongMasterKey)
}

/// Which of the wraps this master key opens.
pub(super) fn slot(connection: &Connection, master: &MasterKey) -> Result<Slot, StoreError> {
    for slot in [Slot::Present, Slot::Next] {
        match read(connection, master, slot, DATA) {
            Ok(Some(_)) => return Ok(slot),
            Ok(None) | Err(StoreError::WrongMasterKey) => {}
            Err(error) => return Err(error),
        }
    }
    Err(StoreError::WrongMasterKey)
}

/// Wraps a key, in the place of an earlier wrap.
pub(super) fn write(
    connection: &Connection,
    master: &MasterKey,
    slot: Slot,
    purpose: &str,
    key: &Zeroizing<[u8; 32]>,
) -> Result<(), StoreError> {
    let wrapped = master.wrapping_key().seal(random(), &place(purpose), key.as_slice());
    connection.execute(
        "INSERT OR REPLACE INTO keyring (purpose, wrapped) VALUES (?1, ?2)",
        params![slot.row(purpose), wrapped],
    )?;
    Ok(())
}

/// `None` if there is no such key.
pub(super) fn read(
    connection: &Connection,
    master: &MasterKey,
    slot: Slot,
    purpose: &str,
) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
    let query = "SELECT wrapped FROM keyring WHERE purpose = ?1";
    let wrapped: Option<Vec<u8>> =
        connection.query_row(query, params![slot.row(purpose)], |row| row.get(0)).optional()?;
    let Some(wrapped) = wrapped else { return Ok(None) };
    let opened = master.wrapping_key().open(&place(purpose), &wrapped);
    let key = opened.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    key.map(|key| Some(Zeroizing::new(key))).ok_or(StoreError::WrongMasterKey)
}

fn place(purpose: &str) -> Vec<u8> {
    lp(&[b"countersign keyring 1", purpose.as_bytes()])
}
