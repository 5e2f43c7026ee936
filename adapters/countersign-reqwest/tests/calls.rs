//! Calls through `reqwest` and the middleware to a real server on loopback.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use bytes::Bytes;
use countersign::client::{Client, ClientError, Standing};
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::Coverage;
use countersign::server::{AuthLayer, Authenticator, Peer, router};
use countersign::store::random;
use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore as _, SharedSecret, Trust};
use countersign_reqwest::{Authenticated, Failed};
use futures_util::stream;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error};

const NOW: UnixTime = UnixTime(1_700_000_000);

/// A server under `cs1`, and what a caller needs.
struct Served {
    url: String,
    /// Requests that came as far as a handler.
    handled: Arc<AtomicUsize>,
    keys: (ApiKey, ApiKey, SharedSecret),
}

fn peer(name: &str, url: Option<String>, keys: NewKeys) -> NewPeer {
    let (name, trust) = (name.parse().unwrap(), Trust::System);
    NewPeer { name, url, trust, danger_unproven_server: false, cs1: Default::default(), keys }
}

async fn listen(app: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    url
}

async fn serve() -> Served {
    let (caller, called) = (ApiKey::generate(&random()), ApiKey::generate(&random()));
    let secret = SharedSecret::generate(&random());
    let store = MemoryStore::new();
    let keys = NewKeys::cs1(called.clone(), caller.clone(), secret.clone()).unwrap();
    store.add(peer("billing", None, keys), NOW).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let authenticator = Authenticator::builder("orders".parse().unwrap(), Arc::new(store))
        .external_urls([url.parse().unwrap()])
        .build()
        .unwrap();
    let handled = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&handled);
    let app = Router::new()
        .route("/hello", get(|peer: Peer| async move { format!("hello {}", peer.service) }))
        .route("/echo", post(|content: Bytes| async move { content }))
        .route(
            "/slow",
            get(|| async {
                tokio::time::sleep(Duration::from_secs(30)).await;
                "late"
            }),
        )
        .layer(axum::middleware::from_fn(
            move |request: axum::extract::Request, next: axum::middleware::Next| {
                counted.fetch_add(1, Ordering::Relaxed);
                next.run(request)
            },
        ))
        .layer(AuthLayer::new(authenticator.clone()).take_streams(true));
    let app = router(authenticator).fallback_service(app);
    tokio::spawn(async move { axum::serve(listener, app).await });
    Served { url, handled, keys: (caller, called, secret) }
}

impl Served {
    /// `billing`, which knows this server at `url`.
    fn client(&self, url: &str) -> Client {
        let (caller, called, secret) = self.keys.clone();
        let store = MemoryStore::new();
        let keys = NewKeys::cs1(caller, called, secret).unwrap();
        Client::new(&store.add(peer("orders", Some(url.to_owned()), keys), NOW).unwrap()).unwrap()
    }

    fn http(&self) -> ClientWithMiddleware {
        with(Authenticated::new(self.client(&self.url)))
    }
}

fn with(authenticated: Authenticated) -> ClientWithMiddleware {
    ClientBuilder::new(reqwest::Client::new()).with(authenticated).build()
}

/// What failed in the middleware.
fn failed(error: &Error) -> &Failed {
    Failed::of(error).unwrap_or_else(|| panic!("{error:?}"))
}

#[tokio::test]
async fn a_request_is_authenticated_and_its_response_is_verified() {
    let served = serve().await;
    let url = format!("{}/hello", served.url);
    let response = served.http().get(&url).send().await.unwrap();
    assert_eq!((response.status().as_u16(), response.url().as_str()), (200, url.as_str()));
    assert_eq!(response.extensions().get::<Standing>(), Some(&Standing::Verified));
    let coverage = response.extensions().get::<Coverage>().unwrap();
    assert!(coverage.covers(&http::header::CONTENT_TYPE));
    assert_eq!(response.content_length(), Some(13));
    assert_eq!(response.text().await.unwrap(), "hello billing");
}

#[tokio::test]
async fn what_is_not_found_comes_back_and_is_verified_too() {
    let served = serve().await;
    let response = served.http().get(format!("{}/nowhere", served.url)).send().await.unwrap();
    assert_eq!(response.status().as_u16(), 404);
    assert_eq!(response.extensions().get::<Standing>(), Some(&Standing::Verified));
}

#[tokio::test]
async fn content_in_memory_and_content_that_streams_both_arrive() {
    let (served, content) = (serve().await, Bytes::from(vec![7; 300_000]));
    let http = served.http();
    let echo = || http.post(format!("{}/echo", served.url));
    let held = echo().body(content.clone()).send().await.unwrap();
    assert_eq!(held.bytes().await.unwrap(), content);
    let pieces: Vec<_> =
        content.chunks(10_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec())).collect();
    let body = reqwest::Body::wrap_stream(stream::iter(pieces));
    let streamed = echo().body(body).send().await.unwrap();
    assert_eq!(streamed.bytes().await.unwrap(), content);
    let empty = echo().send().await.unwrap();
    assert_eq!(empty.bytes().await.unwrap(), "");
}

#[tokio::test]
async fn an_answer_that_the_peer_did_not_sign_does_not_come_back() {
    let served = serve().await;
    // Somebody in between, who passes the handshake on and answers the rest himself.
    let real = served.url.clone();
    let between = listen(Router::new().fallback(move |request: axum::extract::Request| {
        let real = real.clone();
        async move {
            let path = request.uri().path().to_owned();
            if path != "/authenticate" && path != "/verify_challenge" {
                return (axum::http::StatusCode::OK, "forged".to_owned());
            }
            let (head, body) = request.into_parts();
            let content = axum::body::to_bytes(body, 65_536).await.unwrap();
            let mut headers = head.headers;
            headers.remove("host");
            let answer = reqwest::Client::new().post(format!("{real}{path}")).headers(headers).body(content);
            let answer = answer.send().await.unwrap();
            let status = axum::http::StatusCode::from_u16(answer.status().as_u16()).unwrap();
            (status, answer.text().await.unwrap())
        }
    }))
    .await;
    let http = with(Authenticated::new(served.client(&between)));
    let error = http.get(format!("{between}/hello")).send().await.unwrap_err();
    assert!(
        matches!(failed(&error), Failed::Client(ClientError::OutcomeUnknown { status: 200, .. })),
        "{error}"
    );
    assert_eq!(served.handled.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_goes_elsewhere_is_refused_or_let_through_as_it_was_said() {
    let served = serve().await;
    let other = listen(Router::new().route(
        "/",
        get(|headers: axum::http::HeaderMap| async move { format!("{}", headers.contains_key("signature")) }),
    ))
    .await;
    // Another host: the same machine by another name.
    let elsewhere = other.replace("127.0.0.1", "localhost");
    let error = served.http().get(&elsewhere).send().await.unwrap_err();
    assert!(matches!(failed(&error), Failed::Client(ClientError::Elsewhere)), "{error}");
    let http = with(Authenticated::new(served.client(&served.url)).letting_others_through());
    assert_eq!(http.get(&elsewhere).send().await.unwrap().text().await.unwrap(), "false");
    let here = http.get(format!("{}/hello", served.url)).send().await.unwrap();
    assert_eq!(here.extensions().get::<Standing>(), Some(&Standing::Verified));
    // The peer's host at another port would go out unsigned.
    let error = http.get(&other).send().await.unwrap_err();
    assert!(matches!(failed(&error), Failed::Client(ClientError::Elsewhere)), "{error}");
}

#[tokio::test]
async fn a_request_ends_when_its_own_time_is_over() {
    let served = serve().await;
    let slow = served.http().get(format!("{}/slow", served.url)).timeout(Duration::from_millis(300));
    let error = slow.send().await.unwrap_err();
    assert!(matches!(failed(&error), Failed::Timeout(_)), "{error}");
}

#[tokio::test]
async fn a_request_that_sets_what_a_signature_rests_on_is_not_sent() {
    let served = serve().await;
    let request = served.http().get(format!("{}/hello", served.url)).header("signature", "cs=:AAAA:");
    let error = request.send().await.unwrap_err();
    assert!(matches!(failed(&error), Failed::Client(ClientError::HeaderTaken(_))), "{error}");
    assert_eq!(served.handled.load(Ordering::Relaxed), 0);
}
