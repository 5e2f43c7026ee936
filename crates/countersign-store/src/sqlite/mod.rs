//! The embedded store: one SQLite file (WAL), secrets sealed with AES-256-GCM-SIV under a random data key that
//! the master key wraps. What is not secret stays readable with `sqlite3`.

mod keyring;
mod row;
mod schema;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::lookup::LookupKey;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, TransactionBehavior, params};

use crate::file::Unfinished;
use crate::master::MasterKey;
use crate::{Listing, NewPeer, Peer, PeerStore, StoreError};
use keyring::Keyring;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(5);

/// Peers in a SQLite file. Several processes may have it open.
#[derive(Debug)]
pub struct SqliteStore {
    connection: Mutex<Connection>,
    keyring: Keyring,
    place: Place,
}

/// Where the file is, and which one it was when it was opened.
#[derive(Debug)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl SqliteStore {
    /// Makes a new store with mode 0600 and new keys. It is made under another name, opened once for a test and
    /// then linked to its own, so that a full disk or a crash leaves a whole store or none.
    ///
    /// # Errors
    /// [`StoreError::Exists`], or the file cannot be written.
    pub fn create(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        let failed = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::AlreadyExists => StoreError::Exists { path: path.display().to_string() },
            _ => StoreError::Io { path: path.display().to_string(), error },
        };
        let (unfinished, _) = Unfinished::create(path, 0o600).map_err(failed)?;
        let made = build(unfinished.path(), master);
        if made.is_err() {
            let mut journal = unfinished.path().as_os_str().to_owned();
            journal.push("-journal");
            let _ = std::fs::remove_file(journal);
        }
        made?;
        unfinished.publish(path).map_err(failed)?;
        Self::open(path, master)
    }

    /// Opens the store that is there, and brings its schema up to date.
    ///
    /// # Errors
    /// [`StoreError::NoStore`], [`StoreError::WrongMasterKey`], [`StoreError::TooNew`], or the file cannot be
    /// read. Nothing is written in any of these cases.
    pub fn open(path: &Path, master: &MasterKey) -> Result<Self, StoreError> {
        // Looked at before it is opened: a file that is exchanged in between is noticed later.
        let place = Place::of(path)?;
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let keyring = open_keyring(&connection, path, master)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        schema::migrate(&mut connection)?;
        Ok(Self { connection: Mutex::new(connection), keyring, place })
    }

    /// The connection, if the file at the path is still the one it leads to.
    fn lock(&self) -> Result<MutexGuard<'_, Connection>, StoreError> {
        self.place.check()?;
        // A transaction that was not committed is rolled back when it is dropped.
        Ok(self.connection.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Place {
    fn of(path: &Path) -> Result<Self, StoreError> {
        let shown = || path.display().to_string();
        let found = std::path::absolute(path).and_then(|path| Ok((path.metadata()?, path)));
        match found {
            Ok((metadata, path)) => Ok(Self { path, device: metadata.dev(), inode: metadata.ino() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                Err(StoreError::NoStore { path: shown() })
            }
            Err(error) => Err(StoreError::Io { path: shown(), error }),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let path = || self.path.display().to_string();
        match self.path.metadata() {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == (self.device, self.inode) => Ok(()),
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(StoreError::Io { path: path(), error })
            }
            _ => Err(StoreError::Replaced { path: path() }),
        }
    }
}

/// Fills an empty file with a store, and sees whether it opens.
fn build(path: &Path, master: &MasterKey) -> Result<(), StoreError> {
    let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // With a log beside it the file would not be the whole store.
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    schema::migrate(&mut connection)?;
    Keyring::create(&mut connection, master)?;
    connection.close().map_err(|(_, error)| error)?;
    let written = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    open_keyring(&written, path, master)?;
    Ok(())
}

fn open_keyring(connection: &Connection, path: &Path, master: &MasterKey) -> Result<Keyring, StoreError> {
    if schema::version(connection)? == 0 {
        // A file without a schema is none of ours.
        return Err(StoreError::NoStore { path: path.display().to_string() });
    }
    schema::refuse_newer(connection)?;
    Keyring::open(connection, master)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
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
        let mut connection = self.lock()?;
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
        let connection = self.lock()?;
        match connection.execute("DELETE FROM peer WHERE name = ?1", params![name.as_str()])? {
            0 => Err(StoreError::NoSuchPeer(name.clone())),
            _ => Ok(()),
        }
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction()?;
        let Listing { peers, damaged } = row::read(&transaction, &self.keyring.data, Some(name))?;
        if let Some(error) = damaged.into_iter().next() {
            return Err(error);
        }
        peers.into_iter().next().ok_or_else(|| StoreError::NoSuchPeer(name.clone()))
    }

    fn read_all(&self) -> Result<Listing, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction()?;
        row::read(&transaction, &self.keyring.data, None)
    }

    fn version(&self) -> Result<u64, StoreError> {
        let connection = self.lock()?;
        // data_version sees other connections' commits, total_changes our own; each only grows.
        let others: i64 = connection.pragma_query_value(None, "data_version", |row| row.get(0))?;
        Ok(others.unsigned_abs().wrapping_add(connection.total_changes() << 32))
    }

    fn lookup_key(&self) -> &LookupKey {
        &self.keyring.lookup
    }
}
