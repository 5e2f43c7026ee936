//! The client against the real layer: what it sends where, and how long a session lasts.

mod client_support;

use std::sync::{Arc, Mutex};

use client_support::{Fake, Keys, Orders, get, json, post};
use countersign::audit::{Direction, MemorySink, Outcome};
use countersign::client::{Client, ClientError, Narration};
use http::{Request, StatusCode};
use serde_json::json as value;

#[tokio::test]
async fn a_handler_learns_who_calls_under_both_profiles() {
    for orders in [Orders::start(|builder| builder).await, Orders::by_key().await] {
        let peers = [orders.keys.orders_at(&orders.url, false), orders.keys.orders_by_key_at(&orders.url)];
        let mut served = 0;
        for peer in &peers {
            let client = Client::new(peer).unwrap();
            let Ok(response) = client.send(post("/items?a=b", "data")).await else { continue };
            assert_eq!(
                json(response).await,
                value!({"service": "billing", "method": "POST", "uri": "/items?a=b", "body": "data", "credentials": false})
            );
            served += 1;
        }
        assert_eq!(served, 1, "a peer has one profile, and the other does not get in");
    }
}

#[tokio::test]
async fn a_request_goes_to_a_path_below_the_peers_url_and_nowhere_else() {
    let orders = Orders::start(|builder| builder).await;
    let client = orders.client();
    let full = format!("{}/x?y=z", orders.url);
    for (uri, expected) in [("/x?y=z", "/x?y=z"), (full.as_str(), "/x?y=z")] {
        assert_eq!(json(client.send(get(uri)).await.unwrap()).await["uri"], expected);
    }
    let origin = orders.url.strip_suffix("/api").unwrap();
    for uri in [
        format!("{origin}/x"),
        format!("{origin}/apis"),
        format!("{origin}/api/../x"),
        "http://127.0.0.1:1/api/x".to_owned(),
        orders.url.replace("http:", "https:"),
        orders.url.replace("127.0.0.1", "localhost"),
    ] {
        let error = client.send(get(&uri)).await.unwrap_err();
        assert!(matches!(error, ClientError::Elsewhere), "{uri}: {error}");
    }
    let beyond = client.send(get("http://orders.example/api")).await.unwrap_err();
    assert!(matches!(beyond, ClientError::PlainHttp(_)), "{beyond}");
    assert_eq!(orders.accepted("token"), 2);
}

#[tokio::test]
async fn headers_for_our_own_credentials_are_refused_before_anything_is_sent() {
    let orders = Orders::start(|builder| builder).await;
    let client = orders.client();
    for name in ["authorization", "x-api-key", "x-challenge", "x-signature"] {
        let request = Request::get("/x").header(name, "x").body(bytes::Bytes::new()).unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(&error, ClientError::HeaderTaken(taken) if *taken == name), "{error}");
    }
    assert!(orders.sink.records().is_empty());
}

#[tokio::test]
async fn clones_share_one_session_and_concurrent_first_requests_one_handshake() {
    let orders = Orders::start(|builder| builder).await;
    let client = orders.client();
    let first: Vec<_> = (0..8)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(get("/x")).await.unwrap().status() })
        })
        .collect();
    for request in first {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!((orders.accepted("verify-challenge"), orders.accepted("token")), (1, 8));
}

#[tokio::test]
async fn without_tokens_each_request_is_signed_after_one_handshake() {
    let orders = Orders::start(|builder| builder.token_lifetime(None)).await;
    let client = orders.client();
    for _ in 0..2 {
        assert_eq!(json(client.send(post("/x", "data")).await.unwrap()).await["body"], "data");
    }
    assert_eq!((orders.accepted("verify-challenge"), orders.accepted("request")), (1, 2));
}

#[tokio::test]
async fn a_session_that_ends_early_is_renewed_once_however_many_requests_find_out() {
    let keys = Keys::new();
    let handshakes = Arc::new(Mutex::new(0));
    let (made, proof) = (Arc::clone(&handshakes), keys.clone());
    // Each handshake ends the session before.
    let fake = Fake::start(move |seen| match seen.path.as_str() {
        "/authenticate" => (200, vec![], value!({"challenge": client_support::CHALLENGE}).to_string()),
        "/verify_challenge" => {
            let mut made = made.lock().unwrap();
            *made += 1;
            let verdict = value!({"authenticated": true, "token": format!("csb.{made}"), "expiresIn": 300});
            (200, proof.proof(seen), verdict.to_string())
        }
        _ if seen.headers["authorization"] == "Bearer csb.1" => {
            (401, vec![("www-authenticate", "Countersign realm=\"orders\"".to_owned())], String::new())
        }
        _ => (200, vec![], "served".to_owned()),
    })
    .await;
    let client = Client::new(&keys.orders_at(fake.url(), false)).unwrap();
    let requests: Vec<_> = (0..6)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { client.send(post("/x", "data")).await.unwrap().status() })
        })
        .collect();
    for request in requests {
        assert_eq!(request.await.unwrap(), StatusCode::OK);
    }
    assert_eq!(*handshakes.lock().unwrap(), 2);
}

#[tokio::test]
async fn a_server_that_always_says_401_is_asked_twice_and_no_more() {
    let keys = Keys::new();
    let verdict = r#"{"authenticated":true,"token":"csb.AAAA"}"#;
    let asked = |scheme: &str| vec![("www-authenticate", scheme.to_owned())];
    for (answer, expected) in [
        (asked("Countersign realm=\"orders\""), 2),
        (asked("countersign"), 2),
        (asked("Basic realm=\"x\", Bearer"), 1),
        // Our own server always names its scheme, so this one comes from the service behind.
        (vec![], 1),
    ] {
        let shown = format!("{answer:?}");
        let fake = Fake::proven(&keys, verdict, move |_| (401, answer.clone(), String::new())).await;
        let client = Client::new(&keys.orders_at(fake.url(), false)).unwrap();
        assert_eq!(client.send(post("/data", "data")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
        let sent = fake.paths().iter().filter(|path| *path == "/data").count();
        assert_eq!(sent, expected, "{shown}");
    }
    // A stranger's server may know no scheme.
    let fake =
        Fake::proven(&keys, r#"{"token":"a-strangers-token"}"#, |_| (401, vec![], String::new())).await;
    let client = Client::new(&keys.orders_at(fake.url(), false)).unwrap();
    assert_eq!(client.send(get("/data")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    assert_eq!(fake.paths().iter().filter(|path| *path == "/data").count(), 2);
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let keys = Keys::new();
    let fake = Fake::proven(&keys, r#"{"token":"csb.AAAA"}"#, |_| {
        (307, vec![("location", "/other".to_owned())], String::new())
    })
    .await;
    let client = Client::new(&keys.orders_at(fake.url(), false)).unwrap();
    let response = client.send(post("/data", "data")).await.unwrap();
    assert_eq!(response.status(), StatusCode::TEMPORARY_REDIRECT);
    assert_eq!(fake.paths(), ["/authenticate", "/verify_challenge", "/data"]);
}

#[tokio::test]
async fn handshakes_are_on_the_callers_trail_and_narrated_without_secrets() {
    let orders = Orders::start(|builder| builder).await;
    let sink = Arc::new(MemorySink::default());
    let told = Arc::new(Mutex::new(String::new()));
    let listening = Arc::clone(&told);
    let narrator = Arc::new(move |narration: &Narration| {
        listening.lock().unwrap().push_str(&format!("{narration}\n"));
    });
    let builder = Client::builder().audit(sink.clone()).narrator(narrator);
    let client = builder.build(&orders.keys.orders_at(&orders.url, false)).unwrap();
    client.send(get("/x")).await.unwrap();
    client.send(get("/x")).await.unwrap();
    let records = sink.records();
    assert_eq!(records.len(), 1, "one handshake");
    assert_eq!((records[0].direction, records[0].outcome), (Direction::Outbound, Outcome::Accepted));
    assert_eq!(records[0].credential.as_deref(), Some("orders/1"));
    let told = told.lock().unwrap();
    assert!(told.contains("POST") && told.contains("both sides have proved themselves"), "{told}");
    for secret in
        [orders.keys.secret.expose(), orders.keys.billing.expose(), orders.keys.orders.expose(), "csb."]
    {
        assert!(!told.contains(secret), "{told}");
    }
}
