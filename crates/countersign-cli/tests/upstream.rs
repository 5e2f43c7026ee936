//! `serve --upstream`: what travels on, what does not, and when.

mod support;

use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use support::{Connection, Exchange, Fake, PATIENCE, Pair, Serving, eventually, exchange};

/// `orders` in front of an upstream.
struct Forwarding {
    pair: Pair,
    upstream: Fake,
    serving: Serving,
    bearer: String,
}

impl Forwarding {
    fn to(handle: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let (pair, upstream) = (Pair::new(), Fake::new(handle));
        let url = format!("{}/base", upstream.url);
        let serving = Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &url]);
        let bearer = pair.bearer(serving.address());
        Self { pair, upstream, serving, bearer }
    }

    fn open(&self, head: &str) -> Connection {
        let mut connection = Connection::open(self.serving.address());
        connection.send(format!("{head}\r\nHost: orders.example\r\nAuthorization: {}\r\n", self.bearer));
        connection
    }
}

#[test]
fn the_upstream_is_told_who_calls_and_sees_no_credential() {
    let forwarding = Forwarding::to(|mut exchange| {
        let body = exchange.body();
        exchange.respond(
            201,
            &[("X-Own", "kept"), ("X-Signature", "forged"), ("X-API-Key", "forged")],
            &body,
        );
    });
    let address = forwarding.serving.address();
    let reply = exchange(
        address,
        "PUT",
        "/items//a%20b/..c/7?a=b%20c&d=../e",
        &[
            ("Authorization", &forwarding.bearer),
            ("X-Countersign-Service", "admin"),
            ("X_Countersign_Service", "admin"),
            ("x-countersign_Credential", "admin/1"),
            ("X.Countersign.Profile", "none"),
            ("X-Countersign-Anything", "admin"),
            ("X_API_Key", "forged"),
            ("X-Client-Challenge", "AAAAAAAAAAAAAAAAAAAAAA=="),
            ("X-Forwarded-For", "203.0.113.9"),
            ("X_Forwarded_For", "203.0.113.9"),
            ("X-Forwarded-Proto", "https"),
            ("Forwarded", "for=203.0.113.9"),
            ("X-Real-IP", "203.0.113.9"),
            ("X-Request-Id", "forged"),
            ("X-Private", "hop"),
            ("Keep-Alive", "timeout=5"),
            ("Cookie", "a=1"),
            ("X-Own", "kept"),
        ],
        b"a body",
    );
    assert_eq!(reply.status, 201);
    assert_eq!(reply.body, b"a body");
    assert_eq!(reply.header("x-own"), Some("kept"));
    assert_eq!(reply.header("x-signature"), None);
    assert_eq!(reply.header("x-api-key"), None);
    let seen = forwarding.upstream.seen().remove(0);
    assert_eq!(
        (seen.method.as_str(), seen.path.as_str()),
        ("PUT", "/base/items//a%20b/..c/7?a=b%20c&d=../e")
    );
    assert_eq!(seen.header("x-countersign-service"), Some("billing"));
    assert_eq!(seen.header("x-countersign-credential"), Some("billing/1"));
    assert_eq!(seen.header("x-countersign-profile"), Some("shared-secret"));
    assert_eq!(seen.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(seen.header("x-forwarded-host"), Some(address));
    assert_eq!(seen.header("x-own"), Some("kept"));
    assert_eq!(seen.header("cookie"), Some("a=1"));
    assert_eq!(seen.header("x-request-id"), reply.header("x-request-id"));
    assert!(forwarding.pair.orders.recorded("requestId", reply.header("x-request-id").unwrap()) == 1);
    for (name, value) in &seen.headers {
        let forged = ["admin", "forged", "203.0.113.9", "timeout=5"].iter().any(|bad| value.contains(bad));
        assert!(!forged && name != "authorization" && name != "x-client-challenge", "{name}: {value}");
    }
}

#[test]
fn no_target_leaves_the_upstreams_prefix() {
    let forwarding = Forwarding::to(|mut exchange| exchange.respond(200, &[], b""));
    for target in [
        "/../admin",
        "/a/../../admin",
        "/%2e%2E/admin",
        "/..%2fadmin",
        "/.%2e/",
        "/..;x/admin",
        "/.",
        "http://evil.example/../admin",
        "*",
    ] {
        let mut connection = forwarding.open(&format!("OPTIONS {target} HTTP/1.1"));
        connection.send("Connection: close\r\n\r\n");
        let status = connection.reply().map(|reply| reply.status);
        assert_eq!(status, Some(400), "{target}");
    }
    let mut connection = forwarding.open("CONNECT evil.example:443 HTTP/1.1");
    connection.send("\r\n");
    assert_eq!(connection.reply().unwrap().status, 501);
    assert!(forwarding.upstream.seen().is_empty());
    // Another host in the target changes nothing.
    let mut connection = forwarding.open("GET http://evil.example/x HTTP/1.1");
    connection.send("Connection: close\r\n\r\n");
    assert_eq!(connection.reply().unwrap().status, 200);
    assert_eq!(forwarding.upstream.paths(), ["/base/x"]);
}

#[test]
fn headers_named_by_connection_stay_behind_but_ours_do_not() {
    let forwarding = Forwarding::to(|mut exchange| {
        let headers = [("Connection", "X-Hop"), ("X-Hop", "1"), ("Upgrade", "h2c")];
        exchange.respond(200, &headers, b"");
    });
    let mut connection = forwarding.open("GET / HTTP/1.1");
    connection.send("Connection: close, X-Private, X-Countersign-Service, X-Request-Id\r\nX-Private: 1\r\nTE: trailers\r\n\r\n");
    let reply = connection.reply().unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.header("x-hop").is_none() && reply.header("upgrade").is_none());
    let seen = forwarding.upstream.seen().remove(0);
    assert!(seen.header("x-private").is_none() && seen.header("te").is_none());
    assert_eq!(seen.header("x-countersign-service"), Some("billing"));
    assert!(seen.header("x-request-id").is_some());
}

#[test]
fn a_request_signed_by_itself_reaches_the_upstream_without_its_signature() {
    let forwarding = Forwarding::to(|mut exchange| exchange.respond(200, &[], b""));
    let address = forwarding.serving.address();
    let challenge = forwarding.pair.challenge(address);
    let signature = forwarding.pair.sign(&challenge);
    let headers = [
        ("X-API-Key", forwarding.pair.billing_key.as_str()),
        ("X-Challenge", &challenge),
        ("X-Signature", &signature),
        ("X-Client-Challenge", "AAAAAAAAAAAAAAAAAAAAAA=="),
        ("Authorization", "Basic dXNlcjpwYXNz"),
    ];
    let reply = exchange(address, "GET", "/", &headers, b"");
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("x-api-key"),
        Some(forwarding.pair.orders_key.as_str()),
        "the server's own proof"
    );
    assert!(reply.header("x-signature").is_some_and(|proof| proof.len() == 64 && proof != signature));
    let seen = forwarding.upstream.seen().remove(0);
    for name in ["x-api-key", "x-challenge", "x-signature", "x-client-challenge"] {
        assert_eq!(seen.header(name), None);
    }
    assert_eq!(seen.header("authorization"), Some("Basic dXNlcjpwYXNz"), "it belongs to the upstream");
    exchange(address, "GET", "/", &headers, b"").assert_problem(401, "challenge-used");
    assert_eq!(forwarding.upstream.seen().len(), 1);
}

#[test]
fn nothing_reaches_the_upstream_without_credentials() {
    let forwarding = Forwarding::to(|mut exchange| exchange.respond(200, &[], b""));
    let address = forwarding.serving.address();
    let broken = format!("{}x", forwarding.bearer);
    for (header, value) in [
        ("X-Countersign-Service", "billing"),
        ("Authorization", "Bearer csb.AAAA"),
        ("Authorization", &broken),
        ("Authorization", "Basic dXNlcjpwYXNz"),
        ("X-API-Key", &forwarding.pair.billing_key),
    ] {
        assert_eq!(exchange(address, "GET", "/", &[(header, value)], b"").status, 401, "{header}");
        assert_eq!(exchange(address, "POST", "/base/../authenticate", &[(header, value)], b"{}").status, 401);
    }
    assert!(forwarding.upstream.seen().is_empty());
}

#[test]
fn an_upload_arrives_piece_by_piece_and_without_trailers_that_name_a_caller() {
    let (send, pieces) = mpsc::channel();
    let send = Mutex::new(send);
    let forwarding = Forwarding::to(move |mut exchange| {
        while let Some(piece) = exchange.chunk() {
            send.lock().unwrap().send(piece).unwrap();
        }
        exchange.respond(200, &[], b"thanks");
    });
    let mut connection = forwarding.open("POST /upload HTTP/1.1");
    connection.send("Transfer-Encoding: chunked\r\nTrailer: X-Countersign-Service\r\n\r\n");
    for piece in ["first", "second"] {
        connection.send(format!("{:x}\r\n{piece}\r\n", piece.len()));
        assert_eq!(pieces.recv_timeout(PATIENCE).unwrap(), piece.as_bytes());
    }
    connection.send("0\r\nX-Countersign-Service: admin\r\n\r\n");
    assert_eq!(connection.reply().unwrap().body, b"thanks");
    let seen = forwarding.upstream.seen().remove(0);
    assert_eq!(seen.header("x-countersign-service"), Some("billing"));
    assert_eq!(seen.header("trailer"), None);
}

#[test]
fn events_reach_the_caller_before_the_response_ends() {
    let (next, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let forwarding = Forwarding::to(move |mut exchange| {
        exchange
            .send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for event in ["data: 1\n\n", "data: 2\n\n"] {
            exchange.send(format!("{:x}\r\n{event}\r\n", event.len()));
            told.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        exchange.send("0\r\n\r\n");
    });
    let mut connection = forwarding.open("GET /events HTTP/1.1");
    connection.send("\r\n");
    assert_eq!(connection.head().unwrap().header("content-type"), Some("text/event-stream"));
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        assert_eq!(connection.chunk().unwrap(), event.as_bytes());
        next.send(()).unwrap();
    }
    assert_eq!(connection.chunk(), None);
}

#[test]
fn a_caller_that_goes_away_in_its_upload_is_no_complete_request_upstream() {
    let (send, ended) = mpsc::channel();
    let send = Mutex::new(send);
    let forwarding = Forwarding::to(move |mut exchange| {
        let first = exchange.chunk();
        let second = exchange.chunk();
        // A complete body would end with an empty chunk; this connection just ends.
        let mut rest = [0; 1];
        let more = std::io::Read::read(exchange.reader(), &mut rest);
        send.lock().unwrap().send((first, second, more.ok())).unwrap();
    });
    let mut connection = forwarding.open("POST / HTTP/1.1");
    connection.send("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n");
    eventually("the upstream has it", || !forwarding.upstream.seen().is_empty());
    drop(connection);
    let (first, second, more) = ended.recv_timeout(PATIENCE).unwrap();
    assert_eq!((first.as_deref(), second), (Some(b"abc".as_slice()), None));
    assert!(matches!(more, None | Some(0)));
}

#[test]
fn an_upstream_that_closes_kept_connections_sees_no_request_twice() {
    let forwarding =
        Forwarding::to(|mut exchange| exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    let mut connection = Connection::open(forwarding.serving.address());
    for number in 0..40 {
        let head = format!("POST /{number} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n", forwarding.bearer);
        connection.send(format!("{head}Content-Length: 0\r\n\r\n"));
        // One that was on its way when the connection closed may have been carried out: it is not for us to repeat.
        let status = connection.reply().unwrap().status;
        assert!([200, 502].contains(&status), "{status}");
    }
    let mut paths = forwarding.upstream.paths();
    let all = paths.len();
    paths.sort();
    paths.dedup();
    assert_eq!(paths.len(), all, "one came twice");
}

#[test]
fn a_length_beside_chunks_does_not_travel_on() {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&bodies);
    let forwarding = Forwarding::to(move |mut exchange| {
        let body = exchange.body();
        kept.lock().unwrap().push(body);
        exchange.respond(200, &[], b"");
    });
    for lengths in [
        ["Content-Length: 3", "Transfer-Encoding: chunked"],
        ["Transfer-Encoding: chunked", "Content-Length: 3"],
    ] {
        let mut connection = forwarding.open("POST / HTTP/1.1");
        connection.send(format!("{}\r\n{}\r\n\r\n6\r\nabcdef\r\n0\r\n\r\n", lengths[0], lengths[1]));
        // Refusing it and going by the chunks are both right (RFC 9112, section 6.3).
        let status = connection.reply().map(|reply| reply.status);
        assert!(matches!(status, Some(200 | 400)), "{status:?}");
    }
    for seen in forwarding.upstream.seen() {
        assert!(
            seen.header("content-length").is_none() || seen.header("transfer-encoding").is_none(),
            "{seen:?}"
        );
    }
    assert!(bodies.lock().unwrap().iter().all(|body| body == b"abcdef"), "{bodies:?}");
}

#[test]
fn an_upstream_that_is_down_is_a_502_and_one_that_is_slow_a_504() {
    let forwarding = Forwarding::to(|_| {});
    let address = forwarding.serving.address();
    let get = |address: &str, bearer: &str| exchange(address, "GET", "/", &[("Authorization", bearer)], b"");
    get(address, &forwarding.bearer).assert_problem(502, "upstream-unreachable");
    let nowhere = Fake::new(|_| {}).url.clone();
    let pair = Pair::new();
    let serving = Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &nowhere]);
    get(serving.address(), &pair.bearer(serving.address())).assert_problem(502, "upstream-unreachable");
    let (hold, _held) = mpsc::channel();
    let hold = Mutex::new(hold);
    let silent = Fake::new(move |exchange| hold.lock().unwrap().send(exchange).unwrap());
    let pair = Pair::new();
    let config = format!(
        "service = \"orders\"\n[serve]\nupstream = \"{}\"\nupstream_timeout_seconds = 1\n",
        silent.url
    );
    std::fs::write(pair.orders.path().join("countersign.toml"), config).unwrap();
    let serving = Serving::http(&pair.orders);
    get(serving.address(), &pair.bearer(serving.address())).assert_problem(504, "upstream-timeout");
}

#[test]
fn an_upgrade_that_nobody_asked_for_is_an_error_and_a_proxy_header_stays_behind() {
    let forwarding = Forwarding::to(|mut exchange| {
        let upgrades = exchange.seen.path.ends_with("/upgrade");
        exchange.respond(if upgrades { 101 } else { 200 }, &[("Upgrade", "websocket")], b"");
    });
    let mut connection = forwarding.open("GET /upgrade HTTP/1.1");
    connection.send("Connection: close, upgrade\r\nUpgrade: websocket\r\n\r\n");
    connection.reply().unwrap().assert_problem(502, "upstream-unreachable");
    let mut connection = forwarding.open("GET /x HTTP/1.1");
    connection.send("Connection: close\r\nProxy: http://evil.example\r\nX-Countersign: admin\r\n\r\n");
    assert_eq!(connection.reply().unwrap().status, 200);
    let seen = forwarding.upstream.seen().pop().unwrap();
    assert!(seen.header("proxy").is_none() && seen.header("x-countersign").is_none());
}
