//! The store's own keys, wrapped by the master key. Changing the master key re-wraps these and nothing else.

use countersign_protocol::aead::AeadKey;
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::lp;
use rusqlite::{Connection, OptionalExtension as _, params};
use zeroize::Zeroizing;

use crate::master::MasterKey;
use crate::{StoreError, random};

const DATA: &str = "data";
const LOOKUP: &str = "lookup";

#[derive(Debug)]
pub(super) struct Keyring {
    /// Seals credentials.
    pub(super) data: AeadKey,
    /// Hashes API keys and secrets.
    pub(super) lookup: LookupKey,
}

impl Keyring {
    pub(super) fn create(connection: &mut Connection, master: &MasterKey) -> Result<Self, StoreError> {
        let wrapping = master.wrapping_key();
        let transaction = connection.transaction()?;
        for purpose in [DATA, LOOKUP] {
            let key = Zeroizing::new(random::<32>());
            let wrapped = wrapping.seal(random(), &place(purpose), key.as_slice());
            transaction.execute(
                "INSERT INTO keyring (purpose, wrapped) VALUES (?1, ?2)",
                params![purpose, wrapped],
            )?;
        }
        transaction.commit()?;
        Self::open(connection, master)
    }

    pub(super) fn open(connection: &Connection, master: &MasterKey) -> Result<Self, StoreError> {
        let wrapping = master.wrapping_key();
        let unwrap = |purpose: &str| -> Result<Zeroizing<[u8; 32]>, StoreError> {
            let wrapped: Option<Vec<u8>> = connection
                .query_row("SELECT wrapped FROM keyring WHERE purpose = ?1", params![purpose], |row| {
                    row.get(0)
                })
                .optional()?;
            let opened = wrapped.and_then(|wrapped| wrapping.open(&place(purpose), &wrapped).ok());
            let key = opened.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
            key.map(Zeroizing::new).ok_or(StoreError::WrongMasterKey)
        };
        Ok(Self {
            data: AeadKey::derive(&unwrap(DATA)?, "credential"),
            lookup: LookupKey::new(&unwrap(LOOKUP)?),
        })
    }
}

fn place(purpose: &str) -> Vec<u8> {
    lp(&[b"countersign keyring 1", purpose.as_bytes()])
}
