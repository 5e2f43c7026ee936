//! The layer around a service of hyper, without a router and an extractor: what a user of hyper alone writes.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failed check is a failed test")]

mod client_support;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use client_support::{Keys, Server, get, post, read};
use countersign::client::{Client, ClientError};
use countersign::protocol::UnixTime;
use countersign::server::{AuthLayer, Authenticator, Peer, RequestBody, router};
use countersign::{MemoryStore, NewKeys, NewPeer, PeerStore as _, Trust};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tower::{Layer as _, service_fn};

/// The service: hyper's kind of function.
async fn hello(request: Request<RequestBody>) -> Result<Response<Full<Bytes>>, Infallible> {
    let caller = request.extensions().get::<Peer>().map(|peer| peer.service.to_string());
    let path = request.uri().path().to_owned();
    let response = match request.into_body().collect().await {
        Ok(body) => {
            let body = body.to_bytes();
            let said =
                format!("{} to {path}: {}", caller.unwrap_or_default(), String::from_utf8_lossy(&body));
            Response::new(Full::from(said))
        }
        Err(_) => Response::builder().status(StatusCode::BAD_REQUEST).body(Full::default()).unwrap(),
    };
    Ok(response)
}

async fn serve(keys: &Keys) -> Server {
    let store = Arc::new(MemoryStore::new());
    let Keys { billing, orders, secret } = keys.clone();
    let peer = NewPeer {
        name: "billing".parse().unwrap(),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys: NewKeys::cs1(orders, billing, secret).unwrap(),
    };
    store.add(peer, UnixTime(1)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let builder = Authenticator::builder("orders".parse().unwrap(), store);
    let authenticator = builder.external_urls([url.parse().unwrap()]).build().unwrap();
    // The endpoints of the handshake, and behind the layer all else.
    let service = AuthLayer::new(authenticator.clone()).layer(service_fn(hello));
    let service = TowerToHyperService::new(router(authenticator).fallback_service(service));
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let builder = auto::Builder::new(TokioExecutor::new());
                let _ = builder.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    Server { url, serving }
}

#[tokio::test]
async fn a_service_of_hyper_behind_the_layer_gets_verified_callers_and_gives_signed_answers() {
    let keys = Keys::new();
    let server = serve(&keys).await;
    let client = Client::new(&keys.orders_by_cs1_at(&server.url)).unwrap();
    let response = client.send(post("/items", "data")).await.unwrap();
    assert!(response.body().is_verified());
    assert_eq!(read(response).await, "billing to /items: data");
    let stranger = Client::new(&Keys::new().orders_by_cs1_at(&server.url)).unwrap();
    let error = stranger.send(get("/items")).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
}
