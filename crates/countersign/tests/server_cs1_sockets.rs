//! The layer under `cs1` over real connections of both versions of HTTP: what their parsers let through.

#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed check is a failed test"
)]

mod server_support;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use countersign::protocol::cs1::response::{ResponseParts, verify};
use countersign::protocol::mac::MacKey;
use http::{HeaderMap, Request, Version};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use server_support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Barrier;
use tokio::task::JoinHandle;

/// Serves the target's application on a port of its own until dropped.
struct Listening {
    address: std::net::SocketAddr,
    serving: JoinHandle<()>,
}

impl Listening {
    async fn start(app: Router) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(app.clone());
                tokio::spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, serving }
    }

    /// Sends these bytes and reads until the server closes.
    async fn raw(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8_lossy(&answer).into_owned()
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// A head as it is sent in HTTP/1.1, and the connection is to be closed behind it.
fn head<B>(request: &Request<B>, more: &[&str]) -> String {
    let mut head = format!("{} {} HTTP/1.1\r\nconnection: close\r\n", request.method(), request.uri());
    for (name, value) in request.headers() {
        head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
    }
    for line in more {
        head.push_str(line);
        head.push_str("\r\n");
    }
    head.push_str("\r\n");
    head
}

#[tokio::test]
async fn http_1_a_signed_request_passes_once_and_with_a_cut_or_longer_body_never() {
    let target = Target::new();
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    let request = session.sign(Request::post("/orders"), "content");
    let right = head(&request, &["content-length: 7"]) + "content";
    let answer = server.raw(right.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\r\nsignature: cs=:"), "{answer}");
    assert_eq!((target.began(), target.committed()), (1, 1));
    let answer = server.raw(right.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("request-replayed"), "{answer}");
    let sign = || session.sign(Request::post("/orders"), "content");
    for (framing, content, status, problem) in [
        ("content-length: 6", "conten", 401, "digest-mismatch"),
        ("content-length: 99999999999", "content", 413, "content-too-large"),
        ("transfer-encoding: chunked", "7\r\nContent\r\n0\r\n\r\n", 401, "digest-mismatch"),
        ("transfer-encoding: chunked", "6\r\nconten\r\n0\r\nx: t\r\n\r\n", 401, "digest-mismatch"),
    ] {
        let answer = server.raw((head(&sign(), &[framing]) + content).as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(problem) && !answer.contains("\r\nsignature"), "{answer}");
    }
    assert_eq!(target.began(), 0);
    let chunked =
        head(&sign(), &["transfer-encoding: chunked"]) + "3\r\ncon\r\n4\r\ntent\r\n0\r\nx-added: t\r\n\r\n";
    assert!(server.raw(chunked.as_bytes()).await.starts_with("HTTP/1.1 200 "));
    assert_eq!((target.began(), target.committed()), (1, 1));
}

#[tokio::test]
async fn http_1_an_absolute_target_and_a_host_of_another_name_do_not_pass() {
    let target = Target::new();
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    for (line, host) in
        [("https://orders.example/orders", "evil.example"), ("https://evil.example/orders", AUTHORITY)]
    {
        let request = session.sign(Request::get("/orders"), "");
        let raw = head(&request, &[]).replacen("GET /orders", &format!("GET {line}"), 1);
        let raw = raw.replacen(&format!("host: {AUTHORITY}"), &format!("host: {host}"), 1);
        let answer = server.raw(raw.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 421 ") && !answer.contains("\r\nsignature"), "{answer}");
    }
    let twice = head(&session.sign(Request::get("/orders"), ""), &["host: orders.example"]);
    let answer = server.raw(twice.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 4") && !answer.contains("\r\nsignature"), "{answer}");
    let folded = head(&session.sign(Request::get("/orders"), ""), &["signature: cs=:AAAA:"]);
    let answer = server.raw(folded.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("signature-malformed"), "{answer}");
    assert_eq!(target.began(), 0);
}

/// What a response of HTTP/1.1 in chunks was: head, content, trailers.
fn unchunk(answer: &str) -> (String, Vec<u8>, HeaderMap) {
    let (head, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut content = Vec::new();
    loop {
        let (length, after) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            rest = after;
            break;
        }
        content.extend_from_slice(&after.as_bytes()[..length]);
        rest = &after[length + 2..];
    }
    (head.to_owned(), content, fields(rest))
}

fn fields(lines: &str) -> HeaderMap {
    let lines = lines.split("\r\n").filter_map(|line| line.split_once(": "));
    lines.map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap())).collect()
}

#[tokio::test]
async fn http_1_a_response_that_flows_ends_with_a_mac_over_the_trailers_that_are_sent() {
    let mut target = Target::new();
    let flow = || async {
        let pieces: Vec<Piece> = (0..32).map(|_| data(&[b'x'; 1 << 16])).collect();
        let last = [trailers(&[("x-told", "1"), ("x-untold", "2"), ("countersign-body-mac", "mine")])];
        let body = Body::new(Pieces(pieces.into_iter().chain(last).collect()));
        http::Response::builder().header("trailer", "x-told").body(body).unwrap()
    };
    target.serve(Router::new().fallback(any(flow)));
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    let request = session.sign(Request::get("/orders"), "");
    let answer = server.raw(head(&request, &["te: trailers"]).as_bytes()).await;
    let (head, content, trailers) = unchunk(&answer);
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(trailers.contains_key("x-told") && !trailers.contains_key("x-untold"), "{trailers:?}");
    let key = MacKey::new(session.0.keys.server_to_client.as_slice());
    let headers = fields(head.split_once("\r\n").unwrap().1);
    let response = ResponseParts { status: 200, fields: &headers, request: parts(&request) };
    let mut check = verify(&key, &response).unwrap().content().check();
    check.update(&content);
    check.finish_with(Some(&trailers)).unwrap();
}

#[tokio::test]
async fn http_1_a_stream_with_a_length_in_the_place_of_trailers_is_committed_by_nobody() {
    let target = Target::streaming();
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    let (request, mac) = session.signer().stream(Request::post("/orders"), b"content", &[]);
    let forged = head(&request, &["content-length: 6"]) + "forged";
    let answer = server.raw(forged.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("digest-mismatch"), "{answer}");
    assert_eq!((target.began(), target.committed()), (1, 0));
    let (request, right) = session.signer().stream(Request::post("/orders"), b"content", &[]);
    assert_ne!(mac, right);
    let chunked = |mac: &str| format!("7\r\ncontent\r\n0\r\ncountersign-body-mac: {mac}\r\n\r\n");
    let head = head(&request, &["transfer-encoding: chunked", "trailer: countersign-body-mac"]);
    let answer = server.raw((head + &chunked(&right)).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert_eq!((target.began(), target.committed()), (1, 1));
}

/// A head that keeps the connection open, as far as it goes.
fn kept(request: &Request<()>, more: &[&str]) -> String {
    head(request, more).replacen("connection: close\r\n", "", 1)
}

#[tokio::test]
async fn cs_38_http_1_behind_a_forged_stream_the_connection_is_closed() {
    let target = Target::streaming();
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    let (request, mac) = session.signer().stream(Request::post("/orders"), b"content", &[]);
    let framing = ["transfer-encoding: chunked", "trailer: countersign-body-mac"];
    let forged =
        kept(&request, &framing) + &format!("6\r\nforged\r\n0\r\ncountersign-body-mac: {mac}\r\n\r\n");
    let next = session.sign(Request::get("/orders"), "");
    // `raw` reads until the server closes; the second request is on the way already.
    let answer = server.raw((forged + &head(&next, &[])).as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("digest-mismatch"), "{answer}");
    assert!(answer.contains("\r\nconnection: close\r\n"), "{answer}");
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert_eq!((target.began(), target.committed()), (1, 0));
}

#[tokio::test]
async fn cs_38_http_2_a_forged_stream_is_reset_and_the_others_go_on() {
    let target = Target::streaming();
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Body>(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    for (content, is_right) in [(b"content", true), (b"Content", false), (b"content", true)] {
        let (request, mac) = session.signer().stream(Request::post("/orders"), b"content", &[]);
        let pieces = [data(content), trailers(&[("countersign-body-mac", &mac)])];
        let mut request = request.map(|()| Body::new(Pieces(pieces.into_iter().collect())));
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = "https://orders.example/orders".parse().unwrap();
        request.headers_mut().remove("host");
        // The reset may come before the answer does.
        let is_whole = match sender.send_request(request).await {
            Ok(answer) => {
                assert_eq!(answer.status(), if is_right { 200 } else { 401 });
                answer.into_body().collect().await.is_ok()
            }
            Err(_) => false,
        };
        assert_eq!(is_whole, is_right);
        assert_eq!((target.began(), target.committed()), (1, usize::from(is_right)));
    }
    connection.abort();
}

#[tokio::test]
async fn http_2_crumbs_of_a_cookie_are_joined_and_another_host_does_not_pass() {
    let target = Target::new();
    let server = Listening::start(target.app.clone()).await;
    let session = target.session().await;
    let stream = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), stream)
            .await
            .unwrap();
    let connection = tokio::spawn(connection);
    let signed = |host: Option<&'static str>, crumbs: &[&'static str]| {
        let signed = session.sign(Request::get("/orders").header("cookie", "a=1; b=2"), "");
        let mut request = signed.map(Full::from);
        *request.version_mut() = Version::HTTP_2;
        *request.uri_mut() = "https://orders.example/orders".parse().unwrap();
        let fields = request.headers_mut();
        fields.remove("host");
        if let Some(host) = host {
            fields.insert("host", host.parse().unwrap());
        }
        fields.remove("cookie");
        for crumb in crumbs {
            fields.append("cookie", crumb.parse().unwrap());
        }
        request
    };
    for (host, crumbs, status) in [
        (None, &["a=1", "b=2"][..], 200),
        (None, &["a=1; b=2"], 200),
        (None, &["b=2", "a=1"], 401),
        (None, &["a=1", "b=2", "c=3"], 401),
        (Some("evil.example"), &["a=1", "b=2"], 421),
    ] {
        let answer = sender.send_request(signed(host, crumbs)).await.unwrap();
        assert_eq!(answer.status(), status, "{host:?} {crumbs:?}");
        assert_eq!(answer.headers().contains_key("signature"), status == 200);
        answer.into_body().collect().await.unwrap();
    }
    assert_eq!((target.began(), target.committed()), (2, 2));
    connection.abort();
}

/// These bytes on a hundred connections, which are all open before the first of them is sent: one of them is taken, and the
/// handler runs once.
async fn one_of_a_hundred_is_taken(target: &Target, request: &Request<Bytes>) {
    const SENDERS: usize = 100;
    let server = Listening::start(target.app.clone()).await;
    let bytes = Bytes::from(head(request, &["content-length: 7"]) + "content");
    let start = Arc::new(Barrier::new(SENDERS));
    let senders: Vec<_> = (0..SENDERS)
        .map(|_| {
            let (bytes, start, address) = (bytes.clone(), start.clone(), server.address);
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(address).await.unwrap();
                start.wait().await;
                stream.write_all(&bytes).await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                String::from_utf8(answer).unwrap()
            })
        })
        .collect();
    let mut taken = 0;
    for sender in senders {
        let answer = sender.await.unwrap();
        let signed = answer.contains("\r\nsignature: cs=:");
        if answer.starts_with("HTTP/1.1 200 ") {
            assert!(signed, "{answer}");
            taken += 1;
        } else {
            assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("request-replayed"), "{answer}");
            assert!(!signed, "no refusal is signed (CS-34)");
        }
    }
    assert_eq!((taken, target.began(), target.committed()), (1, 1, 1));
    let records = target.sink.records();
    let of = |reason: &str| {
        records.iter().filter(|record| record.step == "signed" && record.reason == reason).count()
    };
    assert_eq!((of("accepted"), of("request-replayed")), (1, SENDERS - 1), "each is on the trail");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cs_26_of_a_hundred_that_are_sent_at_the_same_time_one_is_taken() {
    let target = Target::new();
    let session = target.session().await;
    one_of_a_hundred_is_taken(&target, &session.sign(Request::post("/orders"), "content")).await;
    let target = Target::direct();
    let request = target.direct_signer().sign(Request::post("/orders"), "content");
    one_of_a_hundred_is_taken(&target, &request).await;
}
