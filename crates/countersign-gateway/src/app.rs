//! What a public listener serves.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use countersign::server::{AuthLayer, Authenticator, Peer, RequestBody, ResponseBody, router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{Extensions, HeaderValue, Request};
use http_body_util::BodyExt as _;
use serde::Serialize;
use tower::ServiceBuilder;
use tower::service_fn;

use crate::Upstream;

/// The endpoints, and behind the layer either `upstream` or an answer that names the caller.
pub(crate) fn router_for(authenticator: Authenticator, upstream: Option<Upstream>) -> Router {
    let protected = ServiceBuilder::new()
        .map_response(|response: Response<ResponseBody>| response.map(Body::new))
        .layer(AuthLayer::new(authenticator.clone()).take_streams(true));
    let routes = router(authenticator);
    match upstream {
        Some(upstream) => {
            // What breaks off on its way is incomplete for the upstream too (RFC 9112, section 8), and `Countersign-Body` tells it
            // that nothing is final before.
            let forward = service_fn(move |request: Request<RequestBody>| {
                let upstream = upstream.clone();
                async move { Ok(upstream.forward(request.map(Body::new)).await) }
            });
            routes.fallback_service(protected.service(forward))
        }
        None => {
            let greet = service_fn(|request: Request<RequestBody>| async move { Ok(greet(request).await) });
            routes.fallback_service(protected.service(greet))
        }
    }
}

/// Takes all of the request in, which is verified at its end at the latest, and names its sender.
async fn greet(request: Request<RequestBody>) -> Response {
    let (parts, mut body) = request.into_parts();
    while let Some(Ok(_)) = body.frame().await {}
    who(&parts.extensions)
}

/// `{"authenticated":true,"service":"billing",…}`
fn who(extensions: &Extensions) -> Response {
    #[derive(Serialize)]
    struct Who<'a> {
        authenticated: bool,
        service: &'a str,
        credential: String,
        profile: &'a str,
    }
    let Some(peer) = extensions.get::<Peer>() else {
        return Response::builder().status(500).body(Body::empty()).unwrap_or_default();
    };
    let who = Who {
        authenticated: true,
        service: peer.service.as_str(),
        credential: peer.credential.to_string(),
        profile: peer.profile.as_str(),
    };
    let mut body = serde_json::to_vec(&who).unwrap_or_default();
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
