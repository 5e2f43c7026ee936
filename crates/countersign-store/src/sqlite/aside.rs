//! Sealed copies of what is kept elsewhere, for an outage there, and what a server keeps for its next start: the table
//! `aside`.

use countersign_protocol::{UnixTime, lp};
use rusqlite::{OptionalExtension as _, params};
use zeroize::Zeroizing;

use super::SqliteStore;
use crate::{Kept, State, StateStore, StoreError, random};

/// A copy.
pub(crate) struct Aside {
    /// When it was current.
    pub(crate) kept: UnixTime,
    /// `None` if it does not open, because it was changed or is of another scope. Then `kept` is anybody's word.
    pub(crate) plaintext: Option<Zeroizing<Vec<u8>>>,
}

impl SqliteStore {
    /// Keeps `plaintext` under `name`, in the place of what is there. It opens under this name, for this `scope` and
    /// with this time only.
    pub(crate) fn put_aside(
        &self,
        name: &str,
        scope: &[&[u8]],
        kept: UnixTime,
        plaintext: &[u8],
    ) -> Result<(), StoreError> {
        let kept = seconds(kept);
        let sealed = self.keyring.aside.seal(random(), &place(name, scope, kept), plaintext);
        self.lock()?.execute(
            "INSERT INTO aside (name, kept, sealed) VALUES (?1, ?2, ?3)
             ON CONFLICT (name) DO UPDATE SET kept = excluded.kept, sealed = excluded.sealed",
            params![name, kept, sealed],
        )?;
        Ok(())
    }

    /// What is kept under `name`, and since when.
    pub(crate) fn aside(&self, name: &str, scope: &[&[u8]]) -> Result<Option<Aside>, StoreError> {
        let row: Option<(i64, Vec<u8>)> = self
            .lock()?
            .query_row("SELECT kept, sealed FROM aside WHERE name = ?1", params![name], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .optional()?;
        let Some((kept, sealed)) = row else { return Ok(None) };
        let opened = self.keyring.aside.open(&place(name, scope, kept), &sealed);
        Ok(Some(Aside { kept: UnixTime(kept.unsigned_abs()), plaintext: opened.ok() }))
    }

    /// The names that begin like this.
    #[cfg(feature = "vault")]
    pub(crate) fn aside_names(&self, beginning: &str) -> Result<Vec<String>, StoreError> {
        let connection = self.lock()?;
        let mut statement =
            connection.prepare_cached("SELECT name FROM aside WHERE substr(name, 1, length(?1)) = ?1")?;
        let names = statement.query_map(params![beginning], |row| row.get(0))?.collect::<Result<_, _>>()?;
        Ok(names)
    }

    /// Removes what is kept under `name`.
    pub(crate) fn drop_aside(&self, name: &str) -> Result<(), StoreError> {
        self.lock()?.execute("DELETE FROM aside WHERE name = ?1", params![name])?;
        Ok(())
    }
}

impl StateStore for SqliteStore {
    fn keep(&self, state: State, at: UnixTime, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_aside(state.as_str(), &[], at, bytes)
    }

    fn kept(&self, state: State) -> Result<Option<Kept>, StoreError> {
        let Some(Aside { kept, plaintext: Some(bytes) }) = self.aside(state.as_str(), &[])? else {
            return Ok(None);
        };
        Ok(Some(Kept { at: kept, bytes }))
    }

    fn has(&self, state: State) -> Result<bool, StoreError> {
        Ok(self.aside(state.as_str(), &[])?.is_some())
    }

    fn forget(&self, state: State) -> Result<(), StoreError> {
        self.drop_aside(state.as_str())
    }
}

pub(super) fn place(name: &str, scope: &[&[u8]], kept: i64) -> Vec<u8> {
    let kept = kept.to_be_bytes();
    let mut fields: Vec<&[u8]> = vec![b"countersign aside 1", name.as_bytes(), &kept];
    fields.extend_from_slice(scope);
    lp(&fields)
}

pub(super) fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}
