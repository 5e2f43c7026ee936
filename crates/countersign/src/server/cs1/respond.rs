//! A signed request from its first byte to the signature of its response.

use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::cs1::content::content_digest;
use countersign_protocol::cs1::request::join_cookies;
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::identity::Profile;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::Refusal;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use tower::Service;

use super::head::{self, Head, Signed};
use crate::server::attempt::Attempt;
use crate::server::authenticator::Authenticator;
use crate::server::extract::{Peer, SourceAddr};
use crate::server::layer::{BoxError, ResponseBody};
use crate::server::reject::{Rejection, problem_response};
use crate::server::strip;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// Lets a request through to `inner` if its signature and its content are right, and signs what comes back. What is refused
/// here is answered without a signature (CS-34).
pub(in crate::server) async fn serve<S, B, R>(
    authenticator: Authenticator,
    mut parts: Parts,
    body: B,
    mut inner: S,
) -> Result<Response<ResponseBody>, S::Error>
where
    S: Service<Request<ResponseBody>, Response = Response<R>>,
    B: Body<Data = Bytes>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    let source = authenticator.source(&parts.extensions, &parts.headers);
    join_cookies(&mut parts.headers);
    let mut attempt = Attempt::new(&authenticator, source, "signed");
    let admitted = admit(&authenticator, &mut attempt, &parts, body).await;
    let (Head { who, answer, signed, coverage, .. }, content) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            let rejection = reject(&mut attempt, refusal).await;
            return Ok(rejection.into_response().map(boxed));
        }
    };
    let request_id = std::mem::take(&mut attempt.request_id);
    strip::credentials(&mut parts.headers);
    head::clean(&mut parts.headers, &coverage);
    parts.extensions.insert(Peer::new(who.id.clone(), Profile::Cs1));
    parts.extensions.insert(coverage);
    parts.extensions.insert(SourceAddr(source));
    let id = HeaderValue::from_str(&request_id).ok();
    if let Some(id) = &id {
        parts.headers.insert(strip::REQUEST_ID, id.clone());
    }
    let is_head = parts.method == Method::HEAD;
    let response = inner.call(Request::from_parts(parts, boxed(Full::from(content)))).await?;
    let mut response = response.map(|body| body.map_err(Into::into).boxed_unsync());
    strip::proof(response.headers_mut());
    if let Some(id) = id {
        response.headers_mut().insert(strip::REQUEST_ID, id);
    }
    let limit = authenticator.inner().cs1.hold;
    let signer = Signer { authenticator: &authenticator, key: &answer, signed: &signed, is_head };
    Ok(signer.sign(response, limit, &request_id).await)
}

type Admitted = (Head, Bytes);

/// What was decided is on the trail before anybody hears of it.
async fn admit<B: Body<Data = Bytes>>(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    parts: &Parts,
    body: B,
) -> Result<Admitted, Refusal> {
    let head = head::judge(authenticator, attempt, parts)?;
    let inner = authenticator.inner();
    let held = super::content::hold(body, head.content, inner.cs1.hold, inner.body_timeout).await;
    let content = held.inspect_err(|_| attempt.with_credential(&head.who))?;
    attempt.accept(&head.who);
    attempt.written().await?;
    Ok((head, content))
}

/// A refusal as on other protected routes: limited by source.
async fn reject(attempt: &mut Attempt<'_>, refusal: Refusal) -> Rejection {
    match attempt.check_refused(refusal) {
        Ok(()) => attempt.refuse(refusal, None).await,
        Err(limited) => attempt.refuse(limited, None).await,
    }
}
