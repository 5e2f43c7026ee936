//! How a request travels: over one of many connections that nobody chooses, or over one that is chosen before it is signed.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign_protocol::cs1::Exporter;
use http::header::{CONNECTION, TE};
use http::uri::Scheme;
use http::{HeaderValue, Request, Response};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};

use super::ClientError;
use super::bound::{Bound, Chosen};
use super::connector::HttpClient;
use super::cs1::Upload;
use super::failed;
use crate::LEAVING;

/// What the body of a request may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Content that comes as it is sent.
pub(super) type Content = UnsyncBoxBody<Bytes, BoxError>;

/// All connections to one peer.
pub(super) enum Way {
    /// The connection is chosen after the request is handed over.
    Pool(HttpClient),
    /// It is chosen before, for what is said on it is bound to it (CS-32).
    Bound(Bound),
}

/// Where the next request will travel.
pub(super) enum Lane<'a> {
    Pool(&'a HttpClient),
    Chosen(Box<Chosen<'a>>),
}

impl Way {
    pub(super) async fn lane(&self) -> Result<Lane<'_>, ClientError> {
        Ok(match self {
            Self::Pool(http) => Lane::Pool(http),
            Self::Bound(bound) => Lane::Chosen(Box::new(bound.choose().await?)),
        })
    }
}

impl Lane<'_> {
    /// To what is bound what travels here.
    pub(super) fn exporter(&self) -> Option<&Exporter> {
        match self {
            Self::Pool(_) => None,
            Self::Chosen(chosen) => Some(chosen.exporter()),
        }
    }

    /// Sends a request and waits for the head of its response.
    pub(super) async fn send(
        self,
        request: Request<Sending>,
    ) -> Result<(Response<Incoming>, Spoil), ClientError> {
        let (response, connection) = self.hand_over(request).await?;
        if response.headers().get(LEAVING).is_some_and(|leaving| leaving == "?1") {
            connection.spoil();
        }
        Ok((response, connection))
    }

    async fn hand_over(
        self,
        mut request: Request<Sending>,
    ) -> Result<(Response<Incoming>, Spoil), ClientError> {
        match self {
            Self::Pool(http) => {
                let captured = capture_connection(&mut request);
                let url = request.uri().to_string();
                announce_te(&mut request);
                match http.request(request.map(BodyExt::boxed_unsync)).await {
                    Ok(response) => Ok((response, Spoil::Pool(captured))),
                    Err(error) if error.is_connect() || captured.connection_metadata().is_none() => {
                        Err(failed::to_connect(url, &error))
                    }
                    Err(error) => Err(failed::to_answer(url, &error)),
                }
            }
            Self::Chosen(chosen) => chosen.send(request).await,
        }
    }
}

/// `TE` is for the next hop alone, and HTTP/1.1 has to say so (RFC 9110, section 10.1.4). What goes over TLS may be HTTP/2,
/// which has no `Connection`.
fn announce_te(request: &mut Request<Sending>) {
    if request.headers().contains_key(TE) && request.uri().scheme() == Some(&Scheme::HTTP) {
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Takes the connection of a response out of use: the server asks for it, or somebody in between has shown himself.
#[derive(Clone)]
pub(super) enum Spoil {
    Pool(CaptureConnection),
    Chosen(Arc<AtomicBool>),
}

impl Spoil {
    pub(super) fn spoil(&self) {
        match self {
            Self::Pool(captured) => {
                if let Some(connected) = captured.connection_metadata().as_ref() {
                    connected.poison();
                }
            }
            Self::Chosen(spoiled) => spoiled.store(true, Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Spoil {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Spoil")
    }
}

/// The content of a request on its way.
pub(super) enum Sending {
    Held(Full<Bytes>),
    Streamed(Box<Upload>),
}

impl Sending {
    pub(super) fn held(content: Bytes) -> Self {
        Self::Held(Full::new(content))
    }
}

impl http_body::Body for Sending {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut *self {
            Self::Held(content) => Pin::new(content).poll_frame(cx).map_err(|never| match never {}),
            Self::Streamed(upload) => Pin::new(&mut **upload).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Held(content) => content.is_end_stream(),
            Self::Streamed(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Held(content) => content.size_hint(),
            // Unknown, also where the caller knows it: behind content of a known length HTTP/1.1 has no trailers.
            Self::Streamed(_) => SizeHint::default(),
        }
    }
}
