//! Sessions of the client under `cs1`: how long they last, and what it repeats when one is lost.

#![allow(clippy::unwrap_used, clippy::panic, reason = "what breaks in a helper ends the test")]

mod client_support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use client_support::signed::{Script, Signing, refusal};
use client_support::{get, post, read};
use countersign::client::{Client, ClientError, Unproved};
use countersign::protocol::refusal::Refusal;
use countersign::protocol::token::TokenError;
use http::{Request, StatusCode};

async fn started(script: Script) -> (Signing, Client) {
    let orders = Signing::start(script).await;
    let client = Client::new(&orders.peer()).unwrap();
    (orders, client)
}

fn with_key(uri: &str) -> Request<Bytes> {
    Request::post(uri).header("idempotency-key", "one").body(Bytes::from_static(b"data")).unwrap()
}

fn why(error: &ClientError) -> Unproved {
    match error {
        ClientError::OutcomeUnknown { why, .. } => *why,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn cs_35_after_a_lost_session_a_safe_request_is_repeated_with_a_new_one() {
    let (orders, client) = started(Script::default()).await;
    assert!(client.send(get("/")).await.is_ok());
    orders.forget();
    let requests: Vec<_> = (0..6)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { read(client.send(get("/")).await.unwrap()).await })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), "GET ");
    }
    assert_eq!((orders.handshakes(), orders.accepted()), (2, 7));
}

#[tokio::test]
async fn cs_35_after_a_lost_session_an_unsafe_request_ends_as_unknown_and_the_next_one_passes() {
    let (orders, client) = started(Script::default()).await;
    assert!(client.send(get("/")).await.is_ok());
    orders.forget();
    let error = client.send(post("/x", "data")).await.unwrap_err();
    assert_eq!(why(&error), Unproved::Unsigned);
    assert!(error.to_string().contains("`session-invalid`"), "{error}");
    assert_eq!((orders.handshakes(), orders.requests()), (1, 2));
    assert!(client.send(post("/x", "data")).await.is_ok());
    assert_eq!(orders.handshakes(), 2);
}

#[tokio::test]
async fn cs_35_an_idempotency_key_lets_an_unsafe_request_be_repeated_and_an_override_unmakes_a_safe_one() {
    let (orders, client) = started(Script::default()).await;
    assert!(client.send(get("/")).await.is_ok());
    orders.forget();
    assert_eq!(read(client.send(with_key("/x")).await.unwrap()).await, "POST data");
    assert_eq!(orders.handshakes(), 2);
    orders.forget();
    let request = Request::get("/").header("x-http-method-override", "DELETE").body(Bytes::new()).unwrap();
    assert_eq!(why(&client.send(request).await.unwrap_err()), Unproved::Unsigned);
    assert_eq!(orders.handshakes(), 2);
}

#[tokio::test]
async fn cs_35_a_server_that_always_says_401_gets_one_handshake_more_and_one_request() {
    for refused in [
        Refusal::Ticket(TokenError::Key),
        Refusal::ClockSkew,
        Refusal::WrongSignature,
        Refusal::RequestReplayed,
    ] {
        let instead = move |_: &client_support::Seen, _: usize| Some(refusal(refused));
        let (orders, client) = started(Script { instead: Box::new(instead), ..Script::default() }).await;
        let error = client.send(get("/")).await.unwrap_err();
        assert_eq!(why(&error), Unproved::Unsigned);
        let again = matches!(refused, Refusal::Ticket(_) | Refusal::ClockSkew);
        let expected = if again { (2, 2) } else { (1, 1) };
        assert_eq!((orders.handshakes(), orders.requests()), expected, "{refused}");
    }
}

#[tokio::test]
async fn cs_43_after_a_crash_a_safe_request_is_signed_with_the_servers_nonce_and_an_unsafe_one_is_not() {
    let (orders, client) = started(Script { crash_after: Some(0), ..Script::default() }).await;
    assert!(client.send(get("/")).await.is_ok());
    assert_eq!((orders.requests(), orders.accepted()), (2, 1));
    assert!(client.send(with_key("/")).await.is_ok());
    assert_eq!((orders.requests(), orders.accepted()), (4, 2));
    let error = client.send(post("/", "data")).await.unwrap_err();
    assert!(error.to_string().contains("`nonce-required`"), "{error}");
    assert_eq!((orders.requests(), orders.accepted(), orders.handshakes()), (5, 2, 1));
}

#[tokio::test]
async fn concurrent_first_requests_share_one_handshake() {
    let (orders, client) = started(Script::default()).await;
    let requests: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(post("/x", "data")).await.unwrap().status() })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!((orders.handshakes(), orders.accepted()), (1, 8));
}

#[tokio::test]
async fn a_ticket_is_renewed_before_it_expires_and_no_request_fails() {
    let (orders, client) = started(Script { seconds: 3, ..Script::default() }).await;
    let deadline = Instant::now() + Duration::from_secs(30);
    while orders.handshakes() < 3 {
        assert!(Instant::now() < deadline, "{}", orders.handshakes());
        // Unsafe ones: they are not repeated.
        client.send(post("/x", "data")).await.unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(orders.requests(), orders.accepted());
}

#[tokio::test]
async fn a_ticket_that_cannot_be_renewed_is_used_to_its_end() {
    // To be renewed after two fifths of a second less than it is good.
    let (orders, client) = started(Script { seconds: 4, handshakes: 1, ..Script::default() }).await;
    let (began, mut tried) = (Instant::now(), 0);
    let error = loop {
        match client.send(post("/x", "data")).await {
            Ok(_) => tried = orders.seen().iter().filter(|seen| seen.path == "/authenticate").count(),
            Err(error) => break error,
        }
        assert!(began.elapsed() < Duration::from_secs(30));
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(tried > 1, "it was to be renewed while it was good");
    assert_eq!((orders.handshakes(), orders.requests()), (1, orders.accepted()));
}

#[tokio::test]
async fn cs_35_a_request_that_was_sent_once_ends_as_unknown_also_if_no_handshake_follows() {
    let (orders, client) = started(Script { handshakes: 1, ..Script::default() }).await;
    assert!(client.send(get("/")).await.is_ok());
    orders.forget();
    assert_eq!(why(&client.send(with_key("/x")).await.unwrap_err()), Unproved::Unsigned);
    let error = client.send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
}
