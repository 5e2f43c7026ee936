//! Content that is not held (CS-38): what comes in is checked while it flows on, what goes out is signed while it flows.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use countersign_audit::{Direction, Outcome, Record};
use countersign_protocol::cs1::content::{ContentCheck, ContentRule};
use countersign_protocol::cs1::stream::{COUNTERSIGN_BODY_MAC, StreamSigner};
use countersign_protocol::identity::{CredentialId, Profile};
use countersign_protocol::refusal::Refusal;
use http::{HeaderMap, HeaderName};
use http_body::{Body, Frame, SizeHint};

use crate::server::authenticator::Authenticator;
use crate::server::body::{BoxError, ResponseBody};

/// In the extensions of a request whose content flows in while it is checked: **nothing of it is final before its end**. If it is
/// not what was signed, the body ends in an error. Only a layer that was told to takes such requests
/// ([`AuthLayer::take_streams`](crate::server::AuthLayer::take_streams)).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NotFinal;

/// The content of a stream is not what was signed.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the content is not what was signed, or was cut off; nothing of it may be used")]
pub(super) struct NotSigned;

/// Whose stream it is, for the trail.
pub(super) struct Origin {
    pub(super) authenticator: Authenticator,
    pub(super) credential: CredentialId,
    pub(super) source: IpAddr,
    pub(super) request_id: String,
}

impl Origin {
    /// Writes down that a request that was let through was not what it was signed as.
    fn record(&self) {
        let inner = self.authenticator.inner();
        let reason = Refusal::DigestMismatch.code();
        inner.count(Outcome::Refused, reason);
        if let Some(audit) = &inner.audit {
            // Nobody waits for it: the exchange is aborted either way.
            drop(audit.submit(Record {
                service: Some(self.credential.peer.to_string()),
                credential: Some(self.credential.to_string()),
                profile: Some(Profile::Cs1),
                source: Some(self.source.to_canonical()),
                request_id: self.request_id.clone(),
                ..Record::new(Direction::Inbound, "signed-stream", Outcome::Refused, reason)
            }));
        }
    }
}

/// A request's content on its way to the handler.
pub(super) struct Incoming<B> {
    body: Pin<Box<B>>,
    check: Option<ContentCheck>,
    failed: Arc<AtomicBool>,
    origin: Origin,
}

impl<B> Incoming<B> {
    /// And whether it has turned out not to be what was signed.
    pub(super) fn new(body: B, rule: &ContentRule, origin: Origin) -> (Self, Arc<AtomicBool>) {
        let failed = Arc::new(AtomicBool::new(false));
        let check = Some(rule.check());
        (Self { body: Box::pin(body), check, failed: Arc::clone(&failed), origin }, failed)
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>) -> Result<(), NotSigned> {
        let Some(check) = self.check.take() else { return Ok(()) };
        check.finish_with(trailers).map_err(|_| self.fail())
    }

    fn fail(&mut self) -> NotSigned {
        self.check = None;
        if !self.failed.swap(true, Ordering::AcqRel) {
            self.origin.record();
        }
        NotSigned
    }
}

impl<B> Body for Incoming<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        // What comes after the end, right or wrong, is nothing.
        if this.check.is_none() {
            return Poll::Ready(None);
        }
        Poll::Ready(match ready!(this.body.as_mut().poll_frame(context)) {
            None => this.finish(None).err().map(|error| Err(error.into())),
            Some(Err(error)) => {
                this.fail();
                Some(Err(error.into()))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    if let Some(check) = &mut this.check {
                        check.update(&piece);
                    }
                    Some(Ok(Frame::data(piece)))
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    match this.finish(Some(&trailers)) {
                        Ok(()) => {
                            trailers.remove(COUNTERSIGN_BODY_MAC);
                            Some(Ok(Frame::trailers(trailers)))
                        }
                        Err(error) => Some(Err(error.into())),
                    }
                }
            },
        })
    }

    fn size_hint(&self) -> SizeHint {
        // Not that of the body: how much there is, is not final either.
        SizeHint::new()
    }
}

/// A response's content on its way to the client.
pub(super) struct Outgoing {
    /// What was read before it was known that it would be too much to be held.
    pub(super) before: std::vec::IntoIter<Bytes>,
    pub(super) body: ResponseBody,
    pub(super) signer: Option<StreamSigner>,
    /// Which of its trailers are sent, if not all: of others the MAC must not speak.
    pub(super) sent: Option<Vec<HeaderName>>,
    /// Whether the request's content has turned out not to be what was signed, if it is a stream.
    pub(super) request: Option<Arc<AtomicBool>>,
}

impl Outgoing {
    /// The trailers with the MAC over all of it.
    fn close(&mut self, mut trailers: HeaderMap) -> Option<Result<Frame<Bytes>, BoxError>> {
        let signer = self.signer.take()?;
        if self.request.as_ref().is_some_and(|failed| failed.load(Ordering::Acquire)) {
            // What the handler made of it is no answer to what was signed (CS-38).
            return Some(Err(NotSigned.into()));
        }
        // Ours to say, as in the head.
        trailers.remove(COUNTERSIGN_BODY_MAC);
        if let Some(sent) = &self.sent {
            let unsent: Vec<_> = trailers.keys().filter(|name| !sent.contains(name)).cloned().collect();
            for name in unsent {
                trailers.remove(name);
            }
        }
        Some(match signer.finish(&trailers) {
            Ok(mac) => {
                trailers.insert(COUNTERSIGN_BODY_MAC, mac);
                Ok(Frame::trailers(trailers))
            }
            Err(refusal) => Err(refusal.code().into()),
        })
    }
}

impl Body for Outgoing {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.signer.is_none() {
            return Poll::Ready(None);
        }
        let frame = match this.before.next() {
            Some(piece) => Some(Ok(Frame::data(piece))),
            None => ready!(Pin::new(&mut this.body).poll_frame(context)),
        };
        Poll::Ready(match frame {
            None => this.close(HeaderMap::new()),
            Some(Err(error)) => {
                this.signer = None;
                Some(Err(error))
            }
            Some(Ok(frame)) => match frame.into_data() {
                Ok(piece) => {
                    if let Some(signer) = &mut this.signer {
                        signer.update(&piece);
                    }
                    Some(Ok(Frame::data(piece)))
                }
                Err(frame) => this.close(frame.into_trailers().unwrap_or_default()),
            },
        })
    }
}
