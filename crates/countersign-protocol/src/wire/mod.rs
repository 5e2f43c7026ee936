//! JSON bodies and header fields: strict towards callers, lenient towards strangers' servers.

pub mod body;
pub mod cs1;
pub mod header;
pub mod reply;
pub mod rotation;
pub mod www_authenticate;

use std::fmt;

use http::HeaderMap;
use zeroize::Zeroizing;

/// Where a caller asks for a challenge.
pub const AUTHENTICATE: &str = "/authenticate";
/// Where it sends the signed challenge.
pub const VERIFY_CHALLENGE: &str = "/verify_challenge";
/// Where a rotation in band is agreed on.
pub const ROTATION: &str = "/.well-known/countersign/rotation";
/// The longest request body on these, in bytes.
pub const MAX_BODY: usize = 4096;
/// The longest response body that a client reads during a handshake, in bytes.
pub const MAX_REPLY: usize = 64 * 1024;

/// A request that a client state machine wants sent, below the peer's base URL.
#[derive(Debug)]
pub struct Outgoing {
    /// `/authenticate`, `/verify_challenge`, or where pairing is; always POST.
    pub path: &'static str,
    /// `content-type` and what the profile adds.
    pub headers: HeaderMap,
    /// The JSON body; for the `api-key` profile it holds the key.
    pub body: Zeroizing<Vec<u8>>,
}

impl Outgoing {
    pub(crate) fn post(path: &'static str, body: &impl serde::Serialize) -> Self {
        Self::json(path, serde_json::to_vec(body).unwrap_or_default())
    }

    pub(crate) fn json(path: &'static str, body: Vec<u8>) -> Self {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
        Self { path, headers, body: Zeroizing::new(body) }
    }
}

/// The response to an [`Outgoing`], read in full (at most [`MAX_REPLY`] bytes). Its `Debug` shows the status only:
/// there can be a token in the body.
#[derive(Clone, Copy)]
pub struct Incoming<'a> {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: &'a HeaderMap,
    /// The body.
    pub body: &'a [u8],
}

impl fmt::Debug for Incoming<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("status", &self.status).finish_non_exhaustive()
    }
}

/// Makes text from outside fit for a terminal, a log line or an error: control characters (ANSI sequences
/// begin with one), bidirectional overrides and what is not ASCII become `?`, and it ends after `max` bytes.
#[must_use]
pub fn printable(text: &str, max: usize) -> String {
    let mut safe: String =
        text.chars().take(max).map(|c| if c == ' ' || c.is_ascii_graphic() { c } else { '?' }).collect();
    if text.chars().nth(max).is_some() {
        safe.push_str("...");
    }
    safe
}
