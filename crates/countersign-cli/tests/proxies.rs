//! Trusted proxies and limits by source at the real server: 127.0.0.2 is the proxy, the rest of 127.0.0.0/8 is not.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::net::Ipv4Addr;

use serde_json::json;
use support::life::meet;
use support::{Connection, Fake, Home, Pair, Proxy, Reply, Serving, eventually};

const PROXY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

fn behind_a_proxy(home: &Home, settings: &str, arguments: &[&str]) -> Serving {
    home.configure_serve(&format!("trusted_proxies = [\"127.0.0.2\"]\n{settings}"));
    Serving::start(home, &[&["--listen", "http://127.0.0.1:0"], arguments].concat())
}

/// One request on a connection from `source`.
#[track_caller]
fn send(serving: &Serving, source: Ipv4Addr, head: &str, body: &str) -> Reply {
    let mut connection = Connection::open_from(source, serving.address());
    let length = body.len();
    connection
        .send(format!("{head}\r\nHost: x\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"));
    connection.reply().unwrap()
}

#[test]
fn the_trail_and_the_upstream_are_told_the_source_that_a_trusted_proxy_names() {
    let pair = Pair::new();
    let upstream = Fake::new(|mut exchange| exchange.respond(200, &[], b""));
    let serving = behind_a_proxy(&pair.orders, "", &["--upstream", &upstream.url]);
    let bearer = pair.bearer(serving.address());
    let named = "X-Forwarded-For: 6.6.6.6\r\nX-Forwarded-For: 192.0.2.7:555, 127.0.0.2";
    let both = format!("{named}\r\nForwarded: for=6.6.6.7\r\nX-Real-IP: 6.6.6.8\r\nX-Forwarded-Proto: ftp");
    for (source, said, expected) in [
        (PROXY, both.as_str(), "192.0.2.7"),
        (PROXY, "X-Forwarded-For: 6.6.6.6, [2001:db8::7]:1", "2001:db8::7"),
        (PROXY, "X-Forwarded-For: 192.0.2.7, unknown", "127.0.0.2"),
        (PROXY, "Accept: */*", "127.0.0.2"),
        (STRANGER, both.as_str(), "127.0.0.9"),
    ] {
        let head = format!("GET / HTTP/1.1\r\nAuthorization: {bearer}\r\n{said}");
        assert_eq!(send(&serving, source, &head, "").status, 200);
        let seen = upstream.seen().pop().unwrap();
        assert_eq!(seen.header("x-forwarded-for"), Some(expected));
        for gone in ["forwarded", "x-real-ip", "x-forwarded-proto"] {
            assert_eq!(seen.header(gone), None, "{gone}");
        }
        assert_eq!(pair.orders.trail().pop().unwrap()["source"], expected);
    }
    eventually("the proxy that hides its caller is named in the log", || {
        serving.log().contains("trusted proxy") && serving.log().contains("127.0.0.2")
    });
    assert!(!serving.log().contains("6.6.6.6"), "what a stranger wrote is not in the log");
}

#[test]
fn forwarded_is_read_where_that_is_set() {
    let home = Home::of("orders");
    let serving = behind_a_proxy(&home, "proxy_header = \"forwarded\"", &[]);
    let said =
        "X-Forwarded-For: 6.6.6.6\r\nForwarded: for=\", for=6.6.6.7, for=\"[2001:db8::7]:4711\";proto=https";
    assert_eq!(send(&serving, PROXY, &format!("GET / HTTP/1.1\r\n{said}"), "").status, 401);
    assert_eq!(home.trail().pop().unwrap()["source"], "2001:db8::7");
}

#[test]
fn behind_a_proxy_one_guesser_is_held_up_and_its_neighbours_are_not() {
    let pair = Pair::new();
    let serving = behind_a_proxy(&pair.orders, "", &[]);
    let wrong = json!({
        "apiKey": pair.billing_key, "challenge": "AAAAAAAAAAAAAAAAAAAAAA==", "signedChallenge": "0".repeat(64),
    });
    let guess = |from: &str| {
        let head = format!("POST /verify_challenge HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6, {from}");
        send(&serving, PROXY, &head, &wrong.to_string())
    };
    let mut refused = guess("192.0.2.7");
    for _ in 0..40 {
        if refused.status == 429 {
            break;
        }
        refused = guess("192.0.2.7");
    }
    refused.assert_problem(429, "rate-limited");
    let wait = refused.header("retry-after").unwrap();
    assert_eq!(refused.header("ratelimit"), Some(format!("\"key-failures\";r=0;t={wait}").as_str()));
    let ask = |from: &str| {
        let body = json!({"apiKey": pair.billing_key}).to_string();
        let head = format!("POST /authenticate HTTP/1.1\r\nX-Forwarded-For: {from}");
        send(&serving, PROXY, &head, &body)
    };
    for from in ["192.0.2.8", "unknown", "2001:db8::7"] {
        assert_eq!(ask(from).status, 200, "{from}");
    }
    assert_eq!(pair.get(serving.address(), "/").status, 200, "nor are those who come directly");
}

#[test]
fn a_trusted_proxy_may_hold_more_connections_than_a_source_but_not_more_than_all() {
    let home = Home::of("orders");
    let serving = behind_a_proxy(&home, "max_connections_per_source = 2\nmax_connections = 8", &[]);
    let open = |source| {
        let mut connection = Connection::open_from(source, serving.address());
        connection.try_send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        connection
    };
    let mut of_the_stranger = [open(STRANGER), open(STRANGER)];
    for connection in &mut of_the_stranger {
        assert_eq!(connection.reply().unwrap().status, 401);
    }
    assert!(open(STRANGER).reply().is_none(), "a third is closed");
    let mut of_the_proxy: Vec<_> = (0..6).map(|_| open(PROXY)).collect();
    for connection in &mut of_the_proxy {
        assert_eq!(connection.reply().unwrap().status, 401);
    }
    // Eight are open.
    let mut waiting = open(PROXY);
    assert!(waiting.is_silent(), "it is not accepted yet");
    drop(of_the_stranger);
    assert_eq!(waiting.reply().unwrap().status, 401);
}

/// What a proxy does to a request: the host becomes that of the server behind it, and this line says what it was.
fn rewrite(said: fn(&str) -> String) -> impl Fn(&str) -> String + Send + Sync {
    move |request| {
        let line = request.lines().find(|line| line.to_ascii_lowercase().starts_with("host: ")).unwrap();
        let host = &line["host: ".len()..];
        request.replacen(line, &format!("host: backend.internal:8080\r\n{}", said(host)), 1)
    }
}

#[test]
fn cs_28_a_signed_call_passes_a_configured_proxy_that_rewrites_the_host_and_no_other() {
    type Said = fn(&str) -> String;
    let both: Said = |host| format!("x-forwarded-for: 192.0.2.7\r\nx-forwarded-host: {host}");
    let forwarded: Said = |host| format!("forwarded: for=192.0.2.7;host=\"{host}\"");
    let evil: Said = |_| "x-forwarded-for: 192.0.2.7\r\nx-forwarded-host: evil.example".to_owned();
    let other: Said = |_| "x-forwarded-for: 192.0.2.7\r\nx-forwarded-host: other.example".to_owned();
    let silent: Said = |_| "x-forwarded-for: 192.0.2.7".to_owned();
    for (source, setting, said, code, reason) in [
        (PROXY, "", both, 0, "accepted"),
        (STRANGER, "", both, 1, "misdirected"),
        (PROXY, "proxy_header = \"forwarded\"", forwarded, 0, "accepted"),
        (STRANGER, "proxy_header = \"forwarded\"", forwarded, 1, "misdirected"),
        (PROXY, "proxy_header = \"forwarded\"", both, 1, "misdirected"),
        (PROXY, "", evil, 1, "misdirected"),
        (PROXY, "", other, 1, "wrong-signature"),
        (PROXY, "", silent, 1, "misdirected"),
    ] {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let proxy = Proxy::from(source, rewrite(said));
        let urls = format!("external_urls = [\"{}\", \"http://other.example\"]\n{setting}", proxy.url);
        meet((&orders, &proxy.url), (&billing, "https://billing.example"), "cs1");
        let upstream = Fake::new(|mut exchange| exchange.respond(200, &[], b"here"));
        let serving = behind_a_proxy(&orders, &urls, &["--upstream", &upstream.url]);
        proxy.to(serving.address());
        let done = billing.run(&["call", "-X", "POST", &format!("{}/pay", proxy.url)]);
        let what = format!("{source} {setting} {}", said("host"));
        assert_eq!(done.code, code, "{what}: {done:?}");
        let last = orders.trail().pop().unwrap();
        assert_eq!((&last["step"], &last["reason"]), (&"signed".into(), &reason.into()), "{what}");
        assert_eq!(upstream.paths().len(), usize::from(code == 0), "{what}");
        if code == 1 {
            let said = if reason == "misdirected" { "misdirected" } else { "authentication-failed" };
            done.refused(1, &["not signed", said]);
        }
    }
}
