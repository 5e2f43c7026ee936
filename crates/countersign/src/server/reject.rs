use bytes::Bytes;
use countersign_protocol::cs1::accept::ACCEPT_SIGNATURE;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::problem::{MEDIA_TYPE, Problem};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::{Challenge, Lifetime};
use countersign_protocol::wire::www_authenticate;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;

use super::rate_fields::RateFields;

/// An attempt that was refused: opaque on the wire, exact in the response's extensions ([`Refusal`]).
#[derive(Clone, Debug)]
pub struct Rejection {
    /// Why, exactly.
    pub refusal: Refusal,
    /// The id under which the trail has it.
    pub request_id: String,
    pub(super) realm: ServiceName,
    pub(super) challenge: Option<(Challenge, Lifetime)>,
    /// How the caller stands with the limits.
    pub(super) rate: Option<RateFields>,
    /// Asks to sign the request again, with a nonce of ours.
    pub(super) accept_signature: Option<HeaderValue>,
}

impl Rejection {
    /// The response: `application/problem+json`, for a 401 with `WWW-Authenticate`, for a 429 with `Retry-After` and
    /// `RateLimit`.
    #[must_use]
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let challenge = self.challenge.as_ref().map(|(challenge, lifetime)| (challenge, *lifetime));
        let problem = self.refusal.problem();
        let mut response = problem_response(
            problem,
            &self.request_id,
            challenge.map(|(challenge, lifetime)| (challenge.as_str(), lifetime.as_secs())),
        );
        if problem.status() == 401 {
            let value = www_authenticate::write(&self.realm, challenge);
            if let Ok(value) = HeaderValue::from_str(&value) {
                response.headers_mut().insert(WWW_AUTHENTICATE, value);
            }
        }
        if let Some(rate) = self.rate {
            rate.put(response.headers_mut());
        }
        if let Some(value) = self.accept_signature {
            response.headers_mut().insert(ACCEPT_SIGNATURE, value);
        }
        response.extensions_mut().insert(self.refusal);
        response
    }
}

/// The response for `problem`.
#[must_use]
pub fn problem_response(
    problem: Problem,
    request_id: &str,
    challenge: Option<(&str, u64)>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(problem.body(request_id, challenge)));
    *response.status_mut() =
        StatusCode::from_u16(problem.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert("x-request-id", id);
    }
    match problem {
        Problem::RateLimited { retry_after } => {
            headers.insert(RETRY_AFTER, HeaderValue::from(retry_after));
        }
        Problem::MethodNotAllowed => {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        _ => {}
    }
    response
}
