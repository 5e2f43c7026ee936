//! A request's content that is not held: hashed as it is sent, with its MAC behind it (CS-38).

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::cs1::stream::{COUNTERSIGN_BODY_MAC, StreamSigner, announced_trailers};
use http::{HeaderMap, HeaderName};
use http_body::Frame;

use crate::client::way::{BoxError, Content};

pub(in crate::client) struct Upload {
    /// From when it is read.
    content: Option<Content>,
    /// `None` once the trailer was given.
    signer: Option<Box<StreamSigner>>,
    /// Of HTTP/1.1 only these would be sent, and all that are sent are covered (CS-52).
    announced: Vec<HeaderName>,
    progress: Arc<Progress>,
}

/// Whether a stream gets on, as far as that is not its source's business; and its content, until it begins.
#[derive(Default)]
pub(super) struct Progress {
    unread: Mutex<Option<Content>>,
    asked: AtomicU64,
    waits_for_source: AtomicBool,
}

impl Progress {
    /// Ends when for `patience` nobody has asked for more, or for an answer if there is no more.
    pub(super) async fn stalled(&self, patience: Duration) {
        let mut asked = None;
        loop {
            let now = self.asked.load(Ordering::Relaxed);
            if asked == Some(now) && !self.waits_for_source.load(Ordering::Relaxed) {
                return;
            }
            asked = Some(now);
            tokio::time::sleep(patience).await;
        }
    }

    /// The content of a stream that was not read from. It cannot be sent any more.
    pub(super) fn take_back(&self) -> Option<Content> {
        self.unread.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Upload {
    /// `fields` are those of the signed request.
    pub(super) fn new(content: Content, signer: Box<StreamSigner>, fields: &HeaderMap) -> Self {
        let announced = announced_trailers(fields).collect();
        let progress = Arc::new(Progress { unread: Mutex::new(Some(content)), ..Progress::default() });
        Self { content: None, signer: Some(signer), announced, progress }
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// The trailers with our own among them.
    fn end(&mut self, mut trailers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let Some(signer) = self.signer.take() else { return Poll::Ready(None) };
        if let Some(name) = trailers.keys().find(|name| !self.announced.contains(name)) {
            let error = format!("the trailer {name} is not announced in the field Trailer");
            return Poll::Ready(Some(Err(error.into())));
        }
        let frame = signer.finish(&trailers).map(|mac| {
            trailers.insert(COUNTERSIGN_BODY_MAC, mac);
            Frame::trailers(trailers)
        });
        Poll::Ready(Some(frame.map_err(|refusal| format!("the content cannot be signed: {refusal}").into())))
    }
}

impl http_body::Body for Upload {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        this.progress.asked.fetch_add(1, Ordering::Relaxed);
        if this.signer.is_none() {
            return Poll::Ready(None);
        }
        if this.content.is_none() {
            this.content = this.progress.take_back();
        }
        let Some(content) = &mut this.content else {
            return Poll::Ready(Some(Err("the content is sent on another connection".into())));
        };
        let polled = Pin::new(content).poll_frame(cx);
        this.progress.waits_for_source.store(polled.is_pending(), Ordering::Relaxed);
        let Poll::Ready(frame) = polled else { return Poll::Pending };
        let frame = match frame {
            None => return this.end(HeaderMap::new()),
            // What was sent has no end then: the other side does not take it.
            Some(Err(error)) => return Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(piece) => {
                if let Some(signer) = &mut this.signer {
                    signer.update(&piece);
                }
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Err(frame) => this.end(frame.into_trailers().unwrap_or_default()),
        }
    }
}
