//! Rotation in band as operators have it: by command, on schedule, and asked for by the other side; and what goes wrong.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use support::life::{states, status};
use support::rotating::Rotating;
use support::{Home, Serving, eventually, new_key, new_secret};

const QUICK: &str = "[rotation]\ngrace_seconds = 2\npropagation_seconds = 0\nstatus_seconds = 1";

#[test]
fn one_command_at_either_side_gives_both_the_next_credential_and_nothing_is_handed_over() {
    let pair = Rotating::new(true, QUICK);
    let (_orders, _billing) = (pair.serve_orders(), pair.serve_billing());
    pair.call().ok();
    let said = pair.billing.run(&["rotate", "orders"]).ok();
    assert!(said.contains("orders/2 is agreed on with orders and in use"), "{said}");
    let [here, there] = pair.fingerprints();
    assert_eq!(here.last(), there.last());
    pair.call().ok();
    pair.call_back().ok();
    assert_eq!(pair.settled(), 2);
    pair.call().ok();
    pair.call_back().ok();
    let said = pair.orders.run(&["rotate", "billing"]).ok();
    assert!(said.contains("billing/3 is agreed on"), "{said}");
    assert_eq!(pair.settled(), 3);
    pair.call().ok();
    pair.call_back().ok();
    for (home, name) in [(&pair.billing, "orders"), (&pair.orders, "billing")] {
        let ended = status(home, name)["ended"].clone();
        assert!(ended.as_array().unwrap().iter().all(|one| one["how"] == "retired"), "{ended}");
        home.run(&["audit", "verify"]).ok();
        home.assert_nothing_leaked();
    }
    let in_band =
        |home: &Home| home.records().iter().filter(|one| one["reason"] == "rotated-in-band").count();
    assert_eq!((in_band(&pair.billing), in_band(&pair.orders)), (1, 1));
}

#[test]
fn a_side_that_cannot_call_asks_and_the_other_begins() {
    let pair = Rotating::new(false, QUICK);
    let (_orders, _billing) = (pair.serve_orders(), pair.serve_billing());
    pair.call().ok();
    let [before, _] = pair.fingerprints();
    let said = pair.orders.run(&["rotate", "billing"]).ok();
    assert!(said.contains("so it begins"), "{said}");
    eventually("both have the next one", || {
        let [here, there] = pair.fingerprints();
        here.last() == there.last() && here.last() != before.last()
    });
    assert_eq!(pair.settled(), 2);
    assert_eq!(status(&pair.orders, "billing")["rotation"]["wantedSince"], serde_json::Value::Null);
    pair.call().ok();
}

#[test]
fn what_is_due_is_rotated_and_callers_notice_nothing() {
    let pair = Rotating::new(true, QUICK);
    let (_orders, _billing) = (pair.serve_orders(), pair.serve_billing());
    eventually("both know each other", || pair.call().code == 0 && pair.call_back().code == 0);
    pair.billing.run(&["peer", "schedule", "orders", "--every", "1s"]).ok();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let calls: [fn(&Rotating) -> support::Done; 2] = [Rotating::call, Rotating::call_back];
        let (pair, done) = (&pair, &done);
        let callers = calls.map(|call| {
            scope.spawn(move || {
                let mut calls = 0;
                while !done.load(Ordering::Relaxed) {
                    let called = call(pair);
                    assert_eq!(called.code, 0, "{called:?}");
                    calls += 1;
                }
                calls
            })
        });
        eventually("it has been rotated five times", || {
            let live = status(&pair.billing, "orders")["credentials"].clone();
            live.as_array().unwrap().last().unwrap()["number"].as_u64().unwrap() > 5
        });
        done.store(true, Ordering::Relaxed);
        for caller in callers {
            assert!(caller.join().unwrap() > 5);
        }
    });
    pair.billing.run(&["peer", "schedule", "orders", "--every", "never"]).ok();
    pair.settled();
    pair.call().ok();
}

#[test]
fn while_the_peer_is_away_the_proposal_stays_and_can_be_called_off() {
    let pair = Rotating::new(false, QUICK);
    pair.billing
        .run(&["rotate", "orders"])
        .refused(1, &["is not through", "The proposal stays", "--abandon"]);
    pair.billing.run(&["rotate", "orders"]).refused(1, &["is not through"]);
    let check = pair.billing.run(&["rotate", "orders", "--check"]);
    assert_eq!(check.code, 1);
    assert!(check.stdout.contains("was proposed to orders"), "{check:?}");
    let shown = pair.billing.run(&["status"]).ok();
    assert!(shown.contains("current: the next is proposed"), "{shown}");
    assert_eq!(status(&pair.billing, "orders")["rotation"]["inBand"]["step"], "proposed");
    pair.billing.run(&["rotate", "orders", "--finish"]).refused(1, &["was proposed to orders"]);
    pair.billing.run(&["rotate", "orders", "--abandon"]).ok();
    assert_eq!(pair.billing.run(&["rotate", "orders", "--check"]).code, 0);
    let _orders = pair.serve_orders();
    pair.billing.run(&["rotate", "orders"]).ok();
    pair.call().ok();
}

#[test]
fn by_hand_and_in_band_do_not_get_in_each_others_way() {
    let pair = Rotating::new(false, QUICK);
    pair.billing.run(&["rotate", "orders", "--by-hand"]).ok();
    assert_eq!(states(&pair.billing, "orders"), ["orders/1 old", "orders/2 next"]);
    pair.billing.run(&["rotate", "orders"]).refused(1, &["is open", "--abandon"]);
    pair.billing.run(&["rotate", "orders", "--abandon"]).ok();
    pair.billing.run(&["rotate", "orders"]).refused(1, &["is not through"]);
    pair.billing.run(&["rotate", "orders", "--by-hand"]).refused(1, &["goes on in band (proposed)"]);
    pair.billing.run(&["rotate", "orders", "--grace", "1s"]).refused(2, &["--grace"]);
    pair.billing.run(&["revoke", "orders"]).ok();
    pair.billing.run(&["rotate", "orders"]).refused(1, &["Pair anew", "--by-hand"]);
}

#[test]
fn a_server_that_does_not_rotate_in_band_is_told_from_one_that_is_away() {
    // Its credentials are declared: nothing can be kept where they come from.
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let (keys, secret) = ([new_key(), new_key()], new_secret());
    let file = orders.secret_file("declared", &secret);
    orders.configure(&format!(
        "[secrets]\nfrom = \"config\"\n[[peer]]\nname = \"billing\"\nprofile = \"cs1\"\nour_key = \"{}\"\ntheir_key = \"{}\"\nsecret = \"file:{file}\"",
        keys[0], keys[1]
    ));
    let serving = Serving::http(&orders);
    let file = billing.secret_file("secret", &secret);
    let keys = ["--our-key", &keys[1], "--their-key", &keys[0], "--secret-file", &file];
    billing
        .run(&[&["peer", "add", "orders", "--profile", "cs1", "--url", serving.url()][..], &keys].concat())
        .ok();
    billing.run(&["call", &format!("{}/x", serving.url())]).ok();
    billing.run(&["rotate", "orders"]).refused(1, &["does not rotate in band", "--by-hand"]);
    assert_eq!(states(&billing, "orders"), ["orders/1 current"]);
    orders.run(&["rotate", "billing"]).refused(1, &["declared"]);
}
