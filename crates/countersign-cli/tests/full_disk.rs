//! The real `serve` on a disk that gets full: a file system of eight MiB. Left out, and said so, where that
//! cannot be had.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::path::PathBuf;

use countersign_testkit::small_disk::{self, fill, on_a_small_disk};
use support::{Pair, Reply, Serving, eventually, exchange};

struct Full {
    disk: PathBuf,
    pair: Pair,
    serving: Serving,
    bearer: String,
}

impl Full {
    /// A server whose disk has little room beside the reserve.
    fn new(disk: PathBuf, settings: &str) -> Self {
        let pair = Pair::new();
        pair.orders.configure(&format!("[audit]\nreserve_mib = 3\n{settings}"));
        let serving =
            Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        let bearer = pair.bearer(serving.address());
        assert!(pair.orders.path().join("audit/reserve").exists());
        fill(&disk, 48 << 10);
        Self { disk, pair, serving, bearer }
    }

    fn call(&self) -> Reply {
        exchange(self.serving.address(), "GET", "/", &[("Authorization", &self.bearer)], b"")
    }

    fn admin(&self, path: &str) -> Reply {
        exchange(support::serving::address(&self.serving.urls[1]), "GET", path, &[], b"")
    }

    fn dropped(&self) -> u64 {
        let metrics = String::from_utf8(self.admin("/metrics").body).unwrap();
        let line =
            metrics.lines().find(|line| line.starts_with("countersign_audit_dropped_records_total")).unwrap();
        line.rsplit(' ').next().unwrap().parse().unwrap()
    }

    fn free(&self) {
        small_disk::free(&self.disk);
    }
}

#[test]
fn on_a_full_disk_callers_get_503_once_the_reserve_is_used_up_and_are_served_when_there_is_room() {
    let test = "on_a_full_disk_callers_get_503_once_the_reserve_is_used_up_and_are_served_when_there_is_room";
    let Some(disk) = on_a_small_disk(8, test) else { return };
    let full = Full::new(disk, "");
    let reserve = full.pair.orders.path().join("audit/reserve");
    let mut answered = 1;
    loop {
        let reply = full.call();
        if reply.status != 200 {
            reply.assert_problem(503, "unavailable");
            break;
        }
        answered += 1;
        assert!(answered < 10_000);
    }
    assert!(!reserve.exists() && answered > 1_000, "{answered}");
    let log = full.serving.log();
    for said in ["THE DISK IS FULL", "nothing is accepted until the audit trail can be written"] {
        assert!(log.contains(said), "{log}");
    }
    // Refusals as well, and the balancer is told.
    let reply = exchange(full.serving.address(), "GET", "/", &[], b"");
    reply.assert_problem(503, "unavailable");
    assert_eq!(full.admin("/readyz").status, 503);
    assert_eq!(full.dropped(), 0);
    full.free();
    eventually("it serves again by itself", || full.call().status == 200);
    full.pair.orders.run(&["audit", "verify"]).ok();
}

#[test]
fn with_danger_continue_callers_are_served_and_the_lost_records_are_counted_and_told() {
    let test = "with_danger_continue_callers_are_served_and_the_lost_records_are_counted_and_told";
    let Some(disk) = on_a_small_disk(8, test) else { return };
    let full = Full::new(disk, "when_full = \"danger-continue\"");
    let mut calls = 0;
    while full.dropped() < 5 {
        for _ in 0..50 {
            assert_eq!(full.call().status, 200);
        }
        calls += 50;
        assert!(calls < 10_000);
    }
    assert!(full.serving.log().contains("attempts go on UNRECORDED"), "{}", full.serving.log());
    full.free();
    assert_eq!(full.call().status, 200);
    let dropped = full.dropped();
    let text = full.pair.orders.run(&["audit", "verify"]).ok();
    assert!(text.contains(&format!("records-dropped: {dropped} records were not written")), "{text}");
}
