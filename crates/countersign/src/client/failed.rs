//! What became of a request that has no answer, as far as the connection tells.

use std::error::Error;
use std::io;

use super::ClientError;
use super::error::chain;

/// There was no connection for it, or none on which anything of it was written.
pub(super) fn to_connect(url: String, error: &(dyn Error + 'static)) -> ClientError {
    let is_known = |error: &(dyn Error + 'static)| error.is::<io::Error>() || error.is::<rustls::Error>();
    // Whoever waited for somebody else's connection to be made is told nothing about it.
    let passing = causes(error).any(is_passing) || !causes(error).any(is_known);
    ClientError::Connect { url, why: chain(error), passing }
}

/// There was a connection, and no response came over it, or not all of it.
pub(super) fn to_answer(url: String, error: &(dyn Error + 'static)) -> ClientError {
    if causes(error).any(is_unsent) {
        return ClientError::Connect { url, why: chain(error), passing: true };
    }
    ClientError::Broken { url, why: chain(error), refused: causes(error).any(is_refused) }
}

/// The error and what is behind it, up to what the caller's own content failed with. What is wrapped in an [`io::Error`] is not
/// its source.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        if error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_user) {
            return None;
        }
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => (*error).source(),
        }
    })
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

/// Whether nothing of it was written: hyper has given it back.
fn is_unsent(error: &(dyn Error + 'static)) -> bool {
    error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled)
}

/// Whether HTTP/2 says that the request was not processed (RFC 9113, section 8.7). hyper says so too of what it had queued
/// when GOAWAY came, and may have sent all the same.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let Some(error) = error.downcast_ref::<h2::Error>() else { return false };
    match error.reason() {
        Some(h2::Reason::REFUSED_STREAM) => error.is_remote(),
        Some(h2::Reason::NO_ERROR) => error.is_go_away() && error.is_remote(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connecting(error: &io::Error) -> bool {
        match to_connect(String::new(), error) {
            ClientError::Connect { passing, .. } => passing,
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_connection_that_is_refused_or_closed_is_passing_also_inside_of_another_error() {
        for kind in [io::ErrorKind::ConnectionReset, io::ErrorKind::UnexpectedEof] {
            assert!(connecting(&kind.into()));
            assert!(connecting(&io::Error::other(io::Error::new(kind, "in the handshake of TLS"))));
        }
        let wrong = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
        assert!(!connecting(&io::Error::other(io::Error::new(io::ErrorKind::InvalidData, wrong))));
        assert!(!connecting(&io::ErrorKind::TimedOut.into()));
    }

    #[test]
    fn only_the_other_side_refuses() {
        let refused = |error: &(dyn Error + 'static)| match to_answer(String::new(), error) {
            ClientError::Broken { refused, .. } => refused,
            other => panic!("{other}"),
        };
        assert!(!refused(&h2::Error::from(h2::Reason::REFUSED_STREAM)), "that is our own word");
        assert!(!refused(&io::Error::from(io::ErrorKind::ConnectionReset)));
    }
}
