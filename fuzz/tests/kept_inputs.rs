//! Every target with every kept input and with a fixed number of mutations of them, on a stable compiler and the same
//! ones every time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use countersign_fuzz::mutate::{Numbers, mutated};
use countersign_fuzz::{TARGETS, Target, find};

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The kept inputs of a target, in the order of their names.
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target.name);
    let mut names: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    names.into_iter().map(|path| (path.display().to_string(), std::fs::read(&path).unwrap())).collect()
}

fn holds(target: &Target, input: &[u8], which: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target.run(input)));
    assert!(
        outcome.is_ok(),
        "{} does not hold (see above) for {which}: b\"{}\"",
        target.name,
        input.escape_ascii()
    );
}

fn runs(name: &str) {
    let target = find(name).unwrap();
    let kept = kept(target);
    for (path, input) in &kept {
        holds(target, input, path);
    }
    holds(target, b"", "nothing at all");
    let inputs: Vec<Vec<u8>> = kept.into_iter().map(|(_, input)| input).collect();
    let mut numbers = Numbers::of(name);
    for number in 0..target.mutations {
        holds(target, &mutated(&inputs, &mut numbers), &format!("mutation {number}"));
    }
}

macro_rules! targets {
    ($($name:ident)*) => {
        const TESTED: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { runs(stringify!($name)); })*
    };
}

targets! {
    api_key audit_chain audit_lines audit_recovery authenticate_body base_url certificate challenge challenge_answers config cs1_accept_signature cs1_bodies cs1_challenge cs1_nonce cs1_request cs1_response cs1_stream exchange explain explain_signed forwarded gateway introduction issued_challenge listen_url master_key network origin pairing_code pairing_messages pem pin probe problem request_headers rotation_answers rotation_requests secret server_proof service_name signature store_cell store_file strip_headers token vault_document verdict_answers verify_body www_authenticate
}

#[test]
fn every_target_is_tested_and_has_kept_inputs_and_nothing_else_has() {
    let targets: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    let folders = std::fs::read_dir(corpus()).unwrap();
    let folders = folders.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let tested = TESTED.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(targets, folders);
    assert_eq!(targets, tested);
    for target in &TARGETS {
        let kept = kept(target);
        assert!(!kept.is_empty(), "{}", target.name);
        let bytes: usize = kept.iter().map(|(_, input)| input.len()).sum();
        assert!(bytes < 256 * 1024, "{} keeps {bytes} bytes: minimise them", target.name);
    }
}

#[test]
fn mutations_are_the_same_every_time_and_differ_from_what_they_are_made_of() {
    let inputs = vec![b"one input".to_vec(), b"and another".to_vec()];
    let some = || {
        let mut numbers = Numbers::of("name");
        (0..1_000).map(|_| mutated(&inputs, &mut numbers)).collect::<Vec<_>>()
    };
    assert_eq!(some(), some());
    let different: BTreeSet<_> = some().into_iter().collect();
    assert!(different.len() > 800, "{}", different.len());
}
