//! `/authenticate` and `/verify_challenge`, and how an endpoint is answered.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::any;
use bytes::Bytes;
use countersign_protocol::api_key;
use countersign_protocol::identity::{ApiKey, CredentialId};
use countersign_protocol::lookup::LookupHash;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::shared_secret::server::Holders;
use countersign_protocol::wire::body::{self, AnyChallenge, Verify};
use countersign_protocol::wire::reply::{ChallengeReply, VerdictReply};
use countersign_protocol::wire::{self, header};
use countersign_store::{Spent, random};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Full, Limited};

use super::attempt::Attempt;
use super::authenticator::{Authenticator, Inner};
use super::cs1::{self, TlsExporter};
use super::rate_fields::RateFields;
use super::reject::problem_response;
use super::rotation;
use super::route::{Signed, by_signature, fresh_challenge, prove};

/// The endpoints as an axum router. The protected routes go behind it (`router(…).fallback_service(protected)`), so that what is not
/// found passes the layer too and is answered with a signature; merged beside it, they are protected as well, and a path that
/// nobody has gets axum's own 404, unsigned, which callers under `cs1` do not believe. It has the two of the handshake, where rotations in band are
/// agreed on, and where pairing is ([`Builder::pairing`](super::Builder::pairing)).
pub fn router(authenticator: Authenticator) -> Router {
    Router::new()
        .route(wire::AUTHENTICATE, any(authenticate))
        .route(wire::VERIFY_CHALLENGE, any(verify_challenge))
        .route(wire::ROTATION, any(rotation::endpoint))
        .route(countersign_protocol::pairing::message::PATH, any(super::pairing::pairing))
        .with_state(authenticator)
}

pub(super) type Answer = Response<Full<Bytes>>;

async fn authenticate(
    State(authenticator): State<Authenticator>,
    request: Request<axum::body::Body>,
) -> Answer {
    endpoint(&authenticator, request, "authenticate", |inner, attempt, parts, body| {
        let reply = if is_cs1(&parts.headers, body)? {
            cs1::challenge(inner, attempt, body)?.as_str().to_owned()
        } else {
            give_challenge(inner, attempt, &parts.headers, body)?
        };
        let reply = ChallengeReply { challenge: &reply, expires_in: inner.issuer.lifetime().as_secs() };
        Ok(json(&reply, HeaderMap::new()))
    })
    .await
}

async fn verify_challenge(
    State(authenticator): State<Authenticator>,
    request: Request<axum::body::Body>,
) -> Answer {
    endpoint(&authenticator, request, "verify-challenge", |inner, attempt, parts, body| {
        if is_cs1(&parts.headers, body)? {
            let exporter = parts.extensions.get::<TlsExporter>().map(|exporter| &exporter.0);
            return Ok(json_bytes(cs1::accept(inner, attempt, body, exporter)?, HeaderMap::new()));
        }
        let (credential, uid, proof) = verify(inner, attempt, &parts.headers, body)?;
        let token = inner.issue_token(&credential, uid);
        let reply = VerdictReply {
            authenticated: true,
            service: &credential.peer,
            token: token.as_ref().map(|(token, _)| token.as_str()),
            expires_in: token.as_ref().map(|(_, seconds)| *seconds),
        };
        Ok(json(&reply, proof))
    })
    .await
}

async fn endpoint(
    authenticator: &Authenticator,
    request: Request<axum::body::Body>,
    step: &'static str,
    answer: impl FnOnce(&Inner, &mut Attempt<'_>, &Parts, &[u8]) -> Result<Answer, Refusal>,
) -> Answer {
    let (parts, body) = request.into_parts();
    let source = authenticator.source(&parts.extensions, &parts.headers);
    let mut attempt = Attempt::new(authenticator, source, step);
    if parts.method != Method::POST {
        let mut response = problem_response(Problem::MethodNotAllowed, &attempt.request_id, None);
        put(attempt.standing(), &mut response);
        return response;
    }
    let inner = authenticator.inner();
    let result = match attempt.check_request() {
        Ok(()) => match read(inner, body).await {
            Ok(body) => answer(inner, &mut attempt, &parts, &body),
            Err(malformed) => Err(malformed.into()),
        },
        Err(limited) => Err(limited),
    };
    close(&mut attempt, result).await
}

/// Tells what was decided.
pub(super) async fn close(attempt: &mut Attempt<'_>, result: Result<Answer, Refusal>) -> Answer {
    // What was decided is told when it is on the trail, and not before.
    let written = attempt.written().await;
    let result = result.and_then(|response| written.map(|()| response));
    match result {
        Ok(mut response) => {
            if let Ok(id) = HeaderValue::from_str(&attempt.request_id) {
                response.headers_mut().insert("x-request-id", id);
            }
            put(attempt.standing(), &mut response);
            response
        }
        Err(refusal) => {
            let mut rejection = attempt.refuse(refusal, None).await;
            // After the refusal: it counts.
            rejection.rate = rejection.rate.or_else(|| attempt.standing());
            rejection.into_response()
        }
    }
}

pub(super) fn put(rate: Option<RateFields>, response: &mut Answer) {
    if let Some(rate) = rate {
        rate.put(response.headers_mut());
    }
}

/// Reads a small body in bounded time. One that says that it is too long is not waited for.
pub(super) async fn read(inner: &Inner, body: axum::body::Body) -> Result<Bytes, Malformed> {
    if body.size_hint().lower() > wire::MAX_BODY as u64 {
        return Err(Malformed::BodyTooLarge);
    }
    let collected = tokio::time::timeout(inner.body_timeout, Limited::new(body, wire::MAX_BODY).collect());
    match collected.await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(Malformed::BodyTooLarge),
        Ok(Err(_)) | Err(_) => Err(Malformed::BodyIncomplete),
    }
}

/// Whether the body names a protocol: that is `cs1` or a mistake. It comes with no other credentials.
fn is_cs1(headers: &HeaderMap, body: &[u8]) -> Result<bool, Refusal> {
    if !body::names_protocol(body) {
        return Ok(false);
    }
    let others =
        [&header::X_API_KEY, &header::X_CHALLENGE, &header::X_SIGNATURE, &header::X_CLIENT_CHALLENGE];
    if header::bearer_token(headers)?.is_some() || others.iter().any(|name| headers.contains_key(*name)) {
        return Err(Refusal::TwoMethods);
    }
    Ok(true)
}

fn give_challenge(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<String, Refusal> {
    if header::bearer_token(headers)?.is_some() {
        return Err(Refusal::TwoMethods);
    }
    let in_header = header::single(headers, &header::X_API_KEY)?
        .map(|text| text.parse::<ApiKey>().map_err(|_| Malformed::HeaderValue("X-API-Key")))
        .transpose()?;
    let in_body = body::read_authenticate(body)?;
    // The header belongs to guide 1; the body may be of either guide, as the key's peer has it.
    let (api_key, guide_1_only) = match (in_header, in_body) {
        (Some(_), Some(_)) => return Err(Refusal::TwoMethods),
        (Some(key), None) => (key, true),
        (None, Some(key)) => (key, false),
        (None, None) => return Err(Malformed::NoKey.into()),
    };
    let snapshot = inner.peers()?;
    let found = snapshot.find(&api_key, inner.clock.now());
    attempt.with_key(&found);
    attempt.check_request()?;
    attempt.check_failures()?;
    let refusal = match found.shared_secret() {
        Holders::Live(_) => {
            let challenge = fresh_challenge(inner, &api_key);
            attempt.challenged();
            return Ok(challenge.as_str().to_owned());
        }
        Holders::Nobody(refusal) => refusal,
    };
    if guide_1_only {
        return Err(refusal);
    }
    found.api_key()?;
    let now = inner.clock.now();
    let challenge = api_key::Challenge::generate(now, &random());
    // Answered at the age of its lifetime it is still good, as under guide 1.
    let expires = now.plus(inner.issuer.lifetime().as_secs() + 1);
    inner
        .outstanding
        .put(found.hash, challenge.clone(), expires, now)
        .map_err(|full| Refusal::TooManyChallenges { retry_after: full.retry_after })?;
    attempt.challenged();
    Ok(challenge.as_str().to_owned())
}

type Proven = (CredentialId, [u8; 16], HeaderMap);

fn verify(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Proven, Refusal> {
    let elsewhere = [&header::X_API_KEY, &header::X_CHALLENGE, &header::X_SIGNATURE];
    if header::bearer_token(headers)?.is_some() || elsewhere.iter().any(|name| headers.contains_key(*name)) {
        return Err(Refusal::TwoMethods);
    }
    let client_challenge = header::client_challenge(headers)?;
    let Verify { api_key, signature, challenge } = body::read_verify(body)?;
    let snapshot = inner.peers()?;
    let found = snapshot.find(&api_key, inner.clock.now());
    attempt.with_key(&found);
    attempt.check_request()?;
    let echo = match challenge {
        Some(AnyChallenge::SharedSecret(challenge)) => {
            let signed = Signed { api_key: &api_key, challenge: &challenge, signature: &signature };
            let verified = by_signature(inner, attempt, &snapshot, signed)?;
            let proof = client_challenge.map(|challenge| prove(&verified, &challenge)).unwrap_or_default();
            let who = &verified.holder().who;
            return Ok((who.id.clone(), who.uid, proof));
        }
        Some(AnyChallenge::ApiKey(challenge)) => Some(challenge),
        None => None,
    };
    attempt.check_failures()?;
    let now = inner.clock.now();
    let (outstanding, holder) = match found.api_key() {
        Ok(holder) => (inner.outstanding.list(found.hash, now), Ok(holder)),
        Err(refusal) => (Vec::new(), Err(refusal)),
    };
    let signed = api_key::server::Attempt {
        api_key: &api_key,
        signature: &signature,
        echo: echo.as_ref().map(api_key::Challenge::as_str),
    };
    // The MAC is computed for an unknown key too, and its own refusal goes before the MAC's.
    let verified = api_key::server::verify(signed, &outstanding);
    let holder: &Arc<_> = holder?;
    let unclaimed = verified.map_err(|wrong| {
        let wrong = if outstanding.is_empty() { Refusal::NothingOutstanding } else { wrong };
        spent(inner, found.hash, signed).unwrap_or(wrong)
    })?;
    unclaimed.claim(|challenge| {
        if inner.outstanding.take(found.hash, challenge, now) { Ok(()) } else { Err(Refusal::ChallengeUsed) }
    })?;
    attempt.accept(holder);
    Ok((holder.id.clone(), holder.uid, HeaderMap::new()))
}

/// Whether a challenge was signed that is not outstanding any more: who is late should not look for a wrong key.
/// Only who has the key, and so may know, can find that out.
fn spent(inner: &Inner, key: LookupHash, signed: api_key::server::Attempt<'_>) -> Option<Refusal> {
    let spent = inner.outstanding.spent(key, inner.clock.now());
    let challenges: Vec<_> = spent.iter().map(|(challenge, _)| challenge.clone()).collect();
    let signed = api_key::server::verify(signed, &challenges).ok()?;
    let (_, why) = spent.iter().find(|(challenge, _)| challenge == signed.challenge())?;
    Some(match why {
        Spent::Used => Refusal::ChallengeUsed,
        Spent::Expired => Refusal::ChallengeExpired,
    })
}

fn json(body: &impl serde::Serialize, proof: HeaderMap) -> Answer {
    json_bytes(serde_json::to_vec(body).unwrap_or_default().into(), proof)
}

pub(super) fn json_bytes(body: Bytes, proof: HeaderMap) -> Answer {
    let mut response = Response::new(Full::from(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(proof);
    response
}
