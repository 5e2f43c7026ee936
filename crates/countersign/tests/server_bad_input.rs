//! Bad input: each has its answer, and none of it comes back raw.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture ends the test")]

mod server_support;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use countersign::ApiKey;
use countersign::audit::Record;
use countersign::protocol::mac::decode_hex;
use http::{HeaderValue, Method, Request};
use http_body::Frame;
use serde_json::{Value, json};
use server_support::*;

const ENDPOINTS: [&str; 2] = ["/authenticate", "/verify_challenge"];
const GUIDE_1: &str = "AAAAAAAAAAAAAAAAAAAAAA==";

/// A malformed request: 400, named, and what is wrong with it is told and written down alike.
#[track_caller]
fn assert_malformed(world: &World, answer: &Answer, detail: &str) -> Record {
    let record = world.assert_refused(answer, 400, "malformed", "malformed");
    assert!(answer.text("detail").contains(detail), "{detail}: {}", answer.text("detail"));
    assert_eq!(record.detail.as_ref(), Some(&answer.text("detail")));
    record
}

#[tokio::test]
async fn strict_json_is_what_the_vectors_say() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../vectors/strict-json/vector.json");
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let world = World::with(|builder| builder.limits(generous()));
    let send = async |case: &Value| {
        let hex = case["body_hex"].as_str().unwrap();
        let mut body = vec![0; hex.len() / 2];
        decode_hex(hex.as_bytes(), &mut body).unwrap();
        world.send(post("/authenticate", &[], body)).await
    };
    let (accepted, refused): (Vec<_>, Vec<_>) = cases.iter().partition(|case| case["accept"] == true);
    assert!(accepted.len() >= 10 && refused.len() >= 70);
    for case in &refused {
        let answer = send(case).await;
        assert_problem(&answer, 400, "malformed");
        assert_eq!(world.record_of(&answer).reason, "malformed", "{}", case["why"]);
    }
    for case in &accepted {
        let answer = send(case).await;
        assert_problem(&answer, 401, "authentication-failed");
        assert_eq!(world.record_of(&answer).reason, "unknown-key", "{}", case["why"]);
    }
    // Now that their keys are known.
    let mut keys: Vec<&str> = accepted.iter().map(|case| case["apiKey"].as_str().unwrap()).collect();
    keys.sort_unstable();
    keys.dedup();
    for (number, key) in keys.into_iter().enumerate() {
        let caller = Caller { key: key.parse().unwrap(), ..Caller::new() };
        world.add(guide_1_peer(&format!("peer-{number}"), &caller));
    }
    for case in &accepted {
        assert_eq!(send(case).await.status, 200, "{}", case["why"]);
    }
}

#[tokio::test]
async fn bodies_of_verify_challenge_are_as_strict() {
    let world = World::new();
    let key = world.billing.key.expose();
    let hex = "0".repeat(64);
    let good = json!({"apiKey": key, "challenge": GUIDE_1, "signedChallenge": hex}).to_string();
    assert_eq!(world.send(post("/verify_challenge", &[], good.clone())).await.status, 401);
    for (body, detail) in [
        (String::new(), "not a JSON object"),
        ("{}".to_owned(), "member"),
        ("[]".to_owned(), "not a JSON object"),
        (format!("[{good}]"), "not a JSON object"),
        (format!(r#"["{key}","{GUIDE_1}","{hex}"]"#), "not a JSON object"),
        (format!("{good}{good}"), "not JSON"),
        (good[..good.len() - 1].to_owned(), "not JSON"),
        (json!({"apiKey": key}).to_string(), "member"),
        (json!({"apiKey": key, "challenge": GUIDE_1}).to_string(), "member"),
        (json!({"challenge": GUIDE_1, "signedChallenge": hex}).to_string(), "member"),
        (json!({"apiKey": key, "challenge": null, "signedChallenge": hex}).to_string(), "member"),
        (json!({"apiKey": key, "challenge": 7, "signedChallenge": hex}).to_string(), "member"),
        (json!({"apiKey": key, "signedChallenge": [hex]}).to_string(), "member"),
        (json!({"apiKey": key, "signedChallenge": hex, "service": "billing"}).to_string(), "member"),
        (format!(r#"{{"apiKey":"{key}","signedChallenge":"{hex}","signedChallenge":"{hex}"}}"#), "member"),
        (format!(r#"{{"apiKey":"{key}","apiKey":"{key}","signedChallenge":"{hex}"}}"#), "member"),
        (format!("{good}{}", " ".repeat(4096)), "4096 bytes"),
        (format!("{}1{}", "[".repeat(2000), "]".repeat(2000)), "not a JSON object"),
        (format!(r#"{{"apiKey":{}1{}}}"#, "[".repeat(2000), "]".repeat(2000)), "member"),
        (format!(r#"{{"other":{}1{}}}"#, "{\"a\":".repeat(600), "}".repeat(600)), "member"),
    ] {
        assert_malformed(&world, &world.send(post("/verify_challenge", &[], body)).await, detail);
    }
    let not_utf8 = [good.as_bytes(), b"\xff"].concat();
    assert_malformed(&world, &world.send(post("/verify_challenge", &[], not_utf8)).await, "not UTF-8");
}

#[tokio::test]
async fn a_later_protocol_is_named_as_such_on_both_endpoints() {
    let world = World::new();
    let body = json!({"protocol": "cs2", "apiKey": world.billing.key.expose(), "nonce": "AAAA"});
    for path in ENDPOINTS {
        let answer = world.post(path, &body).await;
        world.assert_refused(&answer, 400, "unsupported-protocol", "unsupported-protocol");
    }
}

/// A body that gives what it has and then a last word: nothing for ever, or an error.
struct Strange {
    rest: usize,
    breaks: bool,
}

impl http_body::Body for Strange {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.rest > 0 {
            self.rest -= 1;
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b' '; 1024])))));
        }
        if self.breaks {
            Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into())))
        } else {
            Poll::Pending
        }
    }
}

#[tokio::test]
async fn a_body_without_end_or_cut_off_or_that_never_comes_is_given_up() {
    let world = World::with(|builder| builder.body_timeout(Duration::from_millis(10)));
    for path in ENDPOINTS {
        for (rest, breaks, detail) in [
            (usize::MAX, false, "longer than 4096 bytes"),
            (2, true, "in full and in time"),
            (2, false, "in full and in time"),
            (0, false, "in full and in time"),
        ] {
            let request = Request::post(path).body(Body::new(Strange { rest, breaks })).unwrap();
            assert_malformed(&world, &world.stream_from(HOME, request).await, detail);
        }
    }
}

#[tokio::test]
async fn the_endpoints_take_nothing_but_post() {
    let world = World::new();
    for path in ENDPOINTS {
        for method in [Method::GET, Method::HEAD, Method::PUT, Method::OPTIONS, Method::DELETE] {
            let request = Request::builder().method(method.clone()).uri(path).body(Bytes::new()).unwrap();
            let answer = world.send(request).await;
            assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")), "{method} {path}");
            if method != Method::HEAD {
                assert_problem(&answer, 405, "method-not-allowed");
            }
        }
    }
}

#[tokio::test]
async fn no_key_at_all_is_said_to_be_missing() {
    let world = World::new();
    for body in ["", "{}", " {\n} "] {
        assert_malformed(&world, &world.send(post("/authenticate", &[], body)).await, "no API key");
    }
    for header in [("x-challenge", GUIDE_1.to_owned()), ("x-signature", "0".repeat(64))] {
        let answer = world.orders(&[header]).await;
        world.assert_refused(&answer, 401, "missing-component", "missing-key");
        assert_eq!(answer.text("detail"), "X-API-Key is missing");
    }
}

#[tokio::test]
async fn half_of_what_belongs_together_is_named_and_gets_a_fresh_challenge() {
    let world = World::new();
    for key in [world.billing.key.clone(), world.reports.clone(), new_key()] {
        let key = ("x-api-key", key.expose().to_owned());
        for (half, missing) in [
            (("x-challenge", GUIDE_1.to_owned()), "X-Signature"),
            (("x-signature", "0".repeat(64)), "X-Challenge"),
        ] {
            let answer = world.orders(&[key.clone(), half]).await;
            let record = world.assert_refused(&answer, 401, "missing-component", "missing-header");
            assert_eq!(answer.text("detail"), format!("{missing} is missing"));
            assert_eq!(record.detail.as_deref(), Some(missing));
            assert_eq!(answer.text("challenge"), answer.challenge());
        }
    }
}

#[tokio::test]
async fn a_header_that_comes_twice_is_refused_even_with_one_value() {
    let world = World::new();
    let challenge = world.knock(&world.billing.key).await;
    let mut good = world.billing.signed(&challenge);
    good.push(("x-client-challenge", GUIDE_1.to_owned()));
    for (name, value) in good.clone() {
        let answer = world.orders(&[good.clone(), vec![(name, value)]].concat()).await;
        assert_malformed(&world, &answer, "may come only once");
    }
    let key = ("x-api-key", world.billing.key.expose().to_owned());
    let answer = world.send(post("/authenticate", &[key.clone(), key], "")).await;
    assert_malformed(&world, &answer, "X-API-Key may come only once");
    let mine = ("x-client-challenge", GUIDE_1.to_owned());
    let body = world.billing.answer(&challenge).to_string();
    let answer = world.send(post("/verify_challenge", &[mine.clone(), mine], body)).await;
    assert_malformed(&world, &answer, "X-Client-Challenge may come only once");

    let token = format!("Bearer {}", world.guide_1_token().await);
    for other in [token.clone(), "Basic dXNlcjpwYXNz".to_owned()] {
        for headers in [[token.clone(), other.clone()], [other, token.clone()]] {
            let headers = headers.map(|value| ("authorization", value));
            assert_malformed(&world, &world.orders(&headers).await, "Authorization may come only once");
            let answer = world.send(post("/authenticate", &headers, "{}")).await;
            assert_malformed(&world, &answer, "Authorization may come only once");
        }
    }
    assert_eq!(world.orders(&good).await.status, 200, "nothing of it burned the challenge");
}

/// Bytes that the `http` crate lets into a header at all: visible, space, tab and everything above 0x7f.
#[tokio::test]
async fn headers_of_a_wrong_form_are_refused_by_name_and_come_back_nowhere() {
    let world = World::new();
    let key = world.billing.key.expose();
    let long = "A".repeat(100_000);
    let keys = [
        "",
        "short",
        " ",
        "'; DROP TABLE peers; --",
        "key\twith\ttabs\tinside",
        "\"quoted-quoted-quoted\"",
        &long,
    ];
    let challenges = [
        "",
        "AAAA",
        "AAAAAAAAAAAAAAAAAAAAAB==",
        "AAAAAAAAAAAAAAAAAAAAAA",
        "AAAAAAAAAAAAAAAAAAAAAA=\t",
        &long,
    ];
    let signatures = [
        "",
        "00",
        &"0".repeat(63),
        &"0".repeat(65),
        &"g".repeat(64),
        &format!("0x{}", "0".repeat(62)),
        &long,
    ];
    let raw: [&[u8]; 3] =
        [b"\x9b31m-eight-bit-escape", "key-with-umlaut-\u{fc}ber".as_bytes(), b"\xff\xfe\xfd"];
    let base = [("x-api-key", key), ("x-challenge", GUIDE_1), ("x-signature", &"0".repeat(64))];
    for (name, values) in [
        ("x-api-key", &keys[..]),
        ("x-challenge", &challenges[..]),
        ("x-signature", &signatures[..]),
        ("x-client-challenge", &challenges[..]),
    ] {
        for value in values.iter().map(|value| value.as_bytes()).chain(raw) {
            let mut request = orders(&base.map(|(name, value)| (name, value.to_owned())));
            request.headers_mut().insert(name, HeaderValue::from_bytes(value).unwrap());
            let answer = world.send(request).await;
            let record = assert_malformed(&world, &answer, "does not have the form");
            assert!(record.detail.unwrap().to_ascii_lowercase().contains(name));
            assert_nothing_raw(&answer, value);
        }
    }
    for value in keys.iter().map(|value| value.as_bytes()).chain(raw) {
        let mut request = post("/authenticate", &[], "");
        request.headers_mut().insert("x-api-key", HeaderValue::from_bytes(value).unwrap());
        assert_malformed(&world, &world.send(request).await, "X-API-Key does not have the form");
    }
}

#[track_caller]
fn assert_nothing_raw(answer: &Answer, sent: &[u8]) {
    let whole = format!("{:?}{}", answer.headers, String::from_utf8_lossy(&answer.body));
    assert!(whole.bytes().all(|byte| (0x20..0x7f).contains(&byte)), "{whole}");
    if sent.len() >= 10 {
        assert!(!whole.contains(String::from_utf8_lossy(sent).as_ref()), "{whole}");
    }
}

#[tokio::test]
async fn line_ends_control_bytes_escapes_and_quotes_in_members_are_refused_and_come_back_nowhere() {
    let world = World::new();
    let good = world.billing.key.expose();
    let hex = "0".repeat(64);
    for evil in [
        "\r\nX-Injected: 1",
        "\n",
        "\0",
        "\u{1b}[31mred",
        "\u{9b}31m",
        "\u{7f}",
        "\u{202e}",
        "'; --",
        "\"",
        "\\",
        "<b>",
        " ",
    ] {
        for text in [format!("{good}{evil}"), format!("{evil}{good}"), format!("csk_{evil}{}", &good[4..])] {
            let bodies = [
                ("/authenticate", json!({"apiKey": text}), "apiKey"),
                ("/verify_challenge", json!({"apiKey": text, "signedChallenge": hex}), "apiKey"),
            ];
            for (path, body, member) in bodies {
                let answer = world.post(path, &body).await;
                assert_malformed(&world, &answer, &format!("the member {member} does not have"));
                assert_nothing_raw(&answer, text.as_bytes());
            }
        }
        for (member, value) in
            [("challenge", GUIDE_1), ("challenge", "1678886400.12345abcde"), ("signedChallenge", &hex)]
        {
            let mut body = json!({"apiKey": good, "challenge": GUIDE_1, "signedChallenge": hex});
            body[member] = format!("{value}{evil}").into();
            let answer = world.post("/verify_challenge", &body).await;
            assert_malformed(&world, &answer, &format!("the member {member} does not have"));
            assert_nothing_raw(&answer, evil.as_bytes());
        }
        let answer = world.post("/authenticate", &json!({"apiKey": good, evil: 1})).await;
        assert_malformed(&world, &answer, "unknown, missing, repeated");
        assert_nothing_raw(&answer, evil.as_bytes());
    }
    assert!(serde_json::to_string(&world.sink.records()).unwrap().is_ascii());
}

#[tokio::test]
async fn two_methods_in_one_request_are_refused_even_if_both_are_good() {
    let world = World::new();
    let token = ("authorization", format!("Bearer {}", world.guide_1_token().await));
    let challenge = world.knock(&world.billing.key).await;
    let signed = world.billing.signed(&challenge);
    let refused = async |request| {
        world.assert_refused(&world.send(request).await, 400, "two-methods", "two-methods");
    };
    for header in signed.clone() {
        refused(orders(&[token.clone(), header])).await;
    }
    refused(orders(&[vec![token.clone()], signed.clone()].concat())).await;
    refused(post("/authenticate", &signed[..1], asking(&world.billing.key).to_string())).await;
    refused(post("/authenticate", &[signed[0].clone(), token.clone()], "")).await;
    refused(post("/authenticate", std::slice::from_ref(&token), asking(&world.billing.key).to_string()))
        .await;
    let answer = world.billing.answer(&challenge).to_string();
    for header in signed.iter().chain([&token]) {
        refused(post("/verify_challenge", std::slice::from_ref(header), answer.clone())).await;
    }
    assert_eq!(world.send(post("/verify_challenge", &[], answer)).await.status, 200, "nothing burned it");
}

#[tokio::test]
async fn keys_of_every_legal_character_and_length_work_from_end_to_end() {
    let world = World::new();
    for (number, key) in ["+/=._~-0123456789", &"Ab1/".repeat(32), "----------------"].iter().enumerate() {
        let caller = Caller { key: key.parse::<ApiKey>().unwrap(), ..Caller::new() };
        world.add(guide_1_peer(&format!("peer-{number}"), &caller));
        let challenge = world.knock(&caller.key).await;
        assert_eq!(world.orders(&caller.signed(&challenge)).await.status, 200, "{key}");
    }
}
