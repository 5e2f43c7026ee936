//! Rotation in band when processes are killed, disks fail and clocks are set, at every step and on either side: afterwards the two
//! still talk, and the next rotation goes through.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use support::Serving;
use support::eventually;
use support::faults::{Kind, assert_chains_whole, inject, library, run};
use support::life::status;
use support::rotating::Rotating;

const QUICK: &str = "[rotation]\ngrace_seconds = 2\npropagation_seconds = 0\nscheduled = false";

/// With time, at every call; else at some. What lasts, or fails once, is rarer than a kill.
fn step(kind: Kind) -> usize {
    let thorough = std::env::var_os("COUNTERSIGN_TEST_EXTERNAL").is_some_and(|value| value == "1");
    match (kind, thorough) {
        (Kind::Kill, true) => 2,
        (Kind::Kill, false) => 9,
        (_, true) => 9,
        (_, false) => 31,
    }
}

/// Both directions work, and a rotation from `billing` comes to its end.
#[track_caller]
fn assert_they_talk(pair: &Rotating, what: &str) {
    for called in [pair.call(), pair.call_back()] {
        assert_eq!(called.code, 0, "{what}: {called:?}");
    }
    let mut rotated = pair.billing.run(&["rotate", "orders"]);
    if rotated.stderr.contains("has orders/") {
        // It was through when it was struck.
        pair.finish();
        rotated = pair.billing.run(&["rotate", "orders"]);
    }
    assert!(rotated.code == 0 || rotated.stderr.contains("had given"), "{what}: {rotated:?}");
    let [here, there] = pair.fingerprints();
    assert_eq!(here.last(), there.last(), "{what}");
    for called in [pair.call(), pair.call_back()] {
        assert_eq!(called.code, 0, "{what}: {called:?}");
    }
    pair.finish();
}

#[test]
fn who_began_is_killed_or_finds_the_disk_full_at_any_write() {
    let Some(library) = library() else { return };
    let pair = Rotating::new(true, QUICK);
    let (_orders, _billing) = (pair.serve_orders(), pair.serve_billing());
    let mut struck_at = 0;
    for kind in [Kind::Kill, Kind::Half, Kind::Full, Kind::Broken] {
        for at in (1..).step_by(step(kind)) {
            // What the last one said is not said of this one.
            let _ = std::fs::remove_file(pair.billing.beside("told"));
            let struck = run(&pair.billing, &["rotate", "orders"], library, kind, at);
            let Some(call) = struck.call else {
                assert_eq!(struck.code, Some(0), "{struck:?}");
                pair.finish();
                break;
            };
            struck_at += 1;
            assert_they_talk(&pair, &format!("{kind:?} at {at}, {call}"));
        }
    }
    assert!(struck_at >= 4, "{struck_at}");
    assert_chains_whole(&pair.billing);
}

#[test]
fn who_answers_is_killed_at_any_write() {
    let Some(library) = library() else { return };
    let pair = Rotating::new(true, QUICK);
    let _billing = pair.serve_billing();
    let switch = pair.orders.beside("switch");
    let mut killed = 0;
    for at in (1..).step_by(step(Kind::Kill) * 2) {
        let _ = std::fs::remove_file(&switch);
        let mut command = pair.orders.command(&["serve", "--listen", &pair.orders_url]);
        inject(&mut command, library, &pair.orders, Kind::Kill, at);
        command.env("FAULT_SWITCH", &switch);
        let mut serving = Serving::of(command, &pair.orders.beside("serve.log"), 1);
        pair.call().ok();
        std::fs::write(&switch, "").unwrap();
        let rotated = pair.billing.run(&["rotate", "orders"]);
        if rotated.code == 0 {
            // It was not struck before the end; afterwards it may have been, when the use of the new one was to be noted.
            serving.kill();
            let _orders = pair.serve_orders();
            pair.call().ok();
            pair.finish();
            break;
        }
        serving.killed();
        killed += 1;
        let mut serving = pair.serve_orders();
        assert_they_talk(&pair, &format!("killed at {at}"));
        serving.kill();
    }
    assert!(killed >= 2, "{killed}");
    assert_chains_whole(&pair.orders);
}

#[test]
fn a_responder_that_cannot_write_says_so_and_nothing_is_agreed_on() {
    let Some(library) = library() else { return };
    let pair = Rotating::new(true, QUICK);
    let _billing = pair.serve_billing();
    let switch = pair.orders.beside("switch");
    let mut command = pair.orders.command(&["serve", "--listen", &pair.orders_url]);
    inject(&mut command, library, &pair.orders, Kind::StaysFull, 1);
    command.env("FAULT_SWITCH", &switch);
    let _orders = Serving::of(command, &pair.orders.beside("serve.log"), 1);
    pair.call().ok();
    std::fs::write(&switch, "").unwrap();
    assert_eq!(pair.billing.run(&["rotate", "orders"]).code, 1);
    std::fs::remove_file(&switch).unwrap();
    assert!(status(&pair.orders, "billing")["rotation"]["inBand"].is_null());
    assert_they_talk(&pair, "there is room again");
}

#[test]
fn a_clock_that_jumps_back_a_year_in_the_middle_keeps_nobody_out() {
    let Some(library) = library() else { return };
    let year = 365 * 24 * 60 * 60_i64;
    for (which, off) in [(0, -year), (1, -year), (0, year), (1, year)] {
        let pair = Rotating::new(true, QUICK);
        let clocks = [pair.billing.beside("clock"), pair.orders.beside("clock")];
        let set = |which: usize, off: i64| {
            let next = clocks[which].with_extension("next");
            std::fs::write(&next, off.to_string()).unwrap();
            std::fs::rename(next, &clocks[which]).unwrap();
        };
        (0..2).for_each(|which| set(which, 0));
        let serve = |which: usize| {
            let (home, url) = [(&pair.billing, &pair.billing_url), (&pair.orders, &pair.orders_url)][which];
            let mut command = home.command(&["serve", "--listen", url]);
            command.env("LD_PRELOAD", library).env("FAULT_CLOCK", &clocks[which]);
            Serving::of(command, &home.beside("serve.log"), 1)
        };
        let clocked = |which: usize, arguments: &[&str]| {
            let home = [&pair.billing, &pair.orders][which];
            let mut command = home.command(arguments);
            command.env("LD_PRELOAD", library).env("FAULT_CLOCK", &clocks[which]);
            home.finish(command, b"")
        };
        let billing = |arguments: &[&str]| clocked(0, arguments);
        let _billing = serve(0);
        let mut orders = serve(1);
        billing(&["rotate", "orders"]).ok();
        // Agreed on, and not through: the one that answers is gone before it is confirmed.
        eventually("the old one is over on both sides", || {
            let lives = pair.fingerprints();
            lives[0].len() == 1 && lives[1].len() == 1
        });
        orders.kill();
        assert_eq!(billing(&["rotate", "orders"]).code, 1);
        set(which, off);
        let _orders = serve(1);
        let url = format!("{}/x", pair.orders_url);
        for turn in 0..2 {
            let called = billing(&["call", "-X", "POST", &url]);
            assert_eq!(called.code, 0, "{which} {off} {turn}: {called:?}");
            let rotated = billing(&["rotate", "orders"]);
            assert_eq!(rotated.code, 0, "{which} {off} {turn}: {rotated:?}");
            let [here, there] = pair.fingerprints();
            assert_eq!(here.last(), there.last(), "{which} {off} {turn}");
            let called = billing(&["call", "-X", "POST", &url]);
            assert_eq!(called.code, 0, "{which} {off} {turn}: {called:?}");
            // By the clock of each: grace periods are over sooner or later than elsewhere.
            for (which, name) in [(0, "orders"), (1, "billing")] {
                let home = [&pair.billing, &pair.orders][which];
                eventually("the overlap is over", || {
                    clocked(which, &["rotate", name, "--finish"]);
                    status(home, name)["credentials"].as_array().unwrap().len() == 1
                });
            }
        }
    }
}
