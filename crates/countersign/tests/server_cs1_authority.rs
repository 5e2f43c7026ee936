//! For whom a request under `cs1` was meant, as the host, proxies and prefixes say; and cookies in pieces.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use bytes::Bytes;
use countersign::server::{ExternalUrl, ProxyHeader, TrustedProxies};
use countersign::store::Cs1Options;
use http::{HeaderValue, Request, Version};
use server_support::*;

const PROXY: &str = "10.0.0.1";

fn behind(header: ProxyHeader, urls: &'static [&'static str]) -> Target {
    Target::with(Cs1Options::default(), move |builder| {
        let trusted = TrustedProxies::new(vec!["10.0.0.0/8".parse().unwrap()], header);
        let urls = urls.iter().map(|url| url.parse::<ExternalUrl>().unwrap());
        builder.trusted_proxies(trusted).external_urls(urls)
    })
}

fn put(request: &Request<Bytes>, lines: &[(&'static str, &'static str)]) -> Request<Bytes> {
    with(request.clone(), |fields| {
        for (name, value) in lines {
            fields.insert(*name, HeaderValue::from_static(value));
        }
    })
}

#[tokio::test]
async fn cs_28_a_configured_proxy_may_rewrite_the_authority_and_nobody_else() {
    let target = behind(ProxyHeader::XForwardedFor, &["https://orders.example", "https://other.example"]);
    let session = target.session().await;
    let signed = || session.sign(Request::get("/orders"), "");
    let rewritten = |said| put(&signed(), &[("host", "backend.internal:8080"), ("x-forwarded-host", said)]);
    for said in ["orders.example", "ORDERS.example:443", "evil.example, orders.example"] {
        let request = rewritten(said);
        let answer = target.send_from(PROXY, request.clone()).await;
        target.let_in(&session.signer(), &request, &answer);
    }
    // The proxy says another one.
    for said in ["evil.example", "orders.example, evil.example", "orders.example:8443", "orders.example."] {
        let answer = target.send_from(PROXY, rewritten(said)).await;
        target.turned_away(&answer, 421, "misdirected", "misdirected");
    }
    let answer = target.send_from(PROXY, rewritten("other.example")).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    // From elsewhere it is nobody's word.
    let answer = target.send_from(ELSEWHERE, rewritten("orders.example")).await;
    target.turned_away(&answer, 421, "misdirected", "misdirected");
    let request = put(&signed(), &[("x-forwarded-host", "evil.example"), ("forwarded", "host=evil.example")]);
    target.let_in(&session.signer(), &request, &target.send_from(ELSEWHERE, request.clone()).await);
    // The field that the proxy does not write is the caller's.
    let request = put(&signed(), &[("forwarded", "host=evil.example")]);
    target.let_in(&session.signer(), &request, &target.send_from(PROXY, request.clone()).await);
}

#[tokio::test]
async fn cs_28_of_forwarded_the_last_element_counts() {
    let target = behind(ProxyHeader::Forwarded, &["https://orders.example"]);
    let session = target.session().await;
    let rewritten = |said| {
        put(&session.sign(Request::get("/orders"), ""), &[("host", "backend.internal"), ("forwarded", said)])
    };
    for said in
        ["for=192.0.2.1;host=orders.example", "host=evil.example, for=192.0.2.1;host=\"orders.example:443\""]
    {
        let request = rewritten(said);
        target.let_in(&session.signer(), &request, &target.send_from(PROXY, request.clone()).await);
    }
    for said in [
        "host=orders.example, host=evil.example",
        "host=orders.example, for=192.0.2.1",
        "host=\"orders.example",
    ] {
        let answer = target.send_from(PROXY, rewritten(said)).await;
        target.turned_away(&answer, 421, "misdirected", "misdirected");
    }
}

#[tokio::test]
async fn cs_28_a_request_for_somebody_else_is_none_for_us() {
    let target = Target::new();
    let session = target.session().await;
    for host in
        ["evil.example", "orders.example:8443", "orders.example:80", "", "orders.example, evil.example"]
    {
        let request = put(&session.sign(Request::get("/orders"), ""), &[("host", host)]);
        target.turned_away(&target.send(request).await, 421, "misdirected", "misdirected");
    }
    let twice = with(session.sign(Request::get("/orders"), ""), |fields| {
        fields.append("host", HeaderValue::from_static(AUTHORITY));
    });
    target.turned_away(&target.send(twice).await, 421, "misdirected", "misdirected");
    let none = with(session.sign(Request::get("/orders"), ""), |fields| {
        fields.remove("host");
    });
    target.turned_away(&target.send(none).await, 421, "misdirected", "misdirected");
}

#[tokio::test]
async fn cs_28_cs_56_a_host_beside_another_authority_reaches_no_handler() {
    let target = Target::new();
    let session = target.session().await;
    for version in [Version::HTTP_11, Version::HTTP_2] {
        let absolute = |host: &'static str| {
            let mut request = put(&session.sign(Request::get("/orders"), ""), &[("host", host)]);
            *request.uri_mut() = "https://orders.example/orders".parse().unwrap();
            *request.version_mut() = version;
            request
        };
        let answer = target.send(absolute("evil.example")).await;
        target.turned_away(&answer, 421, "misdirected", "misdirected");
        let request = absolute("orders.example");
        target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    }
}

#[tokio::test]
async fn cs_28_a_prefix_that_a_proxy_takes_away_is_signed() {
    let target = behind(ProxyHeader::XForwardedFor, &["https://orders.example/api"]);
    let session = target.session().await;
    let sent = |signed: &'static str, sent: &'static str| {
        let mut request = session.sign(Request::get(signed), "");
        *request.uri_mut() = sent.parse().unwrap();
        request
    };
    let request = sent("/api/orders?a=b", "/orders?a=b");
    let answer = target.send(request.clone()).await;
    let signed = sent("/api/orders?a=b", "/api/orders?a=b");
    assert_eq!((answer.status, target.began(), target.committed()), (200, 1, 1));
    let as_signed = with(signed, |fields| *fields = request.headers().clone());
    session.signer().verify(&as_signed, &answer).unwrap();
    assert_eq!(answer.json()["path"], "/orders");
    for (signed, arrives) in [
        ("/orders", "/orders"),
        ("/api/orders", "/api/orders"),
        ("/other/orders", "/orders"),
        ("/api/orders", "//orders"),
        ("/api/orders", "/../orders"),
    ] {
        let answer = target.send(sent(signed, arrives)).await;
        target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    }
}

#[tokio::test]
async fn without_an_external_url_nobody_gets_in() {
    let target = behind(ProxyHeader::XForwardedFor, &[]);
    let session = target.session().await;
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 421, "misdirected", "misdirected");
}

#[tokio::test]
async fn cs_28_pieces_of_a_cookie_are_joined_where_http_2_has_brought_them_and_refused_elsewhere() {
    let target = Target::new();
    let session = target.session().await;
    let crumbs = |version: Version, pieces: &[&'static str]| {
        let mut request = session.sign(Request::get("/orders").header("cookie", "a=1; b=2"), "");
        *request.version_mut() = version;
        with(request, |fields| {
            fields.remove("cookie");
            for piece in pieces {
                fields.append("cookie", HeaderValue::from_static(piece));
            }
        })
    };
    let request = crumbs(Version::HTTP_2, &["a=1", "b=2"]);
    let whole = crumbs(Version::HTTP_2, &["a=1; b=2"]);
    let whole = with(whole, |fields| {
        for name in ["signature", "signature-input"] {
            fields.insert(name, request.headers()[name].clone());
        }
    });
    let seen = target.let_in(&session.signer(), &whole, &target.send(request.clone()).await);
    assert_eq!(seen["headers"]["cookie"], serde_json::json!(["a=1; b=2"]));
    // Not the pieces of what was signed.
    for pieces in [&["b=2", "a=1"][..], &["a=1; b=2", "c=3"], &["a=1", "b=2", ""], &["a=1;", "b=2"], &["a=1"]]
    {
        let answer = target.send(crumbs(Version::HTTP_2, pieces)).await;
        target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    }
    for version in [Version::HTTP_11, Version::HTTP_10] {
        let answer = target.send(crumbs(version, &["a=1", "b=2"])).await;
        target.turned_away(&answer, 401, "signature-malformed", "signature-form");
    }
}
