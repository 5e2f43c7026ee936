//! A thousand rotations under constant load in both directions, and not one failed request.
//!
//! Many pairs rotate at the same time, as often as their grace periods let them, so that it is over in minutes; every request is a POST
//! without an `Idempotency-Key`, which nobody repeats.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture ends the test")]

mod rotation_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign::PeerStore as _;
use countersign::rotation::Scheduler;
use rotation_support::{SETTINGS, Service, introduce, work};

/// So many in all, a number a pair at least.
const ROTATIONS: u32 = 1_000;
const PAIRS: u32 = 50;
/// Between two requests of one side.
const EVERY: Duration = Duration::from_millis(400);
/// If it takes longer, something is stuck.
const AT_MOST: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rotations_under_load_fail_no_request() {
    let orders = Arc::new(Service::start("orders").await);
    let (sent, failed) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let mut callers = Vec::new();
    let mut running = tokio::task::JoinSet::new();
    for number in 0..PAIRS {
        let caller = Arc::new(Service::start(&format!("caller-{number}")).await);
        introduce(&caller, &orders, true);
        // Both sides may begin; due at once, whenever the last one is over.
        caller.store.set_schedule(&orders.name, Some(0)).unwrap();
        orders.store.set_schedule(&caller.name, (number % 2 == 0).then_some(0)).unwrap();
        running.spawn(Scheduler::new(caller.store.clone(), SETTINGS).run());
        for (from, to) in [(&caller, &orders), (&orders, &caller)] {
            let (client, sent, failed) = (from.client(to), sent.clone(), failed.clone());
            running.spawn(async move {
                loop {
                    sent.fetch_add(1, Ordering::Relaxed);
                    if let Err(error) = work(&client).await {
                        failed.fetch_add(1, Ordering::Relaxed);
                        eprintln!("{error}");
                    }
                    tokio::time::sleep(EVERY).await;
                }
            });
        }
        callers.push(caller);
    }
    running.spawn(Scheduler::new(orders.store.clone(), SETTINGS).run());
    let began = Instant::now();
    let least = ROTATIONS / PAIRS;
    let of = |caller: &Arc<Service>| {
        let [here, there] = [caller.peer(&orders), orders.peer(caller)];
        here.credentials.last().unwrap().number.min(there.credentials.last().unwrap().number) - 1
    };
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if callers.iter().all(|caller| of(caller) >= least) {
            break;
        }
        assert!(began.elapsed() < AT_MOST, "stuck: {:?}", callers.iter().map(of).collect::<Vec<_>>());
    }
    running.shutdown().await;
    let rotations: u32 = callers.iter().map(of).sum();
    let (sent, failed) = (sent.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
    println!(
        "{rotations} rotations of {PAIRS} pairs, {sent} requests, {failed} failed, {:?}",
        began.elapsed()
    );
    assert!(rotations >= ROTATIONS);
    assert_eq!(failed, 0);
    // What was abandoned would have a number as well.
    for caller in &callers {
        assert!(caller.peer(&orders).ended.iter().all(|one| one.how.as_str() == "retired"));
    }
}
