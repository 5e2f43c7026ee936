//! Damaged, newer, foreign and read-only files: a clear error or all as before, and nothing is overwritten.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use serde_json::Value;
use support::faults::{self, Kind, library};
use support::life::without_ages;
use support::{Done, Home, Pair, Serving, files};

fn store(home: &Home) -> PathBuf {
    home.path().join("store.sqlite")
}

/// `orders`, which knows `billing` and one more peer.
fn orders() -> Pair {
    let pair = Pair::new();
    let file = pair.orders.secret_file("key", &support::new_key());
    pair.orders.run(&["peer", "add", "shop", "--profile", "api-key", "--their-key-file", &file]).ok();
    pair
}

/// What decides who is let in.
fn known(done: &Done) -> Vec<Value> {
    without_ages(serde_json::from_str(&done.stdout).unwrap_or_default())
}

/// A command that fails says what to do, and leaves the file as it is.
#[track_caller]
fn assert_refused_or_as_before(home: &Home, before: &[Value], what: &str) {
    let bytes = fs::read(store(home)).unwrap();
    let done = home.run(&["peer", "list", "--json"]);
    match done.code {
        // A damaged peer shuts out no other.
        0 | 1 => assert!(known(&done).iter().all(|peer| before.contains(peer)), "{what}: {done:?}"),
        code => panic!("{what}: exit code {code}: {done:?}"),
    }
    if done.code == 1 {
        let advice =
            ["restore", "Restore", "countersign init", "master key", "later version", "doctor", "again"];
        assert!(advice.iter().any(|advice| done.stderr.contains(advice)), "{what}: no advice: {done:?}");
        let after = fs::read(store(home)).unwrap();
        assert!(after == bytes || known(&done).len() == 1, "{what}: it was overwritten: {done:?}");
    } else {
        assert_eq!(known(&done).len(), before.len(), "{what}: a peer has gone without a word");
    }
}

#[test]
fn a_damaged_store_is_refused_or_works_as_before() {
    let pair = orders();
    let before = known(&pair.orders.run(&["peer", "list", "--json"]));
    assert_eq!(before.len(), 2);
    let whole = fs::read(store(&pair.orders)).unwrap();
    let length = whole.len();
    let home = pair.orders.copy();
    let check = |bytes: &[u8], what: &str| {
        for file in ["store.sqlite-wal", "store.sqlite-shm"] {
            let _ = fs::remove_file(home.path().join(file));
        }
        fs::write(store(&home), bytes).unwrap();
        assert_refused_or_as_before(&home, &before, what);
    };
    for cut in [0, 1, 15, 16, 99, 100, 512, 4095, 4096, 4097, length / 2, length - 4096, length - 1] {
        check(&whole[..cut], &format!("cut to {cut} bytes"));
    }
    for page in 0..length / 4096 {
        let mut bytes = whole.clone();
        bytes[page * 4096..(page + 1) * 4096].fill(0);
        check(&bytes, &format!("page {page} zeroed"));
    }
    // Bits where something stands, spread over the file.
    let written: Vec<usize> = (0..length).filter(|at| whole[*at] != 0).collect();
    for at in written.iter().step_by(written.len() / 120) {
        let mut bytes = whole.clone();
        bytes[*at] ^= 1 << (at % 8);
        check(&bytes, &format!("a bit of byte {at} flipped"));
    }
    check(&whole, "whole again");
}

#[test]
fn a_server_takes_nobody_in_whom_a_damaged_store_does_not_name() {
    let pair = orders();
    let whole = fs::read(store(&pair.orders)).unwrap();
    let written: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let mut started = 0;
    for at in written.iter().step_by(written.len() / 12) {
        let file = fs::OpenOptions::new().write(true).open(store(&pair.orders)).unwrap();
        file.write_all_at(&[whole[*at] ^ 0x10], *at as u64).unwrap();
        let mut command = pair.orders.command(&["doctor", "--offline", "--json"]);
        command.stdin(std::process::Stdio::null());
        assert!(command.output().unwrap().status.code().is_some(), "doctor crashed at byte {at}");
        // It comes up or says why not.
        let listed = pair.orders.run(&["peer", "list", "--json"]);
        let serving = (listed.code == 0).then(|| Serving::http_or_why_not(&pair.orders));
        if let Some(Err(log)) = &serving {
            // It reads and writes more than the list of peers.
            assert!(log.contains("damaged"), "{log}");
        }
        if let Some(Ok(serving)) = serving {
            started += 1;
            let stranger = serde_json::json!({"apiKey": support::new_key()});
            let reply = support::raw::post(serving.address(), "/authenticate", &[], &stranger);
            assert_eq!(reply.status, 401);
        }
        for file in ["store.sqlite-wal", "store.sqlite-shm"] {
            let _ = fs::remove_file(pair.orders.path().join(file));
        }
        fs::write(store(&pair.orders), &whole).unwrap();
    }
    assert!(started > 0);
    assert_eq!(pair.get(Serving::http(&pair.orders).address(), "/").status, 200);
}

#[test]
fn a_store_of_a_later_version_is_left_alone_by_every_command() {
    let pair = orders();
    let home = &pair.orders;
    rusqlite::Connection::open(store(home)).unwrap().pragma_update(None, "user_version", 1_000).unwrap();
    let bytes = fs::read(store(home)).unwrap();
    for arguments in [
        &["peer", "list"][..],
        &["peer", "remove", "billing"],
        &["serve", "--listen", "http://127.0.0.1:0"],
        &["master-key", "rotate"],
        &["call", "http://127.0.0.1:1/"],
    ] {
        home.run(arguments).refused(1, &["later version"]);
        assert_eq!(fs::read(store(home)).unwrap(), bytes, "{arguments:?}");
    }
    assert_eq!(home.run(&["doctor", "--offline"]).code, 1);
}

#[test]
fn on_a_read_only_file_system_every_command_says_so_and_what_is_there_can_be_looked_at() {
    let Some(library) = library() else { return };
    let pair = orders();
    let home = &pair.orders;
    drop(pair.get(Serving::http(home).address(), "/"));
    home.run(&["peer", "remove", "shop"]).ok();
    let file = home.secret_file("shop", &support::new_key());
    let shop = ["peer", "add", "shop", "--profile", "api-key", "--url", "http://127.0.0.1:1"];
    home.run(&[&shop[..], &["--our-key-file", &file]].concat()).ok();
    let before: Vec<_> =
        files(&home.path()).into_iter().map(|path| (fs::read(&path).unwrap(), path)).collect();
    for arguments in [
        &["peer", "remove", "billing"][..],
        &["serve", "--listen", "http://127.0.0.1:0"],
        &["master-key", "rotate"],
        &["call", "--peer", "shop", "http://127.0.0.1:1/"],
    ] {
        let struck = faults::run(home, arguments, library, Kind::ReadOnly, 1);
        assert_eq!((struck.code, struck.stdout.as_str()), (Some(1), ""), "{arguments:?}: {struck:?}");
        let said = ["read-only", "Read-only"].iter().any(|said| struck.stderr.contains(said));
        assert!(said, "{arguments:?}: {struck:?}");
    }
    assert_eq!(faults::run(home, &["audit", "tail"], library, Kind::ReadOnly, 1).code, Some(0));
    let empty = Home::empty();
    let struck = faults::run(&empty, &["init", "--service", "orders"], library, Kind::ReadOnly, 1);
    assert!(struck.code == Some(1) && struck.stderr.contains("Read-only"), "{struck:?}");
    for (bytes, path) in before {
        assert_eq!(fs::read(&path).unwrap(), bytes, "{}", path.display());
    }
    home.run(&["peer", "list"]).ok();
}

/// A home in which the last change is in SQLite's log only: its process was killed before it could tidy up.
fn with_log(library: &std::path::Path) -> Pair {
    let pair = Pair::new();
    let file = pair.orders.secret_file("key", &support::new_key());
    let add = ["peer", "add", "shop", "--profile", "api-key", "--their-key-file", &file];
    for at in 1.. {
        let copy = pair.orders.copy();
        let struck = faults::run(&copy, &add, library, Kind::Kill, at);
        assert!(struck.call.is_some(), "it never told before it tidied up");
        if struck.stdout.contains("added shop") {
            return Pair { orders: copy, ..pair };
        }
    }
    unreachable!()
}

#[test]
fn a_log_without_its_index_is_read_and_one_of_another_store_harms_nothing() {
    let Some(library) = library() else { return };
    let pair = with_log(library);
    let home = &pair.orders;
    let log = home.path().join("store.sqlite-wal");
    assert!(fs::metadata(&log).unwrap().len() > 0);
    let left = home.copy();
    // The index goes, or is another's.
    let index = |home: &Home| home.path().join("store.sqlite-shm");
    let _ = fs::remove_file(index(home));
    assert_eq!(known(&home.run(&["peer", "list", "--json"])).len(), 2);
    let home = left.copy();
    fs::write(index(&home), [0x5a; 32 * 1024]).unwrap();
    assert_eq!(known(&home.run(&["peer", "list", "--json"])).len(), 2);
    // Half of the log: what was told before it is there, whole.
    let home = left.copy();
    let bytes = fs::read(home.path().join("store.sqlite-wal")).unwrap();
    fs::write(home.path().join("store.sqlite-wal"), &bytes[..bytes.len() / 2]).unwrap();
    let _ = fs::remove_file(index(&home));
    let listed = home.run(&["peer", "list", "--json"]);
    assert!(listed.code == 0 && !known(&listed).is_empty(), "{listed:?}");
    // Another store's log beside this store: an error, and the file stays as it is for when the log is taken away.
    let other = Pair::new().orders;
    let stored = fs::read(store(&other)).unwrap();
    fs::write(other.path().join("store.sqlite-wal"), &bytes).unwrap();
    for arguments in [
        &["peer", "list"][..],
        &["peer", "show", "billing"],
        &["doctor", "--offline"],
        &["call", "http://127.0.0.1:1/"],
        &["master-key", "rotate"],
    ] {
        let done = other.run(arguments);
        assert_eq!(done.code, 1, "{arguments:?}: {done:?}");
        assert!(fs::read(store(&other)).unwrap() == stored, "{arguments:?} overwrote it");
    }
    let _ = fs::remove_file(other.path().join("store.sqlite-wal"));
    let _ = fs::remove_file(index(&other));
    assert_eq!(known(&other.run(&["peer", "list", "--json"])).len(), 1);
}

#[test]
fn of_two_inits_at_once_one_makes_a_service_that_works_and_the_other_says_so() {
    for _ in 0..10 {
        let home = Home::empty();
        let codes: Vec<i32> = std::thread::scope(|scope| {
            let running: Vec<_> =
                (0..3).map(|_| scope.spawn(|| home.run(&["init", "--service", "orders"]).code)).collect();
            running.into_iter().map(|one| one.join().unwrap()).collect()
        });
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        home.run(&["peer", "list"]).ok();
        Serving::https(&home);
    }
}
