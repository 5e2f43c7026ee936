use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use bytes::Bytes;
use countersign::audit::{self, AuditKey, AuditSink, MemoryHeads, Trail};
use countersign::protocol::UnixTime;
use countersign::protocol::api_key::sign;
use countersign::server::{Authenticator, Limits};
use countersign::store::Quota;
use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore, Trust};
use countersign_gateway::{Gateway, Metrics, Settings};
use countersign_store::contract::key;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use zeroize::Zeroizing;

const CONNECTIONS: usize = 4;
const ROUNDS: usize = 7;
const ROUND: Duration = Duration::from_millis(700);

pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let trail = tempfile::tempdir().expect("a directory");
        let quiet = gateway(None).await;
        let written = gateway(Some(Arc::new(open(trail.path(), true)))).await;
        let floor = floor().await;
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            rounds.push([
                rate(quiet, CONNECTIONS, true).await,
                rate(written, CONNECTIONS, true).await,
                rate(floor, CONNECTIONS, false).await,
            ]);
        }
        let median = |pick: fn(&[f64; 3]) -> f64| {
            let mut numbers: Vec<f64> = rounds.iter().map(pick).collect();
            numbers.sort_by(f64::total_cmp);
            numbers.get(ROUNDS / 2).copied().unwrap_or_default()
        };
        println!("both requests answered with fixed bytes (the floor)  {:>8.0} pairs/s", median(|round| round[2]));
        println!(
            "authentications without a trail                      {:>8.0} pairs/s, {:.2} of the floor",
            median(|round| round[0]),
            median(|round| round[0] / round[2]),
        );
        println!(
            "authentications, both steps written to the trail     {:>8.0} pairs/s, {:.2} of the floor",
            median(|round| round[1]),
            median(|round| round[1] / round[2]),
        );
        println!("({CONNECTIONS} connections; server and clients share this machine's cores; medians of {ROUNDS} rounds in turn)");
    });
}

fn api_key() -> ApiKey {
    key(1)
}

/// A trail in a directory; with `danger_no_sync` it does not wait for the disk.
pub(crate) fn open(directory: &std::path::Path, danger_no_sync: bool) -> Trail {
    let key = AuditKey::new(Zeroizing::new([7; 32]));
    let settings = audit::Settings { danger_no_sync, ..audit::Settings::default() };
    Trail::open(directory, "serve", &key, Box::new(MemoryHeads::default()), settings).expect("a trail")
}

/// The real gateway, with limits out of the way.
pub(crate) async fn gateway(trail: Option<Arc<dyn AuditSink>>) -> SocketAddr {
    let store = MemoryStore::new();
    let peer = NewPeer {
        name: "billing".parse().expect("a name"),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys: NewKeys::api_key(None, Some(api_key())).expect("a good key"),
    };
    store.add(peer, UnixTime(0)).expect("a new peer");
    let open = Quota::per_minute(60_000, 1_000_000);
    let limits = Limits { per_source: open, per_key: open, ..Limits::default() };
    let mut builder =
        Authenticator::builder("orders".parse().expect("a name"), Arc::new(store)).limits(limits);
    if let Some(trail) = trail {
        builder = builder.audit(trail);
    }
    let settings = Settings::new(vec!["http://127.0.0.1:0".parse().expect("a listener")]);
    let authenticator = builder.build().expect("a store");
    let gateway = Gateway::bind(authenticator, Metrics::new(), settings).await.expect("a free port");
    let address = gateway.listening().first().expect("a listener").address;
    tokio::spawn(gateway.run(std::future::pending()));
    address
}

/// The same HTTP engine answering the same two requests with fixed bytes of the same length.
async fn floor() -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    let app = Router::new()
        .route(
            "/authenticate",
            post(|_: Bytes| async {
                r#"{"challenge":"1678886400.0123456789abcdef0123456789abcdef","expiresIn":30}"#
            }),
        )
        .route("/verify_challenge", post(|_: Bytes| async { FIXED }));
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

const FIXED: &str = concat!(
    r#"{"authenticated":true,"service":"billing","token":"csb."#,
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789ab",
    r#"","expiresIn":300}"#
);

/// Pairs of requests a second, over some connections for one round.
pub(crate) async fn rate(address: SocketAddr, connections: usize, real: bool) -> f64 {
    let start = Instant::now();
    let workers: Vec<_> = (0..connections).map(|_| tokio::spawn(work(address, real, start))).collect();
    let mut pairs = 0;
    for worker in workers {
        pairs += worker.await.expect("a worker");
    }
    f64::from(pairs) / start.elapsed().as_secs_f64()
}

async fn work(address: SocketAddr, real: bool, start: Instant) -> u32 {
    let stream = TcpStream::connect(address).await.expect("a connection");
    stream.set_nodelay(true).expect("a socket");
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
    tokio::spawn(connection);
    let key = api_key();
    let ask = format!(r#"{{"apiKey":"{}"}}"#, key.expose());
    let mut pairs = 0;
    while start.elapsed() < ROUND {
        let answer = send(&mut sender, "/authenticate", ask.clone()).await;
        let challenge = challenge(&answer);
        let signature = sign(&key, &challenge.parse().expect("guide 2's shape")).to_hex();
        let body = format!(r#"{{"apiKey":"{}","signedChallenge":"{signature}"}}"#, key.expose());
        let answer = send(&mut sender, "/verify_challenge", body).await;
        assert!(!real || answer.windows(4).any(|window| window == b"csb."), "authenticated");
        pairs += 1;
    }
    pairs
}

fn challenge(answer: &[u8]) -> String {
    let answer: serde_json::Value = serde_json::from_slice(answer).expect("JSON");
    answer.get("challenge").and_then(|text| text.as_str()).expect("a challenge").to_owned()
}

async fn send(sender: &mut SendRequest<Full<Bytes>>, path: &str, body: String) -> Bytes {
    let request = Request::post(path).header("host", "orders").body(Full::from(body)).expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.into_body().collect().await.expect("a body").to_bytes()
}
