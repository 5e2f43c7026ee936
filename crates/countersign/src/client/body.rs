//! The content of a response, and how far it is proved.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;

use super::cs1::Download;

/// The content of a response. Ask [`Body::standing`] before you act on a piece of it.
///
/// Whoever reads to the end, or calls [`Body::whole`], need not ask: the end of a stream that is not what the server signed is
/// an error.
pub struct Body(Content);

enum Content {
    Held(Option<Bytes>),
    Stream(Box<Download>),
    Plain(Incoming),
}

/// How far content is proved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// All of it is what the server signed for this request.
    Verified,
    /// It is what the server signed only if it ends, and ends without an error: **nothing of it is final before** (CS-38). It may
    /// be cut off or changed by whoever sits in between, and only the end tells.
    ProvedAtItsEnd,
    /// Nothing is signed under the guides' profiles: it is as good as the TLS connection.
    Unsigned,
}

/// Why content came to no good end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The connection ended, or the server gave up.
    #[error("the response was cut off: {0}")]
    CutOff(#[from] hyper::Error),
    /// The trailer of a stream is missing or wrong.
    #[error(
        "the content is not what the server signed, or was cut off before its end: what came of it is not to be used"
    )]
    NotAsSigned,
    /// More came than the caller wants to hold.
    #[error("the content is longer than {0} bytes: take it in pieces, or allow for more")]
    TooLong(usize),
}

impl Body {
    pub(super) const fn held(content: Bytes) -> Self {
        Self(Content::Held(Some(content)))
    }

    pub(super) fn stream(download: Download) -> Self {
        Self(Content::Stream(Box::new(download)))
    }

    pub(super) const fn plain(incoming: Incoming) -> Self {
        Self(Content::Plain(incoming))
    }

    /// How far what is read from it is proved.
    #[must_use]
    pub fn standing(&self) -> Standing {
        match &self.0 {
            Content::Held(_) => Standing::Verified,
            Content::Stream(download) if download.is_proved() => Standing::Verified,
            Content::Stream(_) => Standing::ProvedAtItsEnd,
            Content::Plain(_) => Standing::Unsigned,
        }
    }

    /// Whether all of the content is what the server signed for this request. Of a stream that is so once its end was read.
    #[must_use]
    pub fn is_verified(&self) -> bool {
        self.standing() == Standing::Verified
    }

    /// All of it, at most `limit` bytes: of a stream, only once its end has proved it.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn whole(self, limit: usize) -> Result<Bytes, BodyError> {
        match Limited::new(self, limit).collect().await {
            Ok(content) => Ok(content.to_bytes()),
            Err(error) if error.is::<LengthLimitError>() => Err(BodyError::TooLong(limit)),
            Err(error) => Err(error.downcast::<BodyError>().map_or(BodyError::NotAsSigned, |error| *error)),
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Content::Held(content) => {
                let content = content.take().filter(|content| !content.is_empty());
                Poll::Ready(content.map(|content| Ok(Frame::data(content))))
            }
            Content::Stream(download) => Pin::new(&mut **download).poll_frame(cx),
            Content::Plain(incoming) => Pin::new(incoming).poll_frame(cx).map_err(BodyError::CutOff),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Content::Held(content) => content.as_ref().is_none_or(Bytes::is_empty),
            Content::Stream(download) => download.is_end_stream(),
            Content::Plain(incoming) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Content::Held(content) => {
                let length = content.as_ref().map_or(0, Bytes::len);
                SizeHint::with_exact(u64::try_from(length).unwrap_or(u64::MAX))
            }
            Content::Stream(_) => SizeHint::default(),
            Content::Plain(incoming) => incoming.size_hint(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Body").field(&self.standing()).finish()
    }
}
