//! What a public listener serves.

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use countersign::server::{AuthLayer, Authenticator, Peer, router};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Request};
use serde::Serialize;
use tower::service_fn;
use tower::{ServiceBuilder, ServiceExt as _};

use crate::Upstream;

/// The endpoints, and behind the layer either `upstream` or an answer that names the caller.
pub(crate) fn router_for(authenticator: Authenticator, upstream: Option<Upstream>) -> Router {
    let protected = ServiceBuilder::new().layer(AuthLayer::new(authenticator.clone()));
    let routes = router(authenticator);
    match upstream {
        Some(upstream) => {
            let forward = service_fn(move |request: Request<Body>| {
                let upstream = upstream.clone();
                async move { Ok(upstream.forward(request).await) }
            });
            routes
                .fallback_service(protected.service(forward).map_response(|response| response.map(Body::new)))
        }
        None => {
            let greet = service_fn(|request: Request<Body>| async move { Ok(who(&request)) });
            routes.fallback_service(protected.service(greet).map_response(|response| response.map(Body::new)))
        }
    }
}

/// `{"authenticated":true,"service":"billing",…}`
fn who(request: &Request<Body>) -> Response {
    #[derive(Serialize)]
    struct Who<'a> {
        authenticated: bool,
        service: &'a str,
        credential: String,
        profile: &'a str,
    }
    let Some(peer) = request.extensions().get::<Peer>() else {
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
