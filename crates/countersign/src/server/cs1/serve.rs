//! A signed request from its first byte to the signature of its response.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use countersign_protocol::cs1::Coverage;
use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::cs1::request::join_cookies;
use countersign_protocol::identity::Profile;
use countersign_protocol::refusal::Refusal;
use http::header::{CONNECTION, CONTENT_LENGTH, TE, UPGRADE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tower::Service;

use super::content;
use super::head::{self, Head};
use super::respond::Signer;
use super::stream::{Incoming, NotFinal, NotSigned, Origin};
use crate::server::attempt::Attempt;
use crate::server::authenticator::Authenticator;
use crate::server::body::{BoxError, RequestBody, ResponseBody};
use crate::server::extract::{Peer, SourceAddr};
use crate::server::layer::Takes;
use crate::server::reject::Rejection;
use crate::server::strip;

/// Lets a request through to `inner` if its signature and its content are right, and signs what comes back. What is refused
/// here is answered without a signature (CS-34).
pub(in crate::server) async fn serve<S, B, R>(
    authenticator: Authenticator,
    takes: Takes,
    mut parts: Parts,
    body: B,
    mut inner: S,
) -> Result<Response<ResponseBody>, S::Error>
where
    S: Service<Request<RequestBody>, Response = Response<R>>,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let source = authenticator.source(&parts.extensions, &parts.headers);
    // In HTTP/1.1 nothing parts a cookie but who wants it read in two ways (CS-28).
    if parts.version >= Version::HTTP_2 {
        join_cookies(&mut parts.headers);
    }
    let mut attempt = Attempt::new(&authenticator, source, "signed");
    let admitted = admit(&authenticator, &mut attempt, takes, &parts, body).await;
    let Admitted { head, body, failed } = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => return Ok(reject(&authenticator, &mut attempt, refusal, &parts).await),
    };
    let request_id = std::mem::take(&mut attempt.request_id);
    let version = parts.version;
    // Nothing that comes behind an upgrade is signed (CS-39).
    let upgrades = head.is_bound || takes.danger_upgrades;
    if !upgrades {
        parts.headers.remove(UPGRADE);
    }
    let trailers = version >= Version::HTTP_2 || (version == Version::HTTP_11 && takes_trailers(&parts));
    prepare(&mut parts, &head.who.id, head.coverage);
    parts.extensions.insert(SourceAddr(source));
    if failed.is_some() {
        parts.extensions.insert(NotFinal);
        // Covered by nothing. What is passed on with a length is complete before it is known to be what was signed.
        parts.headers.remove(CONTENT_LENGTH);
    }
    let id = HeaderValue::from_str(&request_id).ok();
    if let Some(id) = &id {
        parts.headers.insert(strip::REQUEST_ID, id.clone());
    }
    let signer = Signer {
        inner: authenticator.inner(),
        key: &head.answer,
        signed: &head.signed,
        request_id: &request_id,
        version,
        trailers,
        upgrades,
        request: failed.as_ref(),
    };
    if !upgrades && parts.method == Method::CONNECT {
        return Ok(signer.no_upgrade());
    }
    let response = inner.call(Request::from_parts(parts, body)).await?;
    let has_failed = || failed.as_ref().is_some_and(|failed| failed.load(Ordering::Acquire));
    if has_failed() {
        // Whatever the handler made of it: the request was not what it was signed as.
        return Ok(late(&authenticator, request_id, version));
    }
    let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
    strip::proof(response.headers_mut());
    if let Some(id) = id {
        response.headers_mut().insert(strip::REQUEST_ID, id);
    }
    let response = signer.sign(response).await;
    // The response may have been made of it while it was held.
    Ok(if has_failed() { late(&authenticator, request_id, version) } else { response })
}

struct Admitted {
    head: Head,
    body: RequestBody,
    /// Of a stream: whether it has turned out not to be what was signed.
    failed: Option<Arc<AtomicBool>>,
}

/// What was decided is on the trail before anybody hears of it.
async fn admit<B>(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    takes: Takes,
    parts: &Parts,
    body: B,
) -> Result<Admitted, Refusal>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    if head::has_others(&parts.headers) {
        return Err(Refusal::TwoMethods);
    }
    let head = head::judge(authenticator, attempt, parts)?;
    let inner = authenticator.inner();
    if matches!(head.content, ContentRule::Stream(_)) {
        if !takes.streams {
            return Err(Refusal::StreamsOff);
        }
        attempt.accept(&head.who);
        attempt.written().await?;
        let origin = Origin {
            authenticator: authenticator.clone(),
            credential: head.who.id.clone(),
            source: attempt.source(),
            request_id: attempt.request_id.clone(),
        };
        let (body, failed) = Incoming::new(body, &head.content, origin);
        return Ok(Admitted { head, body: RequestBody::new(body), failed: Some(failed) });
    }
    let held = content::hold(body, &head.content, inner.cs1.hold, inner.body_timeout).await?;
    attempt.accept(&head.who);
    attempt.written().await?;
    let body = RequestBody::new(Full::from(held));
    Ok(Admitted { head, body, failed: None })
}

/// What the handler gets to see.
fn prepare(parts: &mut Parts, id: &countersign_protocol::identity::CredentialId, coverage: Coverage) {
    strip::credentials(&mut parts.headers);
    head::clean(&mut parts.headers, &coverage);
    parts.extensions.insert(Peer::new(id.clone(), Profile::Cs1));
    parts.extensions.insert(coverage);
}

/// Whether an HTTP/1.1 client takes trailers (RFC 9110, section 10.1.4).
fn takes_trailers(parts: &Parts) -> bool {
    let values = parts.headers.get_all(TE).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|coding| coding.trim().eq_ignore_ascii_case("trailers"))
}

/// A refusal as on other protected routes: limited by source.
async fn reject(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    refusal: Refusal,
    parts: &Parts,
) -> Response<ResponseBody> {
    let mut rejection = match attempt.check_refused(refusal) {
        Ok(()) => attempt.refuse(refusal, None).await,
        Err(limited) => attempt.refuse(limited, None).await,
    };
    if rejection.refusal == Refusal::NonceRequired {
        rejection.accept_signature = head::ask(authenticator.inner(), &parts.headers);
    }
    answer(rejection)
}

/// The refusal of a stream that was let through. It is on the trail already. The exchange is aborted behind it (CS-38): the
/// connection is closed, or the stream is reset.
fn late(authenticator: &Authenticator, request_id: String, version: Version) -> Response<ResponseBody> {
    let mut refusal = answer(Rejection {
        refusal: Refusal::DigestMismatch,
        request_id,
        realm: authenticator.service().clone(),
        challenge: None,
        rate: None,
        accept_signature: None,
    });
    if version >= Version::HTTP_2 {
        return refusal
            .map(|body| body.with_trailers(std::future::ready(Some(Err(NotSigned.into())))).boxed_unsync());
    }
    refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    refusal
}

fn answer(rejection: Rejection) -> Response<ResponseBody> {
    rejection.into_response().map(|body| body.map_err(|never| match never {}).boxed_unsync())
}
