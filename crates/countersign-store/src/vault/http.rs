//! HTTP to one server: bodies of a bounded size, a time-out for everything, no redirects, no retries but of what was
//! not sent.

use std::error::Error;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::wire::printable;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;
use zeroize::Zeroizing;

use super::VaultError;

/// The longest answer that is read, in bytes: Vault's own limit for one document, and what stands around it.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Without it an agent between us and Vault refuses, so that nobody is led to it by a browser.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// Where Vault is: scheme, host and port, and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    text: String,
    tls: bool,
}

/// Not an address of Vault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Something else.
    #[error("this is no address of Vault: give https://HOST:PORT, without path, user or query")]
    Form,
    /// Plain HTTP to another machine.
    #[error(
        "over plain HTTP everybody on the way reads the secrets: give https://…, or set `danger_plain_http`"
    )]
    Plain,
}

impl Address {
    /// Reads `https://HOST:PORT`; `http://` for loopback only, unless `danger_plain_http`.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn parse(text: &str, danger_plain_http: bool) -> Result<Self, AddressError> {
        let uri: Uri = text.parse().map_err(|_| AddressError::Form)?;
        let authority = uri.authority().ok_or(AddressError::Form)?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(AddressError::Form),
        };
        let named = uri.path_and_query().is_none_or(|path| path.as_str() == "/");
        if !named || authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(AddressError::Form);
        }
        if !tls && !danger_plain_http && !is_loopback(authority.host()) {
            return Err(AddressError::Plain);
        }
        Ok(Self { text: format!("{}://{authority}", if tls { "https" } else { "http" }), tls })
    }

    /// `https://HOST:PORT`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether TLS is spoken.
    #[must_use]
    pub const fn is_tls(&self) -> bool {
        self.tls
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What came back: the status, and a body that may hold secrets.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Zeroizing<Vec<u8>>,
}

pub(super) struct Http {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    address: Address,
    namespace: Option<HeaderValue>,
    timeout: Duration,
}

impl Http {
    pub(super) fn new(
        address: Address,
        tls: ClientConfig,
        namespace: Option<HeaderValue>,
        timeout: Duration,
    ) -> Self {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(timeout));
        let builder = HttpsConnectorBuilder::new().with_tls_config(tls);
        let builder = if address.tls { builder.https_only() } else { builder.https_or_http() };
        let connector = builder.enable_http1().wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(Duration::from_secs(30))
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, address, namespace, timeout }
    }

    pub(super) const fn address(&self) -> &Address {
        &self.address
    }

    /// Sends one request below `/v1/`. What stands in `path` is checked by whoever made it.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        token: Option<&Zeroizing<String>>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, VaultError> {
        let request = self.request(method, path, token, body)?;
        let answered = async {
            let response = self.client.request(request).await.map_err(|error| self.failed(&error))?;
            let (head, body) = response.into_parts();
            let whole = Limited::new(body, MAX_ANSWER).collect().await;
            let whole = whole.map_err(|error| self.failed(&*error))?.to_bytes();
            let body = Zeroizing::new(whole.to_vec());
            // Where nobody else has it, it is overwritten too.
            if let Ok(mut copy) = whole.try_into_mut() {
                copy.fill(0);
            }
            Ok(Answer { status: head.status, body })
        };
        let late =
            |_| VaultError::Silent { address: self.address.to_string(), seconds: self.timeout.as_secs() };
        tokio::time::timeout(self.timeout, answered).await.map_err(late)?
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        token: Option<&Zeroizing<String>>,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Request<Full<Bytes>>, VaultError> {
        let mut request = Request::new(Full::new(body.map(Bytes::from_owner).unwrap_or_default()));
        *request.method_mut() = method;
        let wrong = |_| VaultError::NotMounted { path: printable(path, 200) };
        *request.uri_mut() = format!("{}/v1/{path}", self.address).parse().map_err(wrong)?;
        let headers = request.headers_mut();
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(namespace) = &self.namespace {
            headers.insert(NAMESPACE, namespace.clone());
        }
        if let Some(token) = token {
            let login = |_| VaultError::Login { how: "this token, which is none", status: 0 };
            let mut value = HeaderValue::from_str(token).map_err(login)?;
            value.set_sensitive(true);
            headers.insert(TOKEN, value);
        }
        Ok(request)
    }

    fn failed(&self, error: &(dyn Error + 'static)) -> VaultError {
        VaultError::Unreachable { address: self.address.to_string(), why: causes(error) }
    }
}

/// The causes of an error, without the client's own words for "it did not work".
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut last = error;
    let mut text = String::new();
    while let Some(cause) = last.source() {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&said);
        }
        last = cause;
    }
    if text.is_empty() {
        text = error.to_string();
    }
    printable(&text, 300)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_https_or_loopback_and_nothing_else() {
        for good in [
            "https://vault.example:8200",
            "https://vault.example",
            "https://vault.example/",
            "http://127.0.0.1:8200",
            "http://[::1]:8200",
            "http://localhost:8200",
        ] {
            let address = Address::parse(good, false).unwrap();
            assert_eq!(address.as_str(), good.trim_end_matches('/'));
        }
        for plain in ["http://vault.example:8200", "http://10.0.0.1", "http://localhost.example"] {
            assert_eq!(Address::parse(plain, false), Err(AddressError::Plain), "{plain}");
            assert!(Address::parse(plain, true).is_ok(), "{plain}");
        }
        for wrong in [
            "",
            "vault.example",
            "ftp://vault.example",
            "https://user:password@vault.example",
            "https://vault.example/v1",
            "https://vault.example?x",
            "https://",
        ] {
            assert_eq!(Address::parse(wrong, true), Err(AddressError::Form), "{wrong}");
        }
    }
}
