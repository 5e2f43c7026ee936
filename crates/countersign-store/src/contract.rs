//! What every [`PeerStore`] has to do, as one suite that the tests run against each (feature `contract`).
//!
//! ```
//! countersign_store::contract::check(countersign_store::MemoryStore::new);
//! countersign_store::contract::check_state(countersign_store::MemoryStore::new);
//! countersign_store::contract::check_pairing(countersign_store::MemoryStore::new);
//! ```

#![allow(clippy::panic, clippy::unwrap_used, clippy::expect_used, reason = "a failed check is a failed test")]

mod agreement;
mod lifecycle;
mod pairing;
mod state;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::identity::{ApiKey, Profile, ServiceName};
use countersign_protocol::secret::SharedSecret;

pub use self::pairing::check as check_pairing;
pub use self::state::check as check_state;
use crate::{Cs1Options, Keys, NewKeys, NewPeer, PeerStore, StoreError, Trust};

const NOW: UnixTime = UnixTime(1_700_000_000);

/// Runs the whole suite; `make` gives a fresh, empty store each time.
///
/// # Panics
/// If the store breaks the contract.
pub fn check<S: PeerStore>(make: impl Fn() -> S) {
    a_fresh_store_is_empty(&make());
    a_shared_secret_peer_comes_back_whole(&make());
    a_cs1_peer_comes_back_whole(&make());
    options_that_do_not_go_together_are_refused(&make());
    an_api_key_peer_keeps_only_a_hash_of_the_inbound_key(&make());
    names_are_unique(&make());
    no_key_or_secret_serves_two_peers(&make());
    a_refused_peer_leaves_nothing_behind(&make());
    removing_frees_name_keys_and_secrets(&make());
    a_peer_that_comes_again_is_another_one(&make());
    what_is_not_there_is_said_to_be_missing(&make());
    the_version_moves_with_every_change_and_only_then(&make());
    of_racing_additions_exactly_one_wins(&make());
    agreement::check(&make);
    lifecycle::check(make);
}

/// An API key made from a number, for tests.
#[must_use]
pub fn key(seed: u8) -> ApiKey {
    ApiKey::generate(&spread(seed))
}

/// A shared secret made from a number, for tests.
#[must_use]
pub fn secret(seed: u8) -> SharedSecret {
    SharedSecret::generate(&spread(seed))
}

fn spread<const N: usize>(seed: u8) -> [u8; N] {
    let mut bytes = [0; N];
    let mut state = u64::from(seed).wrapping_add(1);
    for byte in &mut bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let [high, ..] = state.to_be_bytes();
        *byte = high;
    }
    bytes
}

/// A peer under the profile `shared-secret` with keys `seed` and `seed + 100`, for tests.
#[must_use]
pub fn shared_secret_peer(name: &str, seed: u8) -> NewPeer {
    let keys = NewKeys::shared_secret(key(seed), key(seed + 100), secret(seed), secret(seed))
        .expect("different keys");
    NewPeer {
        name: name.parse().expect("a name"),
        url: Some("https://peer.example:8443".to_owned()),
        trust: Trust::Pin([7; 32]),
        danger_unproven_server: false,
        cs1: Default::default(),
        keys,
    }
}

/// A peer under the profile `cs1` with keys `seed` and `seed + 100`, bound to TLS, for tests.
#[must_use]
pub fn cs1_peer(name: &str, seed: u8) -> NewPeer {
    NewPeer {
        cs1: Cs1Options { binding: Binding::TlsExporter, danger_direct: false },
        keys: NewKeys::cs1(key(seed), key(seed + 100), secret(seed)).expect("different keys"),
        ..shared_secret_peer(name, seed)
    }
}

fn api_key_peer(name: &str, ours: Option<u8>, theirs: Option<u8>) -> NewPeer {
    NewPeer {
        name: name.parse().expect("a name"),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys: NewKeys::api_key(ours.map(key), theirs.map(key)).expect("good keys"),
    }
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a name")
}

fn a_fresh_store_is_empty(store: &impl PeerStore) {
    assert!(store.list().unwrap().is_empty());
    let listing = store.read_all().unwrap();
    assert!(listing.peers.is_empty() && listing.damaged.is_empty());
}

fn a_shared_secret_peer_comes_back_whole(store: &impl PeerStore) {
    let added = store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let peer = store.get(&name("billing")).unwrap();
    assert_eq!(peer.profile, Profile::SharedSecret);
    assert_eq!(peer.url.as_deref(), Some("https://peer.example:8443"));
    assert_eq!(peer.trust, Trust::Pin([7; 32]));
    assert_eq!(peer.created, NOW);
    let [credential] = peer.credentials.as_slice() else { panic!("one credential") };
    assert_eq!(credential.number, 1);
    let [original] = added.credentials.as_slice() else { panic!("one credential") };
    assert_eq!((credential.uid, &credential.fingerprint), (original.uid, &original.fingerprint));
    let Keys::SharedSecret { our_key, their_key, our_secret, their_secret } = &credential.keys else {
        panic!("the profile's keys")
    };
    assert_eq!((our_key, their_key), (&key(1), &key(101)));
    assert_eq!(our_secret.expose(), secret(1).expose());
    assert_eq!(their_secret.expose(), secret(1).expose());
}

fn a_cs1_peer_comes_back_whole(store: &impl PeerStore) {
    let added = store.add(cs1_peer("billing", 1), NOW).unwrap();
    let direct = Cs1Options { danger_direct: true, ..Cs1Options::default() };
    store.add(NewPeer { cs1: direct, ..cs1_peer("orders", 2) }, NOW).unwrap();
    store.add(NewPeer { cs1: Cs1Options::default(), ..cs1_peer("third", 3) }, NOW).unwrap();
    let peer = store.get(&name("billing")).unwrap();
    assert_eq!(peer.profile, Profile::Cs1);
    assert_eq!(peer.cs1, Cs1Options { binding: Binding::TlsExporter, danger_direct: false });
    assert_eq!(store.get(&name("orders")).unwrap().cs1, direct);
    assert_eq!(store.get(&name("third")).unwrap().cs1, Cs1Options::default());
    let ([credential], [original]) = (peer.credentials.as_slice(), added.credentials.as_slice()) else {
        panic!("one credential")
    };
    assert_eq!((credential.uid, &credential.fingerprint), (original.uid, &original.fingerprint));
    let Keys::Cs1 { our_key, their_key, secret: kept } = &credential.keys else {
        panic!("the profile's keys")
    };
    assert_eq!((our_key, their_key), (&key(1), &key(101)));
    assert_eq!(kept.expose(), secret(1).expose());
    assert_eq!(credential.keys.public(), Some((our_key, their_key)));
}

fn options_that_do_not_go_together_are_refused(store: &impl PeerStore) {
    let both = Cs1Options { binding: Binding::TlsExporter, danger_direct: true };
    let bound = Cs1Options { danger_direct: false, ..both };
    for (what, peer) in [
        ("direct and bound", NewPeer { cs1: both, ..cs1_peer("billing", 1) }),
        ("unproven", NewPeer { danger_unproven_server: true, ..cs1_peer("billing", 1) }),
        ("bound under guide 1", NewPeer { cs1: bound, ..shared_secret_peer("billing", 1) }),
        ("bound under guide 2", NewPeer { cs1: bound, ..api_key_peer("billing", Some(1), None) }),
    ] {
        assert!(matches!(store.add(peer, NOW), Err(StoreError::Options(_))), "{what}");
    }
    assert!(store.list().unwrap().is_empty());
    store.add(cs1_peer("billing", 1), NOW).unwrap();
}

fn an_api_key_peer_keeps_only_a_hash_of_the_inbound_key(store: &impl PeerStore) {
    store.add(api_key_peer("billing", Some(1), Some(2)), NOW).unwrap();
    let peer = store.get(&name("billing")).unwrap();
    let [credential] = peer.credentials.as_slice() else { panic!("one credential") };
    let Keys::ApiKey { ours, theirs } = &credential.keys else { panic!("the profile's keys") };
    assert_eq!(ours.as_ref(), Some(&key(1)));
    assert_eq!(*theirs, Some(store.lookup_key().hash(key(2).expose())));
}

fn names_are_unique(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let again = store.add(shared_secret_peer("billing", 2), NOW);
    assert!(matches!(again, Err(StoreError::NameTaken(taken)) if taken == name("billing")));
}

fn no_key_or_secret_serves_two_peers(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let shared = |our, their, ours, theirs| {
        NewKeys::shared_secret(key(our), key(their), secret(ours), secret(theirs)).unwrap()
    };
    for (what, keys) in [
        ("our key again", shared(1, 2, 3, 3)),
        ("their key again", shared(2, 101, 3, 3)),
        ("our key as theirs", shared(2, 1, 3, 3)),
        ("the secret again", shared(2, 3, 1, 1)),
        ("the secret in one direction", shared(2, 3, 4, 1)),
        ("their key under the other profile", NewKeys::api_key(None, Some(key(101))).unwrap()),
        ("our key under the other profile", NewKeys::api_key(Some(key(1)), None).unwrap()),
        ("our key under cs1", NewKeys::cs1(key(1), key(2), secret(3)).unwrap()),
        ("their key under cs1", NewKeys::cs1(key(2), key(101), secret(3)).unwrap()),
        ("the secret under cs1", NewKeys::cs1(key(2), key(3), secret(1)).unwrap()),
    ] {
        let peer = NewPeer { keys, ..api_key_peer("orders", None, Some(50)) };
        let refused = store.add(peer, NOW);
        assert!(matches!(refused, Err(StoreError::KeyTaken(owner)) if owner == name("billing")), "{what}");
    }
    // The reverse: what is in use under cs1 (CS-2).
    store.add(cs1_peer("mails", 60), NOW).unwrap();
    for (what, keys) in [
        ("its secret", shared(2, 3, 60, 60)),
        ("its secret in one direction", shared(2, 3, 4, 60)),
        ("its key", shared(160, 3, 4, 4)),
        ("its key as a secret", NewKeys::api_key(None, Some(key(60))).unwrap()),
        ("its secret under cs1", NewKeys::cs1(key(2), key(3), secret(60)).unwrap()),
    ] {
        let peer = NewPeer { keys, ..api_key_peer("orders", None, Some(50)) };
        let refused = store.add(peer, NOW);
        assert!(matches!(refused, Err(StoreError::KeyTaken(owner)) if owner == name("mails")), "{what}");
    }
}

fn a_refused_peer_leaves_nothing_behind(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let mixed = NewKeys::shared_secret(key(2), key(3), secret(2), secret(1)).unwrap();
    let refused = NewPeer { keys: mixed, ..shared_secret_peer("orders", 2) };
    assert!(store.add(refused, NOW).is_err());
    assert_eq!(store.list().unwrap().len(), 1);
    // Its other keys were not taken.
    let free = NewKeys::shared_secret(key(2), key(3), secret(2), secret(2)).unwrap();
    store.add(NewPeer { keys: free, ..shared_secret_peer("orders", 2) }, NOW).unwrap();
}

fn removing_frees_name_keys_and_secrets(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.add(shared_secret_peer("orders", 2), NOW).unwrap();
    store.remove(&name("billing")).unwrap();
    assert!(matches!(store.get(&name("billing")), Err(StoreError::NoSuchPeer(_))));
    let left: Vec<_> = store.list().unwrap().into_iter().map(|peer| peer.name).collect();
    assert_eq!(left, [name("orders")]);
    store.add(shared_secret_peer("billing-again", 1), NOW).unwrap();
}

fn a_peer_that_comes_again_is_another_one(store: &impl PeerStore) {
    let uid = |peer: crate::Peer| peer.credentials.first().map(|credential| credential.uid);
    let first = uid(store.add(shared_secret_peer("billing", 1), NOW).unwrap());
    store.remove(&name("billing")).unwrap();
    let second = uid(store.add(shared_secret_peer("billing", 1), NOW).unwrap());
    assert_ne!(first, second);
}

fn what_is_not_there_is_said_to_be_missing(store: &impl PeerStore) {
    assert!(matches!(store.get(&name("nobody")), Err(StoreError::NoSuchPeer(_))));
    assert!(matches!(store.remove(&name("nobody")), Err(StoreError::NoSuchPeer(_))));
}

fn the_version_moves_with_every_change_and_only_then(store: &impl PeerStore) {
    let first = store.version().unwrap();
    assert_eq!(store.version().unwrap(), first);
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let second = store.version().unwrap();
    assert_ne!(second, first);
    store.list().unwrap();
    assert_eq!(store.version().unwrap(), second);
    store.remove(&name("billing")).unwrap();
    assert_ne!(store.version().unwrap(), second);
}

fn of_racing_additions_exactly_one_wins(store: &impl PeerStore) {
    let wins: usize = std::thread::scope(|scope| {
        let additions: Vec<_> = (0..8)
            .map(|index| {
                scope.spawn(move || {
                    let peer = shared_secret_peer(&format!("peer-{index}"), 1);
                    usize::from(store.add(peer, NOW).is_ok())
                })
            })
            .collect();
        additions.into_iter().map(|addition| addition.join().unwrap()).sum()
    });
    assert_eq!(wins, 1, "all of them have the same keys");
    assert_eq!(store.list().unwrap().len(), 1);
}
