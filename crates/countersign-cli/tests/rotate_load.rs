//! Rotations while requests go on: not one of them fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use bytes::Bytes;
use countersign::client::Client;
use countersign::protocol::api_key::sign;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::{ApiKey, PeerStore as _};
use http::Request;
use http_body_util::BodyExt as _;
use serde_json::json;
use support::life::{meet, rotate, states, take, value};
use support::raw::{exchange, post};
use support::serving::address;
use support::{Exchange, Fake, Home, Pair, Serving, eventually, new_key};

/// Callers that go on until they are stopped.
struct Load {
    stop: Arc<AtomicBool>,
    failures: Arc<Mutex<Vec<String>>>,
    /// How many requests of each caller succeeded.
    counts: Vec<Arc<AtomicUsize>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { stop: Arc::default(), failures: Arc::default(), counts: Vec::new(), callers: Vec::new() }
    }

    fn caller(&mut self, mut call: impl FnMut() -> Result<(), String> + Send + 'static) {
        let (stop, failures, count) =
            (self.stop.clone(), self.failures.clone(), Arc::<AtomicUsize>::default());
        self.counts.push(count.clone());
        self.callers.push(std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                match call() {
                    Ok(()) => drop(count.fetch_add(1, Ordering::Relaxed)),
                    Err(failure) => failures.lock().unwrap().push(failure),
                }
            }
        }));
    }

    /// A client of the library that keeps its session and follows its store.
    fn client(&mut self, home: &Home, peer: &'static str) {
        let key = MasterKey::load(&Source::File(home.path().join("master.key")), |_| None).unwrap();
        let store = Arc::new(SqliteStore::open(&home.path().join("store.sqlite"), &key).unwrap());
        let known = store.get(&peer.parse().unwrap()).unwrap();
        let client = Client::builder().follow(store).build(&known).unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut number = 0;
        self.caller(move || {
            number += 1;
            let request = if number % 2 == 0 {
                Request::get("/read").body(Bytes::new())
            } else {
                Request::post("/write").body(Bytes::from_static(b"{}"))
            };
            runtime.block_on(async {
                let response =
                    client.send(request.unwrap()).await.map_err(|error| format!("{peer}: {error}"))?;
                let status = response.status();
                response.into_body().collect().await.map_err(|error| error.to_string())?;
                // Not as fast as it goes: other tests run beside this one.
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
                if status.is_success() { Ok(()) } else { Err(format!("{peer}: {status}")) }
            })
        });
    }

    /// `countersign call`, one process a request.
    fn calls(&mut self, home: &Home, url: &str) {
        let (path, url) = (home.path(), url.to_owned());
        self.caller(move || {
            let mut command = support::countersign();
            command.arg("--home").arg(&path).args(["call", &url]);
            let done = support::finish(command, b"");
            if done.code == 0 { Ok(()) } else { Err(format!("{done:?}")) }
        });
    }

    /// Waits until each caller has come so much further, and none has failed.
    #[track_caller]
    fn goes_on(&self) {
        let further: Vec<_> = self.counts.iter().map(|count| count.load(Ordering::Relaxed) + 3).collect();
        eventually("each caller goes on", || {
            let counts = self.counts.iter().map(|count| count.load(Ordering::Relaxed));
            assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
            counts.zip(&further).all(|(count, further)| count >= *further)
        });
    }

    #[track_caller]
    fn ends_without_a_failure(self) {
        self.goes_on();
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            caller.join().unwrap();
        }
        assert_eq!(*self.failures.lock().unwrap(), Vec::<String>::new());
    }
}

/// Both call each other, by the library and by the command.
struct Both {
    orders: Home,
    billing: Home,
    _serving: [Serving; 2],
    load: Load,
}

impl Both {
    fn start(profile: &str) -> Self {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let serving = [Serving::https(&orders), Serving::https(&billing)];
        meet((&orders, serving[0].url()), (&billing, serving[1].url()), profile);
        for (home, peer) in [(&orders, "billing"), (&billing, "orders")] {
            let url = format!("{}/first", if peer == "orders" { serving[0].url() } else { serving[1].url() });
            eventually("the peer is known", || home.run(&["call", &url]).code == 0);
        }
        let mut load = Load::new();
        for (home, peer, url) in
            [(&orders, "billing", serving[1].url()), (&billing, "orders", serving[0].url())]
        {
            load.client(home, peer);
            load.client(home, peer);
            load.calls(home, &format!("{url}/called"));
        }
        load.goes_on();
        Self { orders, billing, _serving: serving, load }
    }

    /// The side that makes the keys, the one that takes them in, and how each calls the other.
    fn sides(&self, maker: &str) -> [(&Home, &'static str); 2] {
        let (orders, billing) = ((&self.orders, "billing"), (&self.billing, "orders"));
        if maker == "orders" { [orders, billing] } else { [billing, orders] }
    }
}

fn rotated_by_hand(profile: &str, maker: &str, maker_ends_first: bool, rounds: u32) {
    let both = Both::start(profile);
    let [(maker, taker_name), (taker, maker_name)] = both.sides(maker);
    for number in 2..2 + rounds {
        let file = rotate(maker, taker_name, &[], taker);
        both.load.goes_on();
        maker.run(&["rotate", taker_name, "--check"]);
        take(taker, maker_name, &file, &[]);
        eventually("the maker has seen it used", || maker.run(&["rotate", taker_name, "--check"]).code == 0);
        both.load.goes_on();
        let mut ends = [(maker, taker_name), (taker, maker_name)];
        if !maker_ends_first {
            ends.reverse();
        }
        for (home, name) in ends {
            home.run(&["rotate", name, "--finish"]).ok();
            both.load.goes_on();
            assert_eq!(states(home, name), [format!("{name}/{number} current")]);
        }
        assert!(!file.exists(), "it is needed no more");
        maker.assert_nothing_leaked();
    }
    both.load.ends_without_a_failure();
}

#[test]
fn no_request_fails_when_orders_makes_the_keys_under_shared_secret() {
    rotated_by_hand("shared-secret", "orders", true, 2);
}

#[test]
fn no_request_fails_when_billing_makes_the_keys_under_shared_secret() {
    rotated_by_hand("shared-secret", "billing", false, 1);
}

#[test]
fn no_request_fails_when_orders_makes_the_keys_under_api_key() {
    rotated_by_hand("api-key", "orders", false, 1);
}

#[test]
fn no_request_fails_when_billing_makes_the_keys_under_api_key() {
    rotated_by_hand("api-key", "billing", true, 1);
}

#[test]
fn no_request_fails_when_the_grace_period_ends_the_old_credential_by_itself() {
    for profile in ["shared-secret", "api-key"] {
        let both = Both::start(profile);
        let file = rotate(&both.orders, "billing", &["--grace", "2s"], &both.billing);
        take(&both.billing, "orders", &file, &["--grace", "2s"]);
        for (home, name) in [(&both.orders, "billing"), (&both.billing, "orders")] {
            eventually("the old one is over", || states(home, name) == [format!("{name}/2 current")]);
            both.load.goes_on();
        }
        both.load.ends_without_a_failure();
    }
}

#[test]
fn no_request_fails_where_only_one_side_calls() {
    for maker in ["orders", "billing"] {
        let pair = Pair::new();
        let serving = Serving::http(&pair.orders);
        pair.meet(serving.url(), &[]);
        let mut load = Load::new();
        load.client(&pair.billing, "orders");
        load.calls(&pair.billing, &format!("{}/called", serving.url()));
        load.goes_on();
        let mut sides = [(&pair.orders, "billing"), (&pair.billing, "orders")];
        if maker == "billing" {
            sides.reverse();
        }
        let [(made, of), (taken, from)] = sides;
        let file = rotate(made, of, &["--grace", "1s", "--keep-api-keys"], taken);
        load.goes_on();
        take(taken, from, &file, &["--grace", "1s"]);
        for (home, name) in sides {
            eventually("the old one is over", || states(home, name) == [format!("{name}/2 current")]);
            load.goes_on();
        }
        load.ends_without_a_failure();
    }
}

#[test]
fn code_of_strangers_may_change_over_at_any_moment_until_the_old_credential_is_ended() {
    let mut pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let to = address(serving.url()).to_owned();
    let file = rotate(&pair.orders, "billing", &["--grace", "0s"], &pair.billing);
    // It goes on with the old ones for as long as it likes.
    let old_token = pair.bearer(&to);
    for _ in 0..5 {
        assert_eq!(pair.get(&to, "/").status, 200);
    }
    let check = || pair.orders.run(&["rotate", "billing", "--check"]);
    assert_eq!(check().code, 1);
    assert!(check().stderr.contains("still waiting for billing"));
    pair.orders
        .run(&["rotate", "billing", "--finish"])
        .refused(1, &["has not used billing/2", "shut it out"]);
    // Now it changes over: the first use of the new ones says so, and without grace ends the old ones.
    let (old_key, old_secret) = (pair.billing_key.clone(), pair.secret.clone());
    pair.billing_key = value(&file, "TAKER_API_KEY");
    pair.secret = value(&file, "SECRET");
    let new_token = pair.bearer(&to);
    let status = |token: &str| exchange(&to, "GET", "/", &[("Authorization", token)], b"").status;
    eventually("the old token dies", || status(&old_token) == 401);
    assert_eq!(status(&new_token), 200);
    assert_eq!(pair.orders.run(&["rotate", "billing", "--check"]).code, 0);
    assert_eq!(pair.get(&to, "/").status, 200);
    (pair.billing_key, pair.secret) = (old_key, old_secret);
    post(&to, "/authenticate", &[], &json!({"apiKey": pair.billing_key}))
        .assert_problem(401, "authentication-failed");
    assert_eq!(pair.orders.recorded("reason", "credential-retired"), 1);
}

/// A stranger's server of guide 2 that takes one key, which can be exchanged for another at any moment.
fn stranger(key: &Arc<Mutex<String>>) -> Fake {
    const CHALLENGE: &str = "1700000000.0123456789abcdef";
    let key = Arc::clone(key);
    let answer = |mut exchange: Exchange, right: bool, body: &serde_json::Value| {
        if right {
            exchange.respond_json(body);
        } else {
            exchange.respond(401, &[], b"");
        }
    };
    Fake::new(move |mut exchange: Exchange| {
        let known = key.lock().unwrap().clone();
        match exchange.seen.path.as_str() {
            "/authenticate" => {
                let right = exchange.json()["apiKey"] == known.as_str();
                answer(exchange, right, &json!({"challenge": CHALLENGE}));
            }
            "/verify_challenge" => {
                let (body, key) = (exchange.json(), known.parse::<ApiKey>().unwrap());
                let signature = sign(&key, &CHALLENGE.parse().unwrap()).to_hex();
                let right = body["apiKey"] == known.as_str() && body["signedChallenge"] == signature.as_str();
                // For a second only: a client has to come again.
                answer(exchange, right, &json!({"authenticated": true, "token": "t", "expiresIn": 1}));
            }
            _ => {
                exchange.body();
                let status =
                    if exchange.seen.header("authorization") == Some("Bearer t") { 200 } else { 401 };
                exchange.respond(status, &[], b"");
            }
        }
    })
}

#[test]
fn a_stranger_that_is_called_may_change_over_at_any_moment() {
    let (billing, first) = (Home::of("billing"), new_key());
    let key = Arc::new(Mutex::new(first.clone()));
    let fake = stranger(&key);
    let file = billing.secret_file("key", &first);
    let add = ["peer", "add", "partner", "--profile", "api-key", "--url", &fake.url, "--our-key-file", &file];
    billing.run(&add).ok();
    let mut load = Load::new();
    load.client(&billing, "partner");
    load.calls(&billing, &format!("{}/called", fake.url));
    load.goes_on();
    let file = rotate(&billing, "partner", &[], &billing);
    load.goes_on();
    assert_eq!(billing.run(&["rotate", "partner", "--check"]).code, 1);
    *key.lock().unwrap() = value(&file, "MAKER_API_KEY");
    eventually("it has taken the new one", || billing.run(&["rotate", "partner", "--check"]).code == 0);
    load.goes_on();
    billing.run(&["rotate", "partner", "--finish"]).ok();
    load.goes_on();
    assert_eq!(states(&billing, "partner"), ["partner/2 current"]);
    load.ends_without_a_failure();
}
