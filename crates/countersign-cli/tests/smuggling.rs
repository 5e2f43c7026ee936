//! Requests that two readers could understand differently. What reaches the upstream is what was authenticated, once,
//! with one length; everything that is ambiguous is refused and ends the connection.

mod support;

use support::{Connection, Fake, Pair, Serving, exchange};

/// `orders` with an upstream that takes every body and answers with it.
struct Stage {
    pair: Pair,
    upstream: Fake,
    serving: Serving,
    bearer: String,
}

impl Stage {
    fn new() -> Self {
        let pair = Pair::new();
        let upstream = Fake::new(|mut exchange| {
            let body = exchange.body();
            exchange.respond(200, &[], &body);
        });
        // What is waited for in vain is not waited for long.
        pair.orders.configure("[timeouts]\nhead_seconds = 1\nbody_seconds = 1");
        let serving =
            Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
        let bearer = pair.bearer(serving.address());
        Self { pair, upstream, serving, bearer }
    }

    /// Sends a text, in which `AUTH` stands for a good `Authorization` and `|` for a line end; all that comes until
    /// the connection ends.
    fn said(&self, text: &str) -> String {
        let text = text.replace("AUTH", &format!("Authorization: {}", self.bearer)).replace('|', "\r\n");
        let mut connection = Connection::open(self.serving.address());
        // The server may end it before all is sent.
        connection.try_send(text);
        String::from_utf8_lossy(&connection.closed()).into_owned()
    }

    #[track_caller]
    fn goes_on(&self) {
        assert_eq!(self.pair.get(self.serving.address(), "/goes-on").status, 200);
        assert_eq!(self.upstream.paths().last().map(String::as_str), Some("/goes-on"));
    }
}

/// The status lines in what came.
fn statuses(said: &str) -> Vec<u16> {
    said.split("HTTP/1.1 ").skip(1).filter_map(|rest| rest.get(..3)?.parse().ok()).collect()
}

/// What a body holds that wants to be a request.
const INNER: &str = "GET /smuggled HTTP/1.1|Host: orders|AUTH||";

#[test]
fn heads_that_can_be_read_in_two_ways_reach_nobody_and_end_the_connection() {
    let stage = Stage::new();
    for head in [
        // Lengths that differ, are no numbers, or are lists.
        "Content-Length: 3|Content-Length: 4",
        "Content-Length: 3, 4",
        "Content-Length: +3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length: 18446744073709551616",
        "Content-Length:",
        // Codings that somebody may take for chunked and somebody else for none.
        "Transfer-Encoding: identity",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked|Transfer-Encoding: identity",
        "Transfer-Encoding: \u{b}chunked",
        // Names and lines that are not quite some.
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\t: chunked",
        "Content-Length : 3",
        "Content-Length\0: 3",
        "X-A: b| Transfer-Encoding: chunked",
        "X-A: b|\tContent-Length: 3",
        " X-A: b",
        "X-A",
        ": b",
        "X-A: b\rContent-Length: 3",
        "X-A: b\0c",
    ] {
        let said = stage.said(&format!("POST /ambiguous HTTP/1.1|Host: orders|AUTH|{head}||abc{INNER}"));
        assert!(statuses(&said).iter().all(|status| *status == 400), "{head:?}: {said}");
        assert!(statuses(&said).len() <= 1, "{head:?}: {said}");
    }
    assert_eq!(stage.upstream.paths(), [""; 0], "nothing reached the upstream");
    stage.goes_on();
}

#[test]
fn chunks_that_can_be_read_in_two_ways_are_no_request() {
    let stage = Stage::new();
    for body in [
        "-1|a|0||",
        "+3|abc|0||",
        "0x3|abc|0||",
        "3 3|abc|0||",
        "g|abc|0||",
        "|abc|0||",
        "3|abcd|0||",
        "3|abc0||",
        "3\u{b}|abc|0||",
        "10000000000000000|abc|0||",
        "ffffffffffffffff|abc|0||",
        "3;\n|abc|0||",
        "3\nabc\n0\n\n",
    ] {
        let said = stage.said(&format!(
            "POST /chunks HTTP/1.1|Host: orders|AUTH|Transfer-Encoding: chunked||{body}{INNER}"
        ));
        assert!(!statuses(&said).contains(&200), "{body:?}: {said}");
        assert!(!stage.upstream.paths().contains(&"/smuggled".to_owned()), "{body:?}: {said}");
    }
    stage.goes_on();
}

#[test]
fn a_body_is_never_read_as_a_request_whoever_sent_it() {
    let stage = Stage::new();
    let inner = INNER.replace("AUTH", &format!("Authorization: {}", stage.bearer)).replace('|', "\r\n");
    let length = inner.len();
    // One that is not let in, with all of the body behind it at once, a piece of it, or as chunks.
    for (head, body) in [
        (format!("Content-Length: {length}"), inner.clone()),
        (format!("Content-Length: {}", length + 1), inner.clone()),
        ("Transfer-Encoding: chunked".to_owned(), format!("{length:x}\r\n{inner}\r\n0\r\n\r\n")),
        ("Expect: 100-continue\r\nContent-Length: 3".to_owned(), format!("abc{inner}")),
    ] {
        for (line, refused) in [("POST /refused", 401), ("POST /authenticate", 400), ("GET /refused", 401)] {
            if line.ends_with("authenticate") && head.ends_with(&(length + 1).to_string()) {
                // That one waits for the last byte.
                continue;
            }
            let mut connection = Connection::open(stage.serving.address());
            connection.send(format!("{line} HTTP/1.1\r\nHost: orders\r\n{head}\r\n\r\n{body}"));
            let first = loop {
                let reply = connection.reply().unwrap();
                if reply.status != 100 {
                    break reply;
                }
            };
            assert_eq!(first.status, refused, "{line} {head}");
            if !head.starts_with("Expect") {
                assert!(!stage.upstream.paths().contains(&"/smuggled".to_owned()), "{line} {head}");
            }
        }
    }
    // One that is let in: its body arrives as it is.
    let arrived = exchange(
        stage.serving.address(),
        "POST",
        "/let-in",
        &[("Authorization", &stage.bearer)],
        inner.as_bytes(),
    );
    assert_eq!((arrived.status, arrived.body.as_slice()), (200, inner.as_bytes()));
    stage.goes_on();
}

#[test]
fn two_lengths_that_hyper_can_reconcile_reach_the_upstream_as_one() {
    let stage = Stage::new();
    let mut taken = 0;
    for (head, body) in [
        ("Content-Length: 3|Transfer-Encoding: chunked", "3|abc|0||"),
        ("Transfer-Encoding: chunked|Content-Length: 3", "3|abc|0||"),
        ("Content-Length: 3|Content-Length: 3", "abc"),
        ("Transfer-Encoding: gzip, chunked", "3|abc|0||"),
        ("Transfer-Encoding: Chunked", "3;name=\"value\"|abc|0|X-Trailer: x||"),
        ("Content-Length: 003", "abc"),
    ] {
        let text = format!("POST /one HTTP/1.1|Host: orders|AUTH|Connection: close|{head}||{body}{INNER}");
        let said = stage.said(&text);
        let statuses = statuses(&said);
        assert!(statuses == [200] && said.ends_with("abc") || statuses == [400], "{head}: {said}");
        taken += usize::from(statuses == [200]);
    }
    let seen = stage.upstream.seen();
    assert_eq!(seen.len(), taken, "each once, and none of what stood behind");
    for seen in seen {
        let length = seen.header("content-length").is_some();
        let coding = seen.header("transfer-encoding").is_some();
        assert!(length != coding, "{seen:?}");
        assert_eq!(seen.path, "/one");
    }
    stage.goes_on();
}

#[test]
fn pipelined_requests_are_each_judged_by_their_own_credentials() {
    let stage = Stage::new();
    let (mut text, mut expected) = (String::new(), Vec::new());
    for number in 0..60 {
        let good = number % 3 == 0;
        let auth = if good { "AUTH|" } else { "" };
        let body = if number % 2 == 0 { "Content-Length: 3||abc" } else { "Content-Length: 0||" };
        text.push_str(&format!("POST /{number} HTTP/1.1|Host: orders|{auth}{body}"));
        expected.push(if good { 200 } else { 401 });
    }
    text.push_str(
        "GET /last HTTP/1.1|Host: orders|Connection: close||GET /behind HTTP/1.1|Host: orders|AUTH||",
    );
    expected.push(401);
    let said = stage.said(&text);
    assert_eq!(statuses(&said), expected);
    let wanted: Vec<String> = (0..60).step_by(3).map(|number| format!("/{number}")).collect();
    assert_eq!(stage.upstream.paths(), wanted, "in order, and nothing behind the close");
    stage.goes_on();
}

#[test]
fn the_targets_authority_goes_before_the_host_and_both_must_be_one() {
    let stage = Stage::new();
    let said = stage.said("GET http://a.example:81/x?y HTTP/1.1|Host: b.example|AUTH|Connection: close||");
    assert_eq!(statuses(&said), [200], "{said}");
    let seen = stage.upstream.seen().pop().unwrap();
    assert_eq!(seen.path, "/x?y");
    assert_eq!(seen.header("x-forwarded-host"), Some("a.example:81"));
    assert_eq!(seen.header("host"), stage.upstream.url.strip_prefix("http://"));
    for head in [
        "Host: a.example, b.example",
        "Host: user@a.example",
        "Host: a.example/x",
        "Host: a.example b.example",
        "Host: \"><script>",
        "Host: a.example:port",
        "Host: a|Host: a",
        "X-Host: a",
    ] {
        let said = stage.said(&format!("GET /host HTTP/1.1|{head}|AUTH|Connection: close||"));
        assert_eq!(statuses(&said), [400], "{head}: {said}");
    }
    let said =
        stage.said("GET http://user@a.example/userinfo HTTP/1.1|Host: a.example|AUTH|Connection: close||");
    assert_eq!(statuses(&said), [400], "{said}");
    assert_eq!(stage.upstream.paths(), ["/x?y"]);
    stage.goes_on();
}

#[test]
fn a_connection_that_its_caller_half_closes_ends_and_harms_nobody() {
    let stage = Stage::new();
    for text in [
        "",
        "GET / HTTP/1.1|",
        "GET /half HTTP/1.1|Host: orders|AUTH||",
        "POST /half HTTP/1.1|Host: orders|AUTH|Content-Length: 100||abc",
        "POST /half HTTP/1.1|Host: orders|AUTH|Transfer-Encoding: chunked||3|abc|",
    ] {
        let text = text.replace("AUTH", &format!("Authorization: {}", stage.bearer)).replace('|', "\r\n");
        let mut connection = Connection::open(stage.serving.address());
        connection.send(text);
        connection.finish_sending();
        let said = String::from_utf8_lossy(&connection.closed()).into_owned();
        assert!(statuses(&said).len() <= 1, "{said}");
    }
    stage.goes_on();
}
