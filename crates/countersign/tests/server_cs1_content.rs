//! Content under `cs1` that is held: how much of it, for how long; and what the handler's answers become.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use countersign::store::Cs1Options;
use http::{Request, Response};
use http_body::SizeHint;
use server_support::*;

/// Says that it is this long, and has nothing.
struct Announced(u64);

impl http_body::Body for Announced {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        Poll::Pending
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0)
    }
}

fn small() -> Target {
    Target::with(Cs1Options::default(), |builder| builder.max_held(16))
}

#[tokio::test]
async fn cs_37_content_beyond_what_is_held_is_refused() {
    let target = Target::with(Cs1Options::default(), |builder| builder.max_held(4096));
    let session = target.session().await;
    let content: &'static str = Box::leak("x".repeat(4097).into_boxed_str());
    let request = session.sign(Request::post("/orders"), &content[..4096]);
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    let request = session.sign(Request::post("/orders"), content);
    target.turned_away(&target.send(request).await, 413, "content-too-large", "content-too-large");
    // Its length is not known before.
    let request = session.sign(Request::post("/orders"), content).map(|_| ());
    let pieces = vec![data(&content.as_bytes()[..4096]), data(b"x"), cut()];
    let answer = target.send_pieces(request, pieces).await;
    target.turned_away(&answer, 413, "content-too-large", "content-too-large");
}

fn cut() -> Piece {
    Err(std::io::Error::other("cut off"))
}

#[tokio::test]
async fn content_that_says_that_it_is_huge_is_not_waited_for() {
    let target = small();
    let session = target.session().await;
    for length in [17, 1 << 40, u64::MAX] {
        let (parts, _) = session.sign(Request::post("/orders"), "0123456789abcdef!").into_parts();
        let request = Request::from_parts(parts, Body::new(Announced(length)));
        let answer = target.stream_from(HOME, request).await;
        target.turned_away(&answer, 413, "content-too-large", "content-too-large");
    }
}

#[tokio::test]
async fn content_that_does_not_come_is_not_waited_for_forever() {
    let target =
        Target::with(Cs1Options::default(), |builder| builder.body_timeout(Duration::from_millis(20)));
    let session = target.session().await;
    let (parts, _) = session.sign(Request::post("/orders"), "0123456789").into_parts();
    let request = Request::from_parts(parts, Body::new(Announced(10)));
    let answer = target.stream_from(HOME, request).await;
    target.turned_away(&answer, 400, "malformed", "malformed");
}

#[tokio::test]
async fn content_that_breaks_off_reaches_no_handler() {
    let target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::post("/orders"), "content").map(|_| ());
    let answer = target.send_pieces(request, vec![data(b"content"), cut()]).await;
    target.turned_away(&answer, 400, "malformed", "malformed");
    let request = session.sign(Request::post("/orders"), "content").map(|_| ());
    let answer = target.send_pieces(request.clone(), vec![data(b""), data(b"con"), data(b"tent")]).await;
    target.let_in(&session.signer(), &request, &answer);
}

/// One answer of a handler, and what becomes of it.
async fn answered(
    answer: impl Fn() -> Response<Body> + Clone + Send + Sync + 'static,
    request: http::request::Builder,
) -> (Target, Session, Request<Bytes>, Answer) {
    let mut target = small();
    target.serve(Router::new().fallback(any(move || std::future::ready(answer()))));
    let session = target.session().await;
    let request = session.sign(request, "");
    let answer = target.send(request.clone()).await;
    (target, session, request, answer)
}

fn with_body(body: &'static str) -> http::response::Builder {
    Response::builder().header("x-of", body)
}

#[tokio::test]
async fn cs_33_answers_without_content_are_signed_whatever_they_say_of_some() {
    let digest = "sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:";
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304), ("HEAD", 404)] {
        let answer = move || {
            let answer =
                with_body("none").status(status).header("content-digest", digest).header("etag", "\"1\"");
            answer.header("countersign-body", "stream").body(Body::empty()).unwrap()
        };
        let (_, session, request, answer) =
            answered(answer, Request::builder().method(method).uri("/orders")).await;
        assert_eq!((answer.status, answer.body.len()), (status, 0));
        session.signer().verify(&request, &answer).unwrap();
        assert_eq!(answer.header("content-digest"), Some(digest), "what a GET would have");
        assert_eq!(answer.header("countersign-body"), None);
    }
}

#[tokio::test]
async fn cs_34_an_answer_that_cannot_be_signed_becomes_one_that_can() {
    type Change = fn(http::response::Builder) -> http::response::Builder;
    let changes: [Change; 5] = [
        |answer| answer.header("etag", "\"1\"").header("etag", "\"2\""),
        |answer| answer.header("location", "/a").header("location", "/b"),
        |answer| answer.header("x-latin", http::HeaderValue::from_bytes(b"\xe9").unwrap()),
        |answer| (0..70).fold(answer, |answer, number| answer.header(format!("x-{number}"), "1")),
        |answer| answer.header("retry-after", "1").header("retry-after", "1"),
    ];
    for change in changes {
        let answer = move || change(with_body("some")).body(Body::from("some")).unwrap();
        let (_, session, request, answer) = answered(answer, Request::post("/orders")).await;
        assert_problem(&answer, 500, "response-unsignable");
        session.signer().verify(&request, &answer).unwrap();
    }
    let lists = || {
        with_body("")
            .header("vary", "a")
            .header("vary", "b")
            .header("set-cookie", "a=1")
            .header("set-cookie", "b=2")
    };
    let (_, session, request, answer) =
        answered(move || lists().body(Body::from("x")).unwrap(), Request::get("/o")).await;
    assert_eq!(answer.status, 200);
    session.signer().verify(&request, &answer).unwrap();
}

#[tokio::test]
async fn what_the_handler_says_of_signatures_and_digests_is_replaced() {
    let forged = || {
        let answer = with_body("x").header("signature", "cs=:AAAA:").header("signature-input", "cs=()");
        let answer = answer.header("content-digest", "sha-256=:AAAA:").header("countersign-body", "stream");
        answer.body(Body::from("content")).unwrap()
    };
    let (_, session, request, answer) = answered(forged, Request::get("/orders")).await;
    session.signer().verify(&request, &answer).unwrap();
    for name in ["signature", "signature-input", "content-digest"] {
        assert_eq!(answer.headers.get_all(name).iter().count(), 1, "{name}");
    }
    assert_eq!(answer.header("countersign-body"), None);
    // A digest of the handler's for content that is not there.
    let none = || with_body("x").header("content-digest", "sha-256=:AAAA:").body(Body::empty()).unwrap();
    let (_, session, request, answer) = answered(none, Request::get("/orders")).await;
    session.signer().verify(&request, &answer).unwrap();
}

#[tokio::test]
async fn cs_34_problems_and_refusals_of_the_handler_are_signed() {
    for status in [400, 401, 403, 404, 421, 429, 500, 503] {
        let answer = move || {
            let answer =
                with_body("x").status(status).header("www-authenticate", "Basic").header("retry-after", "3");
            answer.body(Body::from("no")).unwrap()
        };
        let (_, session, request, answer) = answered(answer, Request::get("/orders")).await;
        assert_eq!(answer.status, status);
        session.signer().verify(&request, &answer).unwrap();
    }
}

#[tokio::test]
async fn cs_38_an_answer_of_unknown_length_flows_to_who_takes_trailers_and_is_a_signed_406_to_others() {
    let long = || {
        let pieces: Vec<Piece> =
            vec![data(b"0123456789"), data(b"abcdefghij"), trailers(&[("x-sum", "1"), ("x-own", "2")])];
        with_body("x").header("trailer", "x-own").body(Body::new(Pieces(pieces.into()))).unwrap()
    };
    let (_, session, request, answer) = answered(long, Request::get("/orders")).await;
    assert_problem(&answer, 406, "trailers-required");
    session.signer().verify(&request, &answer).unwrap();
    for te in ["trailers", "gzip;q=0.5, Trailers"] {
        let (_, _, _, answer) = answered(long, Request::get("/orders").header("te", te)).await;
        assert_eq!((answer.status, answer.header("countersign-body")), (200, Some("stream")));
        assert_eq!(answer.header("content-digest"), None);
    }
    let old = Request::get("/orders").header("te", "trailers").version(http::Version::HTTP_10);
    let (_, session, request, answer) = answered(long, old).await;
    assert_problem(&answer, 406, "trailers-required");
    session.signer().verify(&request, &answer).unwrap();
}

#[tokio::test]
async fn cs_34_an_answer_that_breaks_off_while_it_is_held_is_a_signed_502() {
    let broken = || with_body("x").body(Body::new(Pieces(vec![data(b"0123"), cut()].into()))).unwrap();
    let (_, session, request, answer) = answered(broken, Request::get("/orders")).await;
    assert_problem(&answer, 502, "upstream-unreachable");
    session.signer().verify(&request, &answer).unwrap();
}
