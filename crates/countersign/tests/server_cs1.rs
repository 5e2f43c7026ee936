//! The profile `cs1` as the layer serves it: who gets in, and what he can believe of the answer.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use countersign::protocol::cs1::request::Nonce;
use countersign::store::Cs1Options;
use http::Request;
use server_support::*;

fn direct() -> Cs1Options {
    Cs1Options { danger_direct: true, ..Cs1Options::default() }
}

#[tokio::test]
async fn a_handshake_and_signed_requests_get_in_and_get_signed_answers() {
    let pair = Pair::new();
    let world = World::with_pair(&pair, Cs1Options::default());
    let session = world.shake(&pair).await;
    for content in ["", "{\"item\":1}"] {
        let request = session.sign(Request::post("/orders?page=2").header("content-type", "a/b"), content);
        let answer = world.send(request.clone()).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        session.signer().verify(&request, &answer).unwrap();
        let seen = answer.json();
        assert_eq!(seen["service"], "ledger");
        assert_eq!(seen["credential"], "ledger/1");
        assert_eq!(seen["profile"], "cs1");
        for gone in ["signature", "signature-input"] {
            assert!(seen["headers"].get(gone).is_none(), "{gone} is nobody else's business");
        }
        let record = world.record_of(&answer);
        assert_eq!((record.step.as_str(), record.reason.as_str()), ("signed", "accepted"));
    }
}

#[tokio::test]
async fn an_answer_is_bound_to_its_request() {
    let pair = Pair::new();
    let world = World::with_pair(&pair, Cs1Options::default());
    let session = world.shake(&pair).await;
    let (one, two) = (session.sign(Request::get("/orders"), ""), session.sign(Request::get("/orders"), ""));
    let (answer_1, answer_2) = (world.send(one.clone()).await, world.send(two.clone()).await);
    session.signer().verify(&one, &answer_1).unwrap();
    assert!(session.signer().verify(&one, &answer_2).is_err());
    assert!(session.signer().verify(&two, &answer_1).is_err());
}

#[tokio::test]
async fn what_the_handler_says_of_itself_is_signed_and_what_only_we_may_say_is_not_there() {
    let pair = Pair::new();
    let world = World::with_pair(&pair, Cs1Options::default());
    let session = world.shake(&pair).await;
    let request = session.sign(Request::get("/forger"), "");
    let answer = world.send(request.clone()).await;
    session.signer().verify(&request, &answer).unwrap();
    assert_eq!(answer.header("x-harmless"), Some("forged"));
    assert_eq!(answer.header("x-api-key"), None);
    // A path that is not there is the application's answer, and signed as any other.
    let request = session.sign(Request::head("/orders"), "");
    let answer = world.send(request.clone()).await;
    session.signer().verify(&request, &answer).unwrap();
}

#[tokio::test]
async fn cs_26_a_request_is_taken_once_and_neither_at_once_nor_later_again() {
    let pair = Pair::new();
    let world = World::with_pair(&pair, Cs1Options::default());
    let session = world.shake(&pair).await;
    let request = session.sign(Request::get("/orders"), "");
    assert_eq!(world.send(request.clone()).await.status, 200);
    let again = world.send(request.clone()).await;
    world.assert_refused(&again, 401, "request-replayed", "request-replayed");
    assert!(again.header("signature").is_none(), "no refusal is signed (CS-34)");
    world.advance(30);
    world.assert_refused(&world.send(request.clone()).await, 401, "request-replayed", "request-replayed");
    world.advance(40);
    world.assert_refused(&world.send(request).await, 401, "clock-skew", "clock-skew");
}

#[tokio::test]
async fn without_a_handshake_only_who_may_gets_in() {
    let (pair, other) = (Pair::new(), Pair::new());
    let world = World::with_pair(&pair, direct());
    world.add(other.peer("other", Cs1Options::default()));
    let now = world.clock.now();
    let by = |pair: &Pair| {
        Signer { name: pair.name(), keys: pair.direct(), now, window: 30 }.sign(Request::post("/orders"), "x")
    };
    // The state of the last run is not known: what may have been sent before is asked for again.
    let answer = world.send(by(&pair)).await;
    world.assert_refused(&answer, 401, "nonce-required", "nonce-required");
    let signer = Signer { name: pair.name(), keys: pair.direct(), now, window: 30 };
    let nonce = countersign::protocol::cs1::accept::asked(&answer.headers, &signer.name).unwrap();
    let request = signer.sign_with(Request::post("/orders"), "x", Nonce::OfServer(&nonce));
    let accepted = world.send(request.clone()).await;
    assert_eq!(accepted.status, 200, "{:?}", accepted.body);
    signer.verify(&request, &accepted).unwrap();
    world.assert_refused(&world.send(request).await, 401, "request-replayed", "request-replayed");
    world.assert_refused(&world.send(by(&other)).await, 401, "authentication-failed", "direct-off");
    world.assert_refused(&world.send(by(&Pair::new())).await, 401, "authentication-failed", "unknown-key");
}
