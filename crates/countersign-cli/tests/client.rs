//! The client library against the real server: how long a session lasts, and who shares it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::sync::Arc;

use bytes::Bytes;
use countersign::client::{Client, ClientError};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::Value;
use support::{Fake, Home, Pair, Serving};

/// A client with what `billing` knows of `orders`.
fn client(billing: &Home) -> Client {
    Client::new(&billing.peer("orders")).unwrap()
}

async fn get(client: &Client, path: &str) -> Result<(StatusCode, Value), ClientError> {
    let response = client.send(Request::get(path).body(Bytes::new()).unwrap()).await?;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

/// How many handshakes `orders` has seen to their end.
fn handshakes(pair: &Pair) -> usize {
    let trail = pair.orders.trail();
    trail
        .iter()
        .filter(|record| record["step"] == "verify-challenge" && record["outcome"] == "accepted")
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_share_a_session_and_concurrent_first_ones_a_handshake() {
    let pair = Pair::new();
    let serving = Serving::https(&pair.orders);
    pair.meet(serving.url(), &["--tls-pin", &pair.orders.pin()]);
    let client = client(&pair.billing);
    let first: Vec<_> = (0..8)
        .map(|number| {
            let client = client.clone();
            tokio::spawn(async move { get(&client, &format!("/{number}")).await })
        })
        .collect();
    for request in first {
        let (status, body) = request.await.unwrap().unwrap();
        assert_eq!((status, &body["service"]), (StatusCode::OK, &Value::from("billing")));
    }
    get(&client, "/later").await.unwrap();
    assert_eq!(handshakes(&pair), 1);
    assert_eq!(pair.orders.recorded("step", "token"), 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_server_costs_one_more_handshake_and_nothing_else() {
    restarted("http://127.0.0.1:0").await;
    restarted("https://127.0.0.1:0").await;
}

async fn restarted(listen: &str) {
    let pair = Pair::new();
    let upstream = Fake::new(|mut exchange| {
        let body = exchange.body();
        exchange.respond(200, &[], &body);
    });
    let mut serving = Serving::start(&pair.orders, &["--listen", listen, "--upstream", &upstream.url]);
    pair.meet(serving.url(), &["--tls-pin", &pair.orders.pin()]);
    let client = client(&pair.billing);
    let post = || client.send(Request::post("/").body(Bytes::from_static(b"\"once\"")).unwrap());
    assert_eq!(post().await.unwrap().status(), StatusCode::OK);
    for restarts in 1..=2 {
        serving.terminate();
        assert_eq!(serving.ended(), 0);
        let again = serving.url().to_owned();
        serving = Serving::start(&pair.orders, &["--listen", &again, "--upstream", &upstream.url]);
        // The old token is unknown now; the client authenticates again and sends the request once more.
        assert_eq!(post().await.unwrap().status(), StatusCode::OK);
        assert_eq!(handshakes(&pair), 1 + restarts);
        assert_eq!(upstream.seen().len(), 1 + restarts, "the service behind sees each request once");
    }
    assert_eq!(pair.orders.recorded("reason", "token-key") + pair.orders.recorded("reason", "token-seal"), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_with_its_token_and_a_new_one_begins() {
    let pair = Pair::new();
    pair.orders.configure("[token]\nlifetime_seconds = 1");
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let client = client(&pair.billing);
    for requests in 1..=2 {
        assert_eq!(get(&client, "/").await.unwrap().0, StatusCode::OK);
        assert_eq!(handshakes(&pair), requests);
        tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tokens_every_request_is_signed() {
    let pair = Pair::new();
    pair.orders.configure("[token]\nenabled = false");
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let client = client(&pair.billing);
    for _ in 0..2 {
        let (status, body) = get(&client, "/").await.unwrap();
        assert_eq!((status, &body["profile"]), (StatusCode::OK, &Value::from("shared-secret")));
    }
    assert_eq!(handshakes(&pair), 1, "the server proves itself once");
    let trail = pair.orders.trail();
    let signed = trail.iter().filter(|record| record["step"] == "request" && record["outcome"] == "accepted");
    assert_eq!(signed.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_was_removed_tries_once_more_and_then_gives_up() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let client = client(&pair.billing);
    get(&client, "/").await.unwrap();
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    // The server takes it over within a second.
    let error = loop {
        if let Err(error) = get(&client, "/").await {
            break error;
        }
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    };
    assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
    let trail = pair.orders.trail();
    let reasons: Vec<_> = trail[trail.len() - 2..].iter().map(|record| record["reason"].clone()).collect();
    assert_eq!(reasons, ["token-orphaned", "unknown-key"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_401_of_the_service_behind_is_passed_on_and_not_repeated() {
    let pair = Pair::new();
    let upstream = Fake::new(|mut exchange| {
        exchange.body();
        let asked: &[_] =
            if exchange.seen.path == "/basic" { &[("WWW-Authenticate", "Basic realm=\"x\"")] } else { &[] };
        exchange.respond(401, asked, b"");
    });
    let serving =
        Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    pair.meet(serving.url(), &[]);
    let client = client(&pair.billing);
    for path in ["/basic", "/bare"] {
        let request = Request::post(path).body(Bytes::from_static(b"{}")).unwrap();
        assert_eq!(client.send(request).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    }
    assert_eq!(upstream.paths(), ["/basic", "/bare"]);
    assert_eq!(handshakes(&pair), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_handshake_is_not_remembered() {
    let pair = Pair::new();
    let url = {
        let serving = Serving::http(&pair.orders);
        serving.url().to_owned()
    };
    pair.meet(&url, &[]);
    let client = Arc::new(client(&pair.billing));
    assert!(matches!(get(&client, "/").await, Err(ClientError::Connect { .. })));
    let _serving = Serving::start(&pair.orders, &["--listen", &url]);
    assert_eq!(get(&client, "/").await.unwrap().0, StatusCode::OK);
}
