//! The client towards a peer that is bound to its TLS connection (section 6 of `specs/cs1.md`).

#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

mod client_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use client_support::signed::{On, Script, Signing};
use client_support::{Server, get, post, read};
use countersign::Trust;
use countersign::client::{Client, ClientError};
use countersign::protocol::cs1::{Binding, Exporter};
use countersign::protocol::wire::reply::ReplyError;
use countersign::store::{Peer, random};
use http::{HeaderValue, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A server with TLS, and how often it was connected to.
struct Tls {
    orders: Signing,
    trust: String,
    connections: Arc<AtomicUsize>,
}

#[derive(Clone, Copy, PartialEq)]
enum Sees {
    /// The exporter of its own connection.
    Its,
    /// That of another one: somebody in between has ended the client's TLS.
    Another,
    None,
}

async fn start(script: Script, alpn: &'static [u8], sees: Sees) -> Tls {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![made.cert.der().clone()],
            rustls_pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![alpn.to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let serve = async move |app: Router| {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counted.fetch_add(1, Ordering::SeqCst);
                let (acceptor, app) = (acceptor.clone(), app.clone());
                tokio::spawn(async move {
                    let Ok(tls) = acceptor.accept(stream).await else { return };
                    let mut bytes = Zeroizing::new([0; 32]);
                    tls.get_ref().1.export_keying_material(bytes.as_mut_slice(), LABEL, Some(b"")).unwrap();
                    let on = match sees {
                        Sees::Its => Some(On(Exporter::new(bytes))),
                        Sees::Another => Some(On(Exporter::new(Zeroizing::new(random())))),
                        Sees::None => None,
                    };
                    let service = tower::service_fn(move |request: Request<hyper::body::Incoming>| {
                        let mut request = request.map(Body::new);
                        if let Some(on) = on.clone() {
                            request.extensions_mut().insert(on);
                        }
                        app.clone().oneshot(request)
                    });
                    let builder = auto::Builder::new(TokioExecutor::new());
                    let _ =
                        builder.serve_connection(TokioIo::new(tls), TowerToHyperService::new(service)).await;
                });
            }
        });
        Server { url, serving }
    };
    let script = Script { binding: Binding::TlsExporter, ..script };
    Tls { orders: Signing::over(script, serve).await, trust: made.cert.pem(), connections }
}

impl Tls {
    fn peer(&self) -> Peer {
        Peer { trust: Trust::Ca(self.trust.clone()), ..self.orders.peer() }
    }

    fn client(&self) -> Client {
        Client::new(&self.peer()).unwrap()
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn cs_32_requests_are_keyed_by_their_connection_with_both_versions_of_http() {
    for alpn in [b"h2".as_slice(), b"http/1.1"] {
        let tls = start(Script::default(), alpn, Sees::Its).await;
        let client = tls.client();
        for _ in 0..3 {
            let response = client.send(post("/x?a=b", "data")).await.unwrap();
            assert!(response.body().is_verified());
            assert_eq!(read(response).await, "POST data");
        }
        assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (1, 3, 1));
    }
}

#[tokio::test]
async fn cs_32_a_new_connection_goes_on_with_the_ticket_and_keys_of_its_own() {
    let change = |response: &mut Response<Bytes>| {
        response.headers_mut().insert("connection", HeaderValue::from_static("close"));
    };
    let script = Script { change: Box::new(change), ..Script::default() };
    let tls = start(script, b"http/1.1", Sees::Its).await;
    let client = tls.client();
    for _ in 0..3 {
        assert_eq!(read(client.send(post("/x", "data")).await.unwrap()).await, "POST data");
    }
    assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (1, 3, 3));
}

#[tokio::test]
async fn concurrent_requests_share_a_connection_of_http_2() {
    for (alpn, most) in [(b"h2".as_slice(), 1), (b"http/1.1", 8)] {
        let tls = start(Script::default(), alpn, Sees::Its).await;
        let client = tls.client();
        let requests: Vec<_> = (0..8)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { read(client.send(get("/")).await.unwrap()).await })
            })
            .collect();
        for request in requests {
            assert_eq!(request.await.unwrap(), "GET ");
        }
        assert_eq!((tls.orders.handshakes(), tls.orders.accepted()), (1, 8));
        assert!(tls.connections() <= most, "{}", tls.connections());
    }
}

#[tokio::test]
async fn cs_31_somebody_who_ends_tls_in_between_is_noticed_and_nothing_is_sent() {
    for sees in [Sees::Another, Sees::None] {
        let tls = start(Script::default(), b"h2", sees).await;
        let error = tls.client().send(post("/x", "the data")).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Handshake { error: ReplyError::Status { status: 401, .. }, .. }),
            "{error}"
        );
        assert_eq!((tls.orders.handshakes(), tls.orders.requests()), (0, 0));
    }
}

#[tokio::test]
async fn cs_31_without_tls_there_is_nothing_to_bind_to() {
    let orders = Signing::start(Script { binding: Binding::TlsExporter, ..Script::default() }).await;
    let error = Client::new(&orders.peer()).unwrap_err();
    assert!(matches!(error, ClientError::NothingToBindTo(_)), "{error}");
    assert!(error.to_string().contains("https://"), "{error}");
}

#[tokio::test]
async fn a_session_that_is_lost_is_made_anew_on_the_same_connection() {
    let tls = start(Script::default(), b"h2", Sees::Its).await;
    let client = tls.client();
    assert!(client.send(get("/")).await.is_ok());
    tls.orders.forget();
    assert!(client.send(get("/")).await.is_ok());
    assert_eq!((tls.orders.handshakes(), tls.orders.accepted(), tls.connections()), (2, 2, 1));
}

#[tokio::test]
async fn cs_44_a_certificate_for_another_name_ends_the_handshake_before_it_begins() {
    let tls = start(Script::default(), b"h2", Sees::Its).await;
    let mut peer = tls.peer();
    peer.url = peer.url.map(|url| url.replace("127.0.0.1", "localhost"));
    let error = Client::new(&peer).unwrap().send(post("/x", "the data")).await.unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(tls.orders.seen().is_empty(), "nothing was sent");
}
