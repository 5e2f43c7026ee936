//! Countersign for [`reqwest_middleware`]: requests to one peer are authenticated, and only verified responses come back.
//!
//! ```
//! # async fn call(peer: &countersign::store::Peer) -> Result<(), Box<dyn std::error::Error>> {
//! use countersign::client::Client;
//! use countersign_reqwest::Authenticated;
//!
//! let http = reqwest_middleware::ClientBuilder::new(reqwest::Client::new())
//!     .with(Authenticated::new(Client::new(peer)?))
//!     .build();
//! let response = http.get("https://orders.example/orders/42").send().await?;
//! println!("{}", response.text().await?);
//! # Ok(())
//! # }
//! ```
//!
//! A request is handed to [`countersign::client::Client`], and does not go out through `reqwest`: what the client holds to (a
//! connection that is chosen before the request is signed, one handshake for many callers, repeating only what does no harm,
//! nothing that is not verified) cannot be held to from within a middleware. So:
//!
//! - **Connections are the client's**: certificates, proxies, timeouts of connecting, default headers and the redirect policy
//!   that were given to `reqwest` do not count here; those of the peer and of `countersign::client::Builder` do. The timeout of one
//!   request counts.
//! - **Middleware that was added before this one** sees each request and its verified response; one that was added behind it sees
//!   neither. One that repeats requests belongs before it: each time is signed anew.
//! - Content that is in memory is sent as it is; content that is a stream is sent as it comes (`cs1` only).
//! - In the response's extensions are [`Standing`](countersign::client::Standing), how far its content is proved, and under `cs1`
//!   which of its fields were signed. The end of a stream that is not what the peer signed is an error of reading it.
//! - What goes elsewhere than below the peer's URL is refused, unless [`Authenticated::letting_others_through`] says otherwise.

#![forbid(unsafe_code)]

use async_trait::async_trait;
use countersign::client::{Body, BodyError, Client, ClientError};
use http::{Extensions, Request, Response};
use http_body_util::BodyDataStream;
use reqwest::ResponseBuilderExt as _;
use reqwest_middleware::{Middleware, Next};

/// Authenticates requests to one peer.
#[derive(Clone, Debug)]
pub struct Authenticated {
    client: Client,
    others: Others,
}

/// What becomes of requests that go elsewhere.
#[derive(Clone, Copy, Debug)]
enum Others {
    Refused,
    LetThrough,
}

/// Why there is no response. It is in [`reqwest_middleware::Error::Middleware`]; [`Failed::of`] finds it there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// See [`ClientError`]: among others that it is not known whether the request had its effect.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The content of the response did not come to its end.
    #[error(transparent)]
    Content(#[from] BodyError),
    /// The request's own time was over. Whether it has had its effect is not known.
    #[error(
        "there was no verified answer within {} seconds: the request may or may not have had its effect",
        .0.as_secs_f32()
    )]
    Timeout(std::time::Duration),
}

impl Failed {
    /// What failed, if that was this middleware.
    #[must_use]
    pub fn of(error: &reqwest_middleware::Error) -> Option<&Self> {
        match error {
            reqwest_middleware::Error::Middleware(error) => error.downcast_ref(),
            reqwest_middleware::Error::Reqwest(_) => None,
        }
    }
}

impl Authenticated {
    /// With the client of this peer. What goes elsewhere is refused ([`ClientError::Elsewhere`]).
    #[must_use]
    pub const fn new(client: Client) -> Self {
        Self { client, others: Others::Refused }
    }

    /// Requests to other hosts go on to the next middleware, and out through `reqwest`, without Countersign. What goes to the
    /// peer's host, and not below its URL, is refused all the same: it would go out unsigned because of a mistake.
    #[must_use]
    pub fn letting_others_through(self) -> Self {
        Self { others: Others::LetThrough, ..self }
    }

    async fn send(&self, request: Request<reqwest::Body>) -> Result<reqwest::Response, Failed> {
        let url = request.uri().to_string().parse().map(|url| Response::builder().url(url).body(()));
        let (head, content) = request.into_parts();
        let held = content.as_bytes().map(<[u8]>::to_vec);
        let response = match held {
            Some(held) => self.client.send(Request::from_parts(head, held.into())).await?,
            None => self.client.send_streamed(Request::from_parts(head, content)).await?,
        };
        let (mut head, content) = response.into_parts();
        head.extensions.insert(content.standing());
        // Where `reqwest` keeps the URL of a response is its own business.
        if let Ok(Ok(with_url)) = url {
            head.extensions.extend(with_url.into_parts().0.extensions);
        }
        Ok(Response::from_parts(head, taken(content).await?).into())
    }
}

/// As `reqwest` has it: what is in memory already with its length.
async fn taken(content: Body) -> Result<reqwest::Body, Failed> {
    if content.is_verified() {
        return Ok(content.whole(usize::MAX).await?.into());
    }
    Ok(reqwest::Body::wrap_stream(BodyDataStream::new(content)))
}

#[async_trait]
impl Middleware for Authenticated {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut Extensions,
        next: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let is_others = || request.url().host_str().is_none_or(|host| !self.client.is_at(host));
        if matches!(self.others, Others::LetThrough) && is_others() {
            return next.run(request, extensions).await;
        }
        let timeout = request.timeout().copied();
        let sent = self.send(Request::try_from(request)?);
        let response = match timeout {
            Some(timeout) => {
                tokio::time::timeout(timeout, sent).await.unwrap_or(Err(Failed::Timeout(timeout)))
            }
            None => sent.await,
        };
        response.map_err(reqwest_middleware::Error::middleware)
    }
}
