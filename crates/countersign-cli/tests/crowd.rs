//! A hundred thousand wrong attempts, from one source and from many, on the real server: what it answers, what it
//! takes of memory and disk, and that the right peer is served all the while. Counted, not timed.
//!
//! Without `COUNTERSIGN_TEST_EXTERNAL=1` (`cargo xtask test` sets it) it is ten thousand of each kind.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use support::raw::post;
use support::{Connection, Pair, Serving, exchange, files};

/// The proxy that is trusted.
const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Requests that are sent before their answers are read.
const AT_ONCE: usize = 50;

fn attempts() -> usize {
    if std::env::var_os("COUNTERSIGN_TEST_EXTERNAL").is_some_and(|value| value == "1") {
        return 100_000;
    }
    println!(
        "10,000 attempts of each kind instead of 100,000: set COUNTERSIGN_TEST_EXTERNAL=1, or `cargo xtask test`"
    );
    10_000
}

/// Answers by what they were.
#[derive(Debug, Default)]
struct Answers {
    refused: AtomicUsize,
    limited: AtomicUsize,
}

impl Answers {
    fn count(&self, status: u16) {
        match status {
            401 => self.refused.fetch_add(1, Ordering::Relaxed),
            429 => self.limited.fetch_add(1, Ordering::Relaxed),
            other => panic!("a wrong attempt was answered with {other}"),
        };
    }

    fn take(&self) -> (usize, usize) {
        (self.refused.swap(0, Ordering::Relaxed), self.limited.swap(0, Ordering::Relaxed))
    }
}

/// A server, and somebody who has a key of `billing` but not the secret.
struct Siege {
    pair: Pair,
    serving: Serving,
    answers: Answers,
}

impl Siege {
    fn new() -> Self {
        let pair = Pair::new();
        let path = pair.orders.path().join("countersign.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let serve = "[serve]\ntrusted_proxies = [\"127.0.0.2\"]";
        std::fs::write(path, text.replace("[serve]", serve)).unwrap();
        let serving = Serving::http(&pair.orders);
        Self { pair, serving, answers: Answers::default() }
    }

    /// One wrong attempt; a proxy says who makes it.
    fn attempt(&self, source: Option<u32>) -> String {
        let source = source.map(|number| {
            // An IPv4 address, or an IPv6 network of its own.
            let source: IpAddr = match number % 2 {
                0 => Ipv4Addr::from(number).into(),
                _ => {
                    Ipv6Addr::from(0x2001_0db8 << 96 | u128::from(number) << 64 | u128::from(!number)).into()
                }
            };
            format!("X-Forwarded-For: 6.6.6.6, {source}\r\n")
        });
        let key = &self.pair.billing_key;
        let source = source.unwrap_or_default();
        format!(
            "GET / HTTP/1.1\r\nHost: x\r\n{source}X-API-Key: {key}\r\n\
             X-Challenge: AAAAAAAAAAAAAAAAAAAAAA==\r\nX-Signature: {}\r\n\r\n",
            "0".repeat(64)
        )
    }

    /// Sends attempts over one connection, and counts what comes back.
    fn send(&self, connection: &mut Connection, attempts: &[String]) {
        for some in attempts.chunks(AT_ONCE) {
            connection.send(some.concat());
            for _ in some {
                self.answers.count(connection.reply().unwrap().status);
            }
        }
    }

    /// All from one address.
    fn attack_from_one(&self, count: usize) {
        let attempts = vec![self.attempt(None); AT_ONCE];
        let mut connection = Connection::open_from(Ipv4Addr::new(127, 0, 0, 9), self.serving.address());
        for _ in 0..count / AT_ONCE {
            self.send(&mut connection, &attempts);
        }
    }

    /// Each from another address or IPv6 network, through a proxy.
    fn attack_from_all_over(&self, first: u32, count: usize) {
        let mut connection = Connection::open_from(PROXY, self.serving.address());
        for start in (first..).step_by(AT_ONCE).take(count / AT_ONCE) {
            let sources = start..start + u32::try_from(AT_ONCE).unwrap();
            let attempts: Vec<_> = sources.map(|source| self.attempt(Some(source))).collect();
            self.send(&mut connection, &attempts);
        }
    }

    /// Fifty each from many addresses of this machine, a connection each.
    fn attack_from_neighbours(&self, first: u32, count: usize) {
        let attempts = vec![self.attempt(None); AT_ONCE];
        for source in (first..).take(count / AT_ONCE) {
            let source = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 0)) + source);
            self.send(&mut Connection::open_from(source, self.serving.address()), &attempts);
        }
    }

    /// The right peer: a handshake, and a request with its token.
    fn serve_the_right_peer(&self, headers: &[(&str, &str)]) {
        let (pair, address) = (&self.pair, self.serving.address());
        let reply = post(address, "/authenticate", headers, &json!({"apiKey": pair.billing_key}));
        assert_eq!(reply.status, 200, "{reply:?}");
        let challenge = reply.json()["challenge"].as_str().unwrap().to_owned();
        let signature = pair.sign(&challenge);
        let answer =
            json!({"apiKey": pair.billing_key, "challenge": challenge, "signedChallenge": signature});
        let reply = post(address, "/verify_challenge", headers, &answer);
        assert_eq!(reply.status, 200, "{reply:?}");
        let bearer = format!("Bearer {}", reply.json()["token"].as_str().unwrap());
        let with_token = [&[("Authorization", bearer.as_str())], headers].concat();
        assert_eq!(exchange(address, "GET", "/", &with_token, b"").status, 200);
    }

    /// Runs two attackers at once while the right peer comes and goes; how often it came.
    fn during(&self, attack: impl Fn(u32) + Sync) -> usize {
        let (over, served) = (AtomicBool::new(false), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            let peer = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    self.serve_the_right_peer(&[]);
                    served.fetch_add(1, Ordering::Relaxed);
                    // Below its own limits on requests.
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let attackers = [0, 1].map(|attacker| {
                let attack = &attack;
                scope.spawn(move || attack(attacker))
            });
            let ended = attackers.map(|attacker| attacker.join().is_ok());
            over.store(true, Ordering::Relaxed);
            assert!(peer.join().is_ok() && ended == [true, true]);
        });
        served.into_inner()
    }

    /// Bytes of the trail.
    fn trail(&self) -> u64 {
        let trail = self.pair.orders.path().join("audit");
        files(&trail).iter().map(|file| file.metadata().unwrap().len()).sum()
    }
}

#[test]
fn a_hundred_thousand_wrong_attempts_take_no_memory_and_nobody_else_waits() {
    let siege = Siege::new();
    let attempts = attempts();
    let half = attempts / 2;
    // Warm-up: every page of the tables is touched, and every buffer of the allocator has been there.
    siege.attack_from_all_over(u32::from(Ipv4Addr::new(11, 0, 0, 0)), 5_000);
    siege.attack_from_one(1_000);
    let (refused, _) = siege.answers.take();
    assert!(refused >= 5_000, "each of many sources has attempts of its own: {refused}");
    let (memory, trail) = (siege.serving.resident(), siege.trail());

    let served = siege.during(|_| siege.attack_from_one(half));
    let (refused, limited) = siege.answers.take();
    assert_eq!(refused + limited, attempts, "each was answered");
    assert!(limited > attempts * 9 / 10, "{limited} of {attempts} were not looked at");
    assert!(served > 0, "the right peer was served");
    let lines = siege.trail() - trail;
    let after_one = siege.serving.resident();
    println!(
        "one source: {refused} refused, {limited} limited; right peer served {served} times; memory {memory} to {after_one}; trail {lines} bytes more"
    );
    // Its own lines and the right peer's: folded, it is far less than a byte an attempt would be with a line each.
    assert!(lines < 100 * attempts as u64 + 2_000 * served as u64, "{lines} bytes of trail");

    let trail = siege.trail();
    let sources = |attacker: u32| u32::from(Ipv4Addr::new(20 + u8::try_from(attacker).unwrap(), 0, 0, 0));
    let served = siege.during(|attacker| siege.attack_from_all_over(sources(attacker), half));
    let (refused, limited) = siege.answers.take();
    assert_eq!((refused, limited), (attempts, 0), "none was held up for what others did");
    assert!(served > 0, "the right peer was served");
    let after_many = siege.serving.resident();
    let lines = siege.trail() - trail;
    println!(
        "as many sources: right peer served {served} times; memory {after_many}; trail {lines} bytes more"
    );

    let neighbours = |attacker: u32| attacker << 16;
    let served = siege.during(|attacker| siege.attack_from_neighbours(neighbours(attacker), half / 10));
    let (refused, limited) = siege.answers.take();
    let sources = 2 * (half / 10 / AT_ONCE);
    assert_eq!(refused + limited, sources * AT_ONCE);
    assert!(refused >= sources * 20, "each has twenty: {refused} of {sources} sources");
    assert!(limited > sources * 20, "and not many more: {limited}");
    assert!(served > 0, "the right peer was served");

    // Whom the proxy names is served as well as who comes directly.
    siege.serve_the_right_peer(&[("X-Forwarded-For", "198.51.100.7")]);
    let end = siege.serving.resident();
    println!("{sources} neighbours: {refused} refused, {limited} limited; memory {end}");
    let grown = end.saturating_sub(memory);
    assert!(grown < 8 << 20, "memory grew by {grown} bytes from {memory}");
    // A search for secrets through tens of megabytes of the same line would take longer than all of the above.
    for file in files(&siege.pair.orders.path().join("audit")) {
        let _ = std::fs::remove_file(file);
    }
}
