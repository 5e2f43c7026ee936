//! The server's side: [`Authenticator`] decides, [`AuthLayer`] protects routes, [`router`] serves the two
//! endpoints, [`Peer`] tells a handler who called.
//!
//! # How a request on a protected route is decided
//! A request with `Signature-Input` is signed (`cs1`): its form, its ticket, what it covers, its MAC, its time, its nonce and
//! its content are judged in this order (CS-46), then the attempt is written to the trail, then the request passes, and the
//! response is signed. Anything else:
//! 1. Credentials of the wrong form, repeated headers, two methods at once: 400.
//! 2. `Authorization: Bearer csb.…`: opened, its age and its credential's life are checked.
//! 3. `X-API-Key` alone, known or not: 401 with a challenge.
//! 4. `X-API-Key`, `X-Challenge`, `X-Signature`: challenge and signature are verified with the same work for
//!    every key, then the challenge is burned, then the attempt is written to the trail, then the request passes.
//! 5. Nothing of these: 401.
//!
//! Failures count against the caller's address and against address and key; too many of them: 429.
//!
//! # Deployment
//! Put the layer outside of anything that acts on a request or changes a response (compression, CORS), and serve over TLS: a token
//! is a bearer token. Callers under `cs1` sign the name under which they reach the service: say it with
//! [`Builder::external_urls`]. The
//! caller's address is taken from [`SourceAddr`] or axum's `ConnectInfo`; without either, all callers share one
//! rate limit. If that is a proxy's address, name the proxy in [`Builder::trusted_proxies`]: what it says in
//! `X-Forwarded-For` or `Forwarded` is taken then, for the limits, the trail and the handler. Cookies and other credentials beside ours are passed on untouched; so are a request's trailers, in
//! which nothing that names an identity is to be believed ([`strip_credentials`] takes it out).
//!
//! # Example
//! A protected route, and a caller that proves itself or fails:
//!
//! ```
//! use std::sync::Arc;
//! use axum::{Router, body::Body, routing::get};
//! use countersign::server::{AuthLayer, Authenticator, Peer, router};
//! use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore, SharedSecret, Trust};
//! use countersign::protocol::{UnixTime, shared_secret::sign};
//! use countersign::store::random;
//! use http::{Request, StatusCode};
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // What both sides agreed on, out of band.
//! let (our_key, their_key) = (ApiKey::generate(&random()), ApiKey::generate(&random()));
//! let secret = SharedSecret::generate(&random());
//!
//! let store = MemoryStore::new();
//! store.add(
//!     NewPeer {
//!         name: "billing".parse()?,
//!         url: None,
//!         trust: Trust::System,
//!         danger_unproven_server: false, cs1: Default::default(),
//!         keys: NewKeys::shared_secret(our_key, their_key.clone(), secret.clone(), secret.clone())?,
//!     },
//!     UnixTime(1_700_000_000),
//! )?;
//! let authenticator = Authenticator::builder("orders".parse()?, Arc::new(store)).build()?;
//! let app = Router::new()
//!     .route("/orders", get(|peer: Peer| async move { format!("hello {}", peer.service) }))
//!     .layer(AuthLayer::new(authenticator.clone()));
//! let app = router(authenticator).fallback_service(app); // what is not found is signed too
//!
//! // A reject: nobody in particular gets a 401.
//! let request = Request::get("/orders").body(Body::empty())?;
//! assert_eq!(app.clone().oneshot(request).await?.status(), StatusCode::UNAUTHORIZED);
//!
//! // An accept: the key gets a challenge, and the challenge signed with the secret gets in.
//! let knock = Request::get("/orders").header("X-API-Key", their_key.expose()).body(Body::empty())?;
//! let refused = app.clone().oneshot(knock).await?;
//! let challenge = countersign::protocol::wire::www_authenticate::challenge(refused.headers()).unwrap();
//! let signature = sign(&secret.mac_key(), &their_key, &challenge.parse()?);
//! let signed = Request::get("/orders")
//!     .header("X-API-Key", their_key.expose())
//!     .header("X-Challenge", &challenge)
//!     .header("X-Signature", signature.to_hex())
//!     .body(Body::empty())?;
//! let accepted = app.oneshot(signed).await?;
//! assert_eq!(accepted.status(), StatusCode::OK);
//! assert_eq!(axum::body::to_bytes(accepted.into_body(), 100).await?, "hello billing");
//! # Ok(())
//! # }
//! ```

mod ages;
mod alarms;
mod attempt;
mod authenticator;
mod body;
mod clock;
mod cs1;
mod endpoints;
mod extract;
mod forwarded;
mod layer;
mod limits;
mod lines;
mod pairing;
mod proxies;
mod rate_fields;
mod reject;
mod rotation;
mod route;
mod snapshot;
mod strip;
mod upkeep;
mod uses;

pub use ages::Age;
pub use authenticator::{Authenticator, Builder};
pub use body::{RequestBody, ResponseBody};
pub use clock::Clock;
pub use cs1::{Coverage, ExternalUrl, ExternalUrlError, NotFinal, TlsExporter};
pub use endpoints::router;
pub use extract::{Peer, SourceAddr};
pub use layer::{AuthLayer, AuthService};
pub use limits::{Limits, source_network};
pub use proxies::{Network, NetworkError, ProxyHeader, ProxyHeaderError, TrustedProxies};
pub use reject::{Rejection, problem_response};
pub use route::Admitted;
pub use strip::{credentials as strip_credentials, remove_spelled};
