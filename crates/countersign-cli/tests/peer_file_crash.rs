//! `peer export` and `peer import`, killed and failed at every single call with which they change a file.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use support::Home;
use support::faults::{Struck, assert_chains_whole, at_every_call, library};

/// A key pair of the tests of `age`.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";

const EXPORT: [&str; 5] = ["peer", "export", "billing", "--recipient", RECIPIENT];
/// Relative, for the copies.
const IMPORT: [&str; 6] = ["peer", "import", "billing.age", "--identity", "age.key", "--json"];

fn fingerprint(home: &Home, peer: &str) -> Option<String> {
    let done = home.run(&["peer", "show", peer, "--json"]);
    (done.code == 0).then(|| done.json()["credentials"][0]["fingerprint"].as_str().unwrap().to_owned())
}

/// What a command said that it did is done, and what it said that it did not do is not.
#[track_caller]
fn assert_told(struck: &Struck, there: bool, told: bool) {
    assert!(there || !told, "what was told is not there: {struck:?}");
    let unsure = ["is not known", "cannot be told", "is made and in effect"];
    if struck.code == Some(1) && !told && !unsure.iter().any(|text| struck.stderr.contains(text)) {
        assert!(!there, "refused and done all the same: {struck:?}");
    }
}

/// The peer can be changed, and the trail is whole and goes on.
#[track_caller]
fn assert_goes_on(home: &Home, peer: &str) {
    home.run(&["peer", "schedule", peer, "--every", "30d"]).ok();
    assert_chains_whole(home);
}

fn billing() -> Home {
    let billing = Home::of("billing");
    billing.secret_file("age.key", IDENTITY);
    billing
}

#[test]
fn whoever_is_in_the_store_has_its_file_wherever_an_export_breaks_off() {
    let Some(library) = library() else { return };
    let (orders, other) = (Home::of("orders"), billing());
    at_every_call(&orders, &EXPORT, library, |home, struck| {
        let file = home.path().join("exchange/billing.peer.age");
        let mut made = fingerprint(home, "billing");
        assert_told(struck, made.is_some(), struck.stdout.contains("added billing"));
        if made.is_none() {
            // A file without a peer opens nothing, and is not replaced unseen.
            if file.exists() {
                home.run(&EXPORT).refused(1, &["`rm ", "Nothing was changed"]);
                std::fs::remove_file(&file).unwrap();
            }
            home.run(&EXPORT).ok();
            made = fingerprint(home, "billing");
        } else {
            home.run(&EXPORT).refused(1, &["already"]);
        }
        let taker = other.copy();
        std::fs::copy(&file, taker.beside("billing.age")).unwrap();
        taker.run(&IMPORT).ok();
        assert_eq!(fingerprint(&taker, "orders"), made);
        assert_goes_on(home, "billing");
    });
}

#[test]
fn an_import_is_made_whole_or_not_at_all() {
    let Some(library) = library() else { return };
    let (orders, billing) = (Home::of("orders"), billing());
    let out = billing.beside("billing.age");
    orders.run(&[&EXPORT[..], &["--out", out.to_str().unwrap()]].concat()).ok();
    let made = fingerprint(&orders, "billing");
    at_every_call(&billing, &IMPORT, library, |home, struck| {
        let there = fingerprint(home, "orders");
        assert_told(struck, there.is_some(), struck.stdout.contains("\"madeBy\""));
        if there.is_some() {
            home.run(&IMPORT).refused(1, &["imported before"]);
        } else {
            home.run(&IMPORT).ok();
        }
        assert_eq!(fingerprint(home, "orders"), made);
        assert_goes_on(home, "orders");
    });
}
