//! The client against servers that are wrong: it says what is wrong, and the request itself is not sent.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod client_support;

use std::time::Duration;

use client_support::{CHALLENGE, Fake, Keys, Said, Seen, get, post, read};
use countersign::audit::MemorySink;
use countersign::client::{Client, ClientError};
use countersign::protocol::wire::reply::ReplyError;
use serde_json::json;
use std::sync::Arc;

const VERDICT: &str = r#"{"authenticated":true,"token":"csb.AAAA","expiresIn":300}"#;

fn challenge() -> Said {
    (200, vec![], json!({"challenge": CHALLENGE, "expiresIn": 30}).to_string())
}

/// The error of a call to a server that answers `/verify_challenge` like this.
async fn verdict(keys: &Keys, answer: impl Fn(&Seen) -> Said + Send + Sync + 'static) -> (ReplyError, Fake) {
    let fake =
        Fake::start(move |seen| if seen.path == "/authenticate" { challenge() } else { answer(seen) }).await;
    let sink = Arc::new(MemorySink::default());
    let builder = Client::builder().audit(sink.clone());
    let client = builder.build(&keys.orders_at(fake.url(), false)).unwrap();
    let error = client.send(post("/data", "the data")).await.unwrap_err();
    assert_eq!(fake.paths(), ["/authenticate", "/verify_challenge"]);
    assert!(fake.seen().iter().all(|seen| !seen.body.windows(8).any(|window| window == b"the data")));
    assert_eq!(sink.records().len(), 1);
    match error {
        ClientError::Handshake { error, .. } => (error, fake),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_server_without_proof_is_not_trusted() {
    let keys = Keys::new();
    let (error, fake) = verdict(&keys, |_| (200, vec![], VERDICT.to_owned())).await;
    assert_eq!(error, ReplyError::ServerUnproven);
    // Its key alone, or its signature alone, is none.
    for kept in [0, 1] {
        let own = keys.clone();
        let (error, _) =
            verdict(&keys, move |seen| (200, vec![own.proof(seen).remove(kept)], VERDICT.to_owned())).await;
        assert_eq!(error, ReplyError::ServerUnproven);
    }
    drop(fake);
}

#[tokio::test]
async fn a_server_with_the_proof_of_another_is_an_impostor() {
    let (keys, other) = (Keys::new(), Keys::new());
    let mut other_secret = keys.clone();
    other_secret.secret = other.secret.clone();
    let mut other_key = keys.clone();
    other_key.orders = other.orders.clone();
    for holder in [other, other_secret, other_key] {
        let (error, _) = verdict(&keys, move |seen| (200, holder.proof(seen), VERDICT.to_owned())).await;
        assert_eq!(error, ReplyError::ServerImpostor);
    }
    let own = keys.clone();
    let twice = move |seen: &Seen| (200, [own.proof(seen), own.proof(seen)].concat(), VERDICT.to_owned());
    assert_eq!(verdict(&keys, twice).await.0, ReplyError::ServerImpostor);
}

#[tokio::test]
async fn a_proof_for_an_earlier_challenge_is_no_proof() {
    let keys = Keys::new();
    let (own, first) = (keys.clone(), std::sync::Mutex::new(None));
    let replaying = Fake::start(move |seen| match seen.path.as_str() {
        "/authenticate" => challenge(),
        "/verify_challenge" => {
            let proof = first.lock().unwrap().get_or_insert_with(|| own.proof(seen)).clone();
            (200, proof, VERDICT.to_owned())
        }
        _ => (200, vec![], String::new()),
    })
    .await;
    let peer = keys.orders_at(replaying.url(), false);
    assert!(Client::new(&peer).unwrap().send(get("/")).await.is_ok());
    let error = Client::new(&peer).unwrap().send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake { error: ReplyError::ServerImpostor, .. }), "{error}");
}

#[tokio::test]
async fn a_verdict_that_is_none_is_told() {
    let keys = Keys::new();
    let proven = |body: &'static str| {
        let own = keys.clone();
        move |seen: &Seen| (200, own.proof(seen), body.to_owned())
    };
    assert_eq!(verdict(&keys, proven(r#"{"authenticated":false}"#)).await.0, ReplyError::NotAuthenticated);
    assert_eq!(verdict(&keys, proven("[]")).await.0, ReplyError::NotJson);
    assert_eq!(verdict(&keys, proven(r#"{"token":"a b"}"#)).await.0, ReplyError::TokenForm);
    assert_eq!(verdict(&keys, proven("{\"token\":\"a\\r\\nx: y\"}")).await.0, ReplyError::TokenForm);
    let own = keys.clone();
    let (error, _) =
        verdict(&keys, move |seen| (401, own.proof(seen), "{\"title\":\"\\u001b[31mno\"}".to_owned())).await;
    assert!(error.to_string().contains("401") && !error.to_string().contains('\u{1b}'), "{error}");
}

#[tokio::test]
async fn a_proof_that_is_given_must_be_right_even_where_none_is_asked_for() {
    let (keys, other) = (Keys::new(), Keys::new());
    for (proven, accepted) in [(false, true), (true, false)] {
        let other = other.clone();
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/authenticate" => challenge(),
            "/verify_challenge" => (200, if proven { other.proof(seen) } else { vec![] }, VERDICT.to_owned()),
            _ => (200, vec![], "served".to_owned()),
        })
        .await;
        let client = Client::new(&keys.orders_at(fake.url(), true)).unwrap();
        let sent = client.send(get("/")).await;
        assert_eq!(sent.is_ok(), accepted);
    }
}

#[tokio::test]
async fn an_answer_that_is_too_long_or_too_slow_is_given_up() {
    let keys = Keys::new();
    let long = Fake::start(|_| (200, vec![], " ".repeat(65 * 1024))).await;
    let client = Client::new(&keys.orders_at(long.url(), false)).unwrap();
    let error = client.send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::ReplyTooLong { .. }), "{error}");
    // It accepts, and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let builder = Client::builder().timeout(Duration::from_millis(200));
    let client = builder.build(&keys.orders_at(&url, false)).unwrap();
    let error = client.send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
}

#[tokio::test]
async fn a_server_that_gives_no_token_is_called_without_credentials() {
    let keys = Keys::new();
    let fake = Fake::proven(&keys, "{}", |_| (200, vec![], "served".to_owned())).await;
    let client = Client::new(&keys.orders_at(fake.url(), false)).unwrap();
    assert_eq!(read(client.send(get("/data")).await.unwrap()).await, "served");
    let seen = fake.seen().pop().unwrap();
    let ours = ["authorization", "x-api-key", "x-signature", "x-challenge"];
    assert!(ours.iter().all(|name| !seen.headers.contains_key(*name)), "{seen:?}");
}

#[test]
fn a_peer_that_cannot_be_called_makes_no_client() {
    let keys = Keys::new();
    let mut peer = keys.orders_at("https://orders.example", false);
    peer.url = None;
    assert!(matches!(Client::new(&peer), Err(ClientError::NoUrl(_))));
    for (url, plain) in [("http://orders.example", true), ("ftp://orders.example", false), ("orders", false)]
    {
        peer.url = Some(url.to_owned());
        let error = Client::new(&peer).unwrap_err();
        assert_eq!(matches!(error, ClientError::PlainHttp(_)), plain, "{error}");
    }
    let mut peer = keys.orders_by_key_at("https://orders.example");
    peer.credentials.clear();
    assert!(matches!(Client::new(&peer), Err(ClientError::NoCredential(_))));
    let mut called_by_it = keys.orders_by_key_at("https://orders.example");
    called_by_it.credentials[0].keys = countersign::store::Keys::ApiKey { ours: None, theirs: None };
    assert!(matches!(Client::new(&called_by_it), Err(ClientError::NoKey(_))));
}

/// Under `api-key` the key is a secret, and the server has it.
#[tokio::test]
async fn a_server_cannot_have_our_key_shown_or_recorded_by_repeating_it() {
    let keys = Keys::new();
    let key = keys.billing.expose().to_owned();
    let said = json!({"title": format!("unknown key {key}"), "requestId": key}).to_string();
    let fake = Fake::start(move |_| (401, vec![], said.clone())).await;
    let sink = Arc::new(MemorySink::default());
    let client = Client::builder().audit(sink.clone()).build(&keys.orders_by_key_at(fake.url())).unwrap();
    let error = client.send(get("/")).await.unwrap_err();
    let recorded = format!("{:?}", sink.records());
    for text in [error.to_string(), format!("{error:?}"), recorded] {
        assert!(text.contains("401") && !text.contains(keys.billing.expose()), "{text}");
    }
}

#[tokio::test]
async fn a_path_that_would_leave_the_peers_url_is_not_called() {
    let keys = Keys::new();
    let fake = Fake::start(|_| (200, vec![], String::new())).await;
    let client = Client::new(&keys.orders_at(&format!("{}/api", fake.url()), false)).unwrap();
    for path in ["/../admin", "/a/%2e%2e/../b", "*"] {
        assert!(matches!(client.send(get(path)).await, Err(ClientError::Url { .. })), "{path}");
    }
    assert!(fake.seen().is_empty());
}
