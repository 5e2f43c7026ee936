//! A copy of the whole store at one moment, while others read and write it.

use std::path::Path;

use rusqlite::{Connection, params};
use zeroize::Zeroizing;

use super::{SqliteStore, pairing};
use crate::file::Unfinished;
use crate::{State, StoreError};

impl SqliteStore {
    /// The bytes of a store file that holds what this one holds now, and nothing that was removed from it, but for what
    /// a server keeps for its own next start: of that there is only that it is not there. What is
    /// sealed stays sealed under the same keys. `beside` says where room is made for it meanwhile.
    ///
    /// # Errors
    /// The store cannot be read, or there is no room.
    pub fn copy(&self, beside: &Path) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        let failed = |error| StoreError::Io { path: beside.display().to_string(), error };
        // Private from the beginning; SQLite takes an empty file as none.
        let (unfinished, _) = Unfinished::create(beside, 0o600).map_err(failed)?;
        let target = unfinished.path().to_str().ok_or_else(|| {
            failed(std::io::Error::other("the path is not text (UTF-8), which the database needs it to be"))
        })?;
        let connection = self.lock()?;
        connection.execute("VACUUM INTO ?1", params![target])?;
        drop(connection);
        // Of no use to another process, and what is in a copy is not gone when it is gone here (CS-20).
        let copy = Connection::open(unfinished.path())?;
        copy.pragma_update(None, "journal_mode", "DELETE")?;
        copy.pragma_update(None, "secure_delete", true)?;
        let mut served = 0;
        for state in [State::TicketKeys, State::ReplayLog, State::Lost] {
            served += copy.execute("DELETE FROM aside WHERE name = ?1", params![state.as_str()])?;
        }
        // Whoever starts from the copy does not know what was accepted here. A row that does not open tells it that.
        if served > 0 {
            let lost = State::Lost.as_str();
            copy.execute("INSERT INTO aside (name, kept, sealed) VALUES (?1, 0, x'')", params![lost])?;
        }
        // A code that is burned here must not be open again there.
        copy.execute("DELETE FROM aside WHERE substr(name, 1, length(?1)) = ?1", params![pairing::PREFIX])?;
        drop(copy);
        Ok(Zeroizing::new(std::fs::read(unfinished.path()).map_err(failed)?))
    }
}
