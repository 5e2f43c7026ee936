//! Streams of the client under `cs1` (section 8 of `specs/cs1.md`): nothing of them is final before their end.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

mod client_support;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use client_support::signed::{Piece, Pieces, Script, Signing};
use client_support::{Keys, Orders, get, post, read};
use countersign::audit::MemorySink;
use countersign::client::{BodyError, Client, ClientError, Standing};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::BodyExt as _;

const CONTENT: &str = "content that comes in several pieces";

async fn streaming(change: fn(&mut VecDeque<Piece>)) -> (Signing, Client) {
    let answer = |_: &client_support::Seen| Response::new(Bytes::from_static(CONTENT.as_bytes()));
    let script = Script { answer: Box::new(answer), stream: Some(change), ..Script::default() };
    let orders = Signing::start(script).await;
    let client = Client::new(&orders.peer()).unwrap();
    (orders, client)
}

#[tokio::test]
async fn cs_38_a_stream_is_verified_once_its_end_was_read_and_not_before() {
    let (_orders, client) = streaming(|_| ()).await;
    let mut body = client.send(get("/")).await.unwrap().into_body();
    assert_eq!((body.standing(), body.is_verified()), (Standing::ProvedAtItsEnd, false));
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    while let Some(frame) = body.frame().await {
        match frame.unwrap().into_data() {
            Ok(piece) => {
                content.extend_from_slice(&piece);
                assert!(!body.is_verified());
            }
            Err(frame) => trailers = frame.into_trailers().unwrap(),
        }
    }
    assert!(body.is_verified());
    assert_eq!(content, CONTENT.as_bytes());
    assert_eq!((trailers.len(), &trailers["x-more"]), (1, &HeaderValue::from_static("more")));
    let whole = client.send(get("/")).await.unwrap().into_body().whole(1000).await.unwrap();
    assert_eq!(whole, CONTENT);
    let error = client.send(get("/")).await.unwrap().into_body().whole(10).await.unwrap_err();
    assert!(matches!(error, BodyError::TooLong(10)), "{error}");
}

fn trailers(pieces: &mut VecDeque<Piece>) -> HeaderMap {
    pieces.pop_back().unwrap().unwrap().into_trailers().unwrap()
}

#[tokio::test]
async fn cs_38_a_stream_that_is_cut_off_or_changed_ends_with_an_error() {
    let changes: [fn(&mut VecDeque<Piece>); 8] = [
        // No trailers.
        |pieces| drop(pieces.pop_back()),
        // The connection ends.
        |pieces| {
            pieces.pop_back();
            pieces.push_back(Err(std::io::Error::other("cut off")));
        },
        // A piece is missing, comes twice, or is another.
        |pieces| drop(pieces.pop_front()),
        |pieces| pieces.push_front(Ok(Frame::data(Bytes::from_static(b"content")))),
        |pieces| pieces[1] = Ok(Frame::data(Bytes::from_static(b"-------"))),
        // Another MAC, or none.
        |pieces| {
            let mut trailers = trailers(pieces);
            trailers.insert("countersign-body-mac", HeaderValue::from_str(&"A".repeat(43)).unwrap());
            pieces.push_back(Ok(Frame::trailers(trailers)));
        },
        |pieces| {
            let mut trailers = trailers(pieces);
            trailers.remove("countersign-body-mac");
            pieces.push_back(Ok(Frame::trailers(trailers)));
        },
        // Another trailer (CS-52).
        |pieces| {
            let mut trailers = trailers(pieces);
            trailers.insert("x-more", HeaderValue::from_static("less"));
            pieces.push_back(Ok(Frame::trailers(trailers)));
        },
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let (orders, _) = streaming(change).await;
        let sink = Arc::new(MemorySink::default());
        let client = Client::builder().audit(sink.clone()).build(&orders.peer()).unwrap();
        let response = client.send(get("/")).await.unwrap();
        assert!(!response.body().is_verified());
        let error = response.into_body().whole(1000).await.unwrap_err();
        assert!(matches!(error, BodyError::NotAsSigned | BodyError::CutOff(_)), "{number}: {error}");
        assert_eq!(sink.records().pop().unwrap().reason, "response-unproved");
    }
}

fn upload(pieces: VecDeque<Piece>) -> Request<Pieces> {
    Request::post("/up").header("trailer", "x-sum").body(Pieces(pieces)).unwrap()
}

fn data(text: &'static str) -> Piece {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

fn trailer(name: &'static str) -> Piece {
    let mut trailers = HeaderMap::new();
    trailers.insert(name, HeaderValue::from_static("7"));
    Ok(Frame::trailers(trailers))
}

#[tokio::test]
async fn cs_38_a_request_is_streamed_with_its_trailers_and_taken_once() {
    let orders = Signing::start(Script::default()).await;
    let client = Client::new(&orders.peer()).unwrap();
    for pieces in [vec![data("da"), data("ta"), trailer("x-sum")], vec![data("data")]] {
        let response = client.send_streamed(upload(pieces.into())).await.unwrap();
        assert_eq!(read(response).await, "POST data");
    }
    assert_eq!(read(client.send_streamed(upload(VecDeque::new())).await.unwrap()).await, "POST ");
    // Its content is gone then, so it is not repeated, even with a key.
    orders.forget();
    let mut request = upload(vec![data("data")].into());
    request.headers_mut().insert("idempotency-key", HeaderValue::from_static("one"));
    let error = client.send_streamed(request).await.unwrap_err();
    assert!(matches!(error, ClientError::OutcomeUnknown { status: 401, .. }), "{error}");
    assert!(client.send_streamed(upload(vec![data("data")].into())).await.is_ok());
}

#[tokio::test]
async fn a_request_whose_content_fails_or_that_cannot_be_streamed_is_not_taken() {
    let orders = Signing::start(Script::default()).await;
    let client = Client::new(&orders.peer()).unwrap();
    for last in [Err(std::io::Error::other("the disk broke")), trailer("x-not-announced")] {
        let pieces = vec![data("data"), last];
        assert!(client.send_streamed(upload(pieces.into())).await.is_err());
    }
    let get = Request::get("/").body(Pieces(vec![data("data")].into())).unwrap();
    let error = client.send_streamed(get).await.unwrap_err();
    assert!(matches!(error, ClientError::Unsignable(_)), "{error}");
    assert_eq!(orders.accepted(), 0);
    // The guides have no streams.
    let client = Client::new(&Keys::new().orders_at("http://127.0.0.1:1", false)).unwrap();
    let error = client.send_streamed(upload(VecDeque::new())).await.unwrap_err();
    assert!(matches!(error, ClientError::NoStreams(_)), "{error}");
}

#[tokio::test]
async fn what_a_server_of_the_guides_answers_stands_as_unsigned() {
    let orders = Orders::start(|builder| builder).await;
    let response = orders.client().send(post("/x", "data")).await.unwrap();
    assert_eq!(response.body().standing(), Standing::Unsigned);
}

/// Content that is made as it is asked for, and counted.
struct Flood {
    left: u64,
    made: Arc<AtomicU64>,
}

const MIB: u64 = 1 << 20;

impl http_body::Body for Flood {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        self.made.fetch_add(1, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; 1 << 20])))))
    }
}

#[tokio::test]
async fn an_upload_is_taken_from_its_source_no_faster_than_the_server_reads() {
    let (orders, read) = Signing::counting().await;
    let client = Client::new(&orders.peer()).unwrap();
    let made = Arc::new(AtomicU64::new(0));
    let flood = Flood { left: 64, made: Arc::clone(&made) };
    let sending = client.send_streamed(Request::post("/flood").body(flood).unwrap());
    let watching = async {
        let mut most = 0;
        loop {
            let ahead = (made.load(Ordering::SeqCst) * MIB).saturating_sub(read.load(Ordering::SeqCst));
            most = most.max(ahead);
            if read.load(Ordering::SeqCst) >= 64 * MIB {
                return most;
            }
            tokio::task::yield_now().await;
        }
    };
    let (response, most) = tokio::join!(sending, watching);
    assert_eq!(client_support::read(response.unwrap()).await, "67108864");
    assert!(most < 16 * MIB, "{most}");
}
