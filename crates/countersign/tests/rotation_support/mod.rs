//! Two services that serve and call each other over loopback, and a network between them that loses and repeats what it is told to.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "each test file uses a part; a broken fixture ends the test"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::middleware::Next;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use countersign::client::Client;
use countersign::protocol::UnixTime;
use countersign::protocol::wire::ROTATION;
use countersign::rotation::{Driver, Settings};
use countersign::server::{AuthLayer, Authenticator, Peer as Caller, router};
use countersign::store::{Peer, random};
use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore, ServiceName, SharedSecret, Trust};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;

/// Fast enough for a test. In whole seconds, a grace of 2 is at least one.
pub(crate) const SETTINGS: Settings = Settings {
    grace: Duration::from_secs(2),
    propagation: Duration::from_millis(150),
    give_up: Duration::from_secs(600),
    status_every: Duration::from_millis(500),
};

/// What the network does to the rotation messages of one service.
#[derive(Default)]
pub(crate) struct Network {
    /// So many answers are lost.
    pub(crate) lose_answers: AtomicUsize,
    /// So many requests do not arrive.
    pub(crate) lose_requests: AtomicUsize,
    /// Each confirmation arrives twice.
    pub(crate) twice: AtomicUsize,
    pub(crate) seen: AtomicUsize,
}

pub(crate) struct Service {
    pub(crate) name: ServiceName,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) authenticator: Authenticator,
    pub(crate) url: String,
    pub(crate) network: Arc<Network>,
    pub(crate) served: Arc<AtomicU64>,
}

impl Service {
    pub(crate) async fn start(name: &str) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let store = Arc::new(MemoryStore::new());
        let name: ServiceName = name.parse().unwrap();
        let authenticator = Authenticator::builder(name.clone(), store.clone())
            .external_urls([url.parse().unwrap()])
            .rotation(SETTINGS)
            .build()
            .unwrap();
        let (network, served) = (Arc::new(Network::default()), Arc::new(AtomicU64::new(0)));
        let (on_the_way, count) = (network.clone(), served.clone());
        let app = Router::new()
            .route(
                "/work",
                any(move |caller: Caller| {
                    count.fetch_add(1, Ordering::Relaxed);
                    async move { caller.service.to_string() }
                }),
            )
            .layer(AuthLayer::new(authenticator.clone()))
            .merge(router(authenticator.clone()).layer(axum::middleware::from_fn(move |request, next| {
                let network = on_the_way.clone();
                async move { network.pass(request, next).await }
            })));
        tokio::spawn(async move { axum::serve(listener, app).await });
        tokio::spawn(authenticator.clone().watch());
        Self { name, store, authenticator, url, network, served }
    }

    pub(crate) fn peer(&self, other: &Service) -> Peer {
        self.store.get(&other.name).unwrap()
    }

    pub(crate) fn client(&self, other: &Service) -> Client {
        Client::builder().follow(self.store.clone()).build(&self.peer(other)).unwrap()
    }

    pub(crate) fn driver(&self, other: &Service) -> Driver {
        Driver::new(self.store.clone(), other.name.clone(), self.client(other), SETTINGS)
    }

    fn know(&self, other: &Service, keys: NewKeys, called: bool) {
        let peer = NewPeer {
            name: other.name.clone(),
            url: called.then(|| other.url.clone()),
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Default::default(),
            keys,
        };
        self.store.add(peer, now()).unwrap();
    }
}

impl Network {
    async fn pass(&self, request: Request<Body>, next: Next) -> Response {
        if request.uri().path() != ROTATION {
            return next.run(request).await;
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
        if take_one(&self.lose_requests) {
            return lost();
        }
        let (parts, body) = request.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let again = Request::from_parts(parts.clone(), Body::from(body.clone()));
        let mut answer = next.clone().run(Request::from_parts(parts, Body::from(body))).await;
        if !again.headers().contains_key("signature") && take_one(&self.twice) {
            answer = next.run(again).await;
        }
        if take_one(&self.lose_answers) { lost() } else { answer }
    }
}

fn take_one(count: &AtomicUsize) -> bool {
    count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
}

fn lost() -> Response {
    Response::builder().status(502).body(Body::empty()).unwrap()
}

/// `billing` and `orders`; the second is told the first one's URL only if it is to call it.
pub(crate) async fn pair(both_call: bool) -> (Service, Service) {
    let (billing, orders) = (Service::start("billing").await, Service::start("orders").await);
    introduce(&billing, &orders, both_call);
    (billing, orders)
}

pub(crate) fn introduce(caller: &Service, called: &Service, both_call: bool) {
    let keys = NewKeys::cs1(
        ApiKey::generate(&random()),
        ApiKey::generate(&random()),
        SharedSecret::generate(&random()),
    );
    let keys = keys.unwrap();
    caller.know(called, keys.clone(), true);
    called.know(caller, keys.exchanged(), both_call);
    caller.authenticator.refresh().unwrap();
    called.authenticator.refresh().unwrap();
}

pub(crate) fn now() -> UnixTime {
    UnixTime(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs())
}

/// A request that is not repeated by itself.
pub(crate) async fn work(client: &Client) -> Result<(), String> {
    let request = Request::post("/work").body(Bytes::from("data")).unwrap();
    let response = client.send(request).await.map_err(|error| error.to_string())?;
    match response.status() {
        StatusCode::OK => Ok(()),
        other => Err(other.to_string()),
    }
}

/// That both have the same credentials, of which so many live, and take each other's requests.
pub(crate) async fn assert_one_pair(a: &Service, b: &Service, live: usize) {
    let fingerprints = |peer: &Peer| -> Vec<String> {
        peer.credentials.iter().map(|one| one.fingerprint.as_str().to_owned()).collect()
    };
    let (of_a, of_b) = (fingerprints(&a.peer(b)), fingerprints(&b.peer(a)));
    assert_eq!(of_a, of_b);
    assert_eq!(of_a.len(), live);
    work(&a.client(b)).await.unwrap();
}

/// Until it is so, or for ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..400 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    unreachable!("not within ten seconds: {what}");
}
