//! A server that `billing` (guide 1) and `reports` (guide 2) may call, on a clock that a test moves.
//!
//! Every [`World`] looks through its whole trail when it is dropped: no credential that went through it, in
//! either direction, may be in any record.

#![allow(dead_code, reason = "each file of tests uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

mod attack;
mod callers;
mod signed;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use countersign::audit::{MemorySink, Outcome, Record};
use countersign::protocol::UnixTime;
use countersign::server::{AuthLayer, Authenticator, Builder, Clock, Limits, Peer, SourceAddr, router};
use countersign::store::Quota;
use countersign::{ApiKey, MemoryStore, NewPeer, PeerStore};
use http::{HeaderMap, HeaderValue, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

#[allow(unused_imports, reason = "each file of tests uses its part")]
pub(crate) use attack::*;
pub(crate) use callers::*;
#[allow(unused_imports, reason = "each file of tests uses its part")]
pub(crate) use signed::*;

/// Where requests come from unless a test says otherwise.
pub(crate) const HOME: &str = "192.0.2.1";
/// Somewhere else.
pub(crate) const ELSEWHERE: &str = "198.51.100.7";

/// Limits that no test of something else meets.
pub(crate) fn generous() -> Limits {
    let plenty = Quota::per_minute(1_000_000, 1_000_000);
    Limits {
        per_source: plenty,
        per_key: plenty,
        refused_per_source: plenty,
        failures_per_source: plenty,
        failures_per_key: plenty,
        ..Limits::default()
    }
}

/// A server and what surrounds it.
pub(crate) struct World {
    pub(crate) app: Router,
    pub(crate) authenticator: Authenticator,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) sink: Arc<MemorySink>,
    pub(crate) clock: Clock,
    /// `billing`, guide 1.
    pub(crate) billing: Caller,
    /// The key of `reports`, guide 2.
    pub(crate) reports: ApiKey,
    /// Our own key towards `reports`.
    pub(crate) our_reports_key: ApiKey,
    confidential: Mutex<BTreeSet<String>>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// A server with other settings.
    pub(crate) fn with(set: impl FnOnce(Builder) -> Builder) -> Self {
        let store = Arc::new(MemoryStore::new());
        let billing = Caller::new();
        let (reports, our_reports_key) = (new_key(), new_key());
        store.add(guide_1_peer("billing", &billing), UnixTime(1)).unwrap();
        store.add(guide_2_peer("reports", Some(&our_reports_key), &reports), UnixTime(1)).unwrap();
        let sink = Arc::new(MemorySink::default());
        let clock = Clock::start();
        let builder = Authenticator::builder("orders".parse().unwrap(), store.clone())
            .audit(sink.clone())
            .clock(clock.clone());
        let authenticator = set(builder).build().unwrap();
        let app = app(&authenticator);
        let world = Self {
            app,
            authenticator,
            store,
            sink,
            clock,
            billing,
            reports,
            our_reports_key,
            confidential: Mutex::default(),
        };
        world.hide(world.billing.secret.expose());
        world.hide(world.billing.server_secret.expose());
        world.hide(world.reports.expose());
        world.hide(world.our_reports_key.expose());
        world
    }

    /// This must not be on the trail.
    pub(crate) fn hide(&self, text: &str) {
        if text.len() >= 16 {
            self.confidential.lock().unwrap().insert(text.to_owned());
        }
    }

    pub(crate) fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
    }

    /// Adds a peer and takes it over.
    pub(crate) fn add(&self, peer: NewPeer) {
        self.store.add(peer, UnixTime(2)).unwrap();
        assert!(self.authenticator.refresh().unwrap(), "an added peer is a change");
    }

    /// Removes a peer and takes that over.
    pub(crate) fn remove(&self, name: &str) {
        self.store.remove(&name.parse().unwrap()).unwrap();
        assert!(self.authenticator.refresh().unwrap(), "a removed peer is a change");
    }

    pub(crate) async fn send(&self, request: Request<Bytes>) -> Answer {
        self.send_from(HOME, request).await
    }

    pub(crate) async fn send_from(&self, source: &str, request: Request<Bytes>) -> Answer {
        for name in ["x-api-key", "x-signature", "authorization"] {
            for value in request.headers().get_all(name) {
                let value = String::from_utf8_lossy(value.as_bytes());
                self.hide(value.strip_prefix("Bearer ").unwrap_or(&value));
            }
        }
        let sent: Value = serde_json::from_slice(request.body()).unwrap_or_default();
        for member in ["apiKey", "signedChallenge"] {
            self.hide(sent[member].as_str().unwrap_or_default());
        }
        let answer = self.stream_from(source, request.map(Body::from)).await;
        self.hide(
            answer.headers.get("x-signature").and_then(|value| value.to_str().ok()).unwrap_or_default(),
        );
        let received: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        self.hide(received["token"].as_str().unwrap_or_default());
        answer
    }

    pub(crate) async fn stream_from(&self, source: &str, mut request: Request<Body>) -> Answer {
        let source: IpAddr = source.parse().unwrap();
        request.extensions_mut().insert(SourceAddr(source));
        send_to(&self.app, request).await
    }

    /// A request to the protected route.
    pub(crate) async fn orders(&self, headers: &[(&str, String)]) -> Answer {
        self.send(orders(headers)).await
    }

    /// A request to the protected route with a token.
    pub(crate) async fn with_token(&self, token: &str) -> Answer {
        self.orders(&[("authorization", format!("Bearer {token}"))]).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(post(path, &[], body.to_string())).await
    }

    /// A challenge from the protected route.
    pub(crate) async fn knock(&self, key: &ApiKey) -> String {
        let answer = self.orders(&[("x-api-key", key.expose().to_owned())]).await;
        assert_eq!(answer.status, 401);
        answer.challenge()
    }

    /// A challenge from `/authenticate`.
    pub(crate) async fn ask(&self, key: &ApiKey) -> String {
        let answer = self.post("/authenticate", &asking(key)).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.text("challenge")
    }

    /// A token of `billing`.
    pub(crate) async fn guide_1_token(&self) -> String {
        let challenge = self.ask(&self.billing.key).await;
        self.post("/verify_challenge", &self.billing.answer(&challenge)).await.text("token")
    }

    /// A token of `reports`.
    pub(crate) async fn guide_2_token(&self) -> String {
        let challenge = self.ask(&self.reports).await;
        self.post("/verify_challenge", &answer_2(&self.reports, &challenge)).await.text("token")
    }

    /// The one record with the request id of this answer.
    pub(crate) fn record_of(&self, answer: &Answer) -> Record {
        let id = answer.header("x-request-id").unwrap_or_else(|| panic!("no x-request-id: {answer:?}"));
        let mut records: Vec<_> =
            self.sink.records().into_iter().filter(|record| record.request_id == id).collect();
        assert_eq!(records.len(), 1, "records of one request");
        records.remove(0)
    }

    /// Checks a refusal from end to end: status, problem, headers, and the exact reason on the trail.
    #[track_caller]
    pub(crate) fn assert_refused(&self, answer: &Answer, status: u16, problem: &str, reason: &str) -> Record {
        assert_problem(answer, status, problem);
        let record = self.record_of(answer);
        assert_eq!(record.reason, reason);
        let challenged = reason == "challenge-sent";
        assert_eq!(record.outcome, if challenged { Outcome::Challenged } else { Outcome::Refused });
        record
    }

    /// Checks that nothing confidential is on the trail.
    pub(crate) fn assert_nothing_leaked(&self) {
        let trail = serde_json::to_string(&self.sink.records()).unwrap();
        for text in self.confidential.lock().unwrap().iter() {
            assert!(!trail.contains(text.as_str()), "{text} is on the trail: {trail}");
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_nothing_leaked();
        }
    }
}

/// Checks status, body and headers of a problem.
#[track_caller]
pub(crate) fn assert_problem(answer: &Answer, status: u16, problem: &str) {
    assert_eq!(answer.status, status, "{:?}", answer.body);
    let body = answer.json();
    assert_eq!(body["type"], format!("urn:countersign:problem:{problem}"));
    assert!(!body["title"].as_str().unwrap().is_empty());
    assert_eq!(body["status"], status);
    let id = body["requestId"].as_str().unwrap();
    assert_eq!(answer.header("x-request-id"), Some(id));
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let scheme = answer.header("www-authenticate");
    assert_eq!(scheme.is_some(), status == 401, "WWW-Authenticate goes with a 401: {scheme:?}");
    assert!(scheme.is_none_or(|scheme| scheme.starts_with(r#"Countersign realm="orders""#)));
    let wait = answer.header("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
    assert_eq!(
        wait.is_some_and(|seconds| seconds > 0),
        status == 429,
        "Retry-After goes with a 429: {wait:?}"
    );
    assert_eq!(body.get("challenge").is_some(), body.get("expiresIn").is_some());
    for ours in ["x-api-key", "x-signature"] {
        assert_eq!(answer.header(ours), None, "no proof goes with a refusal");
    }
}

/// `/orders` tells what its handler saw; `/forger` has a handler that claims to be us.
pub(crate) fn app(authenticator: &Authenticator) -> Router {
    let forged: HeaderMap =
        ["x-api-key", "x_api_key", "x-signature", "x_signature", "x.api.key", "x-harmless"]
            .map(|name| (name.parse().unwrap(), HeaderValue::from_static("forged")))
            .into_iter()
            .collect();
    Router::new()
        .route("/orders", any(echo))
        .route("/forger", any(|| async { forged }))
        .layer(AuthLayer::new(authenticator.clone()))
        .merge(router(authenticator.clone()))
}

async fn echo(peer: Peer, headers: HeaderMap) -> String {
    let mut seen = serde_json::Map::new();
    for (name, value) in &headers {
        let values = seen.entry(name.as_str()).or_insert_with(|| json!([]));
        values.as_array_mut().unwrap().push(String::from_utf8_lossy(value.as_bytes()).into());
    }
    json!({
        "service": peer.service.as_str(),
        "credential": peer.credential.to_string(),
        "profile": peer.profile.as_str(),
        "headers": seen,
    })
    .to_string()
}

pub(crate) async fn send_to(app: &Router, request: Request<Body>) -> Answer {
    let (parts, body) = app.clone().oneshot(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Answer { status: parts.status.as_u16(), headers: parts.headers, body }
}

pub(crate) fn orders(headers: &[(&str, String)]) -> Request<Bytes> {
    with_headers(Request::get("/orders"), headers).body(Bytes::new()).unwrap()
}

pub(crate) fn post(path: &str, headers: &[(&str, String)], body: impl Into<Bytes>) -> Request<Bytes> {
    with_headers(Request::post(path), headers).body(body.into()).unwrap()
}

fn with_headers(request: http::request::Builder, headers: &[(&str, String)]) -> http::request::Builder {
    headers.iter().fold(request, |request, (name, value)| request.header(*name, value))
}
