//! The embedded store: one SQLite file (WAL), secrets sealed with AES-256-GCM-SIV under a random data key that
//! the master key wraps. What is not secret stays readable with `sqlite3`.

mod keyring;
mod row;
mod schema;

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::lookup::LookupKey;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use crate::master::MasterKey;
use crate::{NewPeer, Peer, PeerStore, StoreError};
use keyring::Keyring;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(5);

/// Peers in a SQLite file. Several processes may have it open.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
    keyring: Keyring,
}

impl SqliteStore {
    /// Makes a new store with mode 0600 and new keys. It is made under another name and then moved, so that a
    /// crash leaves a whole store or none.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the file cannot be written.
    pub fn create(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.display().to_string() },
            _ => StoreError::Io { path: path.display().to_string(), error },
        };
        let unfinished = path.with_added_extension("unfinished");
        for leftover in ["unfinished", "unfinished-wal", "unfinished-shm"] {
            let _ = std::fs::remove_file(path.with_added_extension(leftover));
        }
        std::fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&unfinished)
            .map_err(failed)?;
        let mut connection = connect(&unfinished)?;
        schema::migrate(&mut connection)?;
        Keyring::create(&mut connection, master)?;
        // Closing moves everything from the log into the file.
        connection.close().map_err(|(_, error)| error)?;
        // Unlike a rename, a link does not replace what is there.
        std::fs::hard_link(&unfinished, path).map_err(failed)?;
        let _ = std::fs::remove_file(&unfinished);
        Self::open(path, master)
    }

    /// Opens the store that is there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::WrongMasterKey`], [`StoreError::TooNew`], or the file cannot be
    /// read. Nothing is written in any of these cases.
    pub fn open(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::NoStore { path: path.display().to_string() });
        }
        let mut connection = connect(path)?;
        let keyring = match schema::version(&connection)? {
            // A file without a schema is none of ours.
            0 => return Err(StoreError::NoStore { path: path.display().to_string() }),
            _ => {
                schema::refuse_newer(&connection)?;
                Keyring::open(&connection, master)?
            }
        };
        schema::migrate(&mut connection)?;
        Ok(Self { connection: Mutex::new(connection), keyring })
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A transaction that was not committed is rolled back when it is dropped.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    // What was said to be done must outlive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Removed secrets are overwritten, not only unlinked.
    connection.pragma_update(None, "secure_delete", true)?;
    Ok(connection)
}

impl PeerStore for SqliteStore {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        let (peer, hashes) = peer.into_peer(&self.keyring.lookup, now);
        let mut connection = self.lock();
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if row::exists(&transaction, &peer.name)? {
            return Err(StoreError::NameTaken(peer.name));
        }
        for hash in &hashes {
            let owner: Option<String> = transaction
                .query_row("SELECT peer FROM identifier WHERE hash = ?1", params![hash.as_bytes()], |row| {
                    row.get(0)
                })
                .optional()?;
            if let Some(owner) = owner {
                let owner = owner.parse().map_err(|_| StoreError::Damaged(peer.name.to_string()))?;
                return Err(StoreError::KeyTaken(owner));
            }
        }
        row::insert(&transaction, &self.keyring.data, &peer)?;
        for hash in &hashes {
            transaction.execute(
                "INSERT INTO identifier (hash, peer) VALUES (?1, ?2)",
                params![hash.as_bytes(), peer.name.as_str()],
            )?;
        }
        transaction.commit()?;
        Ok(peer)
    }

    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        let connection = self.lock();
        match connection.execute("DELETE FROM peer WHERE name = ?1", params![name.as_str()])? {
            0 => Err(StoreError::NoSuchPeer(name.clone())),
            _ => Ok(()),
        }
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        let peers = row::read(&transaction, &self.keyring.data, Some(name))?;
        peers.into_iter().next().ok_or_else(|| StoreError::NoSuchPeer(name.clone()))
    }

    fn list(&self) -> Result<Vec<Peer>, StoreError> {
        let mut connection = self.lock();
        let transaction = connection.transaction()?;
        row::read(&transaction, &self.keyring.data, None)
    }

    fn version(&self) -> Result<u64, StoreError> {
        let connection = self.lock();
        // data_version sees other connections' commits, total_changes our own; each only grows.
        let others: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        Ok(others.unsigned_abs().wrapping_add(connection.total_changes() << 32))
    }

    fn lookup_key(&self) -> &LookupKey {
        &self.keyring.lookup
    }
}
