use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use tower::{Layer, Service};

use super::authenticator::Authenticator;
use super::body::{BoxError, RequestBody, ResponseBody};
use super::cs1;
use super::extract::SourceAddr;
use super::strip;

/// A tower layer that lets only authenticated requests through. The handler finds the caller as
/// [`Peer`](super::Peer); the credentials themselves are taken out of the request.
#[derive(Clone, Debug)]
pub struct AuthLayer {
    authenticator: Authenticator,
    takes: Takes,
}

/// What of `cs1` its handlers know how to take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Takes {
    /// Content that is checked while it flows (CS-38).
    pub(super) streams: bool,
    /// Upgraded connections of sessions that are not bound to TLS (CS-39).
    pub(super) danger_upgrades: bool,
}

impl AuthLayer {
    /// Protects with `authenticator`.
    #[must_use]
    pub fn new(authenticator: Authenticator) -> Self {
        Self { authenticator, takes: Takes::default() }
    }

    /// Lets through requests whose content is a stream (`cs1`, CS-38): it flows to the handler while it is checked, and the
    /// handler finds [`NotFinal`](super::NotFinal) among the extensions. **Only for handlers that commit nothing before the body
    /// has ended without an error.** Default: such requests are refused with 413.
    #[must_use]
    pub const fn take_streams(mut self, take: bool) -> Self {
        self.takes.streams = take;
        self
    }

    /// Lets handlers upgrade connections and answer `CONNECT` under `cs1` also where the session is not bound to TLS
    /// (`tls-exporter`). **Nothing that travels then is signed**: whoever sits in between, as with the key of a proxy's
    /// certificate, has the connection once it is open. Default: `Upgrade` is taken out of such requests, and a handler's 101 and every
    /// `CONNECT` get a signed 500, response-unsignable (CS-39).
    #[must_use]
    pub const fn danger_take_upgrades(mut self, take: bool) -> Self {
        self.takes.danger_upgrades = take;
        self
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { authenticator: self.authenticator.clone(), takes: self.takes, inner }
    }
}

/// The service that [`AuthLayer`] makes.
#[derive(Clone, Debug)]
pub struct AuthService<S> {
    authenticator: Authenticator,
    takes: Takes,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<RequestBody>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        // The service that was polled ready is the one to be called.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let (authenticator, takes) = (self.authenticator.clone(), self.takes);
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            if cs1::is_signed(&parts.headers) {
                return cs1::serve(authenticator, takes, parts, body, inner).await;
            }
            let body = RequestBody::new(body);
            let source = authenticator.source(&parts.extensions, &parts.headers);
            let admitted = match authenticator.admit(&parts.headers, source).await {
                Ok(admitted) => admitted,
                Err(rejection) => {
                    let response = rejection.into_response();
                    return Ok(response.map(|body| body.map_err(|never| match never {}).boxed_unsync()));
                }
            };
            let mut request = Request::from_parts(parts, body);
            strip::credentials(request.headers_mut());
            request.extensions_mut().insert(admitted.peer);
            request.extensions_mut().insert(SourceAddr(source));
            if let Ok(id) = HeaderValue::from_str(&admitted.request_id) {
                request.headers_mut().insert(strip::REQUEST_ID, id);
            }
            let mut response = inner.call(request).await?;
            strip::proof(response.headers_mut());
            response.headers_mut().extend(admitted.proof);
            if let Ok(id) = HeaderValue::from_str(&admitted.request_id) {
                response.headers_mut().insert(strip::REQUEST_ID, id);
            }
            Ok(response.map(|body| body.map_err(Into::into).boxed_unsync()))
        })
    }
}
