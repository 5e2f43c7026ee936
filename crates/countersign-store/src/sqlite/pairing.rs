//! Offers of a pairing, in the table `aside`: sealed, one row each, gone minutes later.

use countersign_protocol::UnixTime;
use countersign_protocol::pairing::OfferId;
use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};

use super::aside::{place, seconds};
use super::{SqliteStore, commit};
use crate::pairing::{MAX_OFFERS, Offer, PairingStore};
use crate::{StoreError, random};

/// What the names of their rows begin with.
pub(super) const PREFIX: &str = "pairing-offer/";

fn name(id: OfferId) -> String {
    format!("{PREFIX}{}", id.number())
}

impl SqliteStore {
    fn changing<T>(
        &self,
        work: impl FnOnce(&Self, &Transaction<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let done = work(self, &transaction)?;
        commit(transaction)?;
        Ok(done)
    }

    fn read_offer(&self, connection: &Connection, id: OfferId) -> Result<Option<Offer>, StoreError> {
        let query = "SELECT kept, sealed FROM aside WHERE name = ?1";
        let row: Option<(i64, Vec<u8>)> = connection
            .query_row(query, params![name(id)], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        let Some((kept, sealed)) = row else { return Ok(None) };
        let opened = self.keyring.aside.open(&place(&name(id), &[], kept), &sealed);
        Ok(opened.ok().and_then(|bytes| Offer::from_bytes(id, &bytes)))
    }

    fn write_offer(&self, connection: &Connection, offer: &Offer) -> Result<(), StoreError> {
        let (name, kept) = (name(offer.id), seconds(offer.expires));
        let sealed = self.keyring.aside.seal(random(), &place(&name, &[], kept), &offer.to_bytes());
        connection.execute(
            "INSERT INTO aside (name, kept, sealed) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET kept = excluded.kept, sealed = excluded.sealed",
            params![name, kept, sealed],
        )?;
        Ok(())
    }

    /// The ids of all offers.
    fn offers(connection: &Connection) -> Result<Vec<Option<OfferId>>, StoreError> {
        let mut statement = connection.prepare_cached(
            "SELECT substr(name, length(?1) + 1) FROM aside WHERE substr(name, 1, length(?1)) = ?1",
        )?;
        let numbers: Vec<String> =
            statement.query_map(params![PREFIX], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(numbers.iter().map(|number| number.parse().ok().map(OfferId::from_stored)).collect())
    }
}

impl PairingStore for SqliteStore {
    fn open(&self, offer: &Offer, now: UnixTime) -> Result<bool, StoreError> {
        self.changing(|store, transaction| {
            let mut open = 0;
            for id in Self::offers(transaction)?.into_iter().flatten() {
                match store.read_offer(transaction, id)? {
                    Some(known) if !known.is_over(now) => open += 1,
                    // Over, or changed by somebody: nothing can come of it.
                    _ => {
                        transaction.execute("DELETE FROM aside WHERE name = ?1", params![name(id)])?;
                    }
                }
            }
            if open >= MAX_OFFERS {
                return Err(StoreError::TooManyOffers);
            }
            if store.read_offer(transaction, offer.id)?.is_some() {
                return Ok(false);
            }
            store.write_offer(transaction, offer)?;
            Ok(true)
        })
    }

    fn offer(&self, id: OfferId) -> Result<Option<Offer>, StoreError> {
        let connection = self.lock()?;
        self.read_offer(&connection, id)
    }

    fn replace(&self, next: &Offer) -> Result<bool, StoreError> {
        self.changing(|store, transaction| {
            let known = store.read_offer(transaction, next.id)?;
            if known.is_none_or(|known| known.revision != next.revision) {
                return Ok(false);
            }
            store.write_offer(transaction, &Offer { revision: next.revision + 1, ..next.clone() })?;
            Ok(true)
        })
    }

    fn withdraw(&self, id: OfferId) -> Result<(), StoreError> {
        self.drop_aside(&name(id))
    }
}
