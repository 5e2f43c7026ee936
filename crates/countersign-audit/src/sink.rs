use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::Record;

/// Where records go.
///
/// Handing a record over does not wait for a disk; the [`Ticket`] does. Records of one sink are written in the
/// order in which they were handed over.
pub trait AuditSink: Send + Sync {
    /// Takes one record to be written. Whatever it is about must not take effect before the ticket says that it
    /// was: an attempt is not accepted, nor refused, until then.
    fn submit(&self, record: Record) -> Ticket;

    /// Lines a day that may go to attempts which are not accepted, which anybody can make: with more of them, records
    /// would be removed before their time. Default: no bound.
    fn spare_lines(&self) -> u64 {
        u64::MAX
    }
}

/// The trail cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit trail {path} cannot be written: {error}")]
pub struct AuditError {
    /// Which file.
    pub path: String,
    /// What the system said.
    pub error: Arc<io::Error>,
}

impl AuditError {
    /// About the file at `path`.
    #[must_use]
    pub fn new(path: impl Into<String>, error: io::Error) -> Self {
        Self { path: path.into(), error: Arc::new(error) }
    }
}

type Written = Result<(), AuditError>;

/// Comes true when a record has been written. Await it, or [`wait`](Ticket::wait) for it outside of a runtime.
/// Dropping it takes nothing back.
#[derive(Debug)]
#[must_use = "the record may not have been written"]
pub struct Ticket(State);

#[derive(Debug)]
enum State {
    Known(Written),
    Open(Arc<Slot>),
}

#[derive(Debug, Default)]
struct Slot {
    inside: Mutex<Inside>,
    done: Condvar,
}

#[derive(Debug, Default)]
struct Inside {
    written: Option<Written>,
    waker: Option<Waker>,
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket {
    /// One whose record was written, or was not, already.
    pub fn known(written: Result<(), AuditError>) -> Self {
        Self(State::Known(written))
    }

    /// One whose record is not written yet, and what says when it is: for a sink that does not write at once.
    pub fn open() -> (Self, Promise) {
        let slot = Arc::new(Slot::default());
        (Self(State::Open(Arc::clone(&slot))), Promise(Some(slot)))
    }

    /// Blocks until the record was written, or until `deadline`; `None` if it is not known by then.
    #[must_use]
    pub fn wait_until(self, deadline: Instant) -> Option<Result<(), AuditError>> {
        match self.0 {
            State::Known(written) => Some(written),
            State::Open(slot) => {
                let left = deadline.saturating_duration_since(Instant::now());
                let (mut inside, _) = slot
                    .done
                    .wait_timeout_while(slot.lock(), left, |inside| inside.written.is_none())
                    .unwrap_or_else(PoisonError::into_inner);
                inside.written.take()
            }
        }
    }

    /// Blocks until the record was written.
    ///
    /// # Errors
    /// It could not be written; what it is about must not take effect.
    pub fn wait(self) -> Result<(), AuditError> {
        match self.0 {
            State::Known(written) => written,
            State::Open(slot) => {
                let mut inside = slot.lock();
                loop {
                    if let Some(written) = inside.written.take() {
                        return written;
                    }
                    inside = slot.done.wait(inside).unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }
}

impl Future for Ticket {
    type Output = Result<(), AuditError>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.0 {
            State::Known(written) => Poll::Ready(written.clone()),
            State::Open(slot) => {
                let mut inside = slot.lock();
                if let Some(written) = &inside.written {
                    return Poll::Ready(written.clone());
                }
                inside.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// The writing side of a [`Ticket`]. One that is dropped unfulfilled says that the writer has ended.
#[derive(Debug)]
pub struct Promise(Option<Arc<Slot>>);

impl Promise {
    /// Says that the record was written, or that it could not be.
    pub fn keep(mut self, written: Result<(), AuditError>) {
        self.settle(written);
    }

    fn settle(&mut self, written: Written) {
        let Some(slot) = self.0.take() else { return };
        let waker = {
            let mut inside = slot.lock();
            inside.written = Some(written);
            inside.waker.take()
        };
        slot.done.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if self.0.is_some() {
            self.settle(Err(AuditError::new("", io::Error::other("its writer has ended"))));
        }
    }
}

/// Records in memory, for tests.
#[derive(Debug, Default)]
pub struct MemorySink(Mutex<Vec<Record>>);

impl MemorySink {
    /// What was recorded so far.
    #[must_use]
    pub fn records(&self) -> Vec<Record> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl AuditSink for MemorySink {
    fn submit(&self, record: Record) -> Ticket {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(record);
        Ticket::known(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_record_that_is_not_written_is_not_waited_for_without_end() {
        let (ticket, promise) = Ticket::open();
        assert!(ticket.wait_until(Instant::now() + Duration::from_millis(5)).is_none());
        promise.keep(Ok(()));
        let (ticket, promise) = Ticket::open();
        promise.keep(Ok(()));
        assert!(ticket.wait_until(Instant::now()).unwrap().is_ok());
        assert!(Ticket::known(Ok(())).wait_until(Instant::now()).unwrap().is_ok());
    }
}
