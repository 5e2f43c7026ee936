//! Who is asked to rotate in band answers here (`specs/rotation.md`): R1 and the status request are signed and go the way of signed
//! requests; R3 proves itself.

use std::convert::Infallible;

use axum::extract::State;
use bytes::Bytes;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::rotation::{Confirm, Propose};
use countersign_protocol::wire;
use countersign_protocol::wire::rotation::{Asked, Status, read};
use countersign_store::agreement::SUPERSEDE_AFTER;
use countersign_store::{Move, MoveError, Moved, StoreError, random};
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use tower::service_fn;
use zeroize::Zeroizing;

use super::attempt::Attempt;
use super::authenticator::Authenticator;
use super::body::RequestBody;
use super::endpoints::{Answer, json_bytes, put, read as read_body};
use super::extract::Peer;
use super::layer::Takes;
use super::reject::problem_response;
use super::{cs1, strip};

pub(super) async fn endpoint(
    State(authenticator): State<Authenticator>,
    request: Request<axum::body::Body>,
) -> Response<axum::body::Body> {
    if cs1::is_signed(request.headers()) {
        let (parts, body) = request.into_parts();
        let answering = authenticator.clone();
        let handler = service_fn(move |request| {
            let authenticator = answering.clone();
            async move { Ok::<_, Infallible>(signed(&authenticator, request).await) }
        });
        let Ok(response) = cs1::serve(authenticator, Takes::default(), parts, body, handler).await;
        return response.map(axum::body::Body::new);
    }
    confirmed(&authenticator, request).await.map(axum::body::Body::new)
}

/// A request that the peer has signed, and what it gets signed back.
async fn signed(authenticator: &Authenticator, request: Request<RequestBody>) -> Answer {
    let (parts, body) = request.into_parts();
    let id = parts.headers.get(strip::REQUEST_ID).and_then(|id| id.to_str().ok()).unwrap_or_default();
    let problem = |problem| problem_response(problem, id, None);
    if parts.method != Method::POST {
        return problem(Problem::MethodNotAllowed);
    }
    let Some(peer) = parts.extensions.get::<Peer>().cloned() else { return problem(Problem::Unavailable) };
    let Ok(body) = Limited::new(body, wire::MAX_BODY).collect().await else {
        return problem(Problem::Malformed(Malformed::BodyTooLarge));
    };
    let asked = match read(&body.to_bytes()) {
        Ok(asked) => asked,
        Err(malformed) => return problem(Problem::Malformed(malformed)),
    };
    let this = authenticator.clone();
    let done = match asked {
        Asked::Propose(propose) => blocking(move || propose_to(&this, &peer, propose)).await,
        Asked::Status => blocking(move || status(&this, &peer)).await,
        // It proves itself, and is not to depend on a session.
        Asked::Confirm(_) => return problem(Problem::Malformed(Malformed::Member("rotation"))),
    };
    done.map_or_else(problem, |body| json_bytes(body.into(), HeaderMap::new()))
}

fn propose_to(authenticator: &Authenticator, peer: &Peer, propose: Propose) -> Result<Vec<u8>, Problem> {
    let inner = authenticator.inner();
    let known = inner.store().get(&peer.service).map_err(|error| told(&error))?;
    let signer = known.credentials.iter().find(|one| one.number == peer.credential.number);
    let signer = signer.ok_or(Problem::RotationBusy)?.uid;
    let answer = Move::Answer {
        propose,
        signer,
        nonce: random(),
        private: Zeroizing::new(random()),
        grace: inner.rotation.grace.as_secs(),
        supersede_after: SUPERSEDE_AFTER,
    };
    let moved = inner.store().agree(&peer.service, &answer, inner.clock.now());
    match moved.map_err(|error| told(&error))? {
        Moved::Answer(answer) => {
            // Before it is known to anybody: what they send is accepted (RO-4). Other processes look soon.
            authenticator.refresh().map_err(|error| told(&error))?;
            tracing::info!(peer = %peer.service, rid = answer.rid, "a rotation has begun: the peer asked for it");
            Ok(answer.to_json())
        }
        _ => Err(Problem::Unavailable),
    }
}

fn status(authenticator: &Authenticator, peer: &Peer) -> Result<Vec<u8>, Problem> {
    let inner = authenticator.inner();
    let known = inner.store().get(&peer.service).map_err(|error| told(&error))?;
    let now = inner.clock.now();
    let status = Status { now, grace: inner.rotation.grace.as_secs(), wanted: known.wanted().is_some() };
    Ok(status.to_json())
}

/// What the peer is told of it, signed.
fn told(error: &StoreError) -> Problem {
    match error {
        StoreError::Rotation(MoveError::Over { last }) => Problem::RotationOver { last: *last },
        StoreError::Rotation(MoveError::ZeroShare) => Problem::Malformed(Malformed::Member("ephemeral")),
        // It has changed meanwhile: what it was signed with is not what is in use.
        StoreError::Rotation(_) | StoreError::NoSuchPeer(_) | StoreError::RotationOpen(_) => {
            Problem::RotationBusy
        }
        // Rotated by hand, or where they are kept.
        StoreError::ReadOnly(_) => Problem::NotFound,
        error => {
            tracing::error!(%error, "a rotation cannot be answered");
            Problem::Unavailable
        }
    }
}

/// R3.
async fn confirmed(authenticator: &Authenticator, request: Request<axum::body::Body>) -> Answer {
    let (parts, body) = request.into_parts();
    let source = authenticator.source(&parts.extensions, &parts.headers);
    let mut attempt = Attempt::new(authenticator, source, "rotation");
    if parts.method != Method::POST {
        let mut response = problem_response(Problem::MethodNotAllowed, &attempt.request_id, None);
        put(attempt.standing(), &mut response);
        return response;
    }
    match rule(authenticator, &mut attempt, body).await {
        Ok(ruling) => {
            let mut response = json_bytes(ruling.into(), HeaderMap::new());
            if let Ok(id) = http::HeaderValue::from_str(&attempt.request_id) {
                response.headers_mut().insert(strip::REQUEST_ID, id);
            }
            put(attempt.standing(), &mut response);
            response
        }
        Err(refusal) => {
            let mut rejection = attempt.refuse(refusal, None).await;
            rejection.rate = rejection.rate.or_else(|| attempt.standing());
            rejection.into_response()
        }
    }
}

async fn rule(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    body: axum::body::Body,
) -> Result<Vec<u8>, Refusal> {
    attempt.check_request()?;
    let inner = authenticator.inner();
    let body: Bytes = read_body(inner, body).await?;
    let confirm = match read(&body)? {
        Asked::Confirm(confirm) => confirm,
        // They have to be signed.
        Asked::Propose(_) | Asked::Status => return Err(Refusal::NoCredentials),
    };
    let snapshot = inner.peers()?;
    let found = snapshot.find(&confirm.names.initiator, inner.clock.now());
    attempt.with_key(&found);
    attempt.check_request()?;
    // In memory first: a stranger makes no store write, and reading the proofs costs him more than us.
    let who = snapshot.rotating.iter().find(|peer| peer.would_rule(&confirm));
    let who = who.ok_or(Refusal::RotationUnknown)?.name.clone();
    if let Ok(holders) = found.cs1(&confirm.names.responder)
        && let Some(holder) = holders.first()
    {
        attempt.accept(&holder.who);
    }
    let this = authenticator.clone();
    let ruling = blocking(move || conclude(&this, &who, confirm)).await;
    let written = attempt.written().await;
    ruling.and_then(|ruling| written.map(|()| ruling))
}

fn conclude(
    authenticator: &Authenticator,
    peer: &countersign_protocol::identity::ServiceName,
    confirm: Confirm,
) -> Result<Vec<u8>, Refusal> {
    let inner = authenticator.inner();
    let moved = inner.store().agree(peer, &Move::Confirm(confirm), inner.clock.now());
    match moved {
        Ok(Moved::Ruling(ruling)) => {
            tracing::info!(%peer, rid = ruling.rid, outcome = ?ruling.outcome, "a rotation was confirmed");
            Ok(ruling.to_json())
        }
        Ok(_) | Err(StoreError::Rotation(_)) => Err(Refusal::RotationUnknown),
        Err(error) => {
            tracing::error!(%error, "a rotation cannot be confirmed");
            Err(Refusal::StoreStale)
        }
    }
}

/// Off the runtime's threads: the store is a file, or a network.
async fn blocking<T: Send + 'static, E: From<Cut> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(Cut.into()))
}

/// The work was cut short: it panicked, or the process ends.
struct Cut;

impl From<Cut> for Problem {
    fn from(_: Cut) -> Self {
        Self::Unavailable
    }
}

impl From<Cut> for Refusal {
    fn from(_: Cut) -> Self {
        Self::StoreStale
    }
}
