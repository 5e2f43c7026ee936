//! slowhttptest, in each of its modes and over HTTP and TLS, against the real server: honest callers are served on
//! every attempt, memory stays bounded, and when it is over every connection is gone.
//!
//! <https://github.com/shekyan/slowhttptest>, Debian package `slowhttptest`. What slow callers may not do at all is in
//! `hostile.rs` and in the gateway's `cut_off.rs`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::io::Read as _;
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Connection, Fake, PATIENCE, Pair, Reply, Serving, eventually, exchange};

/// Connections of one run of the tool, and how many it opens a second.
const CONNECTIONS: u64 = 250;
const RATE: &str = "125";
/// The tool ends when all its connections are gone; at the latest after so many seconds.
const LONGEST: &str = "12";
/// An address of this machine from which no attack comes.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 5);

/// A server whose slow callers get two seconds, an upstream with a large answer, and a peer.
struct Scene {
    pair: Pair,
    serving: Serving,
    _upstream: Fake,
}

impl Scene {
    fn new(settings: &str) -> Self {
        let pair = Pair::new();
        pair.orders.configure(
            "[timeouts]\nhead_seconds = 2\nbody_seconds = 2\ntls_handshake_seconds = 2\nwrite_seconds = 2",
        );
        let path = pair.orders.path().join("countersign.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, text.replace("[serve]", &format!("[serve]\n{settings}"))).unwrap();
        let large = vec![b'x'; 4 << 20];
        let upstream = Fake::new(move |mut exchange| {
            let length = exchange.seen.header("content-length").map_or(0, |length| length.parse().unwrap());
            let _ = std::io::copy(&mut exchange.reader().take(length), &mut std::io::sink());
            let body = if exchange.seen.path == "/large" { &large[..] } else { b"served" };
            exchange.respond(200, &[], body);
        });
        let serving = Serving::start(
            &pair.orders,
            &[
                "--listen",
                "http://127.0.0.1:0",
                "--listen",
                "https://127.0.0.1:0",
                "--admin",
                "127.0.0.1:0",
                "--upstream",
                &upstream.url,
            ],
        );
        Self { pair, serving, _upstream: upstream }
    }

    /// What the server says of itself under this name.
    fn metric(&self, name: &str) -> u64 {
        let reply = exchange(support::serving::address(&self.serving.urls[2]), "GET", "/metrics", &[], b"");
        let text = String::from_utf8(reply.body).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim().parse().unwrap()
    }

    fn connections(&self) -> u64 {
        self.metric("countersign_connections ")
    }

    /// A request on a connection of its own from an address of our choice.
    fn exchange(&self, source: Ipv4Addr, head: &str, body: Option<&Value>) -> Reply {
        let mut connection = Connection::open_from(source, self.serving.address());
        let body = body.map(Value::to_string).unwrap_or_default();
        let length = body.len();
        connection.send(format!(
            "{head}\r\nHost: x\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
        ));
        connection.reply().unwrap()
    }

    /// A whole handshake of the right peer; its token.
    fn token(&self, source: Ipv4Addr) -> String {
        let key = &self.pair.billing_key;
        let ask = |path: &str, body: Value| {
            let reply = self.exchange(source, &format!("POST {path} HTTP/1.1"), Some(&body));
            assert_eq!(reply.status, 200, "{reply:?}");
            reply.json()
        };
        let challenge =
            ask("/authenticate", json!({"apiKey": key}))["challenge"].as_str().unwrap().to_owned();
        let signature = self.pair.sign(&challenge);
        let answer = json!({"apiKey": key, "challenge": challenge, "signedChallenge": signature});
        ask("/verify_challenge", answer)["token"].as_str().unwrap().to_owned()
    }

    /// The right peer makes a handshake, and a request with its token.
    fn serve_the_right_peer(&self, source: Ipv4Addr) {
        let token = self.token(source);
        let reply = self.exchange(source, &format!("GET / HTTP/1.1\r\nAuthorization: Bearer {token}"), None);
        assert_eq!((reply.status, &reply.body[..]), (200, &b"served"[..]), "{reply:?}");
    }

    /// Starts the tool. With a token its requests are authenticated: what it is told to send as `Accept` goes out as
    /// it is, another field with it.
    fn attack(&self, number: usize, attack: &Attack, token: &str) -> Attacking {
        let url = format!("{}{}", self.serving.urls[usize::from(attack.tls)], attack.path);
        let report = self.pair.orders.beside(&format!("report-{number}"));
        let mut command = Command::new("slowhttptest");
        command.args(attack.mode).args(["-c", &CONNECTIONS.to_string(), "-r", RATE, "-l", LONGEST]);
        // The time that the tool's own probe waits: long, for machines that are busy.
        command.args(["-p", "30", "-u", &url, "-g", "-o"]).arg(&report);
        if attack.authenticated {
            command.args(["-m", &format!("*/*\r\nAuthorization: Bearer {token}")]);
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        Attacking { child, report: report.with_extension("csv") }
    }

    /// Runs attacks side by side until the last is over, serves the right peer meanwhile, and checks what is left.
    fn withstands(&self, attacks: &[Attack], source: Ipv4Addr) {
        let token = self.token(source);
        self.pair.orders.hide(&token);
        self.serve_the_right_peer(source);
        let before = self.serving.resident();
        let (over, served) = (AtomicBool::new(false), AtomicU64::new(0));
        let (mut open, mut memory) = (0, before);
        let slowest = std::thread::scope(|scope| {
            let peer = scope.spawn(|| {
                let mut slowest = Duration::ZERO;
                while !over.load(Ordering::Relaxed) {
                    let start = Instant::now();
                    self.serve_the_right_peer(source);
                    slowest = slowest.max(start.elapsed());
                    served.fetch_add(1, Ordering::Relaxed);
                    // Below its own limits on requests.
                    std::thread::sleep(Duration::from_millis(20));
                }
                slowest
            });
            let started = attacks.iter().enumerate();
            let mut running: Vec<_> =
                started.map(|(number, attack)| self.attack(number, attack, &token)).collect();
            let start = Instant::now();
            while !running.iter_mut().all(Attacking::is_over) && !peer.is_finished() {
                assert!(start.elapsed() < 3 * PATIENCE, "the tool does not end");
                open = open.max(self.connections());
                memory = memory.max(self.serving.resident());
                std::thread::sleep(Duration::from_millis(100));
            }
            over.store(true, Ordering::Relaxed);
            for (attack, running) in attacks.iter().zip(&running) {
                running.report(attack);
            }
            peer.join().unwrap()
        });
        eventually("all connections are gone", || self.connections() == 0);
        self.serve_the_right_peer(source);
        let (served, grown) = (served.into_inner(), memory - before);
        println!(
            "right peer served {served} times, in {slowest:?} at most; {open} connections at most, 0 afterwards; \
             memory {before}, {grown} more at most"
        );
        assert!(served > 0);
        // Some of them sit in TLS handshakes or have a piece of an answer waiting.
        assert!(grown < 96 << 20, "{grown} bytes more");
    }
}

/// One run of the tool.
struct Attack {
    mode: &'static [&'static str],
    tls: bool,
    path: &'static str,
    authenticated: bool,
}

/// The tool at work; it is ended with its test.
struct Attacking {
    child: Child,
    report: std::path::PathBuf,
}

impl Attacking {
    fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// What the tool itself has seen: a line a second of `Seconds,Closed,Pending,Connected,Service Available`.
    #[track_caller]
    fn report(&self, attack: &Attack) {
        let report = std::fs::read_to_string(&self.report).unwrap();
        let rows: Vec<Vec<u64>> = report
            .lines()
            .skip(1)
            .map(|line| line.split(',').map(|field| field.trim().parse().unwrap()).collect())
            .collect();
        let most = |column: usize| rows.iter().map(|row| row[column]).max().unwrap();
        let begun = rows.iter().map(|row| row[1] + row[2] + row[3]).max().unwrap();
        let scheme = if attack.tls { "https" } else { "http" };
        let kind = if attack.authenticated { "with a token" } else { "without credentials" };
        println!(
            "slowhttptest {} {scheme} {} {kind}: {begun} connections begun, {} open at once, {} cut off, over after {} s",
            attack.mode.join(" "),
            attack.path,
            most(3),
            most(1),
            most(0),
        );
        assert!(begun >= CONNECTIONS / 5, "{report}");
        assert!(rows.iter().all(|row| row[4] > 0), "the tool found the service gone: {report}");
    }
}

impl Drop for Attacking {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tool_is_missing() -> bool {
    if support::left_out("slowhttptest") {
        return true;
    }
    let there = Command::new("slowhttptest").arg("-h").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let missing = there.is_err();
    if missing {
        println!("left out: no slowhttptest (on Debian: apt-get install slowhttptest)");
    }
    missing
}

/// Each mode over HTTP and over TLS, and with a token through to the upstream. The right peer comes from the address
/// of the attackers, who have not got a secret of it: that is as bad as it gets.
fn withstands(mode: &'static [&'static str], path: &'static str, path_behind: &'static str) {
    if tool_is_missing() {
        return;
    }
    let attack = |tls, authenticated| {
        let path = if authenticated { path_behind } else { path };
        Attack { mode, tls, path, authenticated }
    };
    let attacks = [attack(false, false), attack(true, false), attack(false, true)];
    Scene::new("").withstands(&attacks, Ipv4Addr::LOCALHOST);
}

#[test]
fn slow_heads_hold_nobody_up() {
    withstands(&["-H", "-i", "1"], "/", "/");
}

#[test]
fn slow_bodies_hold_nobody_up() {
    withstands(&["-B", "-i", "1", "-s", "3000"], "/authenticate", "/");
}

#[test]
fn endless_ranges_hold_nobody_up() {
    withstands(&["-R", "-a", "5", "-b", "2000", "-t", "GET"], "/", "/");
}

#[test]
fn slow_readers_hold_nobody_up() {
    withstands(&["-X", "-n", "1", "-z", "16", "-k", "5", "-w", "1", "-y", "64"], "/", "/large");
}

#[test]
fn who_takes_all_the_connections_of_a_source_takes_none_of_another() {
    if tool_is_missing() {
        return;
    }
    let attack = |mode| Attack { mode, tls: false, path: "/", authenticated: false };
    let attacks = [attack(&["-H", "-i", "1"]), attack(&["-X", "-n", "1", "-z", "16", "-k", "5"])];
    let scene = Scene::new("max_connections_per_source = 50\nmax_connections = 60");
    let token = scene.token(ELSEWHERE);
    let mut running: Vec<_> =
        attacks.iter().enumerate().map(|(number, attack)| scene.attack(number, attack, &token)).collect();
    eventually("the attackers have what they may have", || scene.connections() >= 50);
    let (mut served, mut open) = (0, 0);
    let start = Instant::now();
    while !running.iter_mut().all(Attacking::is_over) {
        assert!(start.elapsed() < 3 * PATIENCE, "the tool does not end");
        open = open.max(scene.connections());
        scene.serve_the_right_peer(ELSEWHERE);
        served += 1;
        std::thread::sleep(Duration::from_millis(20));
    }
    println!("right peer served {served} times from elsewhere; {open} connections at most");
    // The attackers' fifty, one that is being refused, and the right peer's.
    assert!(open <= 60, "{open}");
    assert!(served > 0);
    eventually("all connections are gone", || scene.connections() == 0);
}
