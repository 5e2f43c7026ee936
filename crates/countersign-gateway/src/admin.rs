//! The admin listener: for probes and monitoring, on an address of its own.

use axum::Router;
use axum::routing::get;
use countersign::server::Authenticator;
use http::StatusCode;
use http::header::CONTENT_TYPE;

use crate::Metrics;

pub(crate) fn router(authenticator: Authenticator, metrics: Metrics) -> Router {
    let asked = authenticator.clone();
    let ready = move || {
        let (ready, stale) = (asked.is_ready(), asked.stale());
        async move {
            match (ready, stale) {
                (true, None) => (StatusCode::OK, "ready\n".to_owned()),
                (true, Some(stale)) => {
                    let (age, max) = (stale.age, stale.max);
                    (
                        StatusCode::OK,
                        format!("ready, with a copy that is {age} of {max} seconds old: {}\n", stale.reason),
                    )
                }
                (false, _) => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "the store cannot be read, or the audit trail not be written\n".to_owned(),
                ),
            }
        }
    };
    let text = move || {
        let text = metrics.text(&authenticator);
        async move { ([(CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], text) }
    };
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(text))
}
