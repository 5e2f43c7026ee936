//! Peers whose keys and secrets are in files.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what breaks in a helper ends the test"
)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::Profile;
use countersign_store::contract::{cs1_peer, key, secret, shared_secret_peer};
use countersign_store::declared::{Declared, DeclaredKeys, DeclaredStore, Given};
use countersign_store::master::MasterKey;
use countersign_store::origin::{Modes, Origin};
use countersign_store::sqlite::SqliteStore;
use countersign_store::{
    Cs1Options, Ending, Keys, Next, Overlap, Peer, PeerStore, StoreError, Trust, Use, UseDirection, Which,
};

const NOW: UnixTime = UnixTime(1_700_000_000);

struct Mount {
    directory: tempfile::TempDir,
    master: MasterKey,
}

impl Mount {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let master = MasterKey::generate();
        SqliteStore::create(&directory.path().join("store.sqlite"), &master).unwrap();
        Self { directory, master }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new file in the place of the old one, as mounts do it.
    fn put(&self, name: &str, text: &str) {
        let next = self.path("being-written");
        std::fs::write(&next, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o440)).unwrap();
        std::fs::rename(next, self.path(name)).unwrap();
    }

    fn origin(&self, name: &str) -> Origin {
        Origin::File(self.path(name))
    }

    fn store(&self, declared: Vec<Declared>) -> DeclaredStore {
        let local = SqliteStore::open(&self.path("store.sqlite"), &self.master).unwrap();
        DeclaredStore::new(declared, Modes::Strict, Arc::new(local))
    }

    fn peer(&self, name: &str, seed: u8, file: &str, next: Option<&str>) -> Declared {
        let keys = |file: &str| DeclaredKeys::SharedSecret {
            our_key: Given::Here(key(seed)),
            their_key: Given::Here(key(seed + 100)),
            our_secret: self.origin(file),
            their_secret: self.origin(file),
        };
        Declared {
            name: name.parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Cs1Options::default(),
            rotate_every: None,
            keys: keys(file),
            next: next.map(keys),
        }
    }
}

fn get(store: &DeclaredStore, name: &str) -> Peer {
    store.get(&name.parse().unwrap()).unwrap()
}

fn numbers(peer: &Peer) -> Vec<u32> {
    peer.credentials.iter().map(|credential| credential.number).collect()
}

/// Waits until the version is another one than `before`.
fn changed(store: &DeclaredStore, before: u64) -> u64 {
    let start = Instant::now();
    loop {
        let version = store.version().unwrap();
        if version != before {
            return version;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "the change was never seen");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn keys_in_files_make_peers_of_both_profiles() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    mount.put("ours", key(5).expose());
    mount.put("theirs", key(6).expose());
    let partner = Declared {
        keys: DeclaredKeys::ApiKey { ours: Some(mount.origin("ours")), theirs: Some(mount.origin("theirs")) },
        ..mount.peer("partner", 9, "secret", None)
    };
    let store = mount.store(vec![mount.peer("billing", 1, "secret", None), partner]);
    let peers = store.list().unwrap();
    assert_eq!(peers.len(), 2);
    let expected = shared_secret_peer("billing", 1).keys.fingerprint();
    let billing = get(&store, "billing");
    assert_eq!(billing.credentials[0].fingerprint, expected, "the same digits as on the other side");
    let Keys::ApiKey { ours, theirs } = &get(&store, "partner").credentials[0].keys else { panic!() };
    assert_eq!(ours.as_ref(), Some(&key(5)));
    assert_eq!(*theirs, Some(store.lookup_key().hash(key(6).expose())));
}

#[test]
fn under_cs1_one_secret_in_a_file_makes_a_peer_with_its_options_and_the_next_one_follows() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    mount.put("their-key", key(101).expose());
    let keys = |file: &str| DeclaredKeys::Cs1 {
        our_key: Given::Here(key(1)),
        their_key: Given::From(mount.origin("their-key")),
        secret: mount.origin(file),
    };
    let cs1 = cs1_peer("billing", 1).cs1;
    let declared = Declared {
        cs1,
        keys: keys("secret"),
        next: Some(keys("next")),
        ..mount.peer("billing", 1, "", None)
    };
    let store = mount.store(vec![declared]);
    let peer = get(&store, "billing");
    assert_eq!((peer.profile, peer.cs1), (Profile::Cs1, cs1));
    assert_eq!(peer.credentials[0].fingerprint, cs1_peer("billing", 1).keys.fingerprint());
    let Keys::Cs1 { our_key, their_key, .. } = &peer.credentials[0].keys else { panic!() };
    assert_eq!((our_key, their_key), (&key(1), &key(101)));
    let version = store.version().unwrap();
    mount.put("next", secret(2).expose());
    changed(&store, version);
    assert_eq!(numbers(&get(&store, "billing")), [1, 2]);
    mount.put("next", "too short");
    let error = store.get(&"billing".parse().unwrap()).unwrap_err().to_string();
    assert!(error.contains("the secret") && !error.contains("too short"), "{error}");
}

#[test]
fn a_new_secret_in_the_file_is_a_new_credential_and_an_old_one_keeps_its_number() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    let store = mount.store(vec![mount.peer("billing", 1, "secret", None)]);
    let (first, version) = (get(&store, "billing"), store.version().unwrap());
    assert_eq!(numbers(&first), [1]);
    mount.put("secret", secret(2).expose());
    changed(&store, version);
    let second = get(&store, "billing");
    assert_eq!(numbers(&second), [2]);
    assert_ne!(first.credentials[0].uid, second.credentials[0].uid, "tokens of the old one end");
    drop(store);
    mount.put("secret", secret(1).expose());
    let again = get(&mount.store(vec![mount.peer("billing", 1, "secret", None)]), "billing");
    assert_eq!(numbers(&again), [1], "another process knows it again");
    assert_eq!(again.credentials[0].uid, first.credentials[0].uid);
    assert_eq!(again.credentials[0].created, first.credentials[0].created);
}

#[test]
fn a_mount_that_swaps_its_link_is_followed() {
    let mount = Mount::new();
    for (version, seed) in [("..1", 1), ("..2", 2)] {
        std::fs::create_dir(mount.path(version)).unwrap();
        mount.put(&format!("{version}/secret"), secret(seed).expose());
    }
    symlink("..1", mount.path("..data")).unwrap();
    symlink("..data/secret", mount.path("secret")).unwrap();
    let store = mount.store(vec![mount.peer("billing", 1, "secret", None)]);
    let version = store.version().unwrap();
    assert_eq!(numbers(&get(&store, "billing")), [1]);
    symlink("..2", mount.path("..data_tmp")).unwrap();
    std::fs::rename(mount.path("..data_tmp"), mount.path("..data")).unwrap();
    changed(&store, version);
    assert_eq!(numbers(&get(&store, "billing")), [2]);
}

#[test]
fn the_next_credential_is_accepted_once_it_is_there_and_used_once_the_peer_has_it() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    let declared = || vec![mount.peer("billing", 1, "secret", Some("next"))];
    let store = mount.store(declared());
    let version = store.version().unwrap();
    assert_eq!(numbers(&get(&store, "billing")), [1], "there is no next one yet");
    mount.put("next", secret(2).expose());
    let version = changed(&store, version);
    let peer = get(&store, "billing");
    assert_eq!(numbers(&peer), [1, 2]);
    assert_eq!(peer.accepted(NOW.plus(1 << 40)).count(), 2, "as long as both are declared");
    assert_eq!(peer.sending(NOW)[0].number, 1, "nobody knows whether the peer has it");
    let uid = peer.credentials[1].uid;
    store.note(&[Use { uid, direction: UseDirection::Inbound, at: NOW.plus(9) }]).unwrap();
    let version = changed(&store, version);
    let peer = get(&store, "billing");
    assert_eq!(peer.sending(NOW)[0].number, 2);
    store.note(&[Use { uid, direction: UseDirection::Inbound, at: NOW.plus(7) }]).unwrap();
    assert_eq!(store.version().unwrap(), version, "later uses decide nothing");
    // The next one takes the place of the present one, and stays what it is.
    mount.put("secret", secret(2).expose());
    changed(&store, version);
    let peer = get(&mount.store(declared()), "billing");
    assert_eq!((numbers(&peer), peer.credentials[0].uid), (vec![2], uid));
    assert_eq!(peer.credentials[0].confirmed, Some(NOW.plus(9)));
    assert_eq!(peer.credentials[0].used_inbound, Some(NOW.plus(9)));
}

#[test]
fn a_peer_whose_secret_cannot_be_had_is_named_and_takes_no_other_with_it() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    mount.put("other", secret(2).expose());
    mount.put("weak", "hunter2");
    mount.put("open", secret(3).expose());
    std::fs::set_permissions(mount.path("open"), std::fs::Permissions::from_mode(0o444)).unwrap();
    for (file, said) in [
        ("missing", "is not there"),
        ("weak", "it has 7 characters"),
        ("open", "mode 0444"),
        ("secret", "in use with the peer `aaa`"),
    ] {
        let declared = ["aaa", "billing", "orders"].into_iter().zip([1, 2, 3]).zip(["secret", file, "other"]);
        let declared = declared.map(|((name, seed), file)| mount.peer(name, seed, file, None)).collect();
        let store = mount.store(declared);
        let listing = store.read_all().unwrap();
        let names: Vec<_> = listing.peers.iter().map(|peer| peer.name.as_str()).collect();
        assert_eq!(names, ["aaa", "orders"], "{file}");
        let [error] = listing.damaged.as_slice() else { panic!("{file}") };
        let text = error.to_string();
        assert!(text.contains("`billing`") && text.contains(said), "{text}");
        for hidden in [secret(1).expose(), secret(2).expose(), secret(3).expose(), "hunter2"] {
            assert!(!text.contains(hidden), "{text}");
        }
        let alone = store.get(&"billing".parse().unwrap()).unwrap_err();
        assert_eq!(alone.to_string(), text);
    }
}

#[test]
fn a_secret_that_is_taken_away_shuts_its_peer_out_and_one_that_comes_back_lets_it_in() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    let store = mount.store(vec![mount.peer("billing", 1, "secret", None)]);
    let version = store.version().unwrap();
    std::fs::remove_file(mount.path("secret")).unwrap();
    let version = changed(&store, version);
    assert!(store.read_all().unwrap().peers.is_empty());
    mount.put("secret", secret(1).expose());
    changed(&store, version);
    assert_eq!(numbers(&get(&store, "billing")), [1]);
}

#[test]
fn nothing_can_be_changed_here() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    let store = mount.store(vec![mount.peer("billing", 1, "secret", None)]);
    let name = "billing".parse().unwrap();
    let next = Next {
        keys: shared_secret_peer("x", 7).keys,
        overlap: Overlap::new(NOW, 60, None),
        confirmed: false,
        follows: None,
    };
    for refused in [
        store.add(shared_secret_peer("orders", 9), NOW).map(drop),
        store.remove(&name),
        store.rotate(&name, next, NOW).map(drop),
        store.end(&name, Which::All, Ending::Revoked, NOW).map(drop),
        store.set_schedule(&name, None),
    ] {
        assert!(matches!(refused, Err(StoreError::ReadOnly(_))), "{refused:?}");
    }
    assert!(store.settle(NOW).unwrap().is_empty());
    assert_eq!(store.list().unwrap().len(), 1);
}

#[test]
fn no_secret_is_written_into_the_local_store() {
    let mount = Mount::new();
    mount.put("secret", secret(1).expose());
    let store = mount.store(vec![mount.peer("billing", 1, "secret", None)]);
    store.list().unwrap();
    let is_local = |path: &Path| path.file_name().unwrap().to_string_lossy().starts_with("store.sqlite");
    let files: Vec<_> = std::fs::read_dir(mount.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| is_local(path))
        .collect();
    assert!(!files.is_empty());
    for path in files {
        let bytes = std::fs::read(path).unwrap();
        for needle in [secret(1).expose().as_bytes(), key(1).expose().as_bytes()] {
            assert!(!bytes.windows(needle.len()).any(|window| window == needle));
        }
    }
}
