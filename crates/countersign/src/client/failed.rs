//! What became of a request that has no answer, as far as the connection tells.

use std::error::Error;
use std::io;

use super::ClientError;
use super::error::chain;

/// There was no connection for it.
pub(super) fn to_connect(url: String, error: &(dyn Error + 'static)) -> ClientError {
    ClientError::Connect { url, why: chain(error), passing: causes(error).any(is_passing) }
}

/// Nothing of it was written.
pub(super) fn to_send(url: String, error: &(dyn Error + 'static)) -> ClientError {
    ClientError::NotTaken { url, why: chain(error) }
}

/// There was a connection, and no head of a response came.
pub(super) fn to_answer(url: String, error: &(dyn Error + 'static)) -> ClientError {
    let why = chain(error);
    if causes(error).any(is_not_taken) {
        ClientError::NotTaken { url, why }
    } else {
        ClientError::Broken { url, why }
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// What a server does that is on its way out, or not back yet.
fn is_passing(error: &(dyn Error + 'static)) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, UnexpectedEof};
    let io = error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | UnexpectedEof
        )
    });
    io || error.downcast_ref::<hyper::Error>().is_some_and(|error| error.is_closed() || error.is_canceled())
}

/// Whether HTTP says that the request was not processed (RFC 9113, section 8.7), or that it was not begun.
fn is_not_taken(error: &(dyn Error + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        return match error.reason() {
            Some(h2::Reason::REFUSED_STREAM) => error.is_remote(),
            // Streams up to the one that GOAWAY names go on, and end with other errors if they do not end well.
            Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
            _ => false,
        };
    }
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}
