//! The client towards a peer that is bound to its TLS connection (section 6 of `specs/cs1.md`).

#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

mod client_support;

use bytes::Bytes;
use client_support::signed::{Script, Signing};
use client_support::tls::{Sees, Tls};
use client_support::{get, post, read};
use countersign::client::{Client, ClientError};
use countersign::protocol::cs1::Binding;
use countersign::protocol::wire::reply::ReplyError;
use http::{HeaderValue, Response};

async fn start(script: Script, alpn: &'static [u8], sees: Sees) -> Tls {
    Tls::start(Script { binding: Binding::TlsExporter, ..script }, alpn, sees).await
}

#[tokio::test]
async fn cs_32_requests_are_keyed_by_their_connection_with_both_versions_of_http() {
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let tls = start(Script::default(), alpn, Sees::Its).await;
        let client = tls.client();
        for _ in 0..3 {
            let response = client.send(post("/x?a=b", "data")).await.unwrap();
            assert!(response.body().is_verified());
            assert_eq!(read(response).await, "POST data");
        }
        assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (1, 3, 1));
    }
}

#[tokio::test]
async fn cs_32_a_new_connection_goes_on_with_the_ticket_and_keys_of_its_own() {
    let change = |response: &mut Response<Bytes>| {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    };
    let script = Script { change: Box::new(change), ..Script::default() };
    let tls = start(script, b"http/1.1", Sees::Its).await;
    let client = tls.client();
    for _ in 0..3 {
        assert_eq!(read(client.send(post("/x", "data")).await.unwrap()).await, "POST data");
    }
    assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (1, 3, 3));
}

#[tokio::test]
async fn concurrent_requests_share_a_connection_of_http_2() {
    for (alpn, most) in [(b"h2".as_slice(), 1), (b"http/1.1", 8)] {
        let tls = start(Script::default(), alpn, Sees::Its).await;
        let client = tls.client();
        let requests: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { read(client.send(get("/")).await.unwrap()).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), "GET ");
        }
        assert_eq!((tls.orders.handshakes(), tls.orders.accepted()), (1, 8));
        assert!(tls.connections() <= most, "{}", tls.connections());
    }
}

#[tokio::test]
async fn cs_31_somebody_who_ends_tls_in_between_is_noticed_and_nothing_is_sent() {
    for sees in [Sees::Another, Sees::None] {
        let tls = start(Script::default(), b"h2", sees).await;
        let error = tls.client().send(post("/x", "the data")).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Handshake { error: ReplyError::Status { status: 401, .. }, .. }),
            "{error}"
        );
        assert_eq!((tls.orders.handshakes(), tls.orders.requests()), (0, 0));
    }
}

#[tokio::test]
async fn cs_31_without_tls_there_is_nothing_to_bind_to() {
    let orders = Signing::start(Script { binding: Binding::TlsExporter, ..Script::default() }).await;
    let error = Client::new(&orders.peer()).unwrap_err();
    assert!(matches!(error, ClientError::NothingToBindTo(_)), "{error}");
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn a_session_that_is_lost_is_made_anew_on_the_same_connection() {
    let tls = start(Script::default(), b"h2", Sees::Its).await;
    let client = tls.client();
    assert!(client.send(get("/")).await.is_ok());
    tls.orders.forget();
    assert!(client.send(get("/")).await.is_ok());
    assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (2, 2, 1));
}

#[tokio::test]
async fn cs_44_a_certificate_for_another_name_ends_the_handshake_before_it_begins() {
    let tls = start(Script::default(), b"h2", Sees::Its).await;
    let mut peer = tls.peer();
    peer.url = peer.url.map(|url| url.replace("127.0.0.1", "localhost"));
    let error = Client::new(&peer).unwrap().send(post("/x", "the data")).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(tls.orders.seen().is_empty(), "nothing was sent");
}
