//! `serve` under load: killed at any time and at chosen writes, and on a disk that is full for a while.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use countersign::audit::tail;
use serde_json::{Value, json};
use support::faults::{Kind, assert_chains_whole, inject, library};
use support::{Pair, Reply, Serving, eventually, try_exchange};

/// A server in whose process a fault comes once `arm` has been called.
fn serve_with_fault(pair: &Pair, library: &Path, kind: Kind, at: usize) -> Serving {
    disarm(pair);
    let mut command = pair.orders.command(&["serve", "--listen", "http://127.0.0.1:0"]);
    inject(&mut command, library, &pair.orders, kind, at);
    command.env("FAULT_SWITCH", pair.orders.beside("switch"));
    Serving::of(command, &pair.orders.beside("serve.log"), 1)
}

fn arm(pair: &Pair) {
    std::fs::write(pair.orders.beside("switch"), "").unwrap();
}

fn disarm(pair: &Pair) {
    let _ = std::fs::remove_file(pair.orders.beside("switch"));
}

fn post(address: &str, path: &str, body: &Value) -> Option<Reply> {
    let json = [("Content-Type", "application/json")];
    try_exchange(address, "POST", path, &json, body.to_string().as_bytes())
}

/// One handshake and one request of `billing`; the ids of what was answered with 200. `None` once nobody answers.
fn attempt(pair: &Pair, address: &str, answered: &mut Vec<String>) -> Option<()> {
    let mut keep = |reply: &Reply| {
        if reply.status == 200 {
            answered.push(reply.header("x-request-id").unwrap().to_owned());
        }
        reply.status == 200
    };
    let reply = post(address, "/authenticate", &json!({"apiKey": pair.billing_key}))?;
    if !keep(&reply) {
        return Some(());
    }
    let challenge = reply.json()["challenge"].as_str().unwrap().to_owned();
    let answer = json!({
        "apiKey": pair.billing_key, "challenge": challenge, "signedChallenge": pair.sign(&challenge),
    });
    let reply = post(address, "/verify_challenge", &answer)?;
    if keep(&reply) {
        let bearer = format!("Bearer {}", reply.json()["token"].as_str().unwrap());
        keep(&try_exchange(address, "GET", "/", &[("Authorization", &bearer)], b"")?);
    }
    Some(())
}

/// Tells callers to stop, also when a test fails: they would go on for as long as somebody answers.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Callers at work until nobody answers, or `kill` is done; it is told how many attempts have been answered. All ids of
/// those.
fn load(pair: &Pair, address: &str, kill: impl FnOnce(&AtomicUsize) + Send) -> HashSet<String> {
    let (count, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let stop = Stop(&done);
        let callers: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut answered = Vec::new();
                    while !done.load(Ordering::Relaxed) && attempt(pair, address, &mut answered).is_some() {
                        count.fetch_max(answered.len(), Ordering::Relaxed);
                    }
                    answered
                })
            })
            .collect();
        kill(&count);
        drop(stop);
        callers.into_iter().flat_map(|caller| caller.join().unwrap()).collect()
    })
}

/// What was answered is on the trail, the store opens, and the next server goes on.
#[track_caller]
fn assert_goes_on(pair: &Pair, answered: &HashSet<String>) {
    let serving = Serving::http(&pair.orders);
    assert_eq!(pair.get(serving.address(), "/").status, 200);
    let (entries, unreadable) = tail(&pair.orders.path().join("audit"), 100_000).unwrap();
    assert_eq!(unreadable, 0);
    let written: HashSet<String> = entries.into_iter().map(|entry| entry.record.request_id).collect();
    let missing: Vec<_> = answered.difference(&written).collect();
    assert!(missing.is_empty(), "{} of {} are not on the trail", missing.len(), answered.len());
    assert_chains_whole(&pair.orders);
    pair.orders.run(&["peer", "list"]).ok();
}

#[test]
fn what_was_answered_before_a_kill_at_any_time_is_on_the_trail() {
    let pair = Pair::new();
    let mut all = HashSet::new();
    for enough in [1, 3, 10, 30, 60] {
        let mut serving = Serving::http(&pair.orders);
        let address = serving.address().to_owned();
        all.extend(load(&pair, &address, |count| {
            eventually("enough is answered", || count.load(Ordering::Relaxed) >= enough);
            serving.kill();
        }));
        assert_goes_on(&pair, &all);
    }
    assert!(all.len() > 100, "{}", all.len());
}

#[test]
fn what_was_answered_before_a_kill_at_a_write_is_on_the_trail() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    let mut all = HashSet::new();
    for (kind, at) in
        [Kind::Kill, Kind::Half].into_iter().flat_map(|kind| (1..=24).step_by(2).map(move |at| (kind, at)))
    {
        let mut serving = serve_with_fault(&pair, library, kind, at);
        let address = serving.address().to_owned();
        all.extend(load(&pair, &address, |_| {
            arm(&pair);
            serving.killed();
        }));
        assert_goes_on(&pair, &all);
    }
    assert!(!all.is_empty());
}

#[test]
fn on_a_full_or_broken_disk_nobody_is_let_in_and_when_there_is_room_again_it_goes_on() {
    let Some(library) = library() else { return };
    for kind in [Kind::StaysFull, Kind::StaysBroken] {
        let pair = Pair::new();
        let serving = serve_with_fault(&pair, library, kind, 1);
        let address = serving.address().to_owned();
        let bearer = pair.bearer(&address);
        let request = || try_exchange(&address, "GET", "/", &[("Authorization", &bearer)], b"").unwrap();
        assert_eq!(request().status, 200);
        for _ in 0..2 {
            arm(&pair);
            request().assert_problem(503, "unavailable");
            // A challenge is no access; what it is answered with is.
            let mut answered = Vec::new();
            attempt(&pair, &address, &mut answered).unwrap();
            assert!(answered.len() <= 1, "{kind:?}");
            request().assert_problem(503, "unavailable");
            disarm(&pair);
            assert_eq!(request().status, 200, "{}", serving.log());
            assert_eq!(pair.get(&address, "/").status, 200);
        }
        assert_chains_whole(&pair.orders);
        assert_goes_on(&pair, &HashSet::new());
    }
}

#[test]
fn a_write_that_fails_once_costs_the_attempts_of_its_group_and_nothing_else() {
    let Some(library) = library() else { return };
    for kind in [Kind::Full, Kind::Short, Kind::Broken] {
        for at in 1..=6 {
            let pair = Pair::new();
            let serving = serve_with_fault(&pair, library, kind, at);
            let address = serving.address().to_owned();
            arm(&pair);
            let mut answered = Vec::new();
            for _ in 0..6 {
                attempt(&pair, &address, &mut answered).unwrap();
            }
            assert!(answered.len() >= 12, "{kind:?} at {at}: {}", serving.log());
            drop(serving);
            assert_goes_on(&pair, &answered.into_iter().collect());
        }
    }
}
