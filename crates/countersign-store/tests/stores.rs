//! Every store against the one contract, and what only the SQLite store can do wrong.

#![allow(clippy::unwrap_used, reason = "what breaks in a helper ends the test")]

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::pairing::{OfferId, Password};
use countersign_store::contract::{self, cs1_peer, secret, shared_secret_peer};
use countersign_store::master::MasterKey;
use countersign_store::pairing::{Choices, Offer};
use countersign_store::sqlite::SqliteStore;
use countersign_store::{
    Cs1Options, Ending, Listing, MemoryStore, NewKeys, NewPeer, Next, Overlap, PairingStore as _, PeerStore,
    State, StateStore as _, StoreError, Which,
};
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime(1_700_000_000);

#[test]
fn the_memory_store_keeps_the_contract() {
    contract::check(MemoryStore::new);
    contract::check_state(MemoryStore::new);
    contract::check_pairing(MemoryStore::new);
}

#[test]
fn the_sqlite_store_keeps_the_contract() {
    let directory = tempfile::tempdir().unwrap();
    let made = Cell::new(0);
    let make = || {
        made.set(made.get() + 1);
        let path = directory.path().join(format!("store-{}.sqlite", made.get()));
        SqliteStore::create(&path, &MasterKey::generate()).unwrap()
    };
    contract::check(make);
    contract::check_state(make);
    contract::check_pairing(make);
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
fn what_is_over_stays_over_in_the_file_when_its_successor_is_revoked() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let (master, name) = (MasterKey::generate(), "billing".parse().unwrap());
    let store = SqliteStore::create(&path, &master).unwrap();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let keys = NewKeys::shared_secret(contract::key(2), contract::key(102), secret(2), secret(2)).unwrap();
    let next = Next { keys, overlap: Overlap::new(NOW, 1, Some(2)), confirmed: false, follows: None };
    store.rotate(&name, next, NOW).unwrap();
    store.end(&name, Which::Number(2), Ending::Revoked, NOW.plus(3)).unwrap();
    drop(store);
    let peer = SqliteStore::open(&path, &master).unwrap().get(&name).unwrap();
    assert!(peer.credentials.is_empty());
    assert_eq!(peer.ended.iter().map(|one| one.number).collect::<Vec<_>>(), [1, 2]);
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
    store.add(cs1_peer("orders", 2), NOW).unwrap();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for needle in [secret(1).expose(), secret(2).expose(), contract::key(1).expose()].map(str::as_bytes) {
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
fn what_stands_readable_in_the_file_cannot_be_changed_there_without_making_the_peer_unusable() {
    for change in [
        "peer SET url = 'https://evil.example'",
        "peer SET url = NULL",
        "peer SET trust = 'system'",
        "peer SET danger_unproven_server = 1",
        "peer SET profile = 'api-key'",
        "peer SET profile = 'none'",
        "peer SET binding = 'none'",
        "peer SET binding = 'tls-unique'",
        "peer SET danger_direct = 1",
        "peer SET created = created + 1",
        "peer SET name = 'Billing'",
        "credential SET fingerprint = '00000 00000 00000 00000 00000 00000'",
        "credential SET created = created + 1",
        "credential SET number = 2",
        "credential SET number = -1",
        "credential SET number = 4294967297",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::create(&path, &MasterKey::generate()).unwrap();
        store.add(cs1_peer("billing", 1), NOW).unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        raw.pragma_update(None, "foreign_keys", false).unwrap();
        assert_eq!(raw.execute(&format!("UPDATE {change}"), []).unwrap(), 1);
        assert!(matches!(store.list(), Err(StoreError::Damaged(_))), "{change}");
    }
    // What is the default is sealed as well: nobody can bind or unbind a peer in the file.
    for change in ["binding = 'tls-exporter'", "danger_direct = 1", "profile = 'shared-secret'"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::create(&path, &MasterKey::generate()).unwrap();
        store.add(NewPeer { cs1: Cs1Options::default(), ..cs1_peer("billing", 1) }, NOW).unwrap();
        let raw = rusqlite::Connection::open(&path).unwrap();
        assert_eq!(raw.execute(&format!("UPDATE peer SET {change}"), []).unwrap(), 1);
        assert!(matches!(store.list(), Err(StoreError::Damaged(_))), "{change}");
    }
}

/// A store that keeps both states, and the file.
#[allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]
fn keeping() -> (tempfile::TempDir, std::path::PathBuf, MasterKey, SqliteStore) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    let master = MasterKey::generate();
    let store = SqliteStore::create(&path, &master).unwrap();
    store.keep(State::TicketKeys, NOW, b"ticket keys of a server").unwrap();
    store.keep(State::ReplayLog, NOW, b"what was used").unwrap();
    (directory, path, master, store)
}

#[test]
fn what_a_server_keeps_is_there_after_opening_again_and_readable_nowhere() {
    let (directory, path, master, store) = keeping();
    for entry in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(11).any(|window| window == b"ticket keys"));
    }
    drop(store);
    let store = SqliteStore::open(&path, &master).unwrap();
    let kept = store.kept(State::TicketKeys).unwrap().unwrap();
    assert_eq!((kept.at, kept.bytes.as_slice()), (NOW, &b"ticket keys of a server"[..]));
    assert_eq!(store.take(State::ReplayLog).unwrap().unwrap().bytes.as_slice(), b"what was used");
    assert!(SqliteStore::open(&path, &master).unwrap().kept(State::ReplayLog).unwrap().is_none());
}

#[test]
fn what_a_server_keeps_and_somebody_changed_counts_as_nothing() {
    for change in [
        "UPDATE aside SET kept = kept + 1",
        "UPDATE aside SET kept = -kept",
        "UPDATE aside SET sealed = x''",
        "UPDATE aside SET sealed = zeroblob(length(sealed))",
        "UPDATE aside SET sealed = substr(sealed, 1, length(sealed) - 1)",
        // The two in each other's place.
        "CREATE TEMP TABLE was AS SELECT * FROM aside;
         UPDATE aside SET sealed = (SELECT was.sealed FROM was WHERE was.name <> aside.name)",
        "DELETE FROM aside",
    ] {
        let (_directory, path, _, store) = keeping();
        let raw = rusqlite::Connection::open(&path).unwrap();
        raw.execute_batch(change).unwrap();
        for state in [State::TicketKeys, State::ReplayLog] {
            assert!(store.kept(state).unwrap().is_none(), "{change}");
            assert_eq!(
                store.has(state).unwrap(),
                change != "DELETE FROM aside",
                "that it was there is known"
            );
            assert!(store.take(state).unwrap().is_none(), "{change}");
        }
        let left: i64 = raw.query_row("SELECT count(*) FROM aside", [], |row| row.get(0)).unwrap();
        assert_eq!(left, 0, "what cannot be opened is removed with the rest: {change}");
        store.keep(State::TicketKeys, NOW, b"new ones").unwrap();
        assert_eq!(store.kept(State::TicketKeys).unwrap().unwrap().bytes.as_slice(), b"new ones");
    }
}

/// Whoever changes an offer in the file ends it; nothing in it can be read there.
#[test]
fn an_offer_that_was_changed_in_the_file_is_none() {
    let (directory, _, _, store) = keeping();
    let choices = Choices { name: None, binding: Binding::None, pins: Vec::new(), system_trust: false };
    let password = Password::generate(&Zeroizing::new([7; 6]));
    let spelled = password.spelled();
    let offer = Offer::new(OfferId::generate(&[1, 2, 3]), password, choices, NOW.plus(600));
    let raw = rusqlite::Connection::open(directory.path().join("store.sqlite")).unwrap();
    for change in [
        "UPDATE aside SET kept = kept + 600 WHERE name LIKE 'pairing-offer/%'",
        "UPDATE aside SET sealed = zeroblob(100) WHERE name LIKE 'pairing-offer/%'",
        "UPDATE aside SET name = 'pairing-offer/1' WHERE name LIKE 'pairing-offer/%'",
    ] {
        assert!(store.open(&offer, NOW).unwrap());
        assert!(store.offer(offer.id).unwrap().is_some());
        assert_eq!(raw.execute(change, []).unwrap(), 1);
        assert!(store.offer(offer.id).unwrap().is_none(), "{change}");
        assert!(store.offer(OfferId::from_stored(1)).unwrap().is_none(), "{change}");
        assert!(!store.replace(&offer).unwrap(), "{change}");
        let spare = Offer { id: OfferId::from_stored(2), ..offer.clone() };
        assert!(store.open(&spare, NOW).unwrap(), "what cannot be read is removed");
        store.withdraw(spare.id).unwrap();
    }
    for file in std::fs::read_dir(directory.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        for word in spelled.split('-').filter(|word| word.len() > 4) {
            assert!(!bytes.windows(word.len()).any(|window| window == word.as_bytes()), "{word}");
        }
    }
}

/// Ticket keys in a backup would open the sessions of the past (CS-20), a log of another time lets replays pass, and a code
/// that is burned would be open again.
#[test]
fn a_copy_holds_neither_ticket_keys_nor_the_log_nor_offers() {
    let (directory, _, master, store) = keeping();
    let choices = Choices { name: None, binding: Binding::None, pins: Vec::new(), system_trust: false };
    let password = Password::generate(&Zeroizing::new([7; 6]));
    let offer = Offer::new(OfferId::generate(&[1, 2, 3]), password, choices, NOW.plus(600));
    assert!(store.open(&offer, NOW).unwrap());
    store.add(cs1_peer("billing", 1), NOW).unwrap();
    let bytes = store.copy(&directory.path().join("copy.sqlite")).unwrap();
    let restored = directory.path().join("restored.sqlite");
    std::fs::write(&restored, &bytes).unwrap();
    let raw = rusqlite::Connection::open(&restored).unwrap();
    let rows: Vec<String> = {
        let mut names = raw.prepare("SELECT name FROM aside").unwrap();
        names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert_eq!(rows, ["replay-log-lost"]);
    drop(raw);
    // Not in pages that nobody refers to any more, either: what is sealed there, the master key opens.
    let sealed = |state: &str| -> Vec<u8> {
        let raw = rusqlite::Connection::open(directory.path().join("store.sqlite")).unwrap();
        raw.query_row("SELECT sealed FROM aside WHERE name = ?1", [state], |row| row.get(0)).unwrap()
    };
    for state in ["ticket-keys", "replay-log", &format!("pairing-offer/{}", offer.id.number())] {
        let sealed = sealed(state);
        assert!(!bytes.windows(16).any(|window| window == &sealed[sealed.len() - 16..]), "{state}");
    }
    let copy = SqliteStore::open(&restored, &master).unwrap();
    for state in [State::TicketKeys, State::ReplayLog] {
        assert!(copy.kept(state).unwrap().is_none());
        assert!(store.kept(state).unwrap().is_some(), "here it stays");
    }
    assert!(copy.has(State::Lost).unwrap() && copy.kept(State::Lost).unwrap().is_none(), "and that is told");
    assert!(copy.offer(offer.id).unwrap().is_none() && store.offer(offer.id).unwrap().is_some());
    assert_eq!(copy.list().unwrap().len(), 1);
}

#[test]
fn a_damaged_peer_is_told_apart_and_takes_no_other_with_it() {
    for damage in [
        "UPDATE credential SET sealed = zeroblob(100) WHERE peer = 'billing'",
        "UPDATE credential SET number = -1 WHERE peer = 'billing'",
        "UPDATE credential SET fingerprint = CAST(x'ff' AS TEXT) WHERE peer = 'billing'",
        "UPDATE peer SET trust = 'pin nothing' WHERE name = 'billing'",
        "UPDATE peer SET profile = CAST(x'ff' AS TEXT) WHERE name = 'billing'",
        "DELETE FROM credential WHERE peer = 'billing'",
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::create(&path, &MasterKey::generate()).unwrap();
        for (name, seed) in [("billing", 1), ("orders", 2), ("aaa", 3)] {
            store.add(shared_secret_peer(name, seed), NOW).unwrap();
        }
        rusqlite::Connection::open(&path).unwrap().execute(damage, []).unwrap();
        let Listing { peers, damaged } = store.read_all().unwrap();
        let names: Vec<_> = peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["aaa", "orders"], "{damage}");
        let [StoreError::Damaged(named)] = damaged.as_slice() else { panic!("{damage}: {damaged:?}") };
        assert!(named == "billing" || named.starts_with("billing/"), "{named}");
        store.get(&"orders".parse().unwrap()).unwrap();
        let billing = "billing".parse().unwrap();
        assert!(matches!(store.get(&billing), Err(StoreError::Damaged(_))), "{damage}");
        assert!(matches!(store.list(), Err(StoreError::Damaged(_))), "{damage}");
        store.remove(&billing).unwrap();
        assert_eq!(store.list().unwrap().len(), 2, "{damage}");
        store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    }
}

#[test]
fn of_creations_at_the_same_time_one_wins_and_none_disturbs_it() {
    for _ in 0..5 {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let won: Vec<MasterKey> = std::thread::scope(|scope| {
            let create = || {
                let master = MasterKey::generate();
                match SqliteStore::create(&path, &master) {
                    Ok(_) => Some(master),
                    Err(StoreError::Exists { .. }) => None,
                    Err(error) => panic!("{error}"),
                }
            };
            let creations: Vec<_> = (0..4).map(|_| scope.spawn(create)).collect();
            creations.into_iter().filter_map(|creation| creation.join().unwrap()).collect()
        });
        let [master] = won.as_slice() else { panic!("{} have won", won.len()) };
        SqliteStore::open(&path, master).unwrap().add(shared_secret_peer("billing", 1), NOW).unwrap();
        let left = std::fs::read_dir(directory.path()).unwrap();
        let left: Vec<_> = left.map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["store.sqlite"]);
    }
}

#[test]
fn what_an_interrupted_creation_left_does_not_matter() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store.sqlite");
    std::fs::write(directory.path().join("store.sqlite.unfinished"), "torn").unwrap();
    let master = MasterKey::generate();
    SqliteStore::create(&path, &master).unwrap();
    SqliteStore::open(&path, &master).unwrap();
}

#[test]
fn a_file_that_was_replaced_or_removed_while_in_use_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (directory.path().join("store.sqlite"), directory.path().join("backup.sqlite"));
    let master = MasterKey::generate();
    drop(SqliteStore::create(&path, &master).unwrap());
    std::fs::copy(&path, &backup).unwrap();
    let store = SqliteStore::open(&path, &master).unwrap();
    store.version().unwrap();
    for change in [
        (|path, _| std::fs::remove_file(path))
            as fn(&std::path::Path, &std::path::Path) -> std::io::Result<()>,
        |path, backup| std::fs::rename(backup, path),
    ] {
        change(&path, &backup).unwrap();
        for error in
            [store.version().unwrap_err(), store.add(shared_secret_peer("billing", 1), NOW).unwrap_err()]
        {
            assert!(
                matches!(&error, StoreError::Replaced { path } if path.ends_with("store.sqlite")),
                "{error}"
            );
            assert!(error.to_string().contains("restart the service"), "{error}");
        }
    }
    SqliteStore::open(&path, &master).unwrap().version().unwrap();
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
