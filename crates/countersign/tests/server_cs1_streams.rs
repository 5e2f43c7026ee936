//! Content of `cs1` that is not held: who takes it, what he is told, and what becomes of what was not signed.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use countersign::audit::{Outcome, Record};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;
use server_support::*;
use tower::ServiceExt as _;

const MAC: &str = "countersign-body-mac";

fn cut() -> Piece {
    Err(std::io::Error::other("cut off"))
}

/// What the trail has of this answer's request, in order.
fn records(target: &Target, answer: &Answer) -> Vec<(String, Outcome, String)> {
    let id = answer.header("x-request-id").unwrap();
    let of = |record: &Record| record.request_id == id;
    let records = target.sink.records().into_iter().filter(of);
    records.map(|record| (record.step, record.outcome, record.reason)).collect()
}

#[track_caller]
fn refused_late(target: &Target, answer: &Answer) {
    assert_problem(answer, 401, "digest-mismatch");
    unsigned(answer);
    let expected = [
        ("signed".to_owned(), Outcome::Accepted, "accepted".to_owned()),
        ("signed-stream".to_owned(), Outcome::Refused, "digest-mismatch".to_owned()),
    ];
    assert_eq!(records(target, answer), expected);
}

#[tokio::test]
async fn cs_38_a_stream_is_refused_where_the_handler_was_not_said_to_take_streams() {
    let target = Target::new();
    let session = target.session().await;
    let (request, mac) = session.signer().stream(Request::post("/orders"), b"content", &[]);
    let answer = target.send_pieces(request, vec![data(b"content"), trailers(&[(MAC, &mac)])]).await;
    target.turned_away(&answer, 413, "content-too-large", "streams-off");
}

#[tokio::test]
async fn cs_38_the_handler_knows_that_nothing_is_final_and_gets_all_of_what_was_signed() {
    let target = Target::streaming();
    let session = target.session().await;
    let signer = session.signer();
    let post = Request::post("/orders").header("content-length", "7").header("te", "trailers");
    let (request, mac) = signer.stream(post, b"content", &[("x-sum", "1")]);
    let pieces = vec![data(b"con"), data(b"tent"), trailers(&[(MAC, &mac), ("x-sum", "1")])];
    let answer = target.send_pieces(request.clone(), pieces).await;
    let seen = target.let_in(&signer, &request, &answer);
    assert_eq!((seen["final"].clone(), seen["length"].clone()), (false.into(), 7.into()));
    // CS-57: what is passed on with a length is complete before it is known to be right.
    assert!(seen["headers"].get("content-length").is_none());
    // An ordinary request to the same layer is final.
    let request = session.sign(Request::post("/orders"), "content");
    let seen = target.let_in(&signer, &request, &target.send(request.clone()).await);
    assert_eq!(
        (seen["final"].clone(), seen["headers"]["content-length"].clone()),
        (true.into(), serde_json::Value::Null)
    );
}

#[tokio::test]
async fn cs_38_a_stream_that_is_not_what_was_signed_is_committed_by_nobody() {
    let target = Target::streaming();
    let session = target.session().await;
    let signer = session.signer();
    let (_, foreign) = signer.stream(Request::post("/orders"), b"content", &[]);
    type Make = fn(&str, &str) -> Vec<Piece>;
    let cases: [Make; 11] = [
        |_, _| vec![data(b"content")],
        |_, _| vec![],
        |_, _| vec![data(b"content"), cut()],
        |_, _| vec![data(b"content"), trailers(&[])],
        |mac, _| vec![data(b"Content"), trailers(&[(MAC, mac)])],
        |mac, _| vec![data(b"conten"), trailers(&[(MAC, mac)])],
        |mac, _| vec![data(b"content"), trailers(&[(MAC, mac), ("x-added", "1")])],
        |_, foreign| vec![data(b"content"), trailers(&[(MAC, foreign)])],
        |mac, _| vec![data(b"content"), trailers(&[(MAC, &format!("{mac}="))])],
        |_, _| vec![data(b"content"), trailers(&[(MAC, "")])],
        |mac, _| {
            let mut twice = HeaderMap::new();
            twice.append(MAC, mac.parse().unwrap());
            twice.append(MAC, mac.parse().unwrap());
            vec![data(b"content"), Ok(Frame::trailers(twice))]
        },
    ];
    for make in cases {
        let (request, mac) = signer.stream(Request::post("/orders"), b"content", &[]);
        let answer = target.send_pieces(request.clone(), make(&mac, &foreign)).await;
        assert_eq!((target.began(), target.committed()), (1, 0));
        refused_late(&target, &answer);
        // It is used up.
        let answer = target.send_pieces(request, vec![data(b"content"), trailers(&[(MAC, &mac)])]).await;
        target.turned_away(&answer, 401, "request-replayed", "request-replayed");
    }
}

#[tokio::test]
async fn cs_38_that_content_is_a_stream_can_be_neither_put_in_nor_taken_away() {
    let target = Target::streaming();
    let session = target.session().await;
    let (mut request, mac) = session.signer().stream(Request::post("/orders"), b"content", &[]);
    request.headers_mut().remove("countersign-body");
    let answer = target.send_pieces(request, vec![data(b"content"), trailers(&[(MAC, &mac)])]).await;
    target.turned_away(&answer, 401, "missing-component", "uncovered");
    let mut request = session.sign(Request::post("/orders"), "content").map(|_| ());
    request.headers_mut().insert("countersign-body", "stream".parse().unwrap());
    let answer = target.send_pieces(request, vec![data(b"content"), trailers(&[(MAC, &mac)])]).await;
    target.turned_away(&answer, 401, "missing-component", "uncovered");
}

#[tokio::test]
async fn cs_50_trailers_of_what_is_no_stream_reach_no_handler() {
    let mut target = Target::streaming();
    target.serve(Router::new().fallback(any(async |request: Request<Body>| {
        let end = request.into_body().collect().await.unwrap();
        format!("{}", end.trailers().is_some())
    })));
    let session = target.session().await;
    let request = session.sign(Request::post("/orders"), "content").map(|_| ());
    let pieces = vec![data(b"content"), trailers(&[("x-countersign-service", "admin")])];
    let answer = target.send_pieces(request.clone(), pieces).await;
    session.signer().verify(&request, &answer).unwrap();
    assert_eq!(answer.body, "false");
}

/// Gives what it gets, and takes an error for the end.
struct Careless(Body);

impl http_body::Body for Careless {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.0).poll_frame(context));
        Poll::Ready(frame.and_then(Result::ok).filter(Frame::is_data).map(Ok))
    }
}

#[tokio::test]
async fn cs_38_what_a_careless_handler_makes_of_a_forged_stream_is_not_signed() {
    let mut target = Target::streaming();
    let repeat = async |request: Request<Body>| Response::new(Body::new(Careless(request.into_body())));
    target.serve(Router::new().fallback(any(repeat)));
    let session = target.session().await;
    let signer = session.signer();
    let (request, mac) = signer.stream(Request::post("/orders"), b"content", &[]);
    let answer = target.send_pieces(request.clone(), vec![data(b"content"), trailers(&[(MAC, &mac)])]).await;
    assert_eq!((answer.status, answer.body.as_ref()), (200, &b"content"[..]));
    signer.verify(&request, &answer).unwrap();
    let (request, mac) = signer.stream(Request::post("/orders"), b"content", &[]);
    let answer = target.send_pieces(request, vec![data(b"forged!"), trailers(&[(MAC, &mac)])]).await;
    refused_late(&target, &answer);
}

#[tokio::test]
async fn cs_38_a_response_that_flows_out_of_a_forged_stream_is_aborted() {
    let mut target = Target::streaming();
    let repeat = async |request: Request<Body>| Response::new(Body::new(Careless(request.into_body())));
    target.serve(Router::new().fallback(any(repeat)));
    let session = target.session().await;
    let piece: &'static [u8] = Box::leak(vec![7; 1 << 19].into_boxed_slice());
    let content = piece.repeat(4);
    for forged in [false, true] {
        let post = Request::post("/orders").header("te", "trailers");
        let (request, mac) = session.signer().stream(post, &content, &[]);
        let last = if forged { data(b"forged") } else { data(b"") };
        let mut pieces: Vec<Piece> = (0..4).map(|_| data(piece)).collect();
        pieces.extend([last, trailers(&[(MAC, &mac)])]);
        let (parts, ()) = request.into_parts();
        let mut request = Request::from_parts(parts, Body::new(Pieces(pieces.into())));
        let source: std::net::IpAddr = HOME.parse().unwrap();
        request.extensions_mut().insert(countersign::server::SourceAddr(source));
        let response = target.app.clone().oneshot(request).await.unwrap();
        assert_eq!(response.headers()["countersign-body"], "stream");
        let end = response.into_body().collect().await;
        assert_eq!(end.is_err(), forged);
        assert!(end.is_err() || end.unwrap().trailers().unwrap().contains_key(MAC));
    }
}
