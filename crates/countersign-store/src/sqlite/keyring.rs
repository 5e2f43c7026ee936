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

pub(super) struct Keyring {
    /// Seals credentials.
    pub(super) data: AeadKey,
    /// Seals copies of what is kept elsewhere.
    #[cfg(feature = "vault")]
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
        for purpose in [DATA, LOOKUP, AUDIT] {
            add(&transaction, master, purpose)?;
        }
        transaction.commit()?;
        Self::open(connection, master)
    }

    pub(super) fn open(connection: &Connection, master: &MasterKey) -> Result<Self, StoreError> {
        let key = |purpose| read(connection, master, purpose)?.ok_or(StoreError::WrongMasterKey);
        let data = key(DATA)?;
        Ok(Self {
            data: AeadKey::derive(&data, "credential"),
            #[cfg(feature = "vault")]
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
    if let Some(key) = read(connection, master, AUDIT)? {
        return Ok(key);
    }
    // Of several processes that come here at once, one makes the key and the others read it.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    if read(&transaction, master, AUDIT)?.is_none() {
        add(&transaction, master, AUDIT)?;
    }
    transaction.commit()?;
    read(connection, master, AUDIT)?.ok_or(StoreError::WrongMasterKey)
}

fn add(connection: &Connection, master: &MasterKey, purpose: &str) -> Result<(), StoreError> {
    let key = Zeroizing::new(random::<32>());
    let wrapped = master.wrapping_key().seal(random(), &place(purpose), key.as_slice());
    connection
        .execute("INSERT INTO keyring (purpose, wrapped) VALUES (?1, ?2)", params![purpose, wrapped])?;
    Ok(())
}

/// `None` if there is no such key.
fn read(
    connection: &Connection,
    master: &MasterKey,
    purpose: &str,
) -> Result<Option<Zeroizing<[u8; 32]>>, StoreError> {
    let wrapped: Option<Vec<u8>> = connection
        .query_row("SELECT wrapped FROM keyring WHERE purpose = ?1", params![purpose], |row| row.get(0))
        .optional()?;
    let Some(wrapped) = wrapped else { return Ok(None) };
    let opened = master.wrapping_key().open(&place(purpose), &wrapped);
    let key = opened.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    key.map(|key| Some(Zeroizing::new(key))).ok_or(StoreError::WrongMasterKey)
}

fn place(purpose: &str) -> Vec<u8> {
    lp(&[b"countersign keyring 1", purpose.as_bytes()])
}
