use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use countersign::LEAVING;
use countersign::client::{BaseUrl, ClientError, HttpClient, http_client};
use countersign::protocol::cs1::request::join_cookies;
use countersign::protocol::problem::Problem;
use countersign::protocol::refusal::Malformed;
use countersign::server::{
    Peer, ResponseBody, SourceAddr, problem_response, remove_spelled, strip_credentials,
};
use countersign::store::Trust;
use http::header::{
    CONNECTION, EXPECT, FORWARDED, HOST, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, Empty};
use tower_http::timeout::TimeoutBody;

/// The service behind the gateway. Bodies stream both ways.
#[derive(Clone, Debug)]
pub struct Upstream(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    base: BaseUrl,
    http: HttpClient,
    head_timeout: Duration,
    body_timeout: Duration,
}

impl Upstream {
    /// Forwards to `url`: https, or http on loopback. The head of a response has to come within `head_timeout`,
    /// the time that the request's body takes included; each piece of that body within `body_timeout`.
    ///
    /// # Errors
    /// Not such a URL, or the trust cannot be used.
    pub fn new(
        url: &str,
        trust: &Trust,
        head_timeout: Duration,
        body_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let (base, http) = (BaseUrl::parse(url)?, http_client(trust)?);
        Ok(Self(Arc::new(Inner { base, http, head_timeout, body_timeout })))
    }

    /// Forwards an authenticated request, and tells the upstream who sent it.
    pub(crate) async fn forward(&self, request: Request<Body>) -> Response {
        let request_id = text(request.headers(), "x-request-id");
        let outcome = match self.prepare(request) {
            Ok(prepared) => {
                match tokio::time::timeout(self.0.head_timeout, self.0.http.request(prepared)).await {
                    // An upgrade was never asked for: it is taken out of every request.
                    Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                        Err(Problem::UpstreamUnreachable)
                    }
                    Ok(Ok(response)) => Ok(response),
                    Ok(Err(error)) => {
                        tracing::warn!(error = %source(&error), upstream = %self.0.base, "upstream failed");
                        Err(Problem::UpstreamUnreachable)
                    }
                    Err(_) => Err(Problem::UpstreamTimeout),
                }
            }
            Err(problem) => Err(problem),
        };
        match outcome {
            Ok(mut response) => {
                strip_hop_by_hop(response.headers_mut());
                response.map(Body::new)
            }
            Err(problem) => problem_response(problem, &request_id, None).map(Body::new),
        }
    }

    fn prepare(&self, request: Request<Body>) -> Result<Request<ResponseBody>, Problem> {
        let (mut parts, body) = request.into_parts();
        if matches!(parts.method, Method::CONNECT | Method::TRACE) {
            return Err(Problem::MethodNotForwarded);
        }
        let peer = parts.extensions.get::<Peer>().cloned().ok_or(Problem::Unavailable)?;
        let source = parts.extensions.get::<SourceAddr>().map(|source| source.0.to_string());
        let malformed = |_| Problem::Malformed(Malformed::Path);
        let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
        let uri: Uri = self.0.base.below(path).map_err(malformed)?;
        // An absolute target goes before the header (RFC 9112, section 3.2.2).
        let host = match parts.uri.authority() {
            Some(authority) => HeaderValue::from_str(authority.as_str()).ok(),
            None => parts.headers.get(HOST).cloned(),
        };
        strip_hop_by_hop(&mut parts.headers);
        join_cookies(&mut parts.headers);
        strip_forwarding(&mut parts.headers);
        for name in [HOST, EXPECT, HeaderName::from_static("proxy")] {
            parts.headers.remove(name);
        }
        let said = [
            ("x-countersign-service", Some(peer.service.to_string())),
            ("x-countersign-credential", Some(peer.credential.to_string())),
            ("x-countersign-profile", Some(peer.profile.to_string())),
            ("x-forwarded-for", source),
        ];
        for (name, value) in said {
            if let Some(value) = value.and_then(|value| HeaderValue::from_str(&value).ok()) {
                parts.headers.insert(name, value);
            }
        }
        if let Some(host) = host {
            parts.headers.insert("x-forwarded-host", host);
        }
        let mut forwarded = Request::new(self.streamed(body));
        *forwarded.method_mut() = parts.method;
        *forwarded.uri_mut() = uri;
        *forwarded.version_mut() = Version::HTTP_11;
        *forwarded.headers_mut() = parts.headers;
        Ok(forwarded)
    }

    /// A request's body as it flows on: cut off when it stalls, its trailers without what is ours to say.
    fn streamed(&self, body: Body) -> ResponseBody {
        // An empty body stays one: a wrapped one would be announced as chunked.
        if body.is_end_stream() {
            return Empty::new().map_err(|never| match never {}).boxed_unsync();
        }
        TimeoutBody::new(self.0.body_timeout, body)
            .map_frame(|frame| match frame.into_trailers() {
                Ok(mut trailers) => {
                    strip_credentials(&mut trailers);
                    strip_forwarding(&mut trailers);
                    Frame::trailers(trailers)
                }
                Err(frame) => frame,
            })
            .boxed_unsync()
    }
}

/// Takes out what belongs to one connection (RFC 9110, section 7.6.1), with what `Connection` names.
fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        // A caller cannot have our own headers taken out this way.
        .filter(|name: &HeaderName| !name.as_str().starts_with("x-countersign-") && name != "x-request-id")
        .collect();
    let fixed = [
        CONNECTION,
        HeaderName::from_static("keep-alive"),
        LEAVING,
        HeaderName::from_static("proxy-connection"),
        PROXY_AUTHENTICATE,
        PROXY_AUTHORIZATION,
        TE,
        TRAILER,
        TRANSFER_ENCODING,
        UPGRADE,
    ];
    for name in named.into_iter().chain(fixed) {
        headers.remove(name);
    }
}

/// What a caller says about itself here is not to be believed. What a trusted proxy said has been made use of: the
/// source that follows from it is what the upstream is told.
fn strip_forwarding(headers: &mut HeaderMap) {
    remove_spelled(headers, |name| {
        name.starts_with("x-forwarded") || name == "x-real-ip" || name == FORWARDED.as_str()
    });
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

fn source(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    if let Some(cause) = error.source() {
        text.push_str(": ");
        text.push_str(&cause.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use http::header::COOKIE;

    use super::*;

    #[test]
    fn connection_headers_are_taken_out_and_our_own_are_not() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Private, x-countersign-service"),
            ("x-private", "a"),
            ("keep-alive", "timeout=5"),
            ("upgrade", "websocket"),
            ("x-countersign-service", "billing"),
            ("accept", "*/*"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip_hop_by_hop(&mut headers);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-countersign-service"]);
    }

    #[test]
    fn what_a_caller_says_of_its_address_is_dropped() {
        let mut headers = HeaderMap::new();
        for name in ["forwarded", "x-forwarded-for", "x_forwarded_for", "x-forwarded-proto", "x-real-ip"] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static("10.0.0.1"));
        }
        strip_forwarding(&mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn cookie_crumbs_become_one_header() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1"));
        headers.append(COOKIE, HeaderValue::from_static("b=2"));
        join_cookies(&mut headers);
        assert_eq!(headers.get_all(COOKIE).iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }
}
