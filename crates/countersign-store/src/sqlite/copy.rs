//! A copy of the whole store at one moment, while others read and write it.

use std::path::Path;

use rusqlite::params;
use zeroize::Zeroizing;

use super::SqliteStore;
use crate::StoreError;
use crate::file::Unfinished;

impl SqliteStore {
    /// The bytes of a store file that holds what this one holds now, and nothing that was removed from it. What is
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
        Ok(Zeroizing::new(std::fs::read(unfinished.path()).map_err(failed)?))
    }
}
