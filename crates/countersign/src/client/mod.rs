//! The client's side: [`Client`] makes the handshake by itself, checks the server's proof, and reuses what it gave.
//!
//! - Names are verified; trust is the system's authorities, given ones, or a pinned key ([`Trust`]). TLS 1.3 only.
//! - `http://` is refused except to loopback.
//! - The profile is the peer's, and no other is tried.
//! - Redirects are not followed.
//! - Concurrent first requests share one handshake.
//! - During a rotation both credentials are tried, the likelier one first. A client that is to outlive a rotation
//!   follows the store ([`Builder::follow`]).
//!
//! # Under `cs1`
//! Both sides prove themselves before anything else is sent. Then each request is signed, and a response is handed on
//! only if the peer signed it for this very request: problems too. What is in its extensions as
//! [`Coverage`](countersign_protocol::cs1::Coverage) tells which of its fields were signed. Its content is verified
//! already, but for that of a stream: ask [`Body::standing`].
//!
//! A refusal by the server's verifier is not signed, for a signed one could be used to hide that a request had its effect. Nor
//! is what a proxy in between answers. Then there is no response but [`ClientError::OutcomeUnknown`]. Where a new handshake or a
//! nonce of the server may help, a request is repeated once, but only if that does no harm: its method is safe, or it has an
//! `Idempotency-Key`. **Give one to requests that are to survive a restart of the server.**
//!
//! A peer that is bound to its TLS connection has connections of its own, which are chosen before a request is signed.
//!
//! # Under the guides
//! No request is sent twice, except once more after a 401 that says that the token is not good any more (a 401 has
//! changed nothing). Under `shared-secret` nothing is sent before the server has proved itself.
//!
//! # Example
//! A server that proves itself and is called, and one that does not hold the secret and is sent nothing, under `cs1`:
//!
//! ```
//! use std::sync::Arc;
//! use axum::{Router, routing::get};
//! use bytes::Bytes;
//! use countersign::client::Client;
//! use countersign::protocol::UnixTime;
//! use countersign::server::{AuthLayer, Authenticator, Peer, router};
//! use countersign::store::random;
//! use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore, SharedSecret, Trust};
//! use http::Request;
//!
//! # type Failure = Box<dyn std::error::Error>;
//! fn peer(name: &str, url: Option<String>, keys: NewKeys) -> Result<NewPeer, Failure> {
//!     let trust = Trust::System; // or Trust::Pin(…), Trust::Ca(…): for https:// URLs
//!     Ok(NewPeer { name: name.parse()?, url, trust, danger_unproven_server: false, cs1: Default::default(), keys })
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Failure> {
//! let (billing, orders) = (ApiKey::generate(&random()), ApiKey::generate(&random()));
//! let secret = SharedSecret::generate(&random());
//!
//! // The service `orders` knows `billing` …
//! let store = MemoryStore::new();
//! let keys = NewKeys::cs1(orders.clone(), billing.clone(), secret.clone())?;
//! store.add(peer("billing", None, keys)?, UnixTime(1_700_000_000))?;
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let url = format!("http://{}", listener.local_addr()?);
//! let authenticator = Authenticator::builder("orders".parse()?, Arc::new(store))
//!     .external_urls([url.parse()?]) // under which callers reach it: they sign the name
//!     .build()?;
//! let app = Router::new()
//!     .route("/orders/42", get(|peer: Peer| async move { format!("hello {}", peer.service) }))
//!     .layer(AuthLayer::new(authenticator.clone()));
//! let app = router(authenticator).fallback_service(app); // what is not found is signed too
//! tokio::spawn(async move { axum::serve(listener, app).await });
//!
//! // … and `billing` knows `orders`.
//! let store = MemoryStore::new();
//! let keys = NewKeys::cs1(billing.clone(), orders.clone(), secret)?;
//! let client = Client::new(&store.add(peer("orders", Some(url.clone()), keys)?, UnixTime(1_700_000_000))?)?;
//! let response = client.send(Request::get("/orders/42").body(Bytes::new())?).await?;
//! assert!(response.status() == 200 && response.body().is_verified());
//! assert_eq!(response.into_body().whole(1000).await?, "hello billing");
//!
//! // A server with another secret than the one that we were given for it: nothing but the handshake is sent to it.
//! let store = MemoryStore::new();
//! let keys = NewKeys::cs1(billing, orders, SharedSecret::generate(&random()))?;
//! let client = Client::new(&store.add(peer("other", Some(url), keys)?, UnixTime(1_700_000_000))?)?;
//! let refused = client.send(Request::post("/orders/42").body(Bytes::from("data"))?).await.unwrap_err();
//! assert!(refused.to_string().contains("the handshake"), "{refused}");
//! # Ok(())
//! # }
//! ```

mod again;
mod base;
mod body;
mod bound;
mod connector;
mod cs1;
mod error;
mod failed;
mod follow;
mod given;
mod guides;
mod handshake;
mod known;
mod names;
mod narrate;
pub mod pairing;
mod pin;
mod probe;
mod session;
mod trail;
mod trust;
mod way;

pub use base::BaseUrl;
pub use body::{Body, BodyError, Standing};
pub use connector::{HttpClient, http_client};
pub use error::{ClientError, Unproved};
pub use given::certificate_dates;
pub(crate) use known::now;
pub use names::certificate_names;
pub use narrate::{Narration, Narrator};
pub use pin::{certificate_is_for, certificate_pin};
pub use probe::{Dated, Probe, probe};
pub use session::{Builder, Client};
pub use trust::tls_config;
pub use way::BoxError;

pub use countersign_store::Trust;
