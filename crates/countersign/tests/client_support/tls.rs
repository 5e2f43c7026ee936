//! `orders` under `cs1` behind TLS, whose connections a test can have fail.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use countersign::Trust;
use countersign::client::Client;
use countersign::protocol::cs1::Exporter;
use countersign::store::{Peer, random};
use http::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use super::Server;
use super::signed::{On, Script, Signing};

const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// A server with TLS, and how often it was connected to.
pub(crate) struct Tls {
    pub(crate) orders: Signing,
    trust: String,
    connections: Arc<AtomicUsize>,
    failing: Arc<Failing>,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Sees {
    /// The exporter of its own connection.
    Its,
    /// That of another one: somebody in between has ended the client's TLS.
    Another,
    None,
}

/// What becomes of a request that is none of the handshake.
#[derive(Clone, Copy)]
pub(crate) enum Fails {
    /// HTTP/2 says that it was not taken, and it was not.
    NotTaken,
    /// HTTP/2 says that it was not taken, but it was.
    Taken,
    /// The connection (HTTP/1.1) or the stream (HTTP/2) ends, and it was not taken.
    Broken,
}

#[derive(Default)]
struct Failing {
    /// So many connections end before they are there.
    dropped: AtomicUsize,
    next: Mutex<VecDeque<Fails>>,
    /// The fields of all requests, as they came.
    came: Mutex<Vec<HeaderMap>>,
}

impl Failing {
    async fn serve(&self, app: Router, request: Request<Body>) -> Result<Response<Body>, h2::Error> {
        if ["/authenticate", "/verify_challenge"].contains(&request.uri().path()) {
            let Ok(response) = app.oneshot(request).await;
            return Ok(response);
        }
        self.came.lock().unwrap().push(request.headers().clone());
        let fails = self.next.lock().unwrap().pop_front();
        let reason = match fails {
            None => {
                let Ok(response) = app.oneshot(request).await;
                return Ok(response);
            }
            Some(Fails::NotTaken) => h2::Reason::REFUSED_STREAM,
            Some(Fails::Taken) => {
                let Ok(_) = app.oneshot(request).await;
                h2::Reason::REFUSED_STREAM
            }
            Some(Fails::Broken) => h2::Reason::INTERNAL_ERROR,
        };
        Err(h2::Error::from(reason))
    }
}

impl Tls {
    pub(crate) async fn start(script: Script, alpn: &'static [u8], sees: Sees) -> Self {
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
        let (connections, failing) = (Arc::new(AtomicUsize::new(0)), Arc::new(Failing::default()));
        let (counted, fails) = (Arc::clone(&connections), Arc::clone(&failing));
        let serve = async move |app: Router| {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("https://{}", listener.local_addr().unwrap());
            let serving = tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    counted.fetch_add(1, Ordering::SeqCst);
                    let less = |left: usize| left.checked_sub(1);
                    if fails.dropped.fetch_update(Ordering::SeqCst, Ordering::SeqCst, less).is_ok() {
                        continue;
                    }
                    let (acceptor, app, fails) = (acceptor.clone(), app.clone(), Arc::clone(&fails));
                    tokio::spawn(async move {
                        let Ok(tls) = acceptor.accept(stream).await else { return };
                        let mut bytes = Zeroizing::new([0; 32]);
                        tls.get_ref()
                            .1
                            .export_keying_material(bytes.as_mut_slice(), LABEL, Some(b""))
                            .unwrap();
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
                            let (fails, app) = (Arc::clone(&fails), app.clone());
                            async move { fails.serve(app, request).await }
                        });
                        let builder = auto::Builder::new(TokioExecutor::new());
                        let service = TowerToHyperService::new(service);
                        let _ = builder.serve_connection(TokioIo::new(tls), service).await;
                    });
                }
            });
            Server { url, serving }
        };
        Self { orders: Signing::over(script, serve).await, trust: made.cert.pem(), connections, failing }
    }

    pub(crate) fn peer(&self) -> Peer {
        Peer { trust: Trust::Ca(self.trust.clone()), ..self.orders.peer() }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.peer()).unwrap()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// So ends the next request for which nothing is said yet.
    pub(crate) fn fail(&self, next: Fails) {
        self.failing.next.lock().unwrap().push_back(next);
    }

    /// The next connections end in the handshake of TLS.
    pub(crate) fn drop_connections(&self, count: usize) {
        self.failing.dropped.store(count, Ordering::SeqCst);
    }

    /// One field of every request that came.
    pub(crate) fn came(&self, field: &str) -> Vec<String> {
        let came = self.failing.came.lock().unwrap();
        came.iter().map(|fields| fields[field].to_str().unwrap().to_owned()).collect()
    }
}
