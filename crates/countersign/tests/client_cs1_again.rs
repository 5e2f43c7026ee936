//! Which requests go out again when no answer came (CS-35, CS-58).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod client_support;

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use client_support::signed::{Pieces, Script, Signing};
use client_support::tls::{Fails, Sees, Tls};
use client_support::{get, post, read};
use countersign::client::{Client, ClientError, Narration, http_client};
use countersign::protocol::cs1::Binding;
use countersign::{LEAVING, Trust};
use http::{HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full};

async fn start(alpn: &'static [u8], binding: Binding) -> Tls {
    Tls::start(Script { binding, ..Script::default() }, alpn, Sees::Its).await
}

fn keyed(path: &str) -> Request<Bytes> {
    Request::post(path).header("idempotency-key", "\"k\"").body(Bytes::from_static(b"data")).unwrap()
}

#[tokio::test]
async fn cs_58_what_http_2_says_was_not_taken_goes_out_once_more_as_it_was() {
    for binding in [Binding::None, Binding::TlsExporter] {
        let tls = start(b"h2", binding).await;
        let client = tls.client();
        tls.fail(Fails::NotTaken);
        assert_eq!(read(client.send(post("/x", "data")).await.unwrap()).await, "POST data");
        for field in ["signature-input", "signature"] {
            let came = tls.came(field);
            assert_eq!(came.len(), 2);
            assert_eq!(came[0], came[1], "nonce, times and all");
        }
        assert_eq!((tls.orders.handshakes(), tls.orders.accepted()), (1, 1));
    }
}

#[tokio::test]
async fn cs_58_what_was_taken_after_all_does_not_run_twice_unless_it_may() {
    for binding in [Binding::None, Binding::TlsExporter] {
        let tls = start(b"h2", binding).await;
        let client = tls.client();
        tls.fail(Fails::Taken);
        let error = client.send(post("/x", "data")).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::OutcomeUnknown { hint: Some(hint), .. } if hint.contains("request-replayed")),
            "{error}"
        );
        assert_eq!((tls.orders.requests(), tls.orders.accepted()), (2, 1));
        for (request, answer) in [(get("/x"), "GET "), (keyed("/x"), "POST data")] {
            tls.fail(Fails::Taken);
            assert_eq!(read(client.send(request).await.unwrap()).await, answer);
        }
        assert_eq!((tls.orders.requests(), tls.orders.accepted()), (6, 5));
    }
}

#[tokio::test]
async fn cs_58_a_server_that_takes_nothing_is_not_asked_for_ever() {
    let tls = start(b"h2", Binding::None).await;
    let client = tls.client();
    for _ in 0..20 {
        tls.fail(Fails::NotTaken);
    }
    let error = client.send(post("/x", "data")).await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { refused: true, .. }), "{error}");
    assert!(error.to_string().contains("is not known"), "{error}");
    assert_eq!(tls.came("signature").len(), 5);
}

#[tokio::test]
async fn cs_35_after_a_broken_connection_only_what_may_run_twice_goes_out_again_once_and_anew() {
    for (alpn, binding) in [
        (b"h2".as_slice(), Binding::None),
        (b"http/1.1", Binding::None),
        (b"h2", Binding::TlsExporter),
        (b"http/1.1", Binding::TlsExporter),
    ] {
        let tls = start(alpn, binding).await;
        let client = tls.client();
        tls.fail(Fails::Broken);
        let error = client.send(post("/x", "data")).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        assert!(error.to_string().contains("is not known"), "{error}");
        assert_eq!((tls.came("signature").len(), tls.orders.requests()), (1, 0));
        for request in [get("/x"), keyed("/x")] {
            tls.fail(Fails::Broken);
            read(client.send(request.clone()).await.unwrap()).await;
            for _ in 0..2 {
                tls.fail(Fails::Broken);
            }
            let error = client.send(request).await.unwrap_err();
            assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        }
        let mut nonces = tls.came("signature-input");
        nonces.sort();
        nonces.dedup();
        assert_eq!(nonces.len(), 9, "each with a nonce of its own");
        assert_eq!(tls.orders.accepted(), 2);
    }
}

#[tokio::test]
async fn what_was_not_connected_is_told_apart_from_what_may_have_run_and_waits_only_for_who_was_there() {
    let said = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&said);
    // Since the last time.
    let again = || {
        let said = std::mem::take(&mut *said.lock().unwrap());
        said.iter().filter(|said: &&String| said.contains("trying again")).count()
    };
    let narrator = Arc::new(move |narration: &Narration| telling.lock().unwrap().push(narration.to_string()));
    let change = |response: &mut Response<Bytes>| {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    };
    let mut orders = Signing::start(Script { change: Box::new(change), ..Script::default() }).await;
    let client = Client::builder().narrator(narrator.clone()).patience(Duration::from_secs(2));
    let client = client.build(&orders.peer()).unwrap();
    client.send(post("/x", "data")).await.unwrap();
    orders.end().await;
    let stream = Request::post("/x").body(Full::from("data")).unwrap();
    let stranger = Client::builder().narrator(narrator).build(&orders.peer()).unwrap();
    assert_eq!(again(), 0);
    let error = client.send(post("/x", "data")).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { passing: true, .. }), "{error}");
    assert!((2..=8).contains(&again()), "as long as patience lasts");
    let error = client.send_streamed(stream).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { passing: true, .. }), "{error}");
    assert!((2..=8).contains(&again()), "its content is there still");
    let error = stranger.send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { passing: true, .. }), "{error}");
    assert_eq!(again(), 1, "nobody knows whether there ever was a server");
    assert_eq!((orders.requests(), orders.accepted()), (1, 1));
}

#[tokio::test]
async fn what_may_have_run_is_never_told_as_not_sent_whatever_follows() {
    for binding in [Binding::None, Binding::TlsExporter] {
        let tls = start(b"http/1.1", binding).await;
        let client = Client::builder().patience(Duration::ZERO).build(&tls.peer()).unwrap();
        client.send(get("/")).await.unwrap();
        tls.fail(Fails::Broken);
        tls.drop_connections(usize::MAX);
        let error = client.send(keyed("/x")).await.unwrap_err();
        assert!(matches!(error, ClientError::Broken { .. }), "{error}");
        let error = client.send(keyed("/x")).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect { passing: true, .. }), "{error}");
    }
}

#[tokio::test]
async fn what_somebody_else_said_of_the_content_is_not_taken_for_the_server_s_word() {
    let (other, tls) = (start(b"h2", Binding::None).await, start(b"http/1.1", Binding::None).await);
    let peer = other.peer();
    other.fail(Fails::NotTaken);
    let request =
        Request::post(format!("{}/x", peer.url.unwrap())).header("signature", "").body(Full::from("data"));
    let plain = http_client(&peer.trust).unwrap();
    let refused = plain
        .request(request.unwrap().map(|body| body.map_err(Into::into).boxed_unsync()))
        .await
        .unwrap_err();
    // A stream that is handed on breaks off so.
    let pieces = [Ok(Frame::data(Bytes::from_static(b"half"))), Err(io::Error::other(refused))];
    let stream = Request::post("/x").body(Pieces(VecDeque::from(pieces))).unwrap();
    let error = tls.client().send_streamed(stream).await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { refused: false, .. }), "{error}");
    assert!(tls.came("signature").len() <= 1);
    assert_eq!(tls.orders.accepted(), 0);
}

#[tokio::test]
async fn connections_that_end_in_the_handshake_of_tls_are_made_again() {
    for binding in [Binding::None, Binding::TlsExporter] {
        let tls = start(b"h2", binding).await;
        tls.drop_connections(1);
        assert_eq!(read(tls.client().send(post("/x", "data")).await.unwrap()).await, "POST data");
        assert_eq!((tls.orders.accepted(), tls.connections()), (1, 2));
        tls.drop_connections(100);
        let error = tls.client().send(get("/")).await.unwrap_err();
        assert!(matches!(error, ClientError::Connect { passing: true, .. }), "{error}");
        assert_eq!(tls.connections(), 4, "once more and no more: it was never there");
    }
}

#[tokio::test]
async fn callers_who_need_a_session_wait_for_a_server_together_and_not_one_after_the_other() {
    let change = |response: &mut Response<Bytes>| {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    };
    let script = Script { seconds: 7, change: Box::new(change), ..Script::default() };
    let tls = Tls::start(script, b"http/1.1", Sees::Its).await;
    let client = Client::builder().patience(Duration::from_secs(2)).build(&tls.peer()).unwrap();
    client.send(get("/")).await.unwrap();
    tls.drop_connections(usize::MAX);
    tokio::time::sleep(Duration::from_secs(7)).await;
    let before = tls.connections();
    let callers: Vec<_> = (0..50)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(get("/")).await })
        })
        .collect();
    for caller in callers {
        let error = caller.await.unwrap().unwrap_err();
        assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    }
    // The first wait for two seconds, and by then the others have done so too: they try twice. Each by itself would be seven.
    let made = tls.connections() - before;
    assert!(made <= 150, "{made}");
}

#[tokio::test]
async fn a_certificate_that_is_wrong_is_not_tried_again() {
    let tls = start(b"h2", Binding::None).await;
    let mut peer = tls.peer();
    peer.trust = Trust::Ca(rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem());
    let error = Client::new(&peer).unwrap().send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { passing: false, .. }), "{error}");
    assert_eq!(tls.connections(), 1);
}

#[tokio::test]
async fn a_server_that_asks_for_it_gets_the_next_request_on_another_connection() {
    let change = |response: &mut Response<Bytes>| {
        response.headers_mut().insert(LEAVING, HeaderValue::from_static("?1"));
    };
    for binding in [Binding::None, Binding::TlsExporter] {
        let script = Script { binding, change: Box::new(change), ..Script::default() };
        let tls = Tls::start(script, b"h2", Sees::Its).await;
        let client = tls.client();
        for _ in 0..3 {
            let response = client.send(post("/x", "data")).await.unwrap();
            assert_eq!(read(response).await, "POST data");
        }
        assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (1, 3, 3));
    }
}
