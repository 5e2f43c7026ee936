//! The tables, and how older files become newer ones. The version is SQLite's `user_version`.

use rusqlite::Connection;
use rusqlite_migration::{M, Migrations};

use crate::StoreError;

const STEPS: &[M<'static>] =
    &[M::up(PEERS), M::up(LIFECYCLE), M::up(AUDIT), M::up(ELSEWHERE), M::up(CS1), M::up(AGREEMENT)];

const PEERS: &str = "CREATE TABLE keyring (
         purpose TEXT PRIMARY KEY,  -- data, lookup, audit
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
     CREATE INDEX identifier_by_peer ON identifier (peer);";

const LIFECYCLE: &str = "
     ALTER TABLE peer ADD COLUMN rotate_every INTEGER DEFAULT 7776000;  -- seconds; NULL for no schedule
     -- Both set from when it has a successor on; sealed with the credential.
     ALTER TABLE credential ADD COLUMN overlap_since INTEGER;
     ALTER TABLE credential ADD COLUMN grace_ends INTEGER;
     ALTER TABLE credential ADD COLUMN deadline INTEGER;
     -- Not sealed: what happened, as far as it was noticed.
     ALTER TABLE credential ADD COLUMN confirmed INTEGER;
     ALTER TABLE credential ADD COLUMN used_inbound INTEGER;
     ALTER TABLE credential ADD COLUMN used_outbound INTEGER;
     CREATE TABLE ended (
         peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
         number INTEGER NOT NULL,
         created INTEGER NOT NULL,
         ended INTEGER NOT NULL,
         how TEXT NOT NULL,         -- retired, abandoned, revoked, compromised
         fingerprint TEXT NOT NULL,
         presented BLOB,            -- keyed hash of the API key that the peer presented
         hashes BLOB NOT NULL,      -- keyed hashes of all its keys and secrets, 32 bytes each
         PRIMARY KEY (peer, number)
     ) STRICT, WITHOUT ROWID;
     -- Counts what decides who is let in; uses and what else is kept here do not count.
     CREATE TABLE change (id INTEGER PRIMARY KEY CHECK (id = 0), counter INTEGER NOT NULL) STRICT;
     INSERT INTO change (id, counter) VALUES (0, 1);
     CREATE TRIGGER peer_added AFTER INSERT ON peer BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER peer_changed AFTER UPDATE ON peer BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER peer_removed AFTER DELETE ON peer BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER credential_added AFTER INSERT ON credential
         BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER credential_changed
         AFTER UPDATE OF peer, number, created, fingerprint, sealed, overlap_since, grace_ends, deadline, confirmed
         ON credential BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER credential_removed AFTER DELETE ON credential
         BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER ended_added AFTER INSERT ON ended BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER ended_changed AFTER UPDATE ON ended BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER ended_removed AFTER DELETE ON ended BEGIN UPDATE change SET counter = counter + 1; END;";

// No trigger: where the trail ends decides nothing about who is let in.
const AUDIT: &str = "CREATE TABLE audit_head (
         writer TEXT PRIMARY KEY,   -- serve, call, admin
         seq INTEGER NOT NULL,      -- the last record that is known to be on disk; 0 for none
         mac BLOB NOT NULL,
         start_seq INTEGER NOT NULL,  -- the last record that retention has removed; 0 for none
         start_mac BLOB NOT NULL,
         seal BLOB NOT NULL         -- MAC of all of this under the writer's audit key
     ) STRICT, WITHOUT ROWID;";

const ELSEWHERE: &str = "
     -- Credentials that are kept elsewhere (files, the environment, Vault): what this service knows of them.
     CREATE TABLE elsewhere (
         uid BLOB PRIMARY KEY,
         peer TEXT,                 -- with the number that it got here; NULL where numbers are given elsewhere
         number INTEGER,
         since INTEGER NOT NULL,    -- when it was first seen here
         confirmed INTEGER,
         used_inbound INTEGER,
         used_outbound INTEGER,
         UNIQUE (peer, number)
     ) STRICT, WITHOUT ROWID;
     -- Sealed copies of what is kept elsewhere, for an outage there.
     CREATE TABLE aside (
         name TEXT PRIMARY KEY,
         kept INTEGER NOT NULL,     -- when it was current
         sealed BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;";

// Sealed with the credentials.
const CS1: &str = "
     ALTER TABLE peer ADD COLUMN binding TEXT NOT NULL DEFAULT 'none';  -- none, tls-exporter
     ALTER TABLE peer ADD COLUMN danger_direct INTEGER NOT NULL DEFAULT 0;";

const AGREEMENT: &str = "
     -- What a peer and we agree on in band about its next credential; sealed, for a private key can be in it.
     CREATE TABLE agreement (
         peer TEXT PRIMARY KEY REFERENCES peer (name) ON DELETE CASCADE,
         sealed BLOB NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TRIGGER agreement_added AFTER INSERT ON agreement
         BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER agreement_changed AFTER UPDATE ON agreement
         BEGIN UPDATE change SET counter = counter + 1; END;
     CREATE TRIGGER agreement_removed AFTER DELETE ON agreement
         BEGIN UPDATE change SET counter = counter + 1; END;";

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
