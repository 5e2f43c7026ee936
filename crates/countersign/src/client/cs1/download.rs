//! A response's content that is not held: checked as it comes, and proved at its end (CS-38).

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign_protocol::cs1::content::ContentCheck;
use countersign_protocol::cs1::stream::COUNTERSIGN_BODY_MAC;
use http::HeaderMap;
use http_body::Frame;
use hyper::body::Incoming;

use crate::client::BodyError;
use crate::client::trail::Report;
use crate::client::way::Spoil;

pub(in crate::client) struct Download {
    incoming: Incoming,
    /// `None` once its end was reached.
    check: Option<ContentCheck>,
    is_proved: bool,
    spoil: Spoil,
    report: Option<Report>,
}

type Polled = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl Download {
    pub(super) const fn new(
        incoming: Incoming,
        check: ContentCheck,
        spoil: Spoil,
        report: Option<Report>,
    ) -> Self {
        Self { incoming, check: Some(check), is_proved: false, spoil, report }
    }

    /// Whether its end has come, and was right.
    pub(in crate::client) const fn is_proved(&self) -> bool {
        self.is_proved
    }

    fn fail(&mut self, error: BodyError) -> Polled {
        if let Some(report) = self.report.take() {
            report(error.to_string());
        }
        Poll::Ready(Some(Err(error)))
    }

    /// The last frame, or the error in its place.
    fn end(&mut self, trailers: Option<HeaderMap>) -> Polled {
        let Some(check) = self.check.take() else { return Poll::Ready(None) };
        if check.finish_with(trailers.as_ref()).is_err() {
            self.spoil.spoil();
            return self.fail(BodyError::NotAsSigned);
        }
        self.is_proved = true;
        let others = trailers.map(|mut trailers| {
            trailers.remove(COUNTERSIGN_BODY_MAC);
            trailers
        });
        Poll::Ready(others.filter(|others| !others.is_empty()).map(|others| Ok(Frame::trailers(others))))
    }
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Polled {
        let this = &mut *self;
        let Some(check) = &mut this.check else { return Poll::Ready(None) };
        let Poll::Ready(frame) = Pin::new(&mut this.incoming).poll_frame(cx) else { return Poll::Pending };
        let frame = match frame {
            None => return this.end(None),
            Some(Err(error)) => {
                this.check = None;
                return this.fail(BodyError::CutOff(error));
            }
            Some(Ok(frame)) => frame,
        };
        match frame.into_data() {
            Ok(piece) => {
                check.update(&piece);
                Poll::Ready(Some(Ok(Frame::data(piece))))
            }
            Err(frame) => this.end(frame.into_trailers().ok()),
        }
    }

    /// Never before the end was looked at: whoever stops reading where it says so has to have seen the error.
    fn is_end_stream(&self) -> bool {
        self.check.is_none()
    }
}
