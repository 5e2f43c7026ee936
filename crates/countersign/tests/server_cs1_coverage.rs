//! What of a request under `cs1` is covered, what is not, and what somebody on the way puts in, takes out or changes.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request};
use server_support::*;

const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

/// What has to be covered whenever it is there, with a value that it can have.
const FIELDS: [(&str, &str); 17] = [
    ("authorization", "Basic Og=="),
    ("content-digest", "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:"),
    ("content-encoding", "gzip"),
    ("content-range", "bytes 0-1/2"),
    ("content-type", "text/plain"),
    ("cookie", "a=b"),
    ("countersign-body", "stream"),
    ("idempotency-key", "1"),
    ("if-match", "\"v1\""),
    ("if-modified-since", "Fri, 27 Nov 2026 10:00:00 GMT"),
    ("if-none-match", "\"v1\""),
    ("if-range", "\"v1\""),
    ("if-unmodified-since", "Fri, 27 Nov 2026 10:00:00 GMT"),
    ("range", "bytes=0-1"),
    ("x-http-method", "DELETE"),
    ("x-http-method-override", "DELETE"),
    ("x-method-override", "DELETE"),
];

fn put(request: &Request<Bytes>, name: &'static str, value: &'static str) -> Request<Bytes> {
    with(request.clone(), |fields| {
        fields.append(HeaderName::from_static(name), HeaderValue::from_static(value));
    })
}

#[tokio::test]
async fn cs_24_a_signature_that_covers_nothing_or_not_all_of_the_target_is_none() {
    let target = Target::new();
    let session = target.session().await;
    let signer = session.signer();
    let short = (0..DERIVED.len()).map(|left_out| {
        let rest = DERIVED.iter().enumerate().filter(|(place, _)| *place != left_out);
        rest.map(|(_, name)| *name).collect::<Vec<_>>()
    });
    for components in std::iter::once(Vec::new()).chain(short) {
        let request = signer.forge(bare(Request::get("/orders")), &components, &signer.params());
        target.turned_away(&target.send(request).await, 401, "missing-component", "uncovered");
    }
    let request = signer.forge(bare(Request::get("/orders?a=b")), &DERIVED, &signer.params());
    target.let_in(&signer, &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn cs_24_what_somebody_on_the_way_puts_in_and_has_to_be_covered_is_refused() {
    let target = Target::new();
    let session = target.session().await;
    for (name, value) in FIELDS {
        let request = session.sign(Request::post("/orders"), "");
        let answer = target.send(put(&request, name, value)).await;
        target.turned_away(&answer, 401, "missing-component", "uncovered");
        assert!(answer.text("detail").contains(name), "{name}: {:?}", answer.body);
        // It burned nothing.
        target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    }
}

#[tokio::test]
async fn cs_24_what_was_covered_can_be_neither_taken_away_nor_changed_nor_doubled() {
    let target = Target::new();
    let session = target.session().await;
    for (name, value) in FIELDS {
        if name == "countersign-body" {
            continue;
        }
        let request = session.sign(Request::post("/orders").header(name, value), "");
        let without = with(request.clone(), |fields| {
            fields.remove(name);
        });
        target.turned_away(&target.send(without).await, 401, "missing-component", "uncovered");
        let changed = with(request.clone(), |fields| {
            fields.insert(name, HeaderValue::from_static("other"));
        });
        target.turned_away(&target.send(changed).await, 401, "authentication-failed", "wrong-signature");
        let answer = target.send(put(&request, name, "other")).await;
        let is_list = ["content-encoding", "if-match", "if-none-match"].contains(&name);
        let (problem, reason) = if is_list {
            ("authentication-failed", "wrong-signature")
        } else {
            ("signature-malformed", "signature-form")
        };
        target.turned_away(&answer, 401, problem, reason);
        target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    }
}

#[tokio::test]
async fn cs_56_a_precondition_that_was_signed_cannot_be_stripped_by_naming_it_a_hop_s() {
    let target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::put("/orders").header("if-match", "\"v1\""), "");
    let request = put(&request, "connection", "close, If-Match ,x-own");
    let request = put(&request, "connection", "idempotency-key,if-match");
    let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    assert_eq!(seen["headers"]["if-match"][0], "\"v1\"");
    // A proxy behind takes out what this names (RFC 9110, section 7.6.1).
    assert_eq!(seen["headers"]["connection"][0], "close, x-own, idempotency-key");
    let request =
        put(&session.sign(Request::put("/orders").header("if-match", "*"), ""), "connection", "if-match");
    let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    assert!(seen["headers"].get("connection").is_none());
}

#[tokio::test]
async fn cs_56_a_name_that_some_read_as_one_that_has_to_be_covered_does_not_get_through_uncovered() {
    let target = Target::new();
    let session = target.session().await;
    let mut request = session.sign(Request::post("/orders").header("x-original-url", "/signed"), "");
    for name in
        ["x_http_method_override", "x.method.override", "idempotency_key", "x_original_url", "if_match"]
    {
        request = put(&request, name, "forged");
    }
    request = put(&request, "x_harmless", "is harmless");
    let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    let headers = seen["headers"].as_object().unwrap();
    assert!(headers.values().all(|lines| lines[0] != "forged"), "{headers:?}");
    assert_eq!(headers["x-original-url"][0], "/signed", "it was signed");
    assert_eq!(headers["x_harmless"][0], "is harmless");
}

#[tokio::test]
async fn cs_47_another_url_is_taken_out_unless_it_was_signed() {
    let target = Target::new();
    let session = target.session().await;
    for name in ["x-original-url", "x-rewrite-url"] {
        let request = put(&session.sign(Request::get("/orders"), ""), name, "/admin");
        let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
        assert!(seen["headers"].get(name).is_none(), "{name}");
        let request = session.sign(Request::get("/orders").header(name, "/admin"), "");
        let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
        assert_eq!(seen["headers"][name][0], "/admin");
        assert!(seen["covered"].as_array().unwrap().iter().any(|one| one == name));
    }
}

#[tokio::test]
async fn whoever_signs_is_who_he_is_and_not_who_he_says() {
    let target = Target::new();
    let session = target.session().await;
    let names = [
        "x-countersign-service",
        "x_countersign_service",
        "x-countersign",
        "x-request-id",
        "x-client-challenge",
    ];
    // Signed, or put in on the way.
    let signed =
        names[..3].iter().fold(Request::get("/orders"), |request, name| request.header(*name, "admin"));
    let mut request = session.sign(signed, "");
    for name in &names[3..] {
        request = put(&request, name, "admin");
    }
    let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    assert_eq!(seen["service"], "ledger");
    let headers = seen["headers"].as_object().unwrap();
    assert!(headers.values().all(|lines| lines[0] != "admin"), "{headers:?}");
}

#[tokio::test]
async fn cs_48_a_handler_can_ask_what_was_signed() {
    let target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::get("/orders").header("x-signed", "1"), "");
    let request = put(&request, "x-added", "1");
    let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    let covered = seen["covered"].as_array().unwrap();
    assert!(covered.iter().any(|name| name == "x-signed"));
    assert!(!covered.iter().any(|name| name == "x-added"));
}

#[tokio::test]
async fn cs_28_the_target_and_the_method_cannot_be_changed() {
    let target = Target::new();
    let session = target.session().await;
    for uri in
        ["/other", "/orders?a=c", "/orders", "/orders?a=b&c", "/Orders?a=b", "/orders/?a=b", "/%6frders?a=b"]
    {
        let mut request = session.sign(Request::get("/orders?a=b"), "");
        *request.uri_mut() = uri.parse().unwrap();
        let answer = target.send(request).await;
        target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    }
    for method in ["POST", "DELETE", "get", "OPTIONS", "PATCH"] {
        let mut request = session.sign(Request::get("/orders"), "");
        *request.method_mut() = method.parse().unwrap();
        let answer = target.send(request).await;
        target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    }
    let mut request = session.sign(Request::get("/orders"), "");
    *request.uri_mut() = "/orders\\x".parse().unwrap_or_else(|_| "/orders?\\x".parse().unwrap());
    let answer = target.send(request).await;
    target.turned_away(&answer, 401, "signature-malformed", "signature-form");
}

#[tokio::test]
async fn cs_24_content_that_no_digest_covers_is_refused() {
    let target = Target::new();
    let session = target.session().await;
    let signer = session.signer();
    let request = bare(Request::post("/orders")).map(|_| Bytes::from_static(b"forged"));
    let request = signer.forge(request, &DERIVED, &signer.params());
    target.turned_away(&target.send(request).await, 401, "missing-component", "uncovered");
    // Content that was put behind a request which had none.
    let request = session.sign(Request::post("/orders"), "").map(|_| Bytes::from_static(b"forged"));
    target.turned_away(&target.send(request).await, 401, "missing-component", "uncovered");
}

#[tokio::test]
async fn cs_27_content_that_is_not_what_was_signed_reaches_no_handler() {
    let target = Target::new();
    let session = target.session().await;
    for forged in ["", "content!", "conten", "Content"] {
        let request = session.sign(Request::post("/orders"), "content").map(|_| Bytes::from(forged));
        target.turned_away(&target.send(request.clone()).await, 401, "digest-mismatch", "digest-mismatch");
        // The signature was used up: the right content is too late.
        let right = request.map(|_| Bytes::from_static(b"content"));
        target.turned_away(&target.send(right).await, 401, "request-replayed", "request-replayed");
    }
    // A digest of which no algorithm is ours.
    let signer = session.signer();
    for digest in ["md5=:1B2M2Y8AsgTpgAmY7PhCfg==:", "sha-256=:AAAA:", "sha-256=?1", "nonsense"] {
        let request = bare(Request::post("/orders").header("content-digest", digest));
        let components = [DERIVED.as_slice(), &["content-digest"]].concat();
        let request = signer.forge(request, &components, &signer.params());
        target.turned_away(&target.send(request).await, 401, "signature-malformed", "signature-form");
    }
}
