//! Callers that keep a place without using it, and requests that are not passed on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use countersign::protocol::UnixTime;
use countersign::protocol::shared_secret::sign;
use countersign::server::Authenticator;
use countersign::store::Trust;
use countersign::{MemoryStore, PeerStore};
use countersign_gateway::{Gateway, Metrics, Settings, Upstream};
use countersign_store::contract::{key, secret, shared_secret_peer};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::body::{Bytes, Frame};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Much longer than what the servers here allow, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway whose callers get one second for everything; `billing` of the store's contract may call it.
async fn gateway(change: impl FnOnce(&mut Settings)) -> std::net::SocketAddr {
    let store = MemoryStore::new();
    store.add(shared_secret_peer("billing", 1), UnixTime(0)).unwrap();
    let authenticator = Authenticator::builder("orders".parse().unwrap(), Arc::new(store)).build().unwrap();
    let mut settings = Settings::new(vec!["http://127.0.0.1:0".parse().unwrap()]);
    settings.timeouts.head = Duration::from_secs(1);
    settings.timeouts.write = Duration::from_secs(1);
    settings.timeouts.body = Duration::from_secs(1);
    change(&mut settings);
    let gateway = Gateway::bind(authenticator, Metrics::new(), settings).await.unwrap();
    let address = gateway.listening()[0].address;
    tokio::spawn(gateway.run(std::future::pending()));
    address
}

/// Whether the server ends this connection.
async fn is_ended(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    // A reset ends it as well as a close.
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.is_ok()
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_said_is_closed() {
    let address = gateway(|_| {}).await;
    for opening in ["", "GET / HT", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "PRI * HTTP/2.0\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(opening.as_bytes()).await.unwrap();
        assert!(is_ended(&mut stream).await, "{opening:?}");
    }
}

#[tokio::test]
async fn an_http_2_connection_without_requests_is_closed_though_it_answers_pings() {
    let address = gateway(|_| {}).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
    answer.into_body().collect().await.unwrap();
    // hyper's client answers pings for as long as the connection lives.
    tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_caller_that_never_takes_its_response_is_cut_off() {
    let address = gateway(|_| {}).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.timer(TokioTimer::new()).initial_stream_window_size(0);
    let (mut sender, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = Request::get(format!("http://{address}/")).body(Empty::<Bytes>::new()).unwrap();
    let unread = sender.send_request(request).await.unwrap();
    // The response is kept, so that it is not given up, and the connection ends all the same.
    let _ = tokio::time::timeout(PATIENCE, connection).await.unwrap().unwrap();
    drop(unread);
}

#[tokio::test]
async fn one_source_cannot_hold_more_connections_than_it_may() {
    let address = gateway(|settings| {
        settings.max_connections_per_source = 2;
        settings.timeouts.head = PATIENCE * 2;
    })
    .await;
    let held = [TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap()];
    // The third is accepted by the kernel and closed by the server.
    let mut third = TcpStream::connect(address).await.unwrap();
    assert!(is_ended(&mut third).await);
    drop(held);
    let answered = async {
        loop {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n").await.unwrap();
            let mut text = String::new();
            if stream.read_to_string(&mut text).await.is_ok() && text.starts_with("HTTP/1.1 401") {
                return;
            }
        }
    };
    tokio::time::timeout(PATIENCE, answered).await.unwrap();
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_malformed() {
    let address = gateway(|_| {}).await;
    for (hosts, status) in [("", "400"), ("host: a\r\nhost: a\r\n", "400"), ("host: a\r\n", "401")] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET / HTTP/1.1\r\n{hosts}connection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        assert!(text.starts_with(&format!("HTTP/1.1 {status}")), "{hosts:?}: {text}");
    }
}

/// Signs one request of billing's.
async fn signed(address: std::net::SocketAddr) -> HeaderMap {
    let billing = key(101);
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let knock = Request::get("/").header("host", "orders").header("x-api-key", billing.expose());
    let answer = sender.send_request(knock.body(Empty::<Bytes>::new()).unwrap()).await.unwrap();
    let challenge = countersign::protocol::wire::www_authenticate::challenge(answer.headers()).unwrap();
    let signature = sign(&secret(1).mac_key(), &billing, &challenge.parse().unwrap());
    let fields = [
        ("x-api-key", billing.expose().to_owned()),
        ("x-challenge", challenge),
        ("x-signature", signature.to_hex()),
    ];
    fields.into_iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

/// A service behind the gateway that counts requests and says what trailers it saw.
async fn upstream(seen: Arc<AtomicUsize>) -> Upstream {
    let app = Router::new().fallback(move |request: Request<Body>| {
        seen.fetch_add(1, Ordering::SeqCst);
        async move {
            let length = format!("{:?}", request.headers().get("transfer-encoding"));
            let collected = request.into_body().collect().await.unwrap();
            let trailers = collected.trailers().cloned().unwrap_or_default();
            let names: Vec<_> = trailers.keys().map(|name| name.to_string()).collect();
            format!("{length} {names:?}")
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    Upstream::new(&url, &Trust::System, Duration::from_secs(30), Duration::from_secs(30)).unwrap()
}

#[tokio::test]
async fn connect_trace_and_targets_that_are_no_path_do_not_reach_the_upstream() {
    let seen = Arc::new(AtomicUsize::new(0));
    let behind = upstream(Arc::clone(&seen)).await;
    let address = gateway(|settings| settings.upstream = Some(behind)).await;
    for (line, status) in [
        ("TRACE /x", "501"),
        ("CONNECT /x", "4"),
        ("OPTIONS *", "400"),
        ("GET /../x", "400"),
        ("GET /x", "200"),
    ] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut request = format!("{line} HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n");
        for (name, value) in &signed(address).await {
            request.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
        let mut text = String::new();
        let _ = stream.read_to_string(&mut text).await;
        let refused_at_once = text.is_empty() && line.starts_with("CONNECT");
        assert!(
            refused_at_once
                || text.starts_with(&format!("HTTP/1.1 {status}"))
                || text.starts_with("HTTP/1.1 501"),
            "{line}: {text}"
        );
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1, "only the last one");
}

#[tokio::test]
async fn identities_in_trailers_do_not_reach_the_upstream_and_empty_bodies_stay_empty() {
    let behind = upstream(Arc::default()).await;
    let address = gateway(|settings| settings.upstream = Some(behind)).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut trailers = HeaderMap::new();
    for name in
        ["x-countersign-service", "x_countersign_service", "x-api-key", "x-forwarded-for", "x-checksum"]
    {
        trailers.insert(http::HeaderName::from_static(name), http::HeaderValue::from_static("forged"));
    }
    let frames = [Ok::<_, std::io::Error>(Frame::data(Bytes::from("data"))), Ok(Frame::trailers(trailers))];
    let body = StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut request = Request::post(format!("http://{address}/")).body(body).unwrap();
    request.headers_mut().extend(signed(address).await);
    let answer = sender.send_request(request).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    // hyper's HTTP/1.1 client sends only trailers that were announced; over either version none of ours may come.
    let text = String::from_utf8_lossy(&text);
    assert!(
        !text.contains("countersign") && !text.contains("api-key") && !text.contains("forwarded"),
        "{text}"
    );

    let empty = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::delete(format!("http://{address}/")).body(empty).unwrap();
    request.headers_mut().extend(signed(address).await);
    let answer = sender.send_request(request).await.unwrap();
    let text = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(text, "None []", "no transfer-encoding");
}
