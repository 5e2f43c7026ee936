use std::time::Duration;

use bytes::Bytes;
use countersign_store::Trust;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::ClientError;
use super::trust::tls_config;

/// An HTTP/1.1 and HTTP/2 client that streams bodies both ways.
pub type HttpClient =
    Client<HttpsConnector<HttpConnector>, UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>>;

/// A client with this trust. It never sends a request twice by itself, follows no redirect, and closes idle
/// connections after four seconds (many servers do after five). A request whose kept connection turns out to be
/// closed before its first byte was sent takes another one.
///
/// # Errors
/// The trust cannot be used.
pub fn http_client(trust: &Trust) -> Result<HttpClient, ClientError> {
    let connector = connector(trust)?;
    Ok(Client::builder(TokioExecutor::new())
        // Only a request of which nothing was written takes another connection. No server has judged it, so its nonce
        // is not burned (CS-26), and it is not a repetition (CS-35). What is bound to its connection and so would have
        // to be signed anew does not travel here.
        .retry_canceled_requests(true)
        .pool_idle_timeout(Duration::from_secs(4))
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .build(connector))
}

/// Makes connections with this trust: TCP within ten seconds, then TLS where the URL has it, for HTTP/2 or HTTP/1.1.
pub(super) fn connector(trust: &Trust) -> Result<HttpsConnector<HttpConnector>, ClientError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(Duration::from_secs(10)));
    Ok(HttpsConnectorBuilder::new()
        .with_tls_config(tls_config(trust)?)
        .https_or_http()
        .enable_all_versions()
        .wrap_connector(tcp))
}
