//! The tables, and how older files become newer ones. The version is SQLite's `user_version`.

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::StoreError;

const STEPS: &[M<'static>] = &[M::up(
    "CREATE TABLE keyring (
         purpose TEXT PRIMARY KEY,  -- data, lookup
         wrapped BLOB NOT NULL      -- 32 random bytes, AES-256-GCM-SIV under the master key
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE peer (
         name TEXT PRIMARY KEY,
         profile TEXT NOT NULL,
         url TEXT,
         trust TEXT NOT NULL,       -- system | pin sha256/… | PEM text
         danger_unproven_server INTEGER NOT NULL,
         created INTEGER NOT NULL   -- seconds since 1970
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE credential (
         peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
         number INTEGER NOT NULL,
         created INTEGER NOT NULL,
         fingerprint TEXT NOT NULL,
         sealed BLOB NOT NULL,      -- keys and secrets, AES-256-GCM-SIV under the data key
         PRIMARY KEY (peer, number)
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE identifier (
         hash BLOB PRIMARY KEY,     -- keyed hash of a key or a secret: in use with one peer only
         peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX identifier_by_peer ON identifier (peer);",
)];

pub(super) fn version(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.pragma_query_value(None, "user_version", |row| row.get(0))?)
}

pub(super) fn refuse_newer(connection: &Connection) -> Result<(), StoreError> {
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    if version(connection)? > known { Err(StoreError::TooNew) } else { Ok(()) }
}

pub(super) fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    Migrations::from_slice(STEPS).to_latest(connection).map_err(|error| match error {
        rusqlite_migration::Error::RusqliteError { err, .. } => StoreError::Sqlite(err),
        _ => StoreError::TooNew,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_steps_are_valid_sql() {
        rusqlite_migration::Migrations::from_slice(super::STEPS).validate().unwrap();
    }
}
