//! `call`: what it sends, what it prints, whom it trusts.

#![allow(clippy::unwrap_used, reason = "what breaks in a helper ends the test")]

mod support;

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use support::{ApiKeyPair, Fake, Home, Pair, Serving};

/// An upstream that tells what it got; `/status/404` answers with 404.
fn telling() -> Fake {
    Fake::new(|mut exchange| {
        let body = String::from_utf8(exchange.body()).unwrap();
        let path = exchange.seen.path.clone();
        let status = path.strip_prefix("/status/").map_or(200, |status| status.parse().unwrap());
        let headers: serde_json::Map<String, Value> =
            exchange.seen.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect();
        let told = json!({"method": exchange.seen.method, "path": path, "headers": headers, "body": body});
        exchange.respond(status, &[("Location", "/elsewhere")], told.to_string().as_bytes());
    })
}

#[test]
fn method_headers_and_body_arrive_and_the_answer_is_printed() {
    let (pair, upstream) = (Pair::new(), telling());
    let serving =
        Serving::start(&pair.orders, &["--listen", "https://127.0.0.1:0", "--upstream", &upstream.url]);
    pair.meet(serving.url(), &["--tls-ca", &pair.orders.certificate()]);
    let url = |path: &str| format!("{}{path}", serving.url());
    let call = |arguments: &[&str]| pair.billing.run(&[&["call"][..], arguments].concat()).json();
    let told = call(&[&url("/a%20b?c=d&e")]);
    assert_eq!((told["method"].as_str(), told["path"].as_str()), (Some("GET"), Some("/a%20b?c=d&e")));
    assert_eq!(told["headers"]["x-countersign-service"], "billing");
    // Over HTTP/2 the name that was called is no header, and each cookie may be one.
    assert_eq!(told["headers"]["x-forwarded-host"], serving.address());
    let told = call(&["-H", "Cookie: a=1", "-H", "Cookie: b=2", &url("/")]);
    assert_eq!(told["headers"]["cookie"], "a=1; b=2");
    let told = call(&["-d", "{\"a\":1}", &url("/")]);
    assert_eq!((told["method"].as_str(), told["body"].as_str()), (Some("POST"), Some("{\"a\":1}")));
    assert_eq!(told["headers"]["content-type"], "application/json");
    let headers = ["-X", "PATCH", "-H", "Content-Type: text/plain", "-H", "X-Own:value", "-d", "text"];
    let told = call(&[&headers[..], &[&url("/")]].concat());
    assert_eq!((told["method"].as_str(), told["body"].as_str()), (Some("PATCH"), Some("text")));
    assert_eq!(
        (told["headers"]["content-type"].as_str(), told["headers"]["x-own"].as_str()),
        (Some("text/plain"), Some("value"))
    );
    let file = pair.billing.file("body", 0o644, b"from a file");
    assert_eq!(call(&["-d", &format!("@{file}"), &url("/")])["body"], "from a file");
    let piped = pair.billing.run_with(&["call", "-d", "@-", &url("/")], b"from a pipe").json();
    assert_eq!(piped["body"], "from a pipe");
}

#[test]
fn what_is_not_2xx_is_exit_code_1_with_its_body_printed_and_no_redirect_followed() {
    let (pair, upstream) = (Pair::new(), telling());
    let serving =
        Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    pair.meet(serving.url(), &[]);
    for status in ["302", "307", "400", "401", "404", "500"] {
        let done = pair.billing.run(&["call", &format!("{}/status/{status}", serving.url())]);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stdout.contains("/status/"), "the body is printed: {done:?}");
        assert!(done.stderr.contains(&format!("answered {status}")), "{done:?}");
    }
    let expected: Vec<_> =
        ["302", "307", "400", "401", "404", "500"].map(|status| format!("/status/{status}")).into();
    assert_eq!(upstream.paths(), expected, "each once");
    pair.billing.run(&["call", &format!("{}/status/204", serving.url())]).ok();
}

#[test]
fn a_narrated_call_shows_every_message_and_no_secret() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    // Home::run looks for the secret; tokens and signatures must not be there either.
    let done = pair.billing.run(&["call", "-v", "-H", "Cookie: the-cookie", &format!("{}/x", serving.url())]);
    assert_eq!(done.code, 0, "{done:?}");
    for told in ["/authenticate", "/verify_challenge", "GET http", "200 OK", "x-client-challenge"] {
        assert!(done.stderr.contains(told), "no {told}: {done:?}");
    }
    for hidden in ["csb.", "the-cookie", &pair.billing_key] {
        assert!(!done.stderr.contains(hidden), "{hidden}: {done:?}");
    }
    let is_hex = |word: &str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(!done.stderr.split_whitespace().any(is_hex), "a signature: {done:?}");
    let pair = ApiKeyPair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let done = pair.billing.run(&["call", "--verbose", serving.url()]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("TLS alone") && !done.stderr.contains("csb."), "{done:?}");
}

#[test]
fn a_wrong_use_is_told_before_anything_is_sent() {
    let (pair, server) = (Pair::new(), telling());
    pair.meet(&server.url, &[]);
    let call = |arguments: &[&str]| pair.billing.run(&[&["call"][..], arguments].concat());
    let url = server.url.as_str();
    call(&["-X", "GE T", url]).refused(2, &["-X"]);
    call(&["-H", "no colon", url]).refused(2, &["-H"]);
    call(&["-H", "X-A: b\r\nX-C: d", url]).refused(2, &["-H"]);
    call(&["-H", "X A: b", url]).refused(2, &["-H"]);
    call(&["--timeout", "0", url]).refused(2, &["--timeout"]);
    call(&["-d", "@/nonexistent", url]).refused(1, &["/nonexistent"]);
    call(&[]).refused(2, &[]);
    for header in ["Authorization: Bearer x", "authorization: Basic x", "X-API-Key: x", "X-Signature: x"] {
        let name = header.split(':').next().unwrap().to_ascii_lowercase();
        call(&["-H", header, url]).refused(1, &[&name, "leave it out"]);
    }
    pair.billing.hide("the-password");
    for url in [
        "",
        "orders",
        "ftp://orders.example/",
        "https://",
        "https://user:the-password@orders.example/",
        "https:///x",
        "data:x",
    ] {
        let done = call(&[url]);
        assert!(done.code > 0 && done.stdout.is_empty(), "{url}: {done:?}");
    }
    call(&["http://orders.example/"]).refused(1, &["plain HTTP", "https://"]);
    call(&["http://127.0.0.1.orders.example/"]).refused(1, &["plain HTTP"]);
    call(&["https://\u{1b}[31m/"]);
    assert!(server.seen().is_empty());
}

#[test]
fn only_urls_below_a_peers_are_called() {
    let (pair, server) = (Pair::new(), telling());
    let base = format!("{}/api", server.url);
    pair.meet(&base, &[]);
    for path in ["", "/", "/apis", "/api/../secret", "/api/%2e%2e/secret", "//api"] {
        let url = format!("{}{path}", server.url);
        pair.billing.run(&["call", &url]).refused(1, &["no peer has this URL"]);
        pair.billing.run(&["call", "--peer", "orders", &url]).refused(1, &["does not go to this peer's URL"]);
    }
    pair.billing.run(&["call", "--peer", "nobody", &base]).refused(1, &["no peer named `nobody`"]);
    assert!(server.seen().is_empty());
}

#[test]
fn of_two_peers_with_one_url_one_must_be_chosen() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let key = pair.billing.secret_file("key", &support::new_key());
    let peer =
        ["peer", "add", "other", "--profile", "api-key", "--url", serving.url(), "--our-key-file", &key];
    pair.billing.run(&peer).ok();
    pair.billing.run(&["call", serving.url()]).refused(2, &["--peer NAME"]);
    pair.billing.run(&["call", "--peer", "orders", serving.url()]).ok();
    pair.billing.run(&["call", "--peer", "other", serving.url()]).refused(1, &["401"]);
}

#[test]
fn a_server_is_trusted_by_its_certificate_or_its_pin_and_only_under_its_name() {
    let other = Home::of("other");
    let trusted = |listen: &str, options: &dyn Fn(&Home) -> Vec<String>| {
        let pair = Pair::new();
        let serving = Serving::start(&pair.orders, &["--listen", listen]);
        let options = options(&pair.orders);
        pair.meet(serving.url(), &options.iter().map(String::as_str).collect::<Vec<_>>());
        let done = pair.billing.run(&["call", serving.url()]);
        // Whom we do not trust learns nothing: not even a challenge was asked for.
        assert_eq!(pair.orders.trail().is_empty(), done.code != 0);
        done
    };
    let right = "https://127.0.0.1:0";
    // The certificate is not for this one.
    let another_name = "https://127.0.0.2:0";
    let ca = |home: &Home| vec!["--tls-ca".to_owned(), home.certificate()];
    let pin = |home: &Home| vec!["--tls-pin".to_owned(), home.pin()];
    trusted(right, &ca).ok();
    trusted(right, &pin).ok();
    trusted(right, &|_| pin(&other)).refused(1, &["not the pinned one"]);
    trusted(right, &|_| ca(&other)).refused(1, &["cannot reach"]);
    trusted(right, &|_| Vec::new()).refused(1, &[]);
    trusted(another_name, &ca).refused(1, &["cannot reach"]);
    trusted(another_name, &pin).refused(1, &["cannot reach"]);
}

#[test]
fn plain_http_where_https_is_expected_fails() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let https = serving.url().replace("http:", "https:");
    pair.meet(&https, &["--tls-pin", &pair.orders.pin()]);
    pair.billing.run(&["call", &https]).refused(1, &["cannot reach"]);
}

#[test]
fn a_server_that_is_away_silent_or_breaks_off_is_told() {
    let pair = Pair::new();
    let held = Arc::new(Mutex::new(Vec::new()));
    let hold = Arc::clone(&held);
    let silent = Fake::new(move |exchange| hold.lock().unwrap().push(exchange));
    pair.meet(&silent.url, &[]);
    pair.billing
        .run(&["call", "--timeout", "1", &silent.url])
        .refused(1, &["did not answer within 1 seconds"]);
    let pair = Pair::new();
    let url = Fake::new(|_| {}).url.clone();
    pair.meet(&url, &[]);
    pair.billing.run(&["call", &url]).refused(1, &["cannot reach"]);
    let pair = Pair::new();
    let upstream = Fake::new(|mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it");
    });
    let serving =
        Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    pair.meet(serving.url(), &[]);
    let done = pair.billing.run(&["call", serving.url()]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("cut off"), "{done:?}");
}

#[test]
fn a_call_with_wrong_keys_is_refused_with_the_servers_request_id() {
    let (pair, stranger) = (Pair::new(), Pair::new());
    let serving = Serving::http(&pair.orders);
    stranger.meet(serving.url(), &[]);
    let done = stranger.billing.run(&["call", serving.url()]);
    done.refused(1, &["401", "request id"]);
    let record = pair.orders.trail().pop().unwrap();
    assert_eq!(record["reason"], "unknown-key");
    assert!(done.stderr.contains(record["requestId"].as_str().unwrap()), "{done:?}");
}

#[test]
fn a_response_that_stands_still_is_given_up_after_the_timeout() {
    let upstream = Fake::new(|mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
        // Until the other side gives up.
        let _ = std::io::Read::read(exchange.reader(), &mut [0]);
    });
    let pair = Pair::new();
    let serving =
        Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    pair.meet(serving.url(), &[]);
    let done = pair.billing.run(&["call", "--timeout", "1", &format!("{}/x", serving.url())]);
    assert_eq!((done.code, done.stdout.as_str()), (1, "half"));
    assert!(done.stderr.contains("stood still for 1 seconds"), "{}", done.stderr);
}
