//! Whether anything still happens on a connection. HTTP/2 has no timers for this: a caller that only answers
//! pings, or never reads a response, would keep its place for ever.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Version;
use http_body::{Body, Frame, SizeHint};

/// What happens on one connection.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Requests that are not done with.
    open: usize,
    /// Responses that wait for the caller to take what is there.
    unread: usize,
    /// When anything last moved.
    last: Instant,
    /// Whether there was a request, and it came over HTTP/2.
    is_http2: bool,
}

/// What the watchdog finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Finding {
    /// Requests run, or ran lately.
    Alive,
    /// No request for too long.
    Idle,
    /// The caller has not taken any byte of a response for too long.
    Unread,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State { open: 0, unread: 0, last: Instant::now(), is_http2: false })))
    }

    /// A request begins. It is over when what comes back is dropped.
    pub(crate) fn begin(self: &Arc<Self>, version: Version) -> Running {
        let mut state = self.state();
        state.open += 1;
        state.is_http2 = version == Version::HTTP_2;
        state.last = Instant::now();
        Running(Arc::clone(self))
    }

    pub(crate) fn find(&self, idle: Duration, unread: Duration) -> Finding {
        let state = self.state();
        let still = state.last.elapsed();
        if state.open == 0 && still > idle {
            Finding::Idle
        } else if state.unread > 0 && still > unread {
            Finding::Unread
        } else {
            Finding::Alive
        }
    }

    /// Whether no more requests need be taken here, as far as none will be lost that is on its way: there was `quiet` for so long that
    /// none is expected (RFC 9112, section 9.5). HTTP/2 can say which ones were not taken (RFC 9113, section 6.8), if nobody is
    /// `patient`; but not all callers can make use of that.
    pub(crate) fn can_be_closed(&self, quiet: Duration, patient: bool) -> bool {
        let state = self.state();
        state.is_http2 && !patient || state.open == 0 && state.last.elapsed() >= quiet
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that runs.
#[derive(Debug)]
pub(crate) struct Running(Arc<Activity>);

impl Running {
    /// Goes on as the response's body.
    pub(crate) fn watch<B>(self, body: B) -> Watched<B> {
        let mut state = self.0.state();
        state.unread += 1;
        state.last = Instant::now();
        drop(state);
        Watched { body, unread: true, running: self }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.open -= 1;
        state.last = Instant::now();
    }
}

/// A response's body that tells whether it waits for its source or for the caller.
#[derive(Debug)]
pub(crate) struct Watched<B> {
    body: B,
    /// Something is there (as far as is known), and the caller has not asked for it yet.
    unread: bool,
    running: Running,
}

impl<B> Watched<B> {
    fn set_unread(&mut self, unread: bool) {
        let mut state = self.running.0.state();
        match (self.unread, unread) {
            (false, true) => state.unread += 1,
            (true, false) => state.unread -= 1,
            _ => {}
        }
        state.last = Instant::now();
        drop(state);
        self.unread = unread;
    }
}

impl<B> Drop for Watched<B> {
    fn drop(&mut self) {
        self.set_unread(false);
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Watched<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        // Being asked means that the caller took what came before.
        self.set_unread(matches!(polled, Poll::Ready(Some(_))));
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Full};

    use super::*;

    const SOON: Duration = Duration::ZERO;
    const LATER: Duration = Duration::from_secs(3600);

    #[test]
    fn a_connection_without_requests_is_idle_and_one_with_a_request_is_not() {
        let activity = Activity::new();
        assert_eq!(activity.find(LATER, LATER), Finding::Alive);
        assert_eq!(activity.find(SOON, SOON), Finding::Idle);
        let running = activity.begin(Version::HTTP_11);
        assert_eq!(activity.find(SOON, SOON), Finding::Alive, "a handler may take its time");
        drop(running);
        assert_eq!(activity.find(SOON, SOON), Finding::Idle);
    }

    #[test]
    fn a_connection_can_be_closed_when_it_is_quiet_and_of_http_2_when_patience_ends() {
        let activity = Activity::new();
        for patient in [true, false] {
            assert!(!activity.can_be_closed(LATER, patient), "its first request may be on its way");
            assert!(activity.can_be_closed(SOON, patient));
            let running = activity.begin(Version::HTTP_11);
            assert!(!activity.can_be_closed(SOON, patient), "its response will say so");
            drop(running);
            assert!(activity.can_be_closed(SOON, patient) && !activity.can_be_closed(LATER, patient));
        }
        let running = activity.begin(Version::HTTP_2);
        assert!(!activity.can_be_closed(SOON, true) && activity.can_be_closed(LATER, false));
        drop(running);
        assert!(activity.can_be_closed(SOON, true));
    }

    #[tokio::test]
    async fn a_response_that_nobody_takes_is_noticed_and_one_that_is_taken_is_over() {
        let activity = Activity::new();
        let body = activity.begin(Version::HTTP_2).watch(Full::from("response"));
        assert_eq!(activity.find(SOON, LATER), Finding::Alive);
        assert_eq!(activity.find(SOON, SOON), Finding::Unread);
        body.collect().await.unwrap();
        assert_eq!(activity.find(SOON, SOON), Finding::Idle);
    }
}
