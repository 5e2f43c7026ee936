//! The machine's clock is set while a server runs, and between two runs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign::client::Client;
use countersign::protocol::UnixTime;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Next, Overlap};
use countersign::{NewKeys, PeerStore as _};
use http::Request;
use serde_json::Value;
use support::faults::{assert_chains_whole, library};
use support::life::meet_at;
use support::raw::post;
use support::{Connection, Done, Home, Pair, Proxy, Serving, eventually, exchange};

const DAY: i64 = 24 * 60 * 60;
const YEAR: i64 = 365 * DAY;
/// Back to 1970.
const EPOCH: i64 = -4_000_000_000;

/// The clock of one home's processes, as far as it is off the machine's.
struct Wall(PathBuf);

impl Wall {
    fn of(home: &Home) -> Self {
        let wall = Self(home.beside("clock"));
        wall.set(0);
        wall
    }

    /// Set to so many seconds before or after what it should be.
    fn set(&self, off: i64) {
        // Renamed, so that no process reads half of it.
        let next = self.0.with_extension("next");
        std::fs::write(&next, off.to_string()).unwrap();
        std::fs::rename(next, &self.0).unwrap();
    }

    fn serve(&self, home: &Home, library: &Path) -> Serving {
        let mut command = home.command(&["serve", "--listen", "http://127.0.0.1:0"]);
        command.env("LD_PRELOAD", library).env("FAULT_CLOCK", &self.0);
        Serving::of(command, &home.beside("serve.log"), 1)
    }

    fn run(&self, home: &Home, library: &Path, arguments: &[&str]) -> Done {
        let mut command = home.command(arguments);
        command.env("LD_PRELOAD", library).env("FAULT_CLOCK", &self.0);
        home.finish(command, b"")
    }
}

fn get(address: &str, bearer: &str) -> u16 {
    exchange(address, "GET", "/", &[("Authorization", bearer)], b"").status
}

fn open(home: &Home) -> SqliteStore {
    let master = MasterKey::load(&Source::File(home.path().join("master.key")), |_| None).unwrap();
    SqliteStore::open(&home.path().join("store.sqlite"), &master).unwrap()
}

fn now() -> UnixTime {
    UnixTime(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

#[test]
fn a_clock_that_is_set_while_a_server_runs_neither_ends_nor_revives_anything() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    pair.orders.configure("[challenge]\nlifetime_seconds = 5\n[token]\nlifetime_seconds = 5");
    let wall = Wall::of(&pair.orders);
    let serving = wall.serve(&pair.orders, library);
    let address = serving.address();
    for off in [YEAR, -YEAR, EPOCH, 0] {
        let start = Instant::now();
        let (waiting, late) = (pair.challenge(address), pair.challenge(address));
        let bearer = pair.bearer(address);
        wall.set(off);
        assert_eq!(pair.answer(address, &waiting).status, 200, "off by {off}");
        assert_eq!(get(address, &bearer), 200, "off by {off}");
        // Once only, whatever the clock says.
        for again in [0, -off, off] {
            wall.set(again);
            assert_eq!(pair.answer(address, &waiting).status, 401, "off by {off}, then {again}");
        }
        // They end when they would have.
        eventually("the token ends", || get(address, &bearer) == 401);
        assert!(start.elapsed() >= Duration::from_secs(4), "it ended early");
        eventually("the challenge has ended as well", || start.elapsed() > Duration::from_secs(7));
        assert_eq!(pair.answer(address, &late).status, 401);
        for again in [0, -off, off] {
            wall.set(again);
            assert_eq!(get(address, &bearer), 401);
        }
    }
    // The trail has the clock's times as they were, in the order of its numbers.
    assert_chains_whole(&pair.orders);
    let times: Vec<String> =
        pair.orders.records().iter().map(|record| record["time"].as_str().unwrap().to_owned()).collect();
    assert!(times.iter().any(|time| time.starts_with("1970")), "the clock was not set: {times:?}");
}

#[test]
fn nothing_of_an_earlier_run_is_taken_whatever_the_clock_says_at_the_start() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    let wall = Wall::of(&pair.orders);
    for off in [YEAR, -YEAR, EPOCH] {
        wall.set(0);
        let serving = wall.serve(&pair.orders, library);
        let challenge = pair.challenge(serving.address());
        let bearer = pair.bearer(serving.address());
        drop(serving);
        wall.set(off);
        let serving = wall.serve(&pair.orders, library);
        assert_eq!(get(serving.address(), &bearer), 401);
        assert_eq!(pair.answer(serving.address(), &challenge).status, 401);
        // And everybody who has a credential is let in.
        assert_eq!(pair.get(serving.address(), "/").status, 200, "off by {off}: {}", serving.log());
    }
    assert_chains_whole(&pair.orders);
}

#[test]
fn a_credential_that_has_ended_stays_ended_when_the_clock_goes_back() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    let wall = Wall::of(&pair.orders);
    let (key, secret) = (support::new_key(), support::new_secret());
    let keys = NewKeys::shared_secret(
        support::new_key().parse().unwrap(),
        key.parse().unwrap(),
        secret.parse().unwrap(),
        secret.parse().unwrap(),
    );
    // Made a week ago, with three days for the change.
    let made = UnixTime(now().0 - 7 * 24 * 60 * 60);
    let overlap = Overlap::new(made, 60, Some(3 * 24 * 60 * 60));
    let next = Next { keys: keys.unwrap(), overlap, confirmed: false, follows: None };
    open(&pair.orders).rotate(&"billing".parse().unwrap(), next, made).unwrap();
    // While no server ran. The first one that sees that the time is over writes it down.
    let key = serde_json::json!({"apiKey": pair.billing_key});
    let old = |address: &str| post(address, "/authenticate", &[], &key).status;
    let serving = wall.serve(&pair.orders, library);
    assert_eq!(old(serving.address()), 401);
    eventually("it is retired", || open(&pair.orders).list().unwrap()[0].credentials.len() == 1);
    drop(serving);
    for off in [-YEAR, EPOCH, YEAR] {
        wall.set(off);
        let serving = wall.serve(&pair.orders, library);
        assert_eq!(old(serving.address()), 401, "off by {off}");
        drop(serving);
    }
    let ended = &open(&pair.orders).list().unwrap()[0];
    assert_eq!((ended.credentials.len(), ended.ended.len()), (1, 1));
}

#[test]
fn a_clock_ahead_ends_no_credential_that_the_peer_still_needs() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    let wall = Wall::of(&pair.orders);
    let (key, secret) = (support::new_key(), support::new_secret());
    let keys = NewKeys::shared_secret(
        support::new_key().parse().unwrap(),
        key.parse().unwrap(),
        secret.parse().unwrap(),
        secret.parse().unwrap(),
    );
    // No deadline: the peer has to show that it has the new one.
    let next =
        Next { keys: keys.unwrap(), overlap: Overlap::new(now(), 60, None), confirmed: false, follows: None };
    open(&pair.orders).rotate(&"billing".parse().unwrap(), next, now()).unwrap();
    wall.set(YEAR);
    let serving = wall.serve(&pair.orders, library);
    assert_eq!(pair.get(serving.address(), "/").status, 200, "{}", serving.log());
    drop(serving);
    wall.set(0);
    let serving = wall.serve(&pair.orders, library);
    assert_eq!(pair.get(serving.address(), "/").status, 200, "{}", serving.log());
}

#[test]
fn a_clock_that_is_wrong_is_told() {
    let Some(library) = library() else { return };
    let pair = Pair::new();
    let wall = Wall::of(&pair.orders);
    let doctor = || wall.run(&pair.orders, library, &["doctor", "--offline", "--json"]);
    let found = |done: &Done, check: &str, level: &str| {
        let findings: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
        let findings = findings["findings"].as_array().unwrap().clone();
        findings.iter().any(|one| one["check"] == check && one["level"] == level)
    };
    let done = doctor();
    assert!(done.code == 0 && found(&done, "clock", "ok") && found(&done, "certificate", "ok"), "{done:?}");
    for off in [-YEAR, EPOCH] {
        wall.set(off);
        let done = doctor();
        assert!(done.code == 1 && found(&done, "clock", "fail"), "{done:?}");
        let serving = wall.serve(&pair.orders, library);
        assert!(serving.log().contains("this clock is behind"), "{}", serving.log());
    }
    wall.set(30 * YEAR);
    let done = doctor();
    assert!(done.code == 1 && found(&done, "certificate", "fail"), "{done:?}");
}

#[test]
fn cs_30_under_cs1_callers_whose_clock_is_wrong_are_let_in() {
    let Some(library) = library() else { return };
    let proxy = Proxy::new(|request| request.to_owned());
    let (orders, billing) = meet_at(&proxy.url);
    let serving = Serving::http(&orders);
    proxy.to(serving.address());
    let wall = Wall::of(&billing);
    for off in [3600, -3600, YEAR, -YEAR, EPOCH] {
        wall.set(off);
        let done = wall.run(&billing, library, &["call", "-d", "data", &proxy.url]);
        assert_eq!(done.code, 0, "off by {off}: {done:?}");
        let request = String::from_utf8(proxy.last().unwrap()).unwrap();
        let created = request.split(";created=").nth(1).unwrap().split(';').next().unwrap();
        assert!(now().0.abs_diff(created.parse().unwrap()) < 60, "off by {off}: {request}");
    }
    assert_eq!(orders.recorded("step", "signed"), 5);
    let refused = |record: &Value| record["direction"] == "inbound" && record["outcome"] == "refused";
    let refused = orders.trail().into_iter().filter(refused);
    assert_eq!(refused.collect::<Vec<_>>(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_cs1_no_clock_lets_a_request_pass_twice_and_live_clients_go_on() {
    let Some(library) = library() else { return };
    let proxy = Proxy::new(|request| request.to_owned());
    let (orders, billing) = meet_at(&proxy.url);
    let wall = Wall::of(&orders);
    let mut serving = wall.serve(&orders, library);
    proxy.to(serving.address());
    let client = Client::new(&billing.peer("orders")).unwrap();
    let send = async |method: &str, what: &str| {
        let request = Request::builder().method(method).uri("/").body(Bytes::from_static(b"data")).unwrap();
        let response = client.send(request).await.unwrap_or_else(|error| panic!("{what}, {method}: {error}"));
        assert_eq!(response.status(), 200, "{what}");
        proxy.last().unwrap()
    };
    let refuses = |serving: &Serving, accepted: &[Vec<u8>], what: &str| {
        for request in accepted {
            let mut connection = Connection::open(serving.address());
            connection.send(request);
            let reply = connection.reply().unwrap();
            assert_eq!(reply.status, 401, "{what}: {}", String::from_utf8_lossy(&reply.body));
        }
    };
    let mut accepted = vec![send("POST", "at first").await];
    for off in [3600, -3600, YEAR, -YEAR, EPOCH, 0] {
        wall.set(off);
        let what = format!("while it runs, off by {off}");
        accepted.push(send("POST", &what).await);
        refuses(&serving, &accepted, &what);
    }
    assert_eq!(orders.recorded("step", "verify-challenge"), 1, "a server's clock is not set while it runs");
    for killed in [false, true] {
        for off in [3600, -3600, 2 * YEAR, 0] {
            let what = format!("killed: {killed}, off by {off}");
            if killed {
                serving.kill();
            } else {
                serving.terminate();
                assert_eq!(serving.ended(), 0);
            }
            wall.set(off);
            serving = wall.serve(&orders, library);
            proxy.to(serving.address());
            refuses(&serving, &accepted, &what);
            // What may be repeated finds out what has changed; then all the rest goes on.
            accepted.push(send("GET", &what).await);
            accepted.push(send("POST", &what).await);
            refuses(&serving, &accepted, &what);
        }
    }
}
