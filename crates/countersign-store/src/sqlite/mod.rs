//! The embedded store: one SQLite file (WAL), secrets sealed with AES-256-GCM-SIV under a random data key that
//! the master key wraps. What is not secret stays readable with `sqlite3`.

mod agreement;
mod aside;
mod copy;
mod elsewhere;
mod heads;
mod inspect;
mod keyring;
mod pairing;
mod rewrap;
mod row;
mod schema;

use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::lookup::{LookupHash, LookupKey};
use rusqlite::config::DbConfig;
use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

use crate::file::Unfinished;
use crate::lifecycle::{Ending, Next, Use, Which};
use crate::master::MasterKey;
use crate::{Listing, Move, Moved, NewPeer, Peer, PeerStore, StoreError};
#[cfg(feature = "vault")]
pub(crate) use aside::Aside;
pub use heads::{AuditHead, AuditHeads};
pub use inspect::{Inspection, inspect};
use keyring::Keyring;
pub use rewrap::Rewrap;
use zeroize::Zeroizing;

/// How long a writer waits for another one.
const BUSY: Duration = Duration::from_secs(5);

/// Peers in a SQLite file. Several processes may have it open.
pub struct SqliteStore {
    connection: Mutex<Connection>,
    keyring: Keyring,
    audit_key: Zeroizing<[u8; 32]>,
    place: Place,
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Where the file is, and which one it was when it was opened.
#[derive(Clone, Debug)]
struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
    /// Whether the log beside it may be written into it when the last connection ends.
    tidy: bool,
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
        let has_log = has_log(path);
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let keyring = open_keyring(&connection, path, master)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        schema::migrate(&mut connection)?;
        let audit_key = keyring::audit(&mut connection, master)?;
        // A log that belongs to another store makes peers that do not open.
        let is_ours = !has_log || row::read(&connection, &keyring.data, None)?.damaged.is_empty();
        tidy_on_close(&connection, is_ours)?;
        let place = Place { tidy: is_ours, ..place };
        Ok(Self { connection: Mutex::new(connection), keyring, audit_key, place })
    }

    /// The key from which those of the trail's chains are derived. It outlives a change of the master key.
    #[must_use]
    pub fn audit_key(&self) -> Zeroizing<[u8; 32]> {
        self.audit_key.clone()
    }

    /// Where the trail's chains end, over a connection of its own.
    ///
    /// # Errors
    /// The store cannot be opened a second time, or another file is in its place.
    pub fn audit_heads(&self) -> Result<AuditHeads, StoreError> {
        AuditHeads::open(self.place.clone())
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
            Ok((metadata, path)) => {
                Ok(Self { path, device: metadata.dev(), inode: metadata.ino(), tidy: true })
            }
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

/// Whether there is anything in SQLite's log beside this file.
fn has_log(path: &Path) -> bool {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    std::fs::metadata(log).is_ok_and(|log| log.len() > 0)
}

fn connect(path: &Path, access: OpenFlags) -> Result<Connection, StoreError> {
    let connection = Connection::open_with_flags(path, access | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
    connection.busy_timeout(BUSY)?;
    // What was said to be done must outlive a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    // Removed secrets are overwritten, not only unlinked.
    connection.pragma_update(None, "secure_delete", true)?;
    tidy_on_close(&connection, false)?;
    Ok(connection)
}

/// Whether SQLite writes its log back into the file when the last connection ends. Not before the store has opened: a
/// log that belongs to another file would be written over this one.
fn tidy_on_close(connection: &Connection, tidy: bool) -> Result<(), StoreError> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, !tidy)?;
    Ok(())
}

impl SqliteStore {
    /// Changes the credentials of one peer in one transaction.
    fn change<T>(
        &self,
        name: &ServiceName,
        work: impl FnOnce(&Connection, &mut Peer) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let Listing { peers, damaged } = row::read(&transaction, &self.keyring.data, Some(name))?;
        if let Some(error) = damaged.into_iter().next() {
            return Err(error);
        }
        let mut peer = peers.into_iter().next().ok_or_else(|| StoreError::NoSuchPeer(name.clone()))?;
        let before = peer.agreement.clone();
        let done = work(&transaction, &mut peer)?;
        row::replace_credentials(&transaction, &self.keyring.data, &peer)?;
        if peer.agreement != before {
            agreement::write(&transaction, &self.keyring.data, &peer)?;
        }
        commit(transaction)?;
        Ok(done)
    }
}

/// Makes a change last. When the disk fails here, all of the change may be in the log already, and whoever opens the
/// store next then finds it.
fn commit(transaction: Transaction<'_>) -> Result<(), StoreError> {
    transaction.commit().map_err(|error| match error.sqlite_error_code() {
        Some(ErrorCode::SystemIoFailure) => StoreError::Unsure(error),
        _ => StoreError::Sqlite(error),
    })
}

/// Takes these keys and secrets for `peer`, which must be free.
fn take(connection: &Connection, peer: &ServiceName, hashes: &[LookupHash]) -> Result<(), StoreError> {
    for hash in hashes {
        let owner: Option<String> = connection
            .query_row("SELECT peer FROM identifier WHERE hash = ?1", params![hash.as_bytes()], |row| {
                row.get(0)
            })
            .optional()?;
        if let Some(owner) = owner {
            let owner = owner.parse().map_err(|_| StoreError::Damaged(peer.to_string()))?;
            return Err(StoreError::KeyTaken(owner));
        }
    }
    for hash in hashes {
        connection.execute(
            "INSERT INTO identifier (hash, peer) VALUES (?1, ?2)",
            params![hash.as_bytes(), peer.as_str()],
        )?;
    }
    Ok(())
}

/// Frees what this peer has not, and never had but in rotations that were given up.
fn free_others(connection: &Connection, peer: &ServiceName, hashes: &[LookupHash]) -> Result<(), StoreError> {
    let mut query = connection.prepare_cached("SELECT hash FROM identifier WHERE peer = ?1")?;
    let found: Vec<Vec<u8>> =
        query.query_map(params![peer.as_str()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    for hash in found.iter().filter(|hash| hashes.iter().all(|one| one.as_bytes() != hash.as_slice())) {
        connection.execute("DELETE FROM identifier WHERE hash = ?1", params![hash])?;
    }
    Ok(())
}

impl PeerStore for SqliteStore {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        let (peer, hashes) = peer.into_peer(&self.keyring.lookup, now)?;
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        if row::exists(&transaction, &peer.name)? {
            return Err(StoreError::NameTaken(peer.name));
        }
        row::insert(&transaction, &self.keyring.data, &peer)?;
        take(&transaction, &peer.name, &hashes)?;
        commit(transaction)?;
        Ok(peer)
    }

    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        match transaction.execute("DELETE FROM peer WHERE name = ?1", params![name.as_str()])? {
            0 => Err(StoreError::NoSuchPeer(name.clone())),
            _ => commit(transaction),
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
        let mut statement = connection.prepare_cached("SELECT counter FROM change")?;
        let counter: i64 = statement.query_row([], |row| row.get(0))?;
        Ok(counter.unsigned_abs())
    }

    fn rotate(&self, name: &ServiceName, next: Next, now: UnixTime) -> Result<Peer, StoreError> {
        self.change(name, |transaction, peer| {
            let hashes = peer.rotate(next, now, &self.keyring.lookup)?;
            take(transaction, name, &hashes)?;
            Ok(peer.clone())
        })
    }

    fn agree(&self, name: &ServiceName, wanted: &Move, now: UnixTime) -> Result<Moved, StoreError> {
        self.change(name, |transaction, peer| {
            let (moved, hashes) = peer.agree(wanted, now, &self.keyring.lookup)?;
            take(transaction, name, &hashes)?;
            free_others(transaction, name, &peer.all_hashes(&self.keyring.lookup))?;
            Ok(moved)
        })
    }

    fn end(
        &self,
        name: &ServiceName,
        which: Which,
        how: Ending,
        now: UnixTime,
    ) -> Result<Vec<u32>, StoreError> {
        self.change(name, |_, peer| peer.end(which, how, now, &self.keyring.lookup))
    }

    fn settle(&self, now: UnixTime) -> Result<Vec<CredentialId>, StoreError> {
        let mut settled = Vec::new();
        for peer in self.read_all()?.peers {
            if peer.accepted(now).count() == peer.credentials.len() {
                continue;
            }
            // Looked at again under the lock: it may have been revoked meanwhile.
            let numbers = self.change(&peer.name, |_, peer| Ok(peer.settle(now, &self.keyring.lookup)))?;
            settled
                .extend(numbers.into_iter().map(|number| CredentialId { peer: peer.name.clone(), number }));
        }
        Ok(settled)
    }

    fn note(&self, uses: &[Use]) -> Result<(), StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut peers = row::read(&transaction, &self.keyring.data, None)?.peers;
        for peer in &mut peers {
            let mut of_this = uses.iter().filter(|used| peer.has(used)).peekable();
            if of_this.peek().is_none() {
                continue;
            }
            let of_this: Vec<_> = of_this.copied().collect();
            let before = peer.agreement.clone();
            let first = of_this.iter().fold(false, |first, used| peer.note(used) | first);
            row::write_uses(&transaction, peer, first)?;
            if peer.agreement != before {
                agreement::write(&transaction, &self.keyring.data, peer)?;
            }
        }
        commit(transaction)
    }

    fn set_schedule(&self, name: &ServiceName, every: Option<u64>) -> Result<(), StoreError> {
        let every = every.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX));
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let query = "UPDATE peer SET rotate_every = ?2 WHERE name = ?1";
        match transaction.execute(query, params![name.as_str(), every])? {
            0 => Err(StoreError::NoSuchPeer(name.clone())),
            _ => commit(transaction),
        }
    }

    fn lookup_key(&self) -> &LookupKey {
        &self.keyring.lookup
    }
}
