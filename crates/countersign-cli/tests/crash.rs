//! Every command that writes, killed and failed at every single call with which it changes a file.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::path::Path;
use std::process::Command;

use countersign::audit::{AuditSink as _, Direction, Outcome, Record, Settings, tail};
use countersign::protocol::UnixTime;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Ending, Next, Overlap, Which};
use countersign::{NewKeys, NewPeer, PeerStore as _, Trust, open_trail};
use support::faults::{Kind, Struck, assert_chains_whole, at_every_call, at_every_call_of, library};
use support::{Home, Pair, Serving, files};

/// What a failed command tells: an error that is more than a number, and nothing else has happened to it.
#[track_caller]
fn assert_told(struck: &Struck) {
    match struck.code {
        None | Some(0) => {}
        Some(1) => {
            assert!(struck.stderr.starts_with("countersign: ") && struck.stderr.len() > 40, "{struck:?}");
        }
        _ => panic!("{struck:?}"),
    }
}

/// The store, opened as every command does it.
fn open(home: &Home) -> SqliteStore {
    let source = Source::File(home.path().join("master.key"));
    let master = MasterKey::load(&source, |_| None).unwrap();
    SqliteStore::open(&home.path().join("store.sqlite"), &master).unwrap()
}

/// The home opens and can be changed, and its trail is whole and goes on.
#[track_caller]
fn assert_sound(home: &Home) {
    let store = open(home);
    for peer in store.list().unwrap() {
        store.remove(&peer.name).unwrap();
    }
    let keys = NewKeys::api_key(None, Some(support::new_key().parse().unwrap())).unwrap();
    let name = "another".parse().unwrap();
    let (url, trust) = (None, Trust::System);
    store
        .add(
            NewPeer { name, url, trust, danger_unproven_server: false, cs1: Default::default(), keys },
            UnixTime(1),
        )
        .unwrap();
    let audit = home.path().join("audit");
    for writer in ["admin", "call"] {
        let trail = open_trail(&store, &audit, writer, Settings::default()).unwrap();
        trail.submit(Record::new(Direction::Local, "test", Outcome::Changed, "test")).wait().unwrap();
    }
    assert_chains_whole(home);
    assert_eq!(tail(&audit, 1_000).unwrap().1, 0, "lines that cannot be read");
}

fn add<'a>(name: &'a str, file: &'a str) -> Vec<&'a str> {
    vec!["peer", "add", name, "--profile", "api-key", "--their-key-file", file]
}

fn has(home: &Home, peer: &str) -> bool {
    open(home).list().unwrap().iter().any(|one| one.name.as_str() == peer)
}

/// Whether a failed command said that it does not know what came of it.
fn unsure(struck: &Struck) -> bool {
    struck.stderr.contains("is not known")
}

/// `orders`, with the keys of two peers beside it, of which it knows none.
fn orders() -> Home {
    let home = Home::of("orders");
    for name in ["billing", "another"] {
        home.secret_file(name, &support::new_key());
    }
    home
}

#[test]
fn init_breaks_off_anywhere_and_can_be_run_again() {
    let Some(library) = library() else { return };
    let template = Home::empty();
    let init = ["init", "--service", "orders"];
    at_every_call(&template, &init, library, |home, struck| {
        assert_told(struck);
        if struck.code != Some(0) && home.path().join("countersign.toml").exists() {
            // All of it is there: the config comes last.
            home.run(&["peer", "list"]).ok();
            return;
        }
        let key = std::fs::read(home.path().join("master.key")).ok();
        if struck.code != Some(0) {
            home.run(&init).ok();
        }
        home.run(&["peer", "list"]).ok();
        if let Some(key) = key {
            assert_eq!(std::fs::read(home.path().join("master.key")).unwrap(), key, "overwritten");
        }
    });
}

#[test]
fn a_peer_is_added_whole_or_not_at_all() {
    let Some(library) = library() else { return };
    let template = orders();
    // Relative, for the copies.
    let add = add("billing", "billing");
    at_every_call(&template, &add, library, |home, struck| {
        assert_told(struck);
        let there = has(home, "billing");
        if struck.stdout.contains("added billing") {
            assert!(there, "what was told is not there: {struck:?}");
        }
        if struck.code == Some(1) && !unsure(struck) && !struck.stdout.contains("added billing") {
            assert!(!there, "refused and done all the same: {struck:?}");
        }
        let again = home.run(&add);
        if there {
            again.refused(1, &["already"]);
        } else {
            again.ok();
        }
        assert_sound(home);
    });
}

#[test]
fn a_peer_is_removed_whole_or_not_at_all() {
    let Some(library) = library() else { return };
    let template = orders();
    template.run(&add("billing", "billing")).ok();
    let remove = ["peer", "remove", "billing"];
    at_every_call(&template, &remove, library, |home, struck| {
        assert_told(struck);
        let there = has(home, "billing");
        assert!(!(there && struck.stdout.contains("removed billing")), "{struck:?}");
        let in_effect = struck.stderr.contains("is made and in effect");
        if struck.code == Some(1) && !unsure(struck) {
            assert_eq!(there, !in_effect, "{struck:?}");
        }
        if there {
            home.run(&remove).ok();
        }
        assert_sound(home);
    });
}

#[test]
fn a_change_of_the_master_key_breaks_off_anywhere_and_the_key_in_place_opens_the_store() {
    let Some(library) = library() else { return };
    let template = orders();
    template.run(&add("billing", "billing")).ok();
    let old = key(&template);
    template.hide(&old);
    let rotate = ["master-key", "rotate"];
    at_every_call(&template, &rotate, library, |home, struck| {
        assert_told(struck);
        home.hide(&key(home));
        assert!(has(home, "billing"), "no manual step: {struck:?}");
        if struck.stdout.contains("does not open the store any more") {
            assert_ne!(key(home), old);
            let mut command = home.command(&["peer", "list"]);
            command.env("COUNTERSIGN_MASTER_KEY", &old);
            home.finish(command, b"").refused(1, &["the master key is not the one"]);
        }
        home.run(&rotate).ok();
        let now = key(home);
        assert_ne!(now, old);
        // No other name for a key is left.
        for path in files(&home.path()) {
            let is_key = path.ends_with("master.key");
            assert!(is_key || !path.to_string_lossy().contains("master.key"), "{}", path.display());
        }
        let mut command = home.command(&["peer", "list"]);
        command.env("COUNTERSIGN_MASTER_KEY", &old);
        home.finish(command, b"").refused(1, &["the master key is not the one"]);
        assert_sound(home);
    });
}

fn key(home: &Home) -> String {
    std::fs::read_to_string(home.path().join("master.key")).unwrap().trim().to_owned()
}

#[test]
fn what_a_call_answered_is_on_the_trail_wherever_the_next_one_breaks_off() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let url = format!("{}/hello", serving.url());
    let call = ["call", url.as_str()];
    pair.billing.run(&call).ok();
    let before = pair.billing.trail().len();
    at_every_call(&pair.billing, &call, library, |home, struck| {
        assert_told(struck);
        let trail = home.trail();
        if !struck.stdout.is_empty() {
            assert!(trail.len() > before, "it was not written down: {struck:?}");
        }
        home.run(&call).ok();
        assert!(home.trail().len() > trail.len());
        assert_chains_whole(home);
    });
}

const CHILD: &str = "COUNTERSIGN_TEST_LIFECYCLE_OF";

/// What the next test runs in a process of its own: a rotation, then the end of the older credential.
#[test]
fn child_of_the_lifecycle_test() {
    let Some(home) = std::env::var_os(CHILD) else { return };
    let home = Path::new(&home);
    let master = MasterKey::load(&Source::File(home.join("master.key")), |_| None).unwrap();
    let store = SqliteStore::open(&home.join("store.sqlite"), &master).unwrap();
    let name = "billing".parse().unwrap();
    let keys = NewKeys::api_key(None, Some(support::new_key().parse().unwrap())).unwrap();
    let overlap = Overlap::new(UnixTime(1), 60, None);
    store.rotate(&name, Next { keys, overlap, confirmed: false, follows: None }, UnixTime(1)).unwrap();
    println!("did rotate");
    store.end(&name, Which::Number(1), Ending::Compromised, UnixTime(2)).unwrap();
    println!("did revoke");
}

#[test]
fn a_rotation_and_a_revocation_are_in_effect_whole_or_not_at_all() {
    let Some(library) = library() else { return };
    let template = orders();
    template.run(&add("billing", "billing")).ok();
    let child = |home: &Home| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "child_of_the_lifecycle_test", "--nocapture"]).env(CHILD, home.path());
        command
    };
    at_every_call_of(&template, child, library, |home, struck| {
        let peer = open(home).get(&"billing".parse().unwrap()).unwrap();
        let live: Vec<u32> = peer.credentials.iter().map(|one| one.number).collect();
        let ended: Vec<u32> = peer.ended.iter().map(|one| one.number).collect();
        let states: [(&[u32], &[u32]); 3] = [(&[1], &[]), (&[1, 2], &[]), (&[2], &[1])];
        let state = states.iter().position(|state| *state == (&live, &ended));
        let state = state.unwrap_or_else(|| panic!("half: {live:?}, {ended:?}: {struck:?}"));
        // What was told is in effect, and what comes next may be.
        let told = usize::from(struck.stdout.contains("did rotate"))
            + usize::from(struck.stdout.contains("did revoke"));
        assert!(state >= told && state <= told + 1, "{state}: {struck:?}");
        assert_eq!(live.len() == 2, peer.credentials[0].overlap.is_some());
        assert_sound(home);
    });
}

/// Only what the other tests of this file rely on: the fault comes where it is told to.
#[test]
fn the_faults_come() {
    let Some(library) = library() else { return };
    let home = Home::empty();
    let struck = support::faults::run(&home, &["init", "--service", "orders"], library, Kind::Full, 2);
    assert!(struck.call.is_some() && struck.code == Some(1), "{struck:?}");
    assert!(struck.stderr.contains("No space left"), "{struck:?}");
    let killed = support::faults::run(&Home::empty(), &["init", "--service", "a"], library, Kind::Kill, 9);
    assert_eq!(killed.code, None, "{killed:?}");
}
