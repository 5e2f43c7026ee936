//! Servers on loopback for the client: `orders` with the real layer, and servers that answer as a test says.

#![allow(dead_code, reason = "each file of tests uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

pub(crate) mod signed;
pub(crate) mod tls;

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use countersign::audit::{MemorySink, Outcome};
use countersign::client::Client;
use countersign::protocol::UnixTime;
use countersign::protocol::shared_secret::sign;
use countersign::server::{AuthLayer, Authenticator, Builder, Peer as Caller, router};
use countersign::store::{Ending, Next, Overlap, Peer, Which, random};
use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore as _, SharedSecret, Trust};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const CHALLENGE: &str = "AAECAwQFBgcICQoLDA0ODw==";

/// What `billing` and `orders` hold.
#[derive(Clone)]
pub(crate) struct Keys {
    pub(crate) billing: ApiKey,
    pub(crate) orders: ApiKey,
    pub(crate) secret: SharedSecret,
}

impl Keys {
    pub(crate) fn new() -> Self {
        Self {
            billing: ApiKey::generate(&random()),
            orders: ApiKey::generate(&random()),
            secret: SharedSecret::generate(&random()),
        }
    }

    /// `orders` as `billing` knows it.
    pub(crate) fn orders_at(&self, url: &str, danger_unproven_server: bool) -> Peer {
        let Self { billing, orders, secret } = self.clone();
        let keys = NewKeys::shared_secret(billing, orders, secret.clone(), secret).unwrap();
        peer(url, keys, danger_unproven_server)
    }

    /// The same under `api-key`.
    pub(crate) fn orders_by_key_at(&self, url: &str) -> Peer {
        peer(url, NewKeys::api_key(Some(self.billing.clone()), None).unwrap(), false)
    }

    /// The same under `cs1`.
    pub(crate) fn orders_by_cs1_at(&self, url: &str) -> Peer {
        let Self { billing, orders, secret } = self.clone();
        peer(url, NewKeys::cs1(billing, orders, secret).unwrap(), false)
    }

    /// The headers with which `orders` proves itself to a caller.
    pub(crate) fn proof(&self, seen: &Seen) -> Vec<(&'static str, String)> {
        let challenge = seen.headers["x-client-challenge"].to_str().unwrap().parse().unwrap();
        let signature = sign(&self.secret.mac_key(), &self.orders, &challenge);
        vec![("x-api-key", self.orders.expose().to_owned()), ("x-signature", signature.to_hex())]
    }
}

fn peer(url: &str, keys: NewKeys, danger_unproven_server: bool) -> Peer {
    let name = "orders".parse().unwrap();
    let peer = NewPeer {
        name,
        url: Some(url.to_owned()),
        trust: Trust::System,
        danger_unproven_server,
        cs1: Default::default(),
        keys,
    };
    MemoryStore::new().add(peer, UnixTime(1)).unwrap()
}

/// A server that ends with its test.
pub(crate) struct Server {
    pub(crate) url: String,
    pub(crate) serving: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, serving }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// `orders` with the real layer, below the prefix `/api`, and its trail.
pub(crate) struct Orders {
    pub(crate) keys: Keys,
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) url: String,
    store: Arc<MemoryStore>,
    authenticator: Authenticator,
    server: Server,
}

impl Orders {
    pub(crate) async fn start(set: impl FnOnce(Builder) -> Builder) -> Self {
        let keys = Keys::new();
        let Keys { billing, orders, secret } = keys.clone();
        let own = NewKeys::shared_secret(orders, billing, secret.clone(), secret).unwrap();
        Self::with(keys, own, set).await
    }

    /// Under `api-key`.
    pub(crate) async fn by_key() -> Self {
        let keys = Keys::new();
        let own = NewKeys::api_key(None, Some(keys.billing.clone())).unwrap();
        Self::with(keys, own, |builder| builder).await
    }

    async fn with(keys: Keys, own: NewKeys, set: impl FnOnce(Builder) -> Builder) -> Self {
        let store = Arc::new(MemoryStore::new());
        let name = "billing".parse().unwrap();
        let peer = NewPeer {
            name,
            url: None,
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Default::default(),
            keys: own,
        };
        store.add(peer, UnixTime(1)).unwrap();
        let sink = Arc::new(MemorySink::default());
        let builder = Authenticator::builder("orders".parse().unwrap(), store.clone()).audit(sink.clone());
        let authenticator = set(builder).build().unwrap();
        let tell = |caller: Caller, request: Request<Body>| async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let known =
                parts.headers.contains_key("x-api-key") || parts.headers.contains_key("authorization");
            json!({
                "service": caller.service.as_str(), "method": parts.method.as_str(), "uri": parts.uri.to_string(),
                "body": String::from_utf8_lossy(&body), "credentials": known,
            })
            .to_string()
        };
        let protected = Router::new().fallback(any(tell)).layer(AuthLayer::new(authenticator.clone()));
        let app = Router::new().nest("/api", protected.merge(router(authenticator.clone())));
        let server = Server::start(app).await;
        let url = format!("{}/api", server.url);
        Self { keys, sink, url, store, authenticator, server }
    }

    /// Gives `billing` its next credential at this server.
    pub(crate) fn rotate(&self, keys: &Keys) {
        let Keys { billing, orders, secret } = keys.clone();
        let keys = NewKeys::shared_secret(orders, billing, secret.clone(), secret).unwrap();
        let next =
            Next { keys, overlap: Overlap::new(UnixTime(1), 60, None), confirmed: false, follows: None };
        self.store.rotate(&"billing".parse().unwrap(), next, UnixTime(1)).unwrap();
        assert!(self.authenticator.refresh().unwrap());
    }

    /// Ends credentials of `billing` at this server.
    pub(crate) fn end(&self, which: Which, how: Ending) {
        self.store.end(&"billing".parse().unwrap(), which, how, UnixTime(1)).unwrap();
        assert!(self.authenticator.refresh().unwrap());
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.keys.orders_at(&self.url, false)).unwrap()
    }

    /// How many accepted attempts had this step.
    pub(crate) fn accepted(&self, step: &str) -> usize {
        let records = self.sink.records();
        records.iter().filter(|record| record.step == step && record.outcome == Outcome::Accepted).count()
    }
}

/// A request as a fake server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// A server that answers as a test says.
pub(crate) struct Fake {
    pub(crate) server: Server,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// Status, headers, body.
pub(crate) type Said = (u16, Vec<(&'static str, String)>, String);

impl Fake {
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Said + Send + Sync + 'static) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&seen), Arc::new(answer));
        let handle = move |request: Request<Body>| {
            let (kept, answer) = (Arc::clone(&kept), Arc::clone(&answer));
            async move {
                let (parts, body) = request.into_parts();
                let body = body.collect().await.unwrap().to_bytes();
                let path = parts.uri.path().to_owned();
                let seen = Seen { method: parts.method, path, headers: parts.headers, body };
                kept.lock().unwrap().push(seen.clone());
                let (status, headers, body) = answer(&seen);
                let mut response = Response::new(Body::from(body));
                *response.status_mut() = StatusCode::from_u16(status).unwrap();
                for (name, value) in headers {
                    response.headers_mut().append(name, value.parse().unwrap());
                }
                response
            }
        };
        Self { server: Server::start(Router::new().fallback(any(handle))).await, seen }
    }

    /// A server that makes the handshake of guide 1 rightly (`verdict` is the body of its last answer), and
    /// answers all else as a test says.
    pub(crate) async fn proven(
        keys: &Keys,
        verdict: &'static str,
        answer: impl Fn(&Seen) -> Said + Send + Sync + 'static,
    ) -> Self {
        let keys = keys.clone();
        Self::start(move |seen| match seen.path.as_str() {
            "/authenticate" => (200, vec![], json!({"challenge": CHALLENGE}).to_string()),
            "/verify_challenge" => (200, keys.proof(seen), verdict.to_owned()),
            _ => answer(seen),
        })
        .await
    }

    pub(crate) fn url(&self) -> &str {
        &self.server.url
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }
}

pub(crate) fn get(uri: &str) -> Request<Bytes> {
    Request::get(uri).body(Bytes::new()).unwrap()
}

pub(crate) fn post(uri: &str, body: &'static str) -> Request<Bytes> {
    Request::post(uri).body(Bytes::from_static(body.as_bytes())).unwrap()
}

pub(crate) async fn read(
    response: Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug>>,
) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

pub(crate) async fn json(
    response: Response<impl http_body::Body<Data = Bytes, Error: std::fmt::Debug>>,
) -> serde_json::Value {
    serde_json::from_slice(&read(response).await).unwrap()
}
