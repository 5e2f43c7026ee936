use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use tower::{Layer, Service};

use super::authenticator::Authenticator;
use super::extract::SourceAddr;
use super::strip;

/// The body of a response that has passed the layer.
pub type ResponseBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// A tower layer that lets only authenticated requests through. The handler finds the caller as
/// [`Peer`](super::Peer); the credentials themselves are taken out of the request.
#[derive(Clone, Debug)]
pub struct AuthLayer(Authenticator);

impl AuthLayer {
    /// Protects with `authenticator`.
    #[must_use]
    pub fn new(authenticator: Authenticator) -> Self {
        Self(authenticator)
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { authenticator: self.0.clone(), inner }
    }
}

/// The service that [`AuthLayer`] makes.
#[derive(Clone, Debug)]
pub struct AuthService<S> {
    authenticator: Authenticator,
    inner: S,
}

impl<S, B, R> Service<Request<B>> for AuthService<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send,
    B: Send + 'static,
    R: http_body::Body<Data = Bytes> + Send + 'static,
    R::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
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
        let authenticator = self.authenticator.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
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
