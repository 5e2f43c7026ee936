//! Another master key for the same store. The store's own keys stay; while the change goes on they are wrapped
//! twice, and both master keys open it. So there is no moment, and no crash, after which the key that is in place
//! does not (docs/adr/0013).

use std::time::Instant;

use rusqlite::{Connection, TransactionBehavior, params};

use super::keyring::{self, PURPOSES, Slot};
use super::{BUSY, SqliteStore, commit, row};
use crate::StoreError;
use crate::master::MasterKey;

/// Where a change of the master key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrap {
    /// None goes on: one master key opens the store.
    Idle,
    /// Two keys open it, and the one that was given is the old one.
    Begun,
    /// Two keys open it, and the one that was given is the new one.
    TakenOver,
}

impl SqliteStore {
    /// Where a change of the master key stands, for whoever has this one.
    ///
    /// # Errors
    /// [`StoreError::WrongMasterKey`], or the store cannot be read.
    pub fn rewrap(&self, master: &MasterKey) -> Result<Rewrap, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction()?;
        state(&transaction, master)
    }

    /// Lets `next` open the store as well. If `present` is the new key of an unfinished change, that one is
    /// finished first.
    ///
    /// # Errors
    /// [`StoreError::RewrapOpen`] if two keys open the store and `present` is the older one,
    /// [`StoreError::SameMasterKey`], [`StoreError::WrongMasterKey`], [`StoreError::Damaged`], or the store cannot
    /// be written.
    pub fn begin_rewrap(&self, present: &MasterKey, next: &MasterKey) -> Result<(), StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Not over damage: the old key may be needed to look into it.
        if let Some(damage) = row::read(&transaction, &self.keyring.data, None)?.damaged.into_iter().next() {
            return Err(damage);
        }
        match state(&transaction, present)? {
            Rewrap::Idle => {}
            Rewrap::Begun => return Err(StoreError::RewrapOpen),
            Rewrap::TakenOver => promote(&transaction, present)?,
        }
        if keyring::slot(&transaction, next).is_ok() {
            return Err(StoreError::SameMasterKey);
        }
        for purpose in PURPOSES {
            let key = keyring::read(&transaction, present, Slot::Present, purpose)?
                .ok_or(StoreError::WrongMasterKey)?;
            keyring::write(&transaction, next, Slot::Next, purpose, &key)?;
        }
        commit(transaction)
    }

    /// Takes the old key away; `master` is the new one. `false` if it is the only one already.
    ///
    /// # Errors
    /// [`StoreError::RewrapNotTakenOver`] if `master` is the old one, [`StoreError::WrongMasterKey`], or the store
    /// cannot be written.
    pub fn finish_rewrap(&self, master: &MasterKey) -> Result<bool, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match state(&transaction, master)? {
            Rewrap::Idle => return Ok(false),
            Rewrap::Begun => return Err(StoreError::RewrapNotTakenOver),
            Rewrap::TakenOver => promote(&transaction, master)?,
        }
        commit(transaction)?;
        Ok(true)
    }

    /// Takes the new key away again; `master` is the old one. `false` if it is the only one.
    ///
    /// # Errors
    /// [`StoreError::RewrapTakenOver`] if `master` is the new one, [`StoreError::WrongMasterKey`], or the store
    /// cannot be written.
    pub fn abandon_rewrap(&self, master: &MasterKey) -> Result<bool, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match state(&transaction, master)? {
            Rewrap::Idle => return Ok(false),
            Rewrap::Begun => remove(&transaction, Slot::Next)?,
            Rewrap::TakenOver => return Err(StoreError::RewrapTakenOver),
        }
        commit(transaction)?;
        Ok(true)
    }

    /// Writes SQLite's log back into the file and empties it, so that nothing that was overwritten is left in
    /// either. `false` if other processes were reading all the time.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn sweep(&self) -> Result<bool, StoreError> {
        let connection = self.lock()?;
        let deadline = Instant::now() + BUSY;
        loop {
            let busy: i64 = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))?;
            if busy == 0 || Instant::now() >= deadline {
                return Ok(busy == 0);
            }
        }
    }
}

/// Whether a change was begun and not ended.
pub(super) fn is_open(connection: &Connection) -> Result<bool, StoreError> {
    for purpose in PURPOSES {
        let query = "SELECT EXISTS (SELECT 1 FROM keyring WHERE purpose = ?1)";
        if connection.query_row(query, params![Slot::Next.row(purpose)], |row| row.get(0))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn state(connection: &Connection, master: &MasterKey) -> Result<Rewrap, StoreError> {
    Ok(match (keyring::slot(connection, master)?, is_open(connection)?) {
        (Slot::Present, false) => Rewrap::Idle,
        (Slot::Present, true) => Rewrap::Begun,
        (Slot::Next, _) => Rewrap::TakenOver,
    })
}

/// Puts the wraps under the new key in the place of those under the old one, once all of them are seen to open.
fn promote(connection: &Connection, master: &MasterKey) -> Result<(), StoreError> {
    for purpose in PURPOSES {
        keyring::read(connection, master, Slot::Next, purpose)?.ok_or(StoreError::WrongMasterKey)?;
    }
    remove(connection, Slot::Present)?;
    for purpose in PURPOSES {
        connection.execute(
            "UPDATE keyring SET purpose = ?2 WHERE purpose = ?1",
            params![Slot::Next.row(purpose), Slot::Present.row(purpose)],
        )?;
    }
    Ok(())
}

fn remove(connection: &Connection, slot: Slot) -> Result<(), StoreError> {
    for purpose in PURPOSES {
        connection.execute("DELETE FROM keyring WHERE purpose = ?1", params![slot.row(purpose)])?;
    }
    Ok(())
}
