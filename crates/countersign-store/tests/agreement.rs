//! What the SQLite store alone can do wrong with a rotation in band: the file, and what somebody changed in it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::{Path, PathBuf};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::rotation::{Answer, Confirm, Propose, Ruling};
use countersign_store::agreement::Message;
use countersign_store::contract::{cs1_peer, key, secret};
use countersign_store::master::MasterKey;
use countersign_store::sqlite::SqliteStore;
use countersign_store::{Move, Moved, NewKeys, NewPeer, Peer, PeerStore, StoreError};
use tempfile::TempDir;
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime(1_700_000_000);
const GRACE: u64 = 900;
const PRIVATE: [u8; 32] = *b"a private key that is not kept !";

/// A store that is closed and opened between any two moves.
struct Side {
    path: PathBuf,
    master: MasterKey,
    other: ServiceName,
}

impl Side {
    fn new(directory: &Path, name: &str, other: &str, keys: NewKeys) -> Self {
        let (path, master) = (directory.join(name), MasterKey::generate());
        let store = SqliteStore::create(&path, &master).unwrap();
        store.add(NewPeer { keys, ..cs1_peer(other, 1) }, NOW).unwrap();
        Self { path, master, other: other.parse().unwrap() }
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path, &self.master).unwrap()
    }

    fn peer(&self) -> Peer {
        self.open().get(&self.other).unwrap()
    }

    fn agree(&self, wanted: &Move) -> Moved {
        let store = self.open();
        let moved = store.agree(&self.other, wanted, NOW).unwrap();
        let before = store.get(&self.other).unwrap();
        drop(store);
        let after = self.peer();
        assert_eq!(after.agreement, before.agreement);
        assert_eq!(after.step(), before.step());
        let sends = |peer: &Peer| peer.sending(NOW).iter().map(|one| one.number).collect::<Vec<_>>();
        assert_eq!(sends(&after), sends(&before));
        moved
    }

    fn propose(&self) -> Propose {
        let private = Zeroizing::new(PRIVATE);
        match self.agree(&Move::Propose { nonce: [1; 32], private }) {
            Moved::Send(Message::Propose(propose)) => propose,
            other => panic!("{other:?}"),
        }
    }

    fn answer(&self, propose: &Propose) -> Answer {
        let signer = self.peer().credentials[0].uid;
        let private = Zeroizing::new(PRIVATE);
        let wanted = Move::Answer {
            propose: propose.clone(),
            signer,
            nonce: [2; 32],
            private,
            grace: GRACE,
            supersede_after: 0,
        };
        match self.agree(&wanted) {
            Moved::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn receive(&self, answer: Answer) -> Confirm {
        match self.agree(&Move::Receive { answer, grace: GRACE }) {
            Moved::Send(Message::Confirm(confirm)) => confirm,
            other => panic!("{other:?}"),
        }
    }

    fn confirm(&self, confirm: &Confirm) -> Ruling {
        match self.agree(&Move::Confirm(confirm.clone())) {
            Moved::Ruling(ruling) => ruling,
            other => panic!("{other:?}"),
        }
    }

    fn sql(&self, change: &str) -> usize {
        rusqlite::Connection::open(&self.path).unwrap().execute(change, []).unwrap()
    }

    /// Whether these bytes, or their list as JSON writes it, are in a file of the store.
    fn holds(&self, bytes: &[u8]) -> bool {
        let json = serde_json::to_vec(bytes).unwrap();
        let json = json.strip_prefix(b"[").and_then(|json| json.strip_suffix(b"]")).unwrap();
        let files = ["", "-wal", "-shm"].map(|end| format!("{}{end}", self.path.display()));
        files.iter().filter_map(|file| std::fs::read(file).ok()).any(|file| {
            [bytes, json].iter().any(|needle| file.windows(needle.len()).any(|window| window == *needle))
        })
    }
}

fn two() -> (TempDir, Side, Side) {
    let directory = tempfile::tempdir().unwrap();
    let keys = NewKeys::cs1(key(1), key(101), secret(1)).unwrap();
    let one = Side::new(directory.path(), "one.sqlite", "billing", keys.clone());
    let other = Side::new(directory.path(), "other.sqlite", "orders", keys.exchanged());
    (directory, one, other)
}

#[test]
fn a_rotation_goes_on_where_it_was_after_every_restart() {
    let (_directory, one, other) = two();
    let r2 = other.answer(&one.propose());
    assert!(matches!(one.peer().outgoing(), Some(Message::Propose(_))));
    let r3 = one.receive(r2);
    let Some(Message::Confirm(again)) = one.peer().outgoing() else { panic!("READY") };
    assert_eq!(again.to_json(), r3.to_json());
    let r4 = other.confirm(&r3);
    assert!(matches!(one.agree(&Move::Conclude(r4)), Moved::Done(2)));
    let newest = |side: &Side| side.peer().newest_fingerprint().cloned();
    assert_eq!(newest(&one), newest(&other));
}

#[test]
fn neither_a_private_key_nor_a_new_secret_is_readable_in_the_file() {
    let (_directory, one, other) = two();
    let r1 = one.propose();
    assert!(!one.holds(&PRIVATE), "PROPOSED");
    // With the store open, as a copy of a running service's files would have it.
    let store = one.open();
    let r2 = other.answer(&r1);
    one.receive(r2);
    let peer = store.get(&one.other).unwrap();
    let Some((ours, theirs)) = peer.api_keys() else { panic!("cs1") };
    for side in [&one, &other] {
        assert!(!side.holds(&PRIVATE) && !side.holds(ours.expose().as_bytes()));
        assert!(!side.holds(theirs.expose().as_bytes()));
    }
    let countersign_store::Keys::Cs1 { secret, .. } = &peer.credentials[1].keys else { panic!("cs1") };
    assert!(!one.holds(secret.expose().as_bytes()) && !other.holds(secret.expose().as_bytes()));
}

#[test]
fn what_was_agreed_and_somebody_changed_makes_that_peer_unusable_and_no_other() {
    for change in [
        "UPDATE agreement SET sealed = (SELECT sealed FROM agreement WHERE peer = 'third') WHERE peer = 'billing'",
        "UPDATE agreement SET sealed = zeroblob(length(sealed)) WHERE peer = 'billing'",
        "UPDATE agreement SET sealed = substr(sealed, 2) WHERE peer = 'billing'",
        "UPDATE agreement SET sealed = x'' WHERE peer = 'billing'",
    ] {
        let (_directory, one, _) = two();
        one.open().add(cs1_peer("third", 5), NOW).unwrap();
        one.open().agree(&"third".parse().unwrap(), &Move::Want, NOW).unwrap();
        one.propose();
        assert_eq!(one.sql(change), 1, "{change}");
        let store = one.open();
        let damaged = |result: Result<(), StoreError>| match result {
            Err(StoreError::Damaged(what)) => assert!(what.contains("billing"), "{what}"),
            other => panic!("{change}: {other:?}"),
        };
        damaged(store.get(&one.other).map(drop));
        let again = Move::Propose { nonce: [5; 32], private: Zeroizing::new([6; 32]) };
        damaged(store.agree(&one.other, &again, NOW).map(drop));
        let listing = store.read_all().unwrap();
        let names: Vec<_> = listing.peers.iter().map(|peer| peer.name.to_string()).collect();
        assert_eq!((names, listing.damaged.len()), (vec!["third".to_owned()], 1), "{change}");
        let third = store.get(&"third".parse().unwrap()).unwrap();
        assert_eq!(third.wanted(), Some(NOW));
    }
}
