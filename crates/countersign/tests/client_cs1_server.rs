//! Both sides of `cs1` as they are: the client against the real layer.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

mod client_support;

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get as on_get, post as on_post};
use bytes::Bytes;
use client_support::signed::Pieces;
use client_support::{Keys, get, json, post, read};
use countersign::audit::{MemorySink, Outcome};
use countersign::client::{Client, ClientError, Standing};
use countersign::protocol::UnixTime;
use countersign::server::{AuthLayer, Authenticator, Peer as Caller, router};
use countersign::store::{Cs1Options, Ending, Next, Overlap, Which};
use countersign::{MemoryStore, NewKeys, NewPeer, PeerStore as _, Trust};
use http::{Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::json as value;

/// `orders` below `/api`.
struct Orders {
    keys: Keys,
    url: String,
    sink: Arc<MemorySink>,
    store: Arc<MemoryStore>,
    authenticator: Authenticator,
    _server: client_support::Server,
}

/// What it says of a request.
async fn told(caller: Caller, request: Request<Body>) -> String {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let signed = parts.headers.contains_key("signature");
    value!({
        "service": caller.service.as_str(), "uri": parts.uri.to_string(),
        "body": String::from_utf8_lossy(&body), "signed": signed,
    })
    .to_string()
}

/// How long a request's content is.
async fn length(request: Request<Body>) -> Response<Body> {
    let mut body = request.into_body();
    let mut length = 0;
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => length += frame.data_ref().map_or(0, Bytes::len),
            Err(_) => return Response::builder().status(500).body(Body::empty()).unwrap(),
        }
    }
    Response::new(Body::from(length.to_string()))
}

/// More than is held.
async fn flood() -> Body {
    let piece = Bytes::from(vec![7; 1 << 16]);
    Body::new(Pieces((0..64).map(|_| Ok(Frame::data(piece.clone()))).collect()))
}

impl Orders {
    async fn start() -> Self {
        let keys = Keys::new();
        let Keys { billing, orders, secret } = keys.clone();
        let store = Arc::new(MemoryStore::new());
        let own = NewPeer {
            name: "billing".parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Cs1Options::default(),
            keys: NewKeys::cs1(orders, billing, secret).unwrap(),
        };
        store.add(own, UnixTime(1)).unwrap();
        let sink = Arc::new(MemorySink::default());
        let builder = Authenticator::builder("orders".parse().unwrap(), store.clone());
        let authenticator = builder.audit(sink.clone()).build().unwrap();
        let protected = Router::new()
            .route("/length", on_post(length))
            .route("/flood", on_get(flood))
            .route("/problem", any(|| async { (StatusCode::CONFLICT, "taken") }))
            .fallback(any(told))
            .layer(AuthLayer::new(authenticator.clone()).take_streams(true));
        let app = Router::new().nest("/api", protected.merge(router(authenticator.clone())));
        let server = client_support::Server::start(app).await;
        let url = format!("{}/api", server.url);
        authenticator.set_external_urls(vec![url.parse().unwrap()]);
        Self { keys, url, sink, store, authenticator, _server: server }
    }

    fn client(&self) -> Client {
        Client::new(&self.keys.orders_by_cs1_at(&self.url)).unwrap()
    }

    fn accepted(&self, step: &str) -> usize {
        let records = self.sink.records();
        records.iter().filter(|record| record.step == step && record.outcome == Outcome::Accepted).count()
    }
}

#[tokio::test]
async fn a_handler_learns_who_calls_and_its_answers_are_verified_problems_too() {
    let orders = Orders::start().await;
    let client = orders.client();
    let response = client.send(post("/items?a=b", "data")).await.unwrap();
    assert!(response.body().is_verified());
    assert_eq!(
        json(response).await,
        value!({"service": "billing", "uri": "/items?a=b", "body": "data", "signed": false})
    );
    let full = format!("{}/items", orders.url);
    assert_eq!(json(client.send(get(&full)).await.unwrap()).await["uri"], "/items");
    let problem = client.send(get("/problem")).await.unwrap();
    assert_eq!((problem.status(), problem.body().is_verified()), (StatusCode::CONFLICT, true));
    let head = client.send(Request::head("/items").body(Bytes::new()).unwrap()).await.unwrap();
    assert_eq!((head.status(), read(head).await.len()), (StatusCode::OK, 0));
    assert_eq!((orders.accepted("verify-challenge"), orders.accepted("signed")), (1, 4));
}

#[tokio::test]
async fn cs_38_streams_pass_both_ways() {
    let orders = Orders::start().await;
    let client = orders.client();
    let piece = Bytes::from(vec![7; 1 << 16]);
    let content: VecDeque<_> = (0..64).map(|_| Ok(Frame::data(piece.clone()))).collect();
    let request = Request::post("/length").body(Pieces(content)).unwrap();
    assert_eq!(read(client.send_streamed(request).await.unwrap()).await, (64 << 16).to_string());
    let response = client.send(get("/flood")).await.unwrap();
    assert_eq!(response.body().standing(), Standing::ProvedAtItsEnd);
    assert_eq!(response.into_body().whole(64 << 16).await.unwrap().len(), 64 << 16);
}

#[tokio::test]
async fn a_client_that_follows_its_store_goes_on_through_a_rotation_and_ends_with_a_revocation() {
    let orders = Orders::start().await;
    let own = Arc::new(MemoryStore::new());
    let name = "orders".parse().unwrap();
    let known = orders.keys.orders_by_cs1_at(&orders.url);
    let Keys { billing, orders: theirs, secret } = orders.keys.clone();
    let new = NewPeer {
        name: known.name.clone(),
        url: known.url.clone(),
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Cs1Options::default(),
        keys: NewKeys::cs1(billing, theirs, secret).unwrap(),
    };
    let added = own.add(new, UnixTime(1)).unwrap();
    let client = Client::builder().follow(own.clone()).build(&added).unwrap();
    assert!(client.send(post("/x", "data")).await.is_ok());
    let Keys { billing, orders: theirs, secret } = Keys::new();
    let next =
        |keys| Next { keys, overlap: Overlap::new(UnixTime(1), 60, None), confirmed: true, follows: None };
    let caller = "billing".parse().unwrap();
    let server_side = NewKeys::cs1(theirs.clone(), billing.clone(), secret.clone()).unwrap();
    orders.store.rotate(&caller, next(server_side), UnixTime(1)).unwrap();
    own.rotate(&name, next(NewKeys::cs1(billing, theirs, secret).unwrap()), UnixTime(1)).unwrap();
    orders.store.end(&caller, Which::Number(1), Ending::Retired, UnixTime(1)).unwrap();
    assert!(orders.authenticator.refresh().unwrap());
    // The session ended with its credential, and the client finds the next one.
    assert!(client.send(get("/x")).await.is_ok());
    assert!(client.send(post("/x", "data")).await.is_ok());
    orders.store.end(&caller, Which::All, Ending::Revoked, UnixTime(1)).unwrap();
    assert!(orders.authenticator.refresh().unwrap());
    let error = client.send(get("/x")).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
}
