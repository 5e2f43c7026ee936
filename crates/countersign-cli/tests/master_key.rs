//! `master-key rotate`: in one run where the key is in a file, in two steps where it is elsewhere.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use support::life::listed;
use support::{ApiKeyPair, Done, Home, Pair, Serving, files};

const VARIABLE: &str = "COUNTERSIGN_MASTER_KEY";

fn key_file(home: &Home) -> PathBuf {
    home.path().join("master.key")
}

/// The key in place, which must not be shown.
fn key(home: &Home) -> String {
    let key = fs::read_to_string(key_file(home)).unwrap().trim().to_owned();
    home.hide(&key);
    key
}

/// Runs a command with this master key in the environment.
fn with_key(home: &Home, key: &str, arguments: &[&str]) -> Done {
    let mut command = home.command(arguments);
    command.env(VARIABLE, key);
    home.finish(command, b"")
}

/// What the store holds of its keys, wrapped.
fn wraps(home: &Home) -> Vec<Vec<u8>> {
    let store = rusqlite::Connection::open(home.path().join("store.sqlite")).unwrap();
    let mut statement = store.prepare("SELECT wrapped FROM keyring ORDER BY purpose").unwrap();
    statement.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// No file of the home has any of these bytes.
#[track_caller]
fn assert_gone(home: &Home, pieces: &[Vec<u8>]) {
    for path in files(&home.path()) {
        let bytes = fs::read(&path).unwrap();
        for piece in pieces {
            let found = bytes.windows(piece.len()).any(|window| window == piece);
            assert!(!found, "an old wrap is in {}", path.display());
        }
    }
}

fn changes(home: &Home) -> Vec<String> {
    let records = home.records();
    let changes = records.iter().filter(|record| record["step"] == "master-key-rotate");
    changes.map(|record| record["reason"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_new_key_takes_the_place_of_the_old_one_which_opens_nothing_any_more() {
    let pair = Pair::new();
    let home = &pair.orders;
    let (before, old, wrapped) = (listed(home), key(home), wraps(home));
    assert_eq!(wrapped.len(), 3);
    home.run(&["master-key", "rotate"]).ok();
    assert_ne!(key(home), old);
    assert_eq!(fs::metadata(key_file(home)).unwrap().mode() & 0o7777, 0o600);
    assert!(!home.path().join("master.key.next").exists());
    assert_eq!(listed(home), before);
    assert_gone(home, &wrapped);
    with_key(home, &old, &["peer", "list"]).refused(1, &["the master key is not the one"]);
    assert_eq!(changes(home), ["master-key-changed"]);
    home.run(&["master-key", "rotate"]).ok();
    assert_eq!(wraps(home).len(), 3);
    // A key of one's own.
    let given = home.secret_file("given", &old);
    home.run(&["master-key", "rotate", "--new-key-file", &given]).ok();
    assert_eq!(key(home), old);
    home.run(&["master-key", "rotate", "--new-key-file", &given]).refused(1, &["master key already"]);
    home.run(&["peer", "list"]).ok();
    assert!(!home.path().join("master.key.next").exists());
    home.run(&["master-key", "rotate"]).ok();
    home.run(&["doctor", "--offline"]).ok();
}

#[test]
fn a_running_server_goes_on_and_the_next_one_starts_with_the_new_key() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let token = pair.bearer(serving.address());
    let wrapped = wraps(&pair.orders);
    for _ in 0..3 {
        pair.orders.run(&["master-key", "rotate"]).ok();
        let reply = support::exchange(serving.address(), "GET", "/", &[("Authorization", &token)], b"");
        assert_eq!(reply.status, 200);
        assert_eq!(pair.get(serving.address(), "/").status, 200);
    }
    // With the server's connections open as well.
    assert_gone(&pair.orders, &wrapped);
    // It sees changes as before, made under the new key.
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    support::eventually("the peer is refused", || {
        support::exchange(serving.address(), "GET", "/", &[("Authorization", &token)], b"").status == 401
    });
    drop(serving);
    let log = Serving::http(&pair.orders).log();
    assert!(!log.contains("ERROR"), "the chain goes on: {log}");
}

#[test]
fn both_keys_open_the_store_until_the_change_is_finished_or_called_off() {
    let pair = ApiKeyPair::new();
    let home = &pair.orders;
    let (one, two) = (key(home), key(&Home::of("other")));
    home.hide(&two);
    fs::remove_file(key_file(home)).unwrap();
    let new = home.secret_file("new", &two);
    with_key(home, &one, &["master-key", "rotate"])
        .refused(2, &["openssl rand -base64 32", "--new-key-file"]);
    let rotate = ["master-key", "rotate", "--new-key-file", &new];
    let finish = ["master-key", "rotate", "--finish"];
    let abandon = ["master-key", "rotate", "--abandon"];
    // Called off.
    let text = with_key(home, &one, &rotate).ok();
    for said in ["--finish", "--abandon", VARIABLE, "restart"] {
        assert!(text.contains(said), "{text}");
    }
    for key in [&one, &two] {
        with_key(home, key, &["peer", "list"]).ok();
        let findings = with_key(home, key, &["doctor", "--offline", "--json"]).json();
        let found = findings["findings"].as_array().unwrap();
        assert!(
            found
                .iter()
                .any(|one| one["level"] == "warn" && one["what"].as_str().unwrap().contains("two keys"))
        );
    }
    with_key(home, &one, &rotate).refused(1, &["--finish", "--abandon"]);
    with_key(home, &one, &finish).refused(1, &["still the old one"]);
    with_key(home, &two, &abandon).refused(1, &["the new one already"]);
    with_key(home, &one, &["peer", "list"]).ok();
    let wrapped = wraps(home);
    assert_eq!(wrapped.len(), 6);
    with_key(home, &one, &abandon).ok();
    with_key(home, &one, &abandon).ok();
    with_key(home, &two, &["peer", "list"]).refused(1, &["the master key is not the one"]);
    assert_eq!(wraps(home).len(), 3);
    // Finished.
    with_key(home, &one, &rotate).ok();
    let wrapped = wraps(home);
    with_key(home, &two, &finish).ok();
    with_key(home, &two, &finish).ok();
    with_key(home, &one, &["peer", "list"]).refused(1, &["the master key is not the one"]);
    with_key(home, &two, &["peer", "list"]).ok();
    let left = wraps(home);
    let old: Vec<_> = wrapped.into_iter().filter(|wrap| !left.contains(wrap)).collect();
    assert_eq!(old.len(), 3);
    assert_gone(home, &old);
    fs::write(key_file(home), &two).unwrap();
    fs::set_permissions(key_file(home), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    assert_eq!(
        changes(home),
        ["master-key-added", "master-key-kept", "master-key-added", "master-key-changed"]
    );
}

#[test]
fn what_is_no_key_and_what_cannot_be_replaced_is_refused_and_nothing_is_changed() {
    let home = Home::of("orders");
    let before = key(&home);
    let wrong = home.secret_file("wrong", "c2hvcnQ=");
    home.run(&["master-key", "rotate", "--new-key-file", &wrong]).refused(1, &["base64 of 32 bytes"]);
    let open = home.file("open", 0o644, before.as_bytes());
    home.run(&["master-key", "rotate", "--new-key-file", &open]).refused(1, &["can be read by others"]);
    let elsewhere = home.beside("elsewhere.key");
    fs::rename(key_file(&home), &elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, key_file(&home)).unwrap();
    home.run(&["master-key", "rotate"]).refused(1, &["is a link"]);
    fs::remove_file(key_file(&home)).unwrap();
    fs::rename(&elsewhere, key_file(&home)).unwrap();
    assert_eq!(key(&home), before);
    home.run(&["master-key", "rotate", "--finish"]).ok();
    home.run(&["peer", "list"]).ok();
}

#[test]
fn of_many_changes_at_once_each_leaves_a_store_that_opens() {
    let home = Home::of("orders");
    let old = key(&home);
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let run = |arguments: &'static [&str]| scope.spawn(|| home.run(arguments).code);
        let mut running: Vec<_> = (0..6).map(|_| run(&["master-key", "rotate"])).collect();
        running.extend((0..6).map(|_| run(&["peer", "list"])));
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(codes[..6].contains(&0), "{codes:?}");
    assert!(codes[6..].iter().all(|code| *code == 0), "a reader met a key that does not open: {codes:?}");
    home.run(&["peer", "list"]).ok();
    with_key(&home, &old, &["peer", "list"]).refused(1, &["the master key is not the one"]);
}

#[test]
fn doctor_names_what_an_interrupted_change_left_and_the_command_that_mends_it() {
    let home = Home::of("orders");
    let next = home.path().join("master.key.next");
    let warned = |said: &str| {
        let findings = home.run(&["doctor", "--offline", "--json"]).json();
        let findings = findings["findings"].as_array().unwrap().clone();
        let found = findings
            .iter()
            .find(|one| one["level"] == "warn" && one["what"].as_str().unwrap().contains(said));
        found.map(|one| one["mend"].as_str().unwrap().to_owned())
    };
    let mend = format!("countersign --home {} master-key rotate", home.path().display());
    // Before it was let in.
    fs::copy(key_file(&Home::of("other")), &next).unwrap();
    assert_eq!(warned("master.key.next").unwrap(), mend);
    home.run(&["master-key", "rotate"]).ok();
    assert!(!next.exists() && warned("master.key.next").is_none());
    // After it was let in.
    let (present, other) = (key(&home), key(&Home::of("other")));
    home.hide(&other);
    let given = home.secret_file("given", &other);
    with_key(&home, &present, &["master-key", "rotate", "--new-key-file", &given]).ok();
    home.run(&["master-key", "rotate"]).refused(1, &["--finish", "--abandon"]);
    fs::copy(home.beside("given"), &next).unwrap();
    assert_eq!(warned("two keys").unwrap(), mend);
    home.run(&["master-key", "rotate"]).ok();
    assert!(!next.exists() && warned("two keys").is_none());
}
