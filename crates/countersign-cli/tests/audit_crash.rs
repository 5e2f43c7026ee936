//! The real `serve`, killed in the middle of its work a dozen times: what was answered is on the trail, the chain goes
//! on, and nothing looks as if somebody had touched it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use support::{Connection, Pair, Serving, eventually};

const ROUNDS: usize = 12;
const CALLERS: usize = 4;

/// Sends requests over one connection after the other until the server is gone; the request ids that were told.
fn call(address: &str, request: &str, told: &Mutex<BTreeSet<String>>, over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        let Ok(mut connection) = Connection::try_open(address) else { return };
        while connection.try_send(request) {
            let Some(reply) = connection.reply() else { break };
            told.lock().unwrap().insert(reply.header("x-request-id").unwrap().to_owned());
        }
    }
}

#[test]
fn whatever_was_answered_before_a_kill_is_on_the_trail_and_the_chain_is_whole_and_goes_on() {
    let pair = Pair::new();
    // Small, so that some kills come while a file is put aside.
    pair.orders.configure("[audit]\nrotate_mib = 1\nreserve_mib = 1");
    let told = Mutex::new(BTreeSet::new());
    let mut last = 0;
    for round in 0..ROUNDS {
        let mut serving = Serving::http(&pair.orders);
        let address = serving.address().to_owned();
        let bearer = pair.bearer(&address);
        let accepted = format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n");
        let refused = "GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_owned();
        let (over, before) = (AtomicBool::new(false), told.lock().unwrap().len());
        std::thread::scope(|scope| {
            for caller in 0..CALLERS {
                let request = if caller == 0 { &refused } else { &accepted };
                let (address, told, over) = (&address, &told, &over);
                scope.spawn(move || call(address, request, told, over));
            }
            // In the thick of it, each time a little later.
            let enough = 50 + 37 * round;
            eventually("requests are answered", || told.lock().unwrap().len() >= before + enough);
            serving.kill();
            over.store(true, Ordering::Relaxed);
        });
        let report = pair.orders.run(&["audit", "verify", "--json"]).json();
        assert_eq!(report["whole"], true, "round {round}: {report:#}");
        let serve = report["writers"].as_array().unwrap().iter().find(|it| it["writer"] == "serve").unwrap();
        let now = serve["last"].as_u64().unwrap();
        assert!(now > last, "the chain goes on");
        last = now;
    }
    drop(Serving::http(&pair.orders));
    pair.orders.run(&["audit", "verify"]).ok();
    let lines = pair.orders.run(&["audit", "export", "--danger-unverified"]).stdout;
    let mut recorded = BTreeSet::new();
    let mut numbers = Vec::new();
    for line in lines.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        if record["writer"] == "serve" {
            numbers.push(record["seq"].as_u64().unwrap());
            recorded.extend(record["requestId"].as_str().map(str::to_owned));
            assert_ne!(record["outcome"], "gap", "{record}");
        }
    }
    let told = told.into_inner().unwrap();
    println!(
        "{} requests were answered over {ROUNDS} kills, {} are on the trail",
        told.len(),
        recorded.len()
    );
    let lost: Vec<_> = told.difference(&recorded).collect();
    assert!(lost.is_empty(), "{} that were answered are not on the trail", lost.len());
    assert!(
        numbers.iter().copied().eq(1..=last.max(numbers.len() as u64)),
        "no number is missing or there twice"
    );
}
