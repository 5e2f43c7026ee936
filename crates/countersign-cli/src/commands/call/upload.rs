//! What is sent: held as a whole, or, under `cs1`, read while it is sent.

use std::fs::File;
use std::io::{Cursor, Read};
use std::pin::Pin;
use std::task::{Context as Task, Poll};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::sync::mpsc;

use crate::failure::{Context as _, Failure};

/// Content up to so many bytes is held, and so can be sent again if the server has lost the session (CS-35, CS-37).
const HOLD: usize = 1 << 20;
/// How much is read at once.
const PIECE: usize = 64 * 1024;
/// How many pieces wait for the network.
const WAITING: usize = 4;

/// The content of a request.
pub(super) enum Content {
    Held(Bytes),
    /// More than is held; nothing of it has been lost.
    Flowing(Box<dyn Read + Send>),
}

impl Content {
    /// What `-d` says: text, `@FILE`, or `@-` for standard input. Only where it `may_flow` it is not read to its end.
    pub(super) fn read(given: &str, may_flow: bool) -> Result<Self, Failure> {
        let (mut from, what): (Box<dyn Read + Send>, _) = match given.strip_prefix('@') {
            None => return Ok(Self::Held(Bytes::copy_from_slice(given.as_bytes()))),
            Some("-") => (Box::new(std::io::stdin()), "standard input"),
            Some(path) => (Box::new(File::open(path).context(|| format!("-d: {path}"))?), path),
        };
        let mut bytes = Vec::new();
        let most = if may_flow { HOLD as u64 + 1 } else { u64::MAX };
        (&mut from).take(most).read_to_end(&mut bytes).context(|| format!("-d: {what}"))?;
        Ok(if may_flow && bytes.len() > HOLD {
            Self::Flowing(Box::new(Cursor::new(bytes).chain(from)))
        } else {
            Self::Held(bytes.into())
        })
    }
}

/// Reads on a thread of its own, a few pieces ahead of the network.
pub(super) struct Upload(mpsc::Receiver<std::io::Result<Bytes>>);

impl Upload {
    pub(super) fn new(mut from: Box<dyn Read + Send>) -> Self {
        let (pieces, receiver) = mpsc::channel(WAITING);
        std::thread::spawn(move || {
            loop {
                let mut piece = Vec::with_capacity(PIECE);
                let read = (&mut from).take(PIECE as u64).read_to_end(&mut piece);
                let sent = match read {
                    Ok(0) => return,
                    Ok(_) => pieces.blocking_send(Ok(piece.into())),
                    Err(error) => pieces.blocking_send(Err(error)),
                };
                // Nobody wants the rest.
                if sent.is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(task).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    #[test]
    fn what_is_held_is_held_and_what_flows_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("content");
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for length in [0, 1, HOLD, HOLD + 1, 3 * HOLD + 17] {
            let content: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            std::fs::write(&path, &content).unwrap();
            let given = format!("@{}", path.display());
            assert!(matches!(Content::read(&given, false).unwrap(), Content::Held(held) if held == content));
            match Content::read(&given, true).unwrap() {
                Content::Held(held) => assert!(held == content && length <= HOLD),
                Content::Flowing(from) => {
                    assert!(length > HOLD);
                    let sent = runtime.block_on(Upload::new(from).collect()).unwrap().to_bytes();
                    assert!(sent == content, "{length}");
                }
            }
        }
    }
}
