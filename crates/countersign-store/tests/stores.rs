//! Every store against the one contract, and what only the SQLite store can do wrong.

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;

use countersign_protocol::UnixTime;
use countersign_store::contract::{self, secret, shared_secret_peer};
use countersign_store::master::MasterKey;
use countersign_store::sqlite::SqliteStore;
use countersign_store::{MemoryStore, PeerStore, StoreError};

const NOW: UnixTime = UnixTime(1_700_000_000);

#[test]
fn the_memory_store_keeps_the_contract() {
    contract::check(MemoryStore::new);
}

#[test]
fn the_sqlite_store_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let made = Cell::new(0);
    contract::check(|| {
        made.set(made.get() + 1);
        let path = directory.path().join(format!("store-{}.sqlite", made.get()));
        SqliteStore::create(&path, &MasterKey::generate()).unwrap()
    });
}

#[test]
fn what_was_added_is_there_after_opening_again() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    SqliteStore::create(&path, &master).unwrap().add(shared_secret_peer("billing", 1), NOW).unwrap();
    let peers = SqliteStore::open(&path, &master).unwrap().list().unwrap();
    assert_eq!(peers.len(), 1);
}

#[test]
fn a_change_by_another_process_moves_the_version() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    let one = SqliteStore::create(&path, &master).unwrap();
    let before = one.version().unwrap();
    SqliteStore::open(&path, &master).unwrap().add(shared_secret_peer("billing", 1), NOW).unwrap();
    assert_ne!(one.version().unwrap(), before);
    assert_eq!(one.list().unwrap().len(), 1);
}

#[test]
fn no_secret_is_readable_in_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let store = SqliteStore::create(&path, &MasterKey::generate()).unwrap();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for needle in [secret(1).expose().as_bytes(), contract::key(1).expose().as_bytes()] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}

#[test]
fn only_the_owner_can_read_the_files() {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::create(&directory.path().join("store.sqlite"), &MasterKey::generate()).unwrap();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn another_master_key_does_not_open_it_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    SqliteStore::create(&path, &master).unwrap().add(shared_secret_peer("billing", 1), NOW).unwrap();
    let before = std::fs::read(&path).unwrap();
    let error = SqliteStore::open(&path, &MasterKey::generate()).unwrap_err();
    assert!(matches!(error, StoreError::WrongMasterKey), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
    assert_eq!(SqliteStore::open(&path, &master).unwrap().list().unwrap().len(), 1);
}

#[test]
fn a_store_is_neither_overwritten_nor_made_by_opening() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    assert!(matches!(SqliteStore::open(&path, &master), Err(StoreError::NoStore { .. })));
    assert!(!path.exists());
    SqliteStore::create(&path, &master).unwrap();
    assert!(matches!(SqliteStore::create(&path, &master), Err(StoreError::Exists { .. })));
}

#[test]
fn a_store_of_a_later_version_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    drop(SqliteStore::create(&path, &master).unwrap());
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
    assert!(matches!(SqliteStore::open(&path, &master), Err(StoreError::TooNew)));
}

#[test]
fn a_file_that_is_no_database_is_an_error_and_stays_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    std::fs::write(&path, b"not a database, but long enough to be looked at as one").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(SqliteStore::open(&path, &MasterKey::generate()), Err(StoreError::Sqlite(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[test]
fn a_url_pin_or_danger_flag_changed_in_the_file_makes_the_peer_unusable() {
    for change in [
        "url = 'https://evil.example'",
        "url = NULL",
        "trust = 'system'",
        "danger_unproven_server = 1",
        "profile = 'api-key'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::create(&path, &MasterKey::generate()).unwrap();
        store.add(shared_secret_peer("billing", 1), NOW).unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(raw.execute(&format!("UPDATE peer SET {change}"), []).unwrap(), 1);
        assert!(matches!(store.list(), Err(StoreError::Damaged(_))), "{change}");
    }
}

#[test]
fn a_credential_moved_to_another_peer_does_not_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    let store = SqliteStore::create(&path, &master).unwrap();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.add(shared_secret_peer("orders", 2), NOW).unwrap();
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute(
        "UPDATE credential SET sealed = (SELECT sealed FROM credential WHERE peer = 'orders')
         WHERE peer = 'billing'",
        [],
    )
    .unwrap();
    let error = store.list().unwrap_err();
    assert_eq!(
        error.to_string(),
        "the stored credential billing/1 does not open: it was changed outside of Countersign or is damaged; \
         restore the store from a backup, or remove the peer and add it again"
    );
}
