//! Upgraded connections under `cs1` (CS-39), over real sockets: what comes behind an upgrade is signed by nobody.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::Body;
use axum::routing::any;
use axum::{Extension, Router};
use bytes::Bytes;
use countersign::protocol::cs1::{Binding, Exporter};
use countersign::server::{AuthLayer, TlsExporter, router};
use countersign::store::Cs1Options;
use http::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use server_support::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use zeroize::Zeroizing;

/// A service that says back what comes on connections that it upgrades, and counts how often one was asked for.
struct Echo {
    target: Target,
    exporter: Exporter,
    asked: Arc<AtomicUsize>,
    address: std::net::SocketAddr,
}

impl Echo {
    async fn start(options: Cs1Options, danger: bool) -> Self {
        let (mut target, exporter) =
            (Target::with(options, |builder| builder), Exporter::new(Zeroizing::new([7; 32])));
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let layer = AuthLayer::new(target.authenticator.clone()).danger_take_upgrades(danger);
        let protected = Router::new().fallback(any(move |request| upgrade(count, request))).layer(layer);
        // As a gateway says of its TLS connection.
        let connection = Extension(TlsExporter(exporter.clone()));
        target.app = protected.merge(router(target.authenticator.clone())).layer(connection);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let app = target.app.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(app.clone());
                tokio::spawn(async move {
                    let _ = auto::Builder::new(TokioExecutor::new())
                        .serve_connection_with_upgrades(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { target, exporter, asked, address }
    }

    /// Sends this request as one for an upgrade, and `ping` behind it: all that comes back.
    async fn knock(&self, request: &Request<Bytes>) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", request.method(), request.uri());
        for (name, value) in request.headers() {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().unwrap()));
        }
        head.push_str("connection: upgrade\r\nupgrade: echo\r\n\r\nping");
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        String::from_utf8(answer).unwrap()
    }

    fn asked(&self) -> usize {
        self.asked.swap(0, Ordering::SeqCst)
    }
}

/// A handler that upgrades whatever comes, asked for or not.
async fn upgrade(asked: Arc<AtomicUsize>, mut request: Request<Body>) -> Response<Body> {
    asked.fetch_add(usize::from(request.headers().contains_key("upgrade")), Ordering::SeqCst);
    let connection = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(connection) = connection.await else { return };
        let mut connection = TokioIo::new(connection);
        let mut came = Vec::new();
        let _ = connection.read_to_end(&mut came).await;
        let _ = connection.write_all(&came.repeat(2)).await;
        let _ = connection.shutdown().await;
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    response.header("connection", "upgrade").header("upgrade", "echo").body(Body::empty()).unwrap()
}

#[track_caller]
fn assert_not_upgraded(answer: &str) {
    assert!(answer.starts_with("HTTP/1.1 500 "), "{answer}");
    assert!(answer.contains("\r\nsignature: cs=:") && answer.contains("response-unsignable"), "{answer}");
    assert!(!answer.contains("pingping"), "{answer}");
}

#[tokio::test]
async fn cs_39_a_session_that_is_not_bound_to_tls_upgrades_no_connection() {
    let options = Cs1Options { danger_direct: true, ..Cs1Options::default() };
    let echo = Echo::start(options, false).await;
    let session = echo.target.session().await;
    for signer in [session.signer(), echo.target.direct_signer()] {
        let request = signer.sign(Request::get("/chat"), "");
        assert_not_upgraded(&echo.knock(&request).await);
    }
    assert_eq!(echo.asked(), 0, "the handler does not hear of it");
}

#[tokio::test]
async fn cs_39_connect_does_not_get_to_the_handler() {
    let echo = Echo::start(Cs1Options::default(), false).await;
    let session = echo.target.session().await;
    let signer = session.signer();
    let request = signer.sign(Request::builder().method("CONNECT").uri("/chat"), "");
    let answer = echo.target.send(request.clone()).await;
    assert_eq!(answer.status, 500, "{answer:?}");
    signer.verify(&request, &answer).unwrap();
    assert!(answer.text("type").ends_with("response-unsignable"));
}

#[tokio::test]
async fn cs_39_a_session_that_is_bound_to_tls_upgrades_and_the_101_is_signed() {
    let options = Cs1Options { binding: Binding::TlsExporter, ..Cs1Options::default() };
    let echo = Echo::start(options, false).await;
    let pair = echo.target.pair.clone();
    let session = echo.target.shake_bound(&pair, Binding::TlsExporter, Some(&echo.exporter)).await.unwrap();
    let signer = Signer { keys: session.0.keys.on_connection(&echo.exporter), ..session.signer() };
    let answer = echo.knock(&signer.sign(Request::get("/chat"), "")).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.contains("\r\nsignature: cs=:"), "{answer}");
    assert!(answer.ends_with("pingping"), "{answer}");
    assert_eq!(echo.asked(), 1);
}

#[tokio::test]
async fn cs_39_a_setting_that_is_named_danger_upgrades_any_session() {
    let echo = Echo::start(Cs1Options::default(), true).await;
    let session = echo.target.session().await;
    let answer = echo.knock(&session.sign(Request::get("/chat"), "")).await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("pingping"), "{answer}");
    assert_eq!(echo.asked(), 1);
}
