//! Callers that are slow, oversized or malformed, on the real sockets.

mod support;

use serde_json::json;
use support::{Connection, Fake, Home, Pair, Serving, eventually, exchange};

/// `orders` with timeouts of a second.
fn impatient(home: &Home, arguments: &[&str]) -> Serving {
    home.configure(
        "[timeouts]\nhead_seconds = 1\nbody_seconds = 1\ntls_handshake_seconds = 1\nwrite_seconds = 1",
    );
    Serving::start(home, arguments)
}

/// The status of what came before the connection ended, if anything came.
fn status(bytes: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(bytes);
    text.split(' ').nth(1)?.parse().ok()
}

#[test]
fn whoever_is_slow_with_a_head_is_cut_off() {
    let home = Home::of("orders");
    let serving = impatient(
        &home,
        &["--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0", "--admin", "127.0.0.1:0"],
    );
    let beginnings = [
        // Nothing at all, half a head, half of what HTTP/2 begins with, and all of that without a request.
        &b""[..],
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"PRI * HTTP/2.0\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        // Half a TLS record.
        b"\x16\x03\x01\x02\x00\x01",
    ];
    let mut slow = Vec::new();
    for url in &serving.urls {
        for beginning in beginnings {
            let mut connection = Connection::open(support::serving::address(url));
            connection.send(beginning);
            slow.push((url, beginning, connection));
        }
    }
    for (url, beginning, connection) in &mut slow {
        let said = connection.closed();
        assert!(!said.starts_with(b"HTTP/1.1 2"), "{url} {beginning:?} {said:?}");
    }
    // Between two requests as well.
    let mut connection = Connection::open(serving.address());
    connection.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(connection.reply().unwrap().status, 401);
    assert_eq!(connection.closed(), b"");
    assert_eq!(exchange(serving.address(), "GET", "/", &[], b"").status, 401, "the server goes on");
}

#[test]
fn whoever_is_slow_with_a_body_is_cut_off() {
    let pair = Pair::new();
    let upstream = Fake::new(|mut exchange| {
        exchange.body();
    });
    let listen = ["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url];
    let serving = impatient(&pair.orders, &listen);
    let mut connection = Connection::open(serving.address());
    connection.send("POST /authenticate HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{\"apiKey\":");
    let reply = connection.reply().unwrap();
    reply.assert_problem(400, "malformed");
    assert!(reply.json()["detail"].as_str().unwrap().contains("in time"));
    assert_eq!(connection.closed(), b"");
    let mut connection = Connection::open(serving.address());
    let bearer = pair.bearer(serving.address());
    connection.send(format!(
        "POST / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: 100\r\n\r\nabc"
    ));
    let status = status(&connection.closed());
    assert!(status.is_none_or(|status| status >= 400), "{status:?}");
    assert_eq!(pair.get(serving.address(), "/authenticated-still").status, 502, "the server goes on");
}

#[test]
fn whoever_does_not_take_a_response_is_cut_off() {
    let pair = Pair::new();
    let (ended, has_ended) = std::sync::mpsc::channel();
    let ended = std::sync::Mutex::new(ended);
    let upstream = Fake::new(move |mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n");
        let piece = vec![b'x'; 1 << 20];
        // The gateway stops taking it when its caller does.
        while std::io::Write::write_all(exchange.reader().get_mut(), &piece).is_ok() {}
        ended.lock().unwrap().send(()).unwrap();
    });
    let listen = ["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url];
    let serving = impatient(&pair.orders, &listen);
    let bearer = pair.bearer(serving.address());
    let mut connection = Connection::open(serving.address());
    connection.send(format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n"));
    has_ended.recv_timeout(support::PATIENCE).unwrap();
}

#[test]
fn heads_that_are_too_long_or_no_heads_are_refused_and_the_connection_ends() {
    let home = Home::of("orders");
    let serving = Serving::http(&home);
    let long = "x".repeat(100_000);
    let many: String = (0..5000).map(|number| format!("X-{number}: y\r\n")).collect();
    for (request, expected) in [
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX-Long: {long}\r\n\r\n"), &[431, 400][..]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\nX-API-Key: {long}\r\n\r\n"), &[431, 400]),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{many}\r\n"), &[431, 400]),
        (format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n"), &[414, 431, 400]),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-A: b\0c\r\n\r\n".to_owned(), &[400]),
        ("GET / HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n".to_owned(), &[400]),
        (
            "GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd".to_owned(),
            &[400],
        ),
        ("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n".to_owned(), &[400]),
        ("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, gzip\r\n\r\n".to_owned(), &[400]),
        ("NOT HTTP AT ALL\r\n\r\n".to_owned(), &[400]),
        ("\u{1b}[31m\r\n\r\n".to_owned(), &[400]),
    ] {
        let mut connection = Connection::open(serving.address());
        // The server may end it before all is sent.
        connection.try_send(&request);
        let said = connection.closed();
        // A reset can take the answer with it.
        let shown: String = request.chars().take(60).collect();
        assert!(status(&said).is_none_or(|status| expected.contains(&status)), "{shown:?} {said:?}");
    }
    assert_eq!(exchange(serving.address(), "GET", "/", &[], b"").status, 401, "the server goes on");
}

#[test]
fn bodies_that_the_endpoints_do_not_take_are_a_400_whoever_sends_them() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let address = serving.address();
    let key = &pair.billing_key;
    let large = json!({"apiKey": key, "x": "y".repeat(5000)}).to_string();
    let deep = "[".repeat(4000);
    for body in [
        large.as_bytes(),
        deep.as_bytes(),
        b"",
        b"{",
        b"\xff\xfe",
        b"null",
        b"[\"apiKey\"]",
        br#"{"apiKey":1}"#,
        br#"{"apiKey":"short"}"#,
        format!(r#"{{"apiKey":"{key}","apiKey":"{key}"}}"#).as_bytes(),
        format!(r#"{{"apiKey":"{key}","protocol":"cs1"}}"#).as_bytes(),
        format!(r#"{{"apiKey":"{key}"}} x"#).as_bytes(),
        "{\"apiKey\":\"\u{1b}[31m0123456789abcdef\"}".as_bytes(),
    ] {
        for path in ["/authenticate", "/verify_challenge"] {
            let reply = exchange(address, "POST", path, &[("Content-Type", "application/json")], body);
            assert_eq!(reply.status, 400, "{path} {reply:?}");
            assert!(reply.body.iter().all(|byte| *byte >= b' ' && *byte < 0x7f));
        }
    }
    exchange(address, "GET", "/authenticate", &[], b"").assert_problem(405, "method-not-allowed");
    // A huge body without a declared length is not read to its end.
    let mut connection = Connection::open(address);
    connection.send("POST /authenticate HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n");
    let piece = format!("4000\r\n{}\r\n", "x".repeat(0x4000));
    eventually("the server has enough", || !connection.try_send(&piece));
    let said = connection.closed();
    assert!(status(&said).is_none_or(|status| status == 400), "{said:?}");
    assert_eq!(pair.get(address, "/").status, 200, "the server goes on");
}

#[test]
fn methods_and_targets_of_every_form_need_credentials() {
    let home = Home::of("orders");
    let serving = Serving::http(&home);
    for target in [
        "/",
        "//evil.example/",
        "/authenticate/",
        "/AUTHENTICATE",
        "/%61uthenticate",
        "http://evil.example/x",
        "*",
        "?x",
    ] {
        for method in ["GET", "POST", "OPTIONS", "DELETE", "TRACE", "PROPFIND"] {
            let mut connection = Connection::open(serving.address());
            connection.send(format!("{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"));
            let status = connection.reply().map(|reply| reply.status);
            assert!(matches!(status, Some(401 | 400)), "{method} {target}: {status:?}");
        }
    }
    let mut connection = Connection::open(serving.address());
    connection.send("CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n");
    assert_eq!(connection.reply().unwrap().status, 401);
}

#[test]
fn a_brute_force_is_slowed_down_without_harm_to_others() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let address = serving.address();
    let bearer = pair.bearer(address);
    let mut statuses = Vec::new();
    for _ in 0..25 {
        let challenge = pair.challenge_or_limit(address);
        let Some(challenge) = challenge else { break };
        let wrong =
            json!({"apiKey": pair.billing_key, "challenge": challenge, "signedChallenge": "0".repeat(64)});
        statuses.push(support::raw::post(address, "/verify_challenge", &[], &wrong).status);
    }
    assert!(statuses.iter().all(|status| [401, 429].contains(status)), "{statuses:?}");
    let limited = support::raw::post(address, "/authenticate", &[], &json!({"apiKey": pair.billing_key}));
    limited.assert_problem(429, "rate-limited");
    assert!(limited.header("retry-after").unwrap().parse::<u64>().unwrap() > 0);
    assert_eq!(
        exchange(address, "GET", "/", &[("Authorization", &bearer)], b"").status,
        200,
        "a token goes on"
    );
    assert!(pair.orders.recorded("reason", "wrong-signature") >= 20);
    assert!(pair.orders.recorded("reason", "rate-limited-key-failures") >= 1);
}
